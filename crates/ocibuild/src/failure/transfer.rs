//! Why images do not go to registries, come from them, or go to engines.

use std::error::Error as StdError;

use ocibuild_spec::{Digest, DocumentError, MediaType, Reference};

use super::{Code, ErrorKind};

/// What is wrong with an image on its way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferFailure {
    /// A manifest or an index cannot be read.
    #[error("{}: {source}", name.familiar())]
    Document {
        /// The image.
        name: Reference,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// A manifest that is to be pushed cannot be read.
    #[error("{digest}: {source}")]
    OwnDocument {
        /// The manifest.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Indexes list indexes without end.
    #[error("{}: indexes are nested more than {maximum} deep", name.familiar())]
    NestedTooDeeply {
        /// The image.
        name: Reference,
        /// How deep they may be.
        maximum: usize,
    },
    /// An index lists something else than an image.
    #[error("{}: the index lists {digest} of type {media_type}, which is not an image", name.familiar())]
    NotAnImage {
        /// The index.
        name: Reference,
        /// What it lists.
        digest: Digest,
        /// Its type.
        media_type: MediaType,
    },
    /// An index lists more than is ever fetched.
    #[error("{}: the index lists more than {maximum} manifests", name.familiar())]
    TooManyManifests {
        /// The index.
        name: Reference,
        /// How many it may list.
        maximum: usize,
    },
    /// A document does not have the size that its index says.
    #[error("{}: it has {found} bytes, not {expected}", name.familiar())]
    Size {
        /// The document.
        name: Reference,
        /// The size that it has.
        found: u64,
        /// The size that it should have.
        expected: u64,
    },
    /// A blob did not arrive.
    #[error("{}: {reason}", name.familiar())]
    Broken {
        /// The image.
        name: Reference,
        /// What went wrong.
        reason: String,
        /// Whether what arrived is wrong.
        is_corrupt: bool,
    },
    /// A blob that is to be pushed cannot be opened.
    #[error("{reason}")]
    NotOpened {
        /// Why not.
        reason: String,
    },
    /// There is nothing to push.
    #[error("no image to push")]
    NothingToPush,
    /// An image is to be pushed under the digest of another one.
    #[error("{}: the image has the digest {digest}", name.familiar())]
    OtherDigest {
        /// The name.
        name: Reference,
        /// The digest of the image.
        digest: Digest,
    },
    /// A registry misses what it took.
    #[error("{}: the registry says that it misses parts of {digest}, though it took them: {said}", name.familiar())]
    PartsMissing {
        /// The image.
        name: Reference,
        /// The manifest.
        digest: Digest,
        /// What the registry said.
        said: String,
    },
    /// No container engine answers.
    #[error("there is no container engine here to load the image into")]
    NoEngine {
        /// What each said.
        #[source]
        reasons: Box<dyn StdError + Send + Sync>,
    },
    /// An engine does not answer.
    #[error("{engine} is not available to load the image into")]
    EngineSilent {
        /// The engine.
        engine: String,
        /// What its client said.
        #[source]
        said: Box<dyn StdError + Send + Sync>,
    },
    /// An engine does not take an image.
    #[error("{engine} did not take the image")]
    EngineRefused {
        /// The engine.
        engine: String,
        /// What its client said.
        #[source]
        said: Box<dyn StdError + Send + Sync>,
    },
    /// The client of an engine does not start.
    #[error("cannot start {client}")]
    ClientNotStarted {
        /// The client.
        client: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl TransferFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Broken { is_corrupt: false, .. } | Self::PartsMissing { .. } => ErrorKind::Network,
            Self::NothingToPush | Self::OtherDigest { .. } => ErrorKind::Usage,
            Self::NotOpened { .. }
            | Self::NoEngine { .. }
            | Self::EngineSilent { .. }
            | Self::EngineRefused { .. }
            | Self::ClientNotStarted { .. } => ErrorKind::Host,
            _ => ErrorKind::Refused,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Document { .. }
            | Self::OwnDocument { .. }
            | Self::Size { .. }
            | Self::Broken { is_corrupt: true, .. } => Code::ImageCorrupt,
            Self::NestedTooDeeply { .. } | Self::NotAnImage { .. } | Self::TooManyManifests { .. } => {
                Code::ImageUnsupported
            }
            Self::Broken { .. } => Code::RegistryUnreachable,
            Self::NothingToPush | Self::OtherDigest { .. } => Code::InvalidArgument,
            Self::NotOpened { .. } => Code::FileUnusable,
            Self::PartsMissing { .. } => Code::PushIncomplete,
            Self::NoEngine { .. }
            | Self::EngineSilent { .. }
            | Self::EngineRefused { .. }
            | Self::ClientNotStarted { .. } => Code::EngineUnusable,
        }
    }
}
