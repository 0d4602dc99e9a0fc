//! Between its key and its layer nothing may change that a step reads from a directory of this machine. What the key
//! was made of is remembered, compared with what is found when the layer is made, and an error where both differ:
//! otherwise the key of the old files would lead to a layer with the new ones.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{ContentDigest, ContentHasher, Hasher, Metadata};

use super::known::{DigestIndex, first_half, hash_of};
use super::local::LocalSource;
use super::source::{Item, Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{ChangedPath, PathChange};
use crate::failure::{IgnoredBy, SourcePlace};

/// The paths that a walk of a selection found, in their order, and what was there.
///
/// Each path is kept as the part that differs from the one before: a name for most.
#[derive(Debug, Default)]
pub(super) struct Walked {
    paths: Vec<u8>,
    /// Of each path: how many bytes it begins with of the one before, and how many follow.
    lengths: Vec<(u32, u32)>,
    fingerprints: Vec<[u8; 16]>,
}

impl Walked {
    /// Takes the next path; `last` is the one before, and becomes this one.
    pub(super) fn add(&mut self, item: &Item, last: &mut Vec<u8>) {
        let path = item.path.as_os_str().as_bytes();
        let shared = path.iter().zip(last.iter()).take_while(|(new, old)| new == old).count();
        let length = |bytes: usize| u32::try_from(bytes).expect("paths of a context are shorter than 4 KiB");
        self.lengths.push((length(shared), length(path.len() - shared)));
        self.paths.extend_from_slice(&path[shared..]);
        self.fingerprints.push(fingerprint(item));
        last.truncate(shared);
        last.extend_from_slice(&path[shared..]);
    }

    pub(super) fn replay(&self) -> Replay<'_> {
        Replay { walked: self, next: 0, rest: &self.paths, path: Vec::new() }
    }
}

/// Compares a later walk with the first one.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    walked: &'a Walked,
    next: usize,
    rest: &'a [u8],
    /// The path of the last one that was taken.
    path: Vec<u8>,
}

impl Replay<'_> {
    /// Moves on to the next path of the first walk.
    fn advance(&mut self) -> Option<[u8; 16]> {
        let (shared, own) = *self.walked.lengths.get(self.next)?;
        let (own, rest) = self.rest.split_at(own as usize);
        self.path.truncate(shared as usize);
        self.path.extend_from_slice(own);
        self.rest = rest;
        self.next += 1;
        self.walked.fingerprints.get(self.next - 1).copied()
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Fails unless `item` is what the first walk found next.
    pub(super) fn expect(&mut self, item: &Item) -> Result<(), ChangedPath> {
        let Some(known) = self.advance() else {
            return Err(ChangedPath::new(&item.path, PathChange::Appeared));
        };
        if self.path == item.path.as_os_str().as_bytes() {
            let is_same = known == fingerprint(item);
            return if is_same { Ok(()) } else { Err(ChangedPath::new(&item.path, PathChange::Attributes)) };
        }
        match self.path().cmp(&item.path) {
            std::cmp::Ordering::Less => Err(ChangedPath::new(self.path(), PathChange::Gone)),
            _ => Err(ChangedPath::new(&item.path, PathChange::Appeared)),
        }
    }

    /// Fails unless the first walk ended here, too.
    pub(super) fn end(mut self) -> Result<(), ChangedPath> {
        match self.advance() {
            Some(_) => Err(ChangedPath::new(self.path(), PathChange::Gone)),
            None => Ok(()),
        }
    }
}

/// The digests that a key has of the files of a source.
#[derive(Debug, Default)]
pub(super) struct SourceDigests {
    files: Vec<FileDigest>,
}

/// A million of them have to fit into memory beside everything else.
#[derive(Debug, Clone, Copy)]
struct FileDigest {
    path: [u8; 16],
    size: u64,
    content: ContentDigest,
}

impl SourceDigests {
    pub(super) fn add(&mut self, path: &Path, size: u64, content: ContentDigest) {
        self.files.push(FileDigest { path: hash_of(path), size, content });
    }

