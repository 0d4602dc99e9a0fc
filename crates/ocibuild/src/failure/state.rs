//! Why something cannot be done with the images of a state directory.

use std::io;
use std::path::PathBuf;

use ocibuild_spec::{Digest, Reference, ReferenceError};

use super::{Code, ErrorKind};

/// What is wrong with what is asked of a state directory, or with an archive that is to be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFailure {
    /// No image has the name.
    #[error("there is no image {} here", name.familiar())]
    NoSuchImage {
        /// The name.
        name: Reference,
    },
    /// A text is neither a name nor an ID.
    #[error("{source}")]
    InvalidName {
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// Several images have an ID that begins so.
    #[error("multiple images have an ID that begins with {digits}")]
    AmbiguousId {
        /// The beginning.
        digits: String,
        /// Some of the IDs, each with its first digits.
        ids: Vec<String>,
    },
    /// What has the name is not an image.
    #[error("{digest}: {reason}")]
    NotAnImage {
        /// The manifest or index.
        digest: Digest,
        /// What it is.
        reason: NotAnImage,
    },
    /// A document cannot be read.
    #[error("{digest}: {reason}")]
    Damaged {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a draft of the index already.
    #[error("there is a draft of {} already", name.familiar())]
    DraftExists {
        /// The index.
        name: Reference,
    },
    /// The draft of the index is empty.
    #[error("{}: there is no image in the draft", name.familiar())]
    EmptyDraft {
        /// The index.
        name: Reference,
    },
    /// There is no draft of the index.
    #[error("there is no draft of {} here", name.familiar())]
    NoDraft {
        /// The index.
        name: Reference,
    },
    /// A draft of an index cannot be read.
    #[error("the draft of an index in {} is unreadable: {reason}", path.display())]
    DraftUnreadable {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive has no images.
    #[error("the archive contains no image")]
    EmptyArchive,
    /// An archive does not have all blobs of an image.
    #[error("{digest} is not complete: blobs of it are missing")]
    Incomplete {
        /// The image.
        digest: Digest,
    },
    /// A compressed archive cannot be read.
    #[error("it cannot be decompressed")]
    NotDecompressed {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A compressed archive becomes too large.
    #[error("the archive decompresses to more than {limit} bytes, too many for its size")]
    DecompressesTooMuch {
        /// The limit.
        limit: u64,
    },
    /// An archive is to be saved to a registry.
    #[error("an archive is not saved to a registry")]
    ArchiveToRegistry,
    /// Neither the caller nor the image says what to run.
    #[error("the image does not say what to run")]
    NoCommand,
    /// An image has no shell.
    #[error("the image has no shell")]
    NoShell,
    /// A container cannot start in its directory.
    #[error("cannot start in {}: it is {found}", path.display())]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A directory or file of the host cannot be mounted.
    #[error("cannot use the volume {}", path.display())]
    Volume {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The image does not have the user that the caller names.
    #[error("{reason}")]
    UnknownUser {
        /// Which one.
        reason: String,
    },
    /// There is no step that is kept at a path.
    #[error("{} is not a step that is kept in this state directory", path.display())]
    NoKeptStep {
        /// The path.
        path: PathBuf,
    },
    /// The cache of a step that is kept was removed.
    #[error("the cache of the step at {} was removed", path.display())]
    KeptCacheGone {
        /// Where it was.
        path: PathBuf,
    },
    /// The program of a container cannot be started.
    #[error("{source}")]
    NotStarted {
        /// The code that a shell ends with.
        code: i32,
        /// Why not.
        source: ocibuild_executor::Error,
    },
}

/// What something is that is not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnImage {
    /// An index without images.
    #[error("the index lists no image")]
    EmptyIndex,
    /// An artifact.
    #[error("not an image, but an artifact with a config of type {media_type}")]
    Artifact {
        /// The type of its config.
        media_type: String,
    },
}

impl StateFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage { .. }
            | Self::Damaged { .. }
            | Self::DraftUnreadable { .. }
            | Self::EmptyArchive
            | Self::Incomplete { .. }
            | Self::NotDecompressed { .. }
            | Self::DecompressesTooMuch { .. } => ErrorKind::Refused,
            Self::NotStarted { code, .. } => ErrorKind::StepFailed(*code),
            _ => ErrorKind::Usage,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoSuchImage { .. } => Code::NoSuchImage,
            Self::NoKeptStep { .. } | Self::KeptCacheGone { .. } => Code::NoKeptStep,
            Self::InvalidName { .. } | Self::AmbiguousId { .. } | Self::ArchiveToRegistry => {
                Code::InvalidArgument
            }
            Self::NotAnImage { .. } => Code::ImageUnsupported,
            Self::Damaged { .. }
            | Self::EmptyArchive
            | Self::Incomplete { .. }
            | Self::NotDecompressed { .. }
            | Self::DecompressesTooMuch { .. } => Code::ImageCorrupt,
            Self::DraftExists { .. }
            | Self::EmptyDraft { .. }
            | Self::NoDraft { .. }
            | Self::DraftUnreadable { .. } => Code::IndexDraft,
            Self::NoCommand | Self::NoShell | Self::WorkingDirectory { .. } | Self::Volume { .. } => {
                Code::ContainerOptions
            }
            Self::UnknownUser { .. } => Code::UnknownUser,
            Self::NotStarted { .. } => Code::StepFailed,
        }
    }
}
