//! Digests of the files of contexts that a build has read: no file is read again for the key of a later step.
//!
//! To a build, a file is what it was when the build first read it, as long as nothing tells that it changed. Whoever
//! puts it into a layer reads it anyhow, and fails if it is something else by then.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_spec::{ContentDigest, Hasher};
use ocibuild_sys::{Metadata, Timestamp};

use super::changed::first_half;
use super::own::Inode;

/// What tells that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileVersion {
    inode: Inode,
    size: u64,
    mode: u32,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl FileVersion {
    pub(super) fn of(found: &Metadata) -> Self {
        let Metadata { dev, ino, size, mode, mtime, ctime, .. } = *found;
        Self { inode: (dev, ino), size, mode, mtime, ctime }
    }

    /// The same in few bytes.
    fn fingerprint(&self) -> [u8; 16] {
        let mut hasher = Hasher::new();
        let Self { inode: (device, inode), size, mode, mtime, ctime } = self;
        for number in [*device, *inode, *size, u64::from(*mode)] {
            hasher.update(&number.to_be_bytes());
        }
        for time in [mtime, ctime] {
            hasher.update(&time.seconds.to_be_bytes());
            hasher.update(&time.nanoseconds.to_be_bytes());
        }
        first_half(hasher)
    }
}

/// The digests of all contexts of a build, each known by the inode of its directory.
#[derive(Debug, Default)]
pub(crate) struct ContextDigests {
    contexts: Mutex<HashMap<Inode, Arc<DigestIndex>>>,
}

impl ContextDigests {
    /// Those of the context in this directory.
    pub(super) fn of(&self, root: Inode) -> Arc<DigestIndex> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(contexts.entry(root).or_default())
    }
}

/// The digests of the files of one context, by path.
#[derive(Debug, Default)]
pub(crate) struct DigestIndex {
    files: Mutex<HashMap<[u8; 16], Known>>,
}

/// A million of them have to fit into memory beside everything else.
#[derive(Debug, Clone, Copy)]
struct Known {
    version: [u8; 16],
    content: ContentDigest,
}

impl DigestIndex {
    /// The digest of this version of a file, if it was read.
    pub(super) fn get(&self, path: &Path, version: &FileVersion) -> Option<ContentDigest> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.get(&hash_of(path))?;
        (known.version == version.fingerprint()).then_some(known.content)
    }

    /// Remembers what was read of a file. `version` is what the file was before it was read: were it to change
    /// meanwhile, it would be another version later.
    pub(super) fn put(&self, path: &Path, version: &FileVersion, content: ContentDigest) {
        let known = Known { version: version.fingerprint(), content };
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(hash_of(path), known);
    }
}

/// The name of a path where many of them are kept.
pub(super) fn hash_of(path: &Path) -> [u8; 16] {
    let mut hasher = Hasher::new();
    hasher.update(path.as_os_str().as_bytes());
    first_half(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> FileVersion {
        let time = |seconds| Timestamp { seconds, nanoseconds: 5 };
        FileVersion { inode: (1, 2), size: 3, mode: 0o644, mtime: time(4), ctime: time(6) }
    }

    #[test]
    fn another_version_is_not_known() {
        let contexts = ContextDigests::default();
        let digest = ContentDigest::of("content");
        contexts.of((0, 1)).put(Path::new("a/b"), &version(), digest);
        let known = |root, path: &str, version: FileVersion| contexts.of(root).get(Path::new(path), &version);
        assert_eq!(known((0, 1), "a/b", version()), Some(digest));
        assert_eq!(known((0, 2), "a/b", version()), None);
        assert_eq!(known((0, 1), "a/c", version()), None);
        let later = Timestamp { seconds: 6, nanoseconds: 6 };
        for other in [
            FileVersion { inode: (2, 2), ..version() },
            FileVersion { inode: (1, 3), ..version() },
            FileVersion { size: 4, ..version() },
            FileVersion { mode: 0o755, ..version() },
            FileVersion { mtime: later, ..version() },
            FileVersion { ctime: later, ..version() },
        ] {
            assert_eq!(known((0, 1), "a/b", other), None, "{other:?}");
        }
    }
}
