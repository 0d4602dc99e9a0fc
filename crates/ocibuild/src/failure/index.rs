//! Why an index cannot be put together.

use std::error::Error as StdError;

use ocibuild_spec::{Digest, Platform, Reference, ReferenceError};

use super::{Code, ErrorKind};
use crate::annotation::AnnotationLevel;

/// What is wrong with an index, or with what it is to list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFailure {
    /// Two images are for the same platform.
    #[error("{}: two images for {platform}: {first} and {second}", name.familiar())]
    TwoImages {
        /// The index.
        name: Reference,
        /// The platform.
        platform: String,
        /// One of the images.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two images of one job are for the same platform.
    #[error("two images for {platform}: {} and {}", first.familiar(), second.familiar())]
    TwoImagesOfJob {
        /// The platform.
        platform: Platform,
        /// One of the images.
        first: Reference,
        /// The other one.
        second: Reference,
    },
    /// A platform is to be set, and no image is named.
    #[error("nothing tells which image this platform is of")]
    NoImageNamed,
    /// An image is named that the draft does not have, or several.
    #[error("{selector} {} the draft of {}", if *is_ambiguous { "means more than one image of" } else { "is not in" }, name.familiar())]
    NotInDraft {
        /// What is named.
        selector: String,
        /// The index.
        name: Reference,
        /// Whether several images fit.
        is_ambiguous: bool,
        /// What the draft has: the names of images and their platforms.
        images: Vec<(Reference, String)>,
    },
    /// A platform cannot be one.
    #[error("{platform} is not a platform")]
    NotAPlatform {
        /// The platform.
        platform: Platform,
    },
    /// An annotation is of something else than an index.
    #[error("{level}: an annotation of this type has no place in an index")]
    AnnotationLevel {
        /// What it is of.
        level: AnnotationLevel,
    },
    /// The index is named by a digest.
    #[error("{}: an index is named by a tag, its digest follows from what is in it", name.familiar())]
    NotATag {
        /// The name.
        name: Reference,
    },
    /// Jobs are to meet, and no platform is expected.
    #[error("no platform is expected")]
    NothingExpected,
    /// The name of a run is empty.
    #[error("the run has no name, so all runs would share one")]
    UnnamedRun,
    /// A platform is expected twice.
    #[error("{platform} is expected twice")]
    ExpectedTwice {
        /// The platform.
        platform: Platform,
    },
    /// The tag of the image of a platform cannot be one.
    #[error("the image of {platform} would have the tag {tag:?}, which is not a valid tag")]
    InvalidTag {
        /// The platform.
        platform: Platform,
        /// The tag.
        tag: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// An image is for a platform that is not expected.
    #[error("{} is for {platform}, which is not expected", name.familiar())]
    NotExpected {
        /// The image.
        name: Reference,
        /// Its platform.
        platform: Platform,
        /// The platforms that are expected.
        expected: Vec<Platform>,
    },
    /// The images of the platforms are replaced again and again.
    #[error("{}: the platform images kept changing while the index was pushed", name.familiar())]
    KeepsChanging {
        /// The index.
        name: Reference,
    },
    /// Something else has the name that the image of a platform is to have.
    #[error("{} is not one image for {platform}", name.familiar())]
    NotOneImage {
        /// The name.
        name: Reference,
        /// The platform.
        platform: Platform,
    },
    /// Others replace the index again and again.
    #[error("{}: others change it faster than it can be read", name.familiar())]
    ChangedByOthers {
        /// The index.
        name: Reference,
    },
    /// A registry does not have what the index lists.
    #[error("{}: the registry misses images of the index: {said}", name.familiar())]
    ImagesMissing {
        /// The index.
        name: Reference,
        /// What the registry said.
        said: String,
    },
    /// A document is not what an index can list.
    #[error("{name}: {problem}")]
    Document {
        /// The image or document.
        name: String,
        /// What is wrong with it.
        problem: DocumentProblem,
        /// What was found wrong below it.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
}

/// What is wrong with a document that an index is to list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentProblem {
    /// Indexes list indexes without end.
    #[error("indexes are nested more than {0} deep")]
    NestedTooDeeply(usize),
    /// An index lists more than is ever read.
    #[error("the index lists more than {0} images")]
    TooManyImages(usize),
    /// A config does not say what it is for.
    #[error("its config tells no platform")]
    NoPlatform,
    /// It is larger than any document is.
    #[error("it is too large for a document")]
    TooLarge,
    /// It does not have the size that is stated.
    #[error("it has another size")]
    OtherSize,
    /// It is an index where an image is needed.
    #[error("{0} is an index, not an image")]
    IsIndex(Digest),
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
}

impl IndexFailure {
    pub(crate) fn document(name: impl Into<String>, problem: DocumentProblem) -> Self {
        Self::Document { name: name.into(), problem, source: None }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::KeepsChanging { .. } | Self::ChangedByOthers { .. } | Self::ImagesMissing { .. } => {
                ErrorKind::Network
            }
            Self::NotOneImage { .. } | Self::Document { .. } => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotInDraft { .. } | Self::NoImageNamed => Code::IndexDraft,
            Self::AnnotationLevel { .. } => Code::InvalidAnnotation,
            Self::KeepsChanging { .. }
            | Self::ChangedByOthers { .. }
            | Self::NotOneImage { .. }
            | Self::TwoImages { .. }
            | Self::TwoImagesOfJob { .. } => Code::IndexConflict,
            Self::ImagesMissing { .. } => Code::PushIncomplete,
            Self::Document {
                problem: DocumentProblem::OtherSize | DocumentProblem::Malformed(_), ..
            } => Code::ImageCorrupt,
            Self::Document { .. } => Code::ImageUnsupported,
            _ => Code::InvalidArgument,
        }
    }
}
