//! Why a layer cannot be had, or is not what its image says.

use std::error::Error as StdError;
use std::path::PathBuf;

use ocibuild_spec::{DiffId, Digest};

use super::{Code, ErrorKind};

/// What is wrong with a layer of a base image or of an earlier step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerFailure {
    /// An image has another number of layers than of diff ids.
    #[error("the image {image} has {layers} layers and {diff_ids} diff ids")]
    Count {
        /// The manifest of the image.
        image: Digest,
        /// How many layers the manifest lists.
        layers: usize,
        /// How many diff ids the config lists.
        diff_ids: usize,
    },
    /// None of the places that may have the blob of a layer has it.
    #[error("the blob {blob} is missing from {}", places.join(", "))]
    BlobMissing {
        /// The blob.
        blob: Digest,
        /// The places that were asked, in their order.
        places: Vec<String>,
        /// Whether a base image brought the layer, and not a step.
        is_of_base_image: bool,
    },
    /// A layer unpacks to something else than its image says.
    #[error("the layer {blob} unpacks to {found}, but the image says {expected}")]
    OtherDiffId {
        /// The blob of the layer.
        blob: Digest,
        /// What it unpacks to.
        found: DiffId,
        /// What it should unpack to.
        expected: DiffId,
    },
    /// A hard link leads to a file that does not exist: no runtime can unpack such a layer, and without the link the image
    /// would lack a file.
    #[error("the layer {blob} has a hard link {} to {}, which neither it nor a layer below it has", link.display(), target.display())]
    DanglingLink {
        /// The blob of the layer.
        blob: Digest,
        /// The link.
        link: PathBuf,
        /// What it should lead to.
        target: PathBuf,
    },
    /// A layer cannot be read: it is damaged, it did not arrive, or this host cannot have it.
    #[error("cannot read the layer {blob}")]
    Unreadable {
        /// The blob of the layer.
        blob: Digest,
        /// Who is to blame, as the error below tells.
        class: ErrorKind,
        /// Why it cannot be read.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// `/etc/passwd` or `/etc/group` is larger than is ever read of such a file.
    #[error("/{} has {size} bytes, more than is read of such a file", path.display())]
    AccountsTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// A view names a file of a layer that its stack does not have.
    #[error("a file of layer {number}, which the stack does not have")]
    NotInStack {
        /// The position of the layer, counted from 0.
        number: u32,
    },
    /// A file is opened that nobody said would be.
    #[error("/{} was not fetched", path.display())]
    NotFetched {
        /// The file.
        path: PathBuf,
    },
}

impl LayerFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreadable { class, .. } => *class,
            Self::NotFetched { .. } => ErrorKind::Host,
            _ => ErrorKind::Refused,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::BlobMissing { .. } => Code::MissingBlob,
            Self::AccountsTooLarge { .. } => Code::ImageUnsupported,
            Self::Unreadable { class: ErrorKind::Network, .. } => Code::RegistryUnreachable,
            Self::Unreadable { class: ErrorKind::Host, .. } | Self::NotFetched { .. } => Code::FileUnusable,
            _ => Code::ImageCorrupt,
        }
    }
}
