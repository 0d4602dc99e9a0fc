//! An OCI image layout on disk: blobs, tags, locks, garbage collection.
#![forbid(unsafe_code)]

mod blob;
mod error;
mod layout;
mod output;
mod source;

pub use blob::{BlobSink, BlobStore, BlobWriter, PendingBlob, copy_image, reachable, read_document};
pub use error::{Error, ErrorKind};
pub use layout::{Collection, ExclusiveLock, Freed, ImageLayout, Lease, ScratchDir, Usage};
pub use output::{ArchiveFormat, LayoutArchive, LayoutDirectory, OutputImage};
pub use source::{ArchiveSource, LayoutSource, detect};
