use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Format, Limit};

/// A layer that could not be written, read or applied.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// The operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The content of an entry could not be opened.
    #[error("open {}", path.display())]
    OpenContent {
        /// The entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content of an entry could not be read.
    #[error("read {}", path.display())]
    ReadContent {
        /// The entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file had fewer bytes than its entry says.
    #[error("{} changed while it was read: it ended after {actual} of {expected} bytes", path.display())]
    ContentShrank {
        /// The entry.
        path: PathBuf,
        /// Bytes its entry states.
        expected: u64,
        /// Bytes there were.
        actual: u64,
    },
    /// A file had more bytes than its entry says.
    #[error("{} changed while it was read: it has more than {expected} bytes", path.display())]
    ContentGrew {
        /// The entry.
        path: PathBuf,
        /// Bytes its entry states.
        expected: u64,
    },
    /// No tar header can hold the entry.
    #[error("{} cannot be stored in a layer: {reason}", path.display())]
    UnwritableEntry {
        /// The entry.
        path: PathBuf,
        /// What is in the way.
        reason: &'static str,
    },
    /// A file or directory whose name means a deletion in a layer (image-spec `layer.md`, "Whiteouts").
    #[error("{} cannot be in a layer: names that begin with .wh. stand for deletions", path.display())]
    ReservedName {
        /// The entry.
        path: PathBuf,
    },
    /// The blob could not be written.
    #[error("write the layer")]
    WriteBlob {
        /// Why.
        source: io::Error,
    },
    /// A block could not be compressed.
    #[error("compress the layer at byte {offset} of its tar")]
    Compress {
        /// Where the block begins in the plain tar.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Compressed bytes could not be recognised, or their decoder not be started.
    #[error("start to read {format} data")]
    Decompress {
        /// The format stated or found.
        format: Format,
        /// Why.
        source: io::Error,
    },
    /// A stream can only be decompressed with more memory than is given for it.
    #[error("decompressing this {format} data takes more than the {} MiB of memory that are allowed", maximum >> 20)]
    DecoderMemory {
        /// The format.
        format: Format,
        /// Bytes of memory allowed.
        maximum: u64,
    },
    /// A layer's bytes are not of the type that its descriptor states.
    #[error("the layer is stated to be {media_type} but its bytes are {found}")]
    MediaTypeMismatch {
        /// The type stated.
        media_type: String,
        /// What the bytes look like.
        found: Format,
    },
    /// A media type that is no layer's, or of a layer that is encrypted.
    #[error("{media_type} is not the type of a layer that can be read")]
    UnknownMediaType {
        /// The type stated.
        media_type: String,
    },
    /// The tar could not be read, or not be decompressed.
    #[error("read the tar at byte {offset}{}", After(entry))]
    ReadTar {
        /// Where in the plain tar.
        offset: u64,
        /// The entry being read, or the one before; empty at the start.
        entry: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes are no tar.
    #[error("malformed tar at byte {offset}{}: {reason}", After(entry))]
    MalformedTar {
        /// Where the header begins in the plain tar.
        offset: u64,
        /// The entry concerned, or the one before; empty at the start.
        entry: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A tar entry that is well formed but must not be in a layer.
    #[error("tar entry {} at byte {offset} is refused: {reason}", entry.display())]
    RefusedEntry {
        /// Where the header begins in the plain tar.
        offset: u64,
        /// Its name.
        entry: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A tar entry of a sort that is not read: sparse files, volume parts, unknown types.
    #[error("tar entry {} at byte {offset} is {what}, which is not supported", entry.display())]
    UnsupportedEntry {
        /// Where the header begins in the plain tar.
        offset: u64,
        /// Its name.
        entry: PathBuf,
        /// What it is.
        what: String,
    },
    /// The tar is larger than the caller allows.
    #[error("the tar at byte {offset}{} goes beyond the limit of {maximum} {what}", After(entry))]
    LimitExceeded {
        /// Where the header begins in the plain tar.
        offset: u64,
        /// The entry that does.
        entry: PathBuf,
        /// What is counted.
        what: Limit,
        /// How much is allowed.
        maximum: u64,
    },
    /// An entry could not be made on disk.
    #[error("unpack {}", entry.display())]
    Unpack {
        /// The entry.
        entry: PathBuf,
        /// Why.
        source: ocibuild_sys::Error,
    },
    /// The content of an entry could not be written to disk.
    #[error("unpack the content of {}", entry.display())]
    UnpackContent {
        /// The entry.
        entry: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The owner of an entry does not exist in this user namespace.
    #[error("owner {uid}:{gid} of {} cannot be set here", entry.display())]
    UnmappedOwner {
        /// The entry.
        entry: PathBuf,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A record of a layer's entries that this version cannot read.
    #[error("layer index: {reason} at byte {offset}")]
    MalformedIndex {
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The caller's own code for an entry failed.
    #[error("extract {}", path.display())]
    Extract {
        /// The entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The call was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// What its receiver can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind() {
            ErrorKind::UnmappedOwner { .. } => {
                Some("give this user enough subordinate ids in /etc/subuid and /etc/subgid")
            }
            ErrorKind::ReservedName { .. } => Some("give it another name, or leave it out"),
            ErrorKind::DecoderMemory { .. } => {
                Some("compress it again with a smaller window or dictionary, as of `zstd -19` or `xz -9`")
            }
            ErrorKind::LimitExceeded { .. } => Some(
                "the input is well-formed, but larger than ocibuild reads of one layer or archive; split it",
            ),
            ErrorKind::ContentShrank { .. } | ErrorKind::ContentGrew { .. } => {
                Some("something writes to this file during the build; keep it still, or ignore it")
            }
            _ => None,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

/// ` (name)`, or nothing before the first entry.
struct After<'p>(&'p Path);

impl fmt::Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_os_str().is_empty() { Ok(()) } else { write!(f, " ({})", self.0.display()) }
    }
}
