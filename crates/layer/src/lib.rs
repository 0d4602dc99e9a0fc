//! Changeset to tar to compressed blob in one pass, and back, confined.
//!
//! A layer is a tar of what changed (image-spec `layer.md`), mostly compressed. [`write()`] makes one from a
//! [`Changeset`](ocibuild_spec::Changeset): the tar is made of the bytes that BuildKit's would have, hashed for the diff
//! id, compressed on several threads (gzip in independent members, Zstandard in one frame), hashed for the blob's digest and written, all at once.
//! The other way, [`decompress_layer`] gives the plain tar of a blob, and from that [`apply`] unpacks the layer by
//! itself into a directory, [`LayerListing::read_tar`] lists it without unpacking, and [`extract_files`] pulls files out.
//! [`TarReader`] under all three reads archives for ADD as well.
//!
//! ```
//! use std::io::Cursor;
//!
//! use ocibuild_layer::{LayerListing, LayerOptions, Limits, decompress_layer, write};
//! use ocibuild_spec::{CancelToken, Changeset, Content, Entry, EntryKind, Metadata};
//!
//! let motd = Entry {
//!     path: "motd".into(),
//!     metadata: Metadata { mode: 0o644, ..Metadata::default() },
//!     kind: EntryKind::File { size: 6, content: Content(0) },
//! };
//! let changeset = Changeset::new(vec![motd], |_, _| Ok(Box::new(&b"hello\n"[..])));
//! let cancel = CancelToken::new();
//! let mut blob = Vec::new();
//! let written = write(&changeset, &mut blob, &LayerOptions::default(), &cancel)?;
//! assert_eq!(written.descriptor.size, blob.len() as u64);
//!
//! let mut tar = decompress_layer(Box::new(Cursor::new(blob)), &written.descriptor.media_type)?;
//! let (index, diff_id) = LayerListing::read_tar(&mut *tar, &Limits::UNLIMITED, &cancel)?;
//! assert_eq!(diff_id, written.diff_id);
//! assert_eq!(index, written.into_index(changeset, false)?);
//! # Ok::<(), ocibuild_layer::Error>(())
//! ```
//!
//! # Names in a layer
//!
//! Names are bytes below the root; a leading slash and `.` mean nothing, `..` is refused. A path through a symbolic link
//! of the same layer is filed, and unpacked, where the link leads with the layer's root as `/`. A name that begins with
//! `.wh.` deletes the rest of it from the layers below, and `.wh..wh..opq` all that they have in its directory,
//! wherever in the tar it stands; if the layer itself has a directory of the deleted name, that directory is opaque.
//! Book-keeping of AUFS (`.wh..wh.plnk` and the like at the top) is passed over, the entry of the root directory too.
//!
//! # The record of an index
//!
//! [`LayerListing::encode`] writes, after the 20 bytes `ocibuild layer index`, a NUL and the version (1 byte, now 3):
//!
//! | what | how |
//! |---|---|
//! | size of the plain tar | number |
//! | content of `etc/passwd`, then of `etc/group` | number 0, or number 1 and a text |
//! | implied directories | number of them, and for each a path |
//! | entries | number of them, and each as below |
//! | files that are one with files below | number of them, and for each the texts of both paths |
//! | checksum | SHA-256 of everything before, 32 bytes |
//!
//! A *number* is in little-endian groups of seven bits, the highest bit set in all bytes but the last. A *text* is its
//! length, a number, and its bytes. A *path* is the number of bytes it shares with the path before it in the same list,
//! and a text with the others. An *entry* is a byte for its kind (0 directory, 1 file, 2 symbolic link, 3 hard link,
//! 4 pipe, 5 character device, 6 block device, 7 whiteout, 8 opaque whiteout); its path; what belongs to the kind (size
//! and offset of a file, and number 1 and the 32 bytes of the digest of its content; target of a link as a text; major and minor
//! number of a device); and, but for whiteouts,
//! numbers for mode, user, group, seconds of the time (doubled, or for negative ones doubled, negated and less one),
//! nanoseconds, and extended attributes, and for each of those two texts. The digest is an
//! [`ContentDigest`](ocibuild_spec::ContentDigest); the record of an index that does not know it has number 0 in its place.
//! Another version is no record here: whoever meets one reads the tar again.
//!
//! # Limitations
//!
//! Sparse files are read in archives for ADD alone, and of those in the three PAX formats of GNU tar; its old format, which
//! BuildKit does not unpack either, and sparse files in layers are refused. What is written has no sparse files. The blob that [`write()`] makes differs from BuildKit's, the tar within does not. `etc/passwd` is not in
//! the index when it is only another name of a file that comes before it. A hard link has the metadata of its file,
//! whatever its own entry says. A layer that implies a directory where the layers below have a link is unpacked with a
//! directory there; [`LayerListing::implied_directories`] lets the caller notice.
#![forbid(unsafe_code)]

mod apply;
mod blocks;
mod cancellable;
mod clamp;
mod codec;
mod compression;
mod decompress;
mod digests;
mod error;
mod extract;
mod gzip;
mod header;
mod index;
mod limits;
mod name;
mod pax;
mod raw;
mod read_ahead;
mod reader;
mod recompress;
mod sparse;
mod tree;
mod write;
mod zstandard;

pub use apply::{Applied, ApplyOptions, Devices, Owners, Skipped, Times, WhiteoutFormat, apply, apply_ahead};
pub use cancellable::Cancellable;
pub use clamp::ClampedTar;
pub use compression::{Compression, FORMAT_VERSION};
pub use decompress::{Format, decompress, decompress_layer, sniff};
pub use digests::FileDigests;
pub use error::{Error, ErrorKind};
pub use extract::extract_files;
pub use index::LayerListing;
pub use limits::{Limit, Limits};
pub use reader::{Policy, TarEntry, TarReader, is_tar};
pub use recompress::recompress;
pub use sparse::{Expanded, SparseMap};
pub use write::{LayerOptions, WrittenLayer, write};
