//! Where the blob of a layer may be.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Descriptor, ImageSource, Reference, SourceError, SourceErrorKind};
use ocibuild_store::{BlobSink as _, ImageLayout};

use crate::error::Error;

/// A place that may have a blob.
#[derive(Clone, Copy)]
pub(crate) enum BlobLocation<'a> {
    /// The state directory.
    Store(&'a ImageLayout),
    /// The source of an image, which knows the image by this name.
    Image {
        /// What is asked.
        source: &'a dyn ImageSource,
        /// The name.
        reference: &'a Reference,
    },
}

/// Places that may have a blob, in the order in which they are asked.
pub(crate) type BlobLocations<'a> = Arc<[BlobLocation<'a>]>;

/// Why a place gives no blob.
pub(super) enum NotOpened {
    /// It does not have it. The source of an image says so in its own words.
    Missing(Option<SourceError>),
    /// It could not be asked, or what it has is unusable.
    Failed(Error),
}

impl BlobLocation<'_> {
    /// Opens a blob, which is verified while it is read.
    pub(super) fn open(
        &self,
        blob: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, NotOpened> {
        match self {
            Self::Store(store) => match store.stat(&blob.digest) {
                Ok(Some(size)) if size == blob.size => {
                    store.open_blob(blob).map_err(|error| NotOpened::Failed(error.into()))
                }
                Ok(_) => Err(NotOpened::Missing(None)),
                Err(error) => Err(NotOpened::Failed(error.into())),
            },
            Self::Image { source, reference } => {
                source.open(reference, blob, cancel).map_err(|error| match error.kind() {
                    SourceErrorKind::NotFound => NotOpened::Missing(Some(error)),
                    _ => NotOpened::Failed(error.into()),
                })
            }
        }
    }
}

impl fmt::Display for BlobLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the state directory"),
            Self::Image { reference, .. } => write!(f, "the source of {}", reference.familiar()),
        }
    }
}

impl fmt::Debug for BlobLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobLocation({self})")
    }
}