    fn find(&self, path: &Path) -> Option<FileDigest> {
        let hash = hash_of(path);
        let found = self.files.binary_search_by_key(&hash, |file| file.path).ok()?;
        Some(self.files[found])
    }
}

/// A source whose files have the content that a key was made of, or cannot be read to their end.
#[derive(Debug)]
pub(super) struct CheckedSource {
    inner: Arc<dyn Source>,
    digests: SourceDigests,
}

impl CheckedSource {
    pub(super) fn new(inner: Arc<dyn Source>, mut digests: SourceDigests) -> Self {
        digests.files.sort_unstable_by_key(|file| file.path);
        digests.files.shrink_to_fit();
        Self { inner, digests }
    }
}

impl Source for CheckedSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        self.inner.stat(path)
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        self.inner.names(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let Some(known) = self.digests.find(path) else {
            return Err(ChangedPath::new(path, PathChange::Appeared).into());
        };
        let inner = self.inner.open(path)?;
        Ok(Box::new(CheckedReader {
            inner,
            digests: self.inner.digests(),
            hasher: Some(ContentHasher::default()),
            known,
            path: path.into(),
        }))
    }

    fn known_digest(&self, path: &Path) -> Option<ContentDigest> {
        self.digests.find(path).map(|known| known.content)
    }

    fn may_change(&self) -> bool {
        true
    }

    fn as_local(&self) -> Option<&LocalSource> {
        self.inner.as_local()
    }

    fn look_anew(&self) {
        self.inner.look_anew();
    }

    fn is_sent_on_demand(&self) -> bool {
        self.inner.is_sent_on_demand()
    }

    fn hidden_by(&self, path: &Path) -> Option<IgnoredBy> {
        self.inner.hidden_by(path)
    }

    fn is_state(&self, path: &Path) -> bool {
        self.inner.is_state(path)
    }

    fn place(&self) -> SourcePlace {
        self.inner.place()
    }
}

/// The content of a file, whose end is an error when it is not what the key was made of.
struct CheckedReader {
    inner: Box<dyn Read + Send>,
    /// Those that the key may have been made of.
    digests: Option<Arc<DigestIndex>>,
    /// Gone once the end was seen.
    hasher: Option<ContentHasher>,
    known: FileDigest,
    path: PathBuf,
}

impl Read for CheckedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(hasher) = &mut self.hasher else { return Ok(count) };
        hasher.update(&buffer[..count]);
        if count > 0 || buffer.is_empty() {
            let is_longer = hasher.size() > self.known.size;
            return if is_longer { Err(self.changed()) } else { Ok(count) };
        }
        let size = hasher.size();
        let content = self.hasher.take().map(ContentHasher::finish);
        if size != self.known.size || content != Some(self.known.content) {
            return Err(self.changed());
        }
        Ok(0)
    }
}

impl CheckedReader {
    fn changed(&self) -> io::Error {
        if let Some(digests) = &self.digests {
            digests.forget(&self.path);
        }
        io::Error::other(ChangedPath::new(&self.path, PathChange::Content))
    }
}

