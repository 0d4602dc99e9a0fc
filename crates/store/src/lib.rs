//! An OCI image layout on disk: blobs, tags, locks, garbage collection.
//!
//! # Model
//! [`ImageLayout`] is the state directory: an OCI image layout that other tools can read in place, with private
//! folders beside it. Bytes go in through a [`BlobWriter`] or [`BlobSink::put_from`] and become *blobs*, named by
//! the digest of exactly these bytes; a *tag* in `index.json` names a manifest of which every blob is here. A
//! [`Lease`] announces a running build and protects what it puts or looks up until something refers to it; a
//! [`Collection`] removes what neither a tag, nor a reference of the caller, nor a lease reaches.
//!
//! Around it stand the trait of places that take blobs ([`BlobSink`]), what images are exported as ([`LayoutArchive`], [`LayoutDirectory`]), and where base images may come from beside a registry
//! ([`LayoutSource`], [`ArchiveSource`], and the layout itself, all of them an
//! [`ImageSource`](ocibuild_spec::ImageSource)).
//!
//! ```
//! use std::collections::BTreeSet;
//! use ocibuild_spec::{MediaType, json};
//! use ocibuild_store::{BlobSink as _, ErrorKind, ImageLayout};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! let layout = ImageLayout::open_or_create(directory.path().join("state"))?;
//! let lease = layout.lease()?;
//! let config = layout.put(MediaType::ImageConfig, br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#)?;
//! let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []});
//! let image = layout.put(MediaType::ImageManifest, &json::to_vec_pretty(&manifest).unwrap())?;
//! let reference = "app:1.0".parse().unwrap();
//! layout.tag(&reference, &image)?;
//! drop(lease);
//! assert_eq!(layout.resolve(&reference)?, Some(image));
//! assert_eq!(layout.collect(&BTreeSet::new())?.blobs, 0);
//! # Ok::<(), ocibuild_store::Error>(())
//! ```
//!
//! # What a crash leaves
//! Bytes reach their final name only whole and verified; they are flushed, then the folder is, and only then does
//! `index.json` change, by a rename. A killed process leaves a directory in `tmp/`, whose lock the kernel let go, so
//! that the next [`ImageLayout::sweep_dead_scratch`] knows it. After a power failure a blob that nothing refers to
//! may be short; its size tells, and it is written again when it is needed.
//!
//! # Limitations
//! * The digest of a blob is verified when it comes in and when it leaves as a base image, not each time a build
//!   reads it back; its size always is.
//! * Locks are `flock`s, so a state directory on a network file system serves one machine at a time.
//! * Archives compressed as a whole are refused, since blobs are read in place. Their layers may be compressed.
//! * Layers of a docker archive that are compressed by something else than gzip or Zstandard are taken for tars, and
//!   then do not have their digest.
#![forbid(unsafe_code)]

mod blob;
mod error;
mod fault;
mod layout;
mod output;
mod source;

pub use blob::{BlobSink, copy_image, reachable, read_document};
pub use error::{Error, ErrorKind};
pub use fault::Fault;
pub use layout::{
    BlobWriter, Collection, ExclusiveLock, Freed, HashedBlobWriter, ImageLayout, Lease, ScratchDir, Usage,
    check_way,
};
pub use output::{ArchiveFormat, LayoutArchive, LayoutDirectory, OutputImage};
pub use source::{ArchiveSource, LayoutSource, Parts, StoredImage, StoredImages, detect};
