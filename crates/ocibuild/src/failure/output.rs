//! Why an output cannot be made.

use std::path::PathBuf;

use ocibuild_spec::{Digest, Platform};

use super::{Code, ErrorKind};
use crate::annotation::AnnotationLevel;

/// What is wrong with an output of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputFailure {
    /// Something else than an image is to go to a registry.
    #[error("type=registry can only export an image")]
    NotAnImage,
    /// An output of several files is to go to a stream.
    #[error("this output needs a directory as its destination")]
    NeedsDirectory,
    /// An archive for docker of several platforms.
    #[error("docker exporter does not currently support exporting manifest lists")]
    SeveralPlatforms,
    /// An image without a name is to go to a registry.
    #[error("tag is needed when pushing to registry")]
    NoName,
    /// An argument of the builder is neither true nor false.
    #[error("invalid boolean value for {argument}: {value}")]
    NotBoolean {
        /// The argument.
        argument: &'static str,
        /// Its value.
        value: String,
    },
    /// An argument of the builder asks for a manifest, and several platforms are built.
    #[error("{argument}={value}, but several platforms make an index")]
    SeveralMakeAnIndex {
        /// The argument.
        argument: &'static str,
        /// Its value.
        value: String,
    },
    /// Annotations, and media types that cannot have them.
    #[error("annotations conflict with \"oci-mediatypes=false\"")]
    AnnotationsOfDocker,
    /// An annotation of an index, where there is none.
    #[error("index annotations not supported for single platform export")]
    NoIndex {
        /// Its key.
        key: String,
    },
    /// An annotation of an index names a platform.
    #[error("invalid annotation: {level} of {platform}, but one index has them all")]
    PlatformOfIndex {
        /// What is annotated.
        level: AnnotationLevel,
        /// The platform.
        platform: Platform,
    },
    /// An annotation names a platform that is not built.
    #[error("invalid annotation: no platform {platform} found in source")]
    NoSuchPlatform {
        /// The platform.
        platform: Platform,
        /// Those that are built.
        built: Vec<Platform>,
    },
    /// A directory is to be emptied in which something is that is needed.
    #[error("mode=delete would empty {} and with it {}", path.display(), lost.display())]
    WouldEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        lost: PathBuf,
    },
    /// Outputs want different times in the same layers.
    #[error("all outputs of a build have the same layers")]
    SeveralEpochs,
    /// Files of several platforms have the same path.
    #[error("cannot overwrite {} from {first} with {second} when split option is disabled", path.display())]
    Collision {
        /// The path.
        path: PathBuf,
        /// The platform that has it.
        first: Platform,
        /// Another one that has it.
        second: Platform,
    },
    /// The content of a file is not known.
    #[error("no content of {}", path.display())]
    NoContent {
        /// The file.
        path: PathBuf,
    },
    /// A blob is asked for that the image does not list.
    #[error("{digest} is not part of the image")]
    NotInImage {
        /// The blob.
        digest: Digest,
    },
    /// Something cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// Whether it is the output itself, and no part of it.
        is_output: bool,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device cannot be made.
    #[error("cannot make the device node {}: only root may make it", path.display())]
    DeviceNode {
        /// The device.
        path: PathBuf,
    },
}

impl OutputFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoContent { .. }
            | Self::NotInImage { .. }
            | Self::Unwritable { .. }
            | Self::DeviceNode { .. } => ErrorKind::Host,
            _ => ErrorKind::Usage,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoIndex { .. } | Self::PlatformOfIndex { .. } | Self::NoSuchPlatform { .. } => {
                Code::InvalidAnnotation
            }
            Self::NoContent { .. } | Self::NotInImage { .. } | Self::Unwritable { .. } => Code::FileUnusable,
            Self::NotBoolean { .. } | Self::SeveralMakeAnIndex { .. } => Code::InvalidArgument,
            Self::DeviceNode { .. } => Code::DeviceNode,
            _ => Code::InvalidOutput,
        }
    }
}