/// What a walk found at a path, without content and time, in few bytes. The names that a file has count, since of a
/// file with several only the first is read.
fn fingerprint(item: &Item) -> [u8; 16] {
    let mut hasher = Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    let Metadata { mode, uid, gid, xattrs, mtime: _ } = &item.node.metadata;
    for number in [*mode, *uid, *gid, u32::from(item.is_intermediate)] {
        field(&number.to_be_bytes());
    }
    for (name, value) in xattrs {
        field(name.as_bytes());
        field(value);
    }
    if let Some((device, inode)) = item.node.links {
        field(&device.to_be_bytes());
        field(&inode.to_be_bytes());
    }
    match &item.node.kind {
        SourceKind::Directory => field(b"directory"),
        SourceKind::File { size } => {
            field(b"file");
            field(&size.to_be_bytes());
        }
        SourceKind::Symlink(target) => {
            field(b"symlink");
            field(target.as_os_str().as_bytes());
        }
        SourceKind::Fifo => field(b"fifo"),
        SourceKind::CharacterDevice(major, minor) => field(format!("c {major} {minor}").as_bytes()),
        SourceKind::BlockDevice(major, minor) => field(format!("b {major} {minor}").as_bytes()),
    }
    first_half(hasher)
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::Metadata;

    use super::*;
    use crate::copy::SourceKind;
    use crate::error::ErrorKind;

    fn item(path: &str, size: u64) -> Item {
        let node = SourceNode {
            metadata: Metadata::default(),
            kind: SourceKind::File { size },
            links: None,
            in_place: None,
            known: None,
        };
        Item { path: PathBuf::from(path), node, is_intermediate: false }
    }

    fn walk(items: &[(&str, u64)]) -> Walked {
        let (mut walked, mut last) = (Walked::default(), Vec::new());
        for (path, size) in items {
            walked.add(&item(path, *size), &mut last);
        }
        walked
    }

    #[test]
    fn the_path_that_changed_is_named() {
        let walked = walk(&[("a", 0), ("a/b", 1), ("a/bc", 2), ("d", 3)]);
        let compare = |items: &[(&str, u64)]| {
            let mut replay = walked.replay();
            items.iter().try_for_each(|(path, size)| replay.expect(&item(path, *size)))?;
            replay.end()
        };
        assert_eq!(compare(&[("a", 0), ("a/b", 1), ("a/bc", 2), ("d", 3)]), Ok(()));
        let changed = |path, how| Err(ChangedPath::new(Path::new(path), how));
        for (items, expected) in [
            (&[("a", 0), ("a/b", 1), ("d", 3)][..], changed("a/bc", PathChange::Gone)),
            (&[("a", 0), ("a/b", 1), ("a/bc", 2)], changed("d", PathChange::Gone)),
            (&[("a", 0), ("a/a", 1), ("a/b", 1)], changed("a/a", PathChange::Appeared)),
            (&[("a", 0), ("a/b", 1), ("a/bc", 2), ("d", 3), ("e", 1)], changed("e", PathChange::Appeared)),
            (&[("a", 0), ("a/b", 5)], changed("a/b", PathChange::Attributes)),
            (&[], changed("a", PathChange::Gone)),
        ] {
            assert_eq!(compare(items), expected, "{items:?}");
        }
    }

    #[test]
    fn the_end_of_other_content_is_an_error() {
        #[derive(Debug)]
        struct One(&'static [u8]);
        impl Source for One {
            fn stat(&self, _: &Path) -> Result<Option<SourceNode>, Error> {
                Ok(Some(item("f", self.0.len() as u64).node))
            }
            fn names(&self, _: &Path) -> Result<Vec<OsString>, Error> {
                Ok(vec!["f".into()])
            }
            fn open(&self, _: &Path) -> Result<Box<dyn Read + Send>, Error> {
                Ok(Box::new(self.0))
            }
            fn may_change(&self) -> bool {
                true
            }
        }
        let read = |content: &'static [u8]| {
            let mut digests = SourceDigests::default();
            let mut hasher = ContentHasher::default();
            hasher.update(b"hello");
            digests.add(Path::new("f"), 5, hasher.finish());
            let source = CheckedSource::new(Arc::new(One(content)), digests);
            let mut bytes = Vec::new();
            source.open(Path::new("f")).unwrap().read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read(b"hello").unwrap(), b"hello");
        for other in [&b"hellO"[..], b"hell", b"hello world", b""] {
            let error = read(other).unwrap_err();
            assert_eq!(
                ChangedPath::below(&error),
                Some(ChangedPath::new(Path::new("f"), PathChange::Content))
            );
            let error = ChangedPath::or(error, |_| unreachable!());
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("f changed while it was read"), "{error}");
        }
    }
}
