use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What one layer changes: entries in the order of its tar, and a way to open the files' content.
///
/// The maker (a driver that looked at what a step left behind, or a copy that was planned) lists parents before
/// children, ordered component by component, a deletion by the name it deletes (11.10). The reader opens each file
/// at most once, in order.
pub struct Changeset {
    /// The entries, in the order of the tar.
    pub entries: Vec<Entry>,
    /// Files among them that a layer stores by themselves although they are names of files below.
    pub shared: Vec<SharedFile>,
    opener: Box<Opener>,
}

type Opener = dyn Fn(&Entry, Content) -> io::Result<Box<dyn Read + Send>> + Send + Sync;

impl Changeset {
    /// A changeset whose files `opener` opens.
    pub fn new(
        entries: Vec<Entry>,
        opener: impl Fn(&Entry, Content) -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self { entries, shared: Vec::new(), opener: Box::new(opener) }
    }

    /// The same with names of files below.
    #[must_use]
    pub fn with_shared(mut self, shared: Vec<SharedFile>) -> Self {
        self.shared = shared;
        self
    }

    /// Opens the content of `entry`, which must be a file of this changeset. The reader gives at least `size` bytes
    /// unless the file shrank meanwhile, which whoever reads must notice.
    pub fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + Send>> {
        match &entry.kind {
            EntryKind::File { content, .. } => (self.opener)(entry, *content),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no file", entry.path.display()),
            )),
        }
    }
}

impl fmt::Debug for Changeset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changeset").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// A file of a layer that is one with a file of the layers below, which this layer leaves alone. The tar stores it by
/// itself (11.10); whoever builds on this layer in the same state directory sees one file with several names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// Path of the file in this layer.
    pub path: PathBuf,
    /// Path of the file below.
    pub below: PathBuf,
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the root, without leading or trailing slash; of a whiteout, the path it deletes.
    pub path: PathBuf,
    /// Owner, mode, time and attributes; of no meaning for whiteouts.
    pub metadata: Metadata,
    /// What is there.
    pub kind: EntryKind,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Number of bytes.
        size: u64,
        /// Where the bytes are, for whoever made the entry.
        content: Content,
    },
    /// A symbolic link with this target, stored as given.
    Symlink {
        /// The target.
        target: PathBuf,
    },
    /// One more name of a file.
    Hardlink {
        /// The other name's path, in the form of [`Entry::path`].
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Deletes the path of the layers below.
    Whiteout,
    /// Hides everything that the layers below have in this directory (image-spec `layer.md`, "Opaque Whiteout").
    OpaqueWhiteout,
}

/// A number by which the maker of an entry finds the content of a file; means nothing to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content(pub u64);

/// What a path has beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permission bits with set-id and sticky bits, below `0o10000`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Extended attributes by full name, as in `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Metadata {
    /// That of a directory which no layer lists, but of which one lists something below.
    pub fn of_implied_directory() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }
}
