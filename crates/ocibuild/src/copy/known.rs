//! Digests of the files of contexts that were read: for the key of a later step, and of a later build, no file is read
//! again that is what it was. Nor are its attributes: a change of those changes its ctime as well.
//!
//! To a build, a file is what it was when the build first read it, as long as nothing tells that it changed. From build
//! to build only files count that were at rest for a while when they were read, since a change within the same tick of
//! the clock leaves no trace. Whoever puts a file into a layer reads it anyhow, and fails if it is something else by then.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocibuild_spec::{ContentDigest, Hasher};
use ocibuild_sys::{Metadata, Timestamp};

use super::own::Inode;
use crate::cache::KeptContextDigests;
use crate::error::Error;

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

    /// Device and number.
    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// The same in few bytes.
    pub(super) fn fingerprint(&self) -> Name {
        let mut hasher = Hasher::new();
        let Self { inode: (device, inode), size, mode, mtime, ctime } = self;
        for number in [*device, *inode, *size, u64::from(*mode)] {
            hasher.update(&number.to_be_bytes());
        }
        for time in [mtime, ctime] {
            hasher.update(&time.seconds.to_be_bytes());
            hasher.update(&time.nanoseconds.to_be_bytes());
        }
        let mut name = first_half(hasher);
        *last_of(&mut name) &= !BARE;
        name
    }

    /// Whether the file was at rest at this moment, and had been for longer than the coarsest clock of a file system
    /// takes for a tick: two seconds, of FAT.
    fn is_at_rest(&self, moment: Timestamp) -> bool {
        const TICK: i64 = 2;

        let changed = self.mtime.seconds.max(self.ctime.seconds);
        changed.saturating_add(TICK) < moment.seconds
    }
}

/// The digests of all contexts of a build.
#[derive(Debug)]
pub(crate) struct ContextDigests {
    kept: KeptContextDigests,
    contexts: Mutex<HashMap<Inode, Context>>,
}

#[derive(Debug)]
struct Context {
    /// Under which name it is kept. A context without one is known to this build alone.
    path: Option<PathBuf>,
    digests: Arc<DigestIndex>,
}

impl ContextDigests {
    pub(crate) fn new(kept: &KeptContextDigests) -> Self {
        Self { kept: kept.clone(), contexts: Mutex::default() }
    }

    /// Those of the context in the directory `path`, which is `root`: from earlier builds, and of this one.
    pub(super) fn of(&self, root: Inode, path: &Path) -> Arc<DigestIndex> {
        let mut contexts = lock(&self.contexts);
        let context = contexts.entry(root).or_insert_with(|| {
            let path = fs_err::canonicalize(path).ok();
            let kept = path.as_ref().and_then(|path| self.kept.get(path));
            let files = kept.as_deref().and_then(decode).unwrap_or_default();
            // Of this build nothing was read before this moment. Without it nothing is kept.
            let moment = self.kept.moment().unwrap_or_default();
            let digests = DigestIndex { files: Mutex::new(files), moment };
            Context { path, digests: Arc::new(digests) }
        });
        Arc::clone(&context.digests)
    }

    /// Keeps what this build has read for later ones.
    pub(crate) fn save(&self) -> Result<(), Error> {
        for Context { path, digests } in lock(&self.contexts).values() {
            if let (Some(path), Some(record)) = (path, digests.record()) {
                self.kept.put(path, &record)?;
            }
        }
        Ok(())
    }
}

/// A hash in few bytes: of a path, or of a version.
pub(super) type Name = [u8; 16];

/// What is found by a hash needs no other hash.
#[derive(Debug, Default)]
struct OfName(u64);

impl std::hash::Hasher for OfName {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length comes first, and is always the same.
    fn write_usize(&mut self, _length: usize) {}
}

type ByName<T> = HashMap<Name, T, BuildHasherDefault<OfName>>;

/// In the last byte of a version that is kept: the file has no attributes of users, nor others that say something of it.
const BARE: u8 = 1;

fn last_of(name: &mut Name) -> &mut u8 {
    &mut name[size_of::<Name>() - 1]
}

/// What is known of a version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownFile {
    /// The digest of its content.
    pub(crate) content: ContentDigest,
    /// Whether it has no attributes of users, nor others that say something of it, for certain.
    pub(crate) is_bare: bool,
}

/// The digests of the files of one context, by path.
#[derive(Debug)]
pub(crate) struct DigestIndex {
    files: Mutex<ByName<Known>>,
    moment: Timestamp,
}

/// A million of them have to fit into memory beside everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    version: Name,
    file: KnownFile,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Kept by an earlier build, and not needed so far.
    Kept,
    /// The same, needed by this build.
    Confirmed,
    /// Read by this build, to be kept.
    Read,
    /// Read by this build, for this build alone: the file was not at rest.
    Fleeting,
}

impl DigestIndex {
    /// What is known of this version of a file, if it was read.
    pub(super) fn get(&self, path: &Path, version: &FileVersion) -> Option<KnownFile> {
        let mut files = lock(&self.files);
        let known = files.get_mut(&hash_of(path)).filter(|known| known.version == version.fingerprint())?;
        if known.standing == Standing::Kept {
            known.standing = Standing::Confirmed;
        }
        Some(known.file)
    }

    /// Whether this version of a file was at rest when the build began: what was read of it since is what it still is as long as
    /// it is the same version.
    pub(super) fn is_at_rest(&self, version: &FileVersion) -> bool {
        version.is_at_rest(self.moment)
    }

    /// Remembers what was read of a file. `version` is what the file was before it was read: were it to change
    /// meanwhile, it would be another version later.
    pub(super) fn put(&self, path: &Path, version: &FileVersion, file: KnownFile) {
        let standing = if version.is_at_rest(self.moment) { Standing::Read } else { Standing::Fleeting };
        lock(&self.files).insert(hash_of(path), Known { version: version.fingerprint(), file, standing });
    }

    /// Forgets a file that is not what its digest says, although nothing else tells that it changed.
    pub(super) fn forget(&self, path: &Path) {
        if let Some(known) = lock(&self.files).get_mut(&hash_of(path)) {
            // A version that no file has; the entry tells that there is something to save.
            *known = Known { version: Name::default(), standing: Standing::Read, ..*known };
        }
    }

    /// What is to be kept for later builds; `None` where nothing is new.
    fn record(&self) -> Option<Vec<u8>> {
        let files = lock(&self.files);
        if !files.values().any(|known| known.standing == Standing::Read) {
            return None;
        }
        let used = files.values().filter(|known| known.standing != Standing::Kept).count();
        // What no build needs any more goes once there is more of it than of the rest.
        let keeps_unused = files.len() - used <= used + MOST_UNUSED;
        let is_kept = |known: &Known| match known.standing {
            Standing::Kept => keeps_unused,
            Standing::Confirmed => true,
            Standing::Read => known.version != Name::default(),
            Standing::Fleeting => false,
        };
        let kept = files.iter().filter(|(_, known)| is_kept(known));
        let mut kept: Vec<(Name, Known)> = kept.map(|(path, known)| (*path, *known)).collect();
        kept.sort_unstable_by_key(|(path, _)| *path);
        Some(encode(&kept))
    }
}

/// So many files that are not needed any more are kept in any case.
const MOST_UNUSED: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// First bytes of a record; the last one is the version.
const MAGIC: &[u8] = b"ocibuild context digests\0\x02";
/// Bytes of the path's hash, of the version's and of the digest.
const PARTS: (usize, usize, usize) = (16, 16, 32);
const LENGTH: usize = PARTS.0 + PARTS.1 + PARTS.2;

fn encode(files: &[(Name, Known)]) -> Vec<u8> {
    let mut record = MAGIC.to_vec();
    for (path, known) in files {
        record.extend_from_slice(path);
        let mut version = known.version;
        *last_of(&mut version) |= if known.file.is_bare { BARE } else { 0 };
        record.extend_from_slice(&version);
        record.extend_from_slice(&known.file.content.0);
    }
    let checksum = checksum_of(&record);
    record.extend_from_slice(&checksum);
    record
}

/// What a record says; `None` for one of another version, or one that was damaged.
fn decode(record: &[u8]) -> Option<ByName<Known>> {
    let (content, checksum) = record.split_last_chunk()?;
    let files = content.strip_prefix(MAGIC).filter(|_| checksum_of(content) == *checksum)?;
    let known = |file: &[u8]| {
        let (path, rest) = file.split_first_chunk()?;
        let (version, digest) = rest.split_first_chunk()?;
        let mut version: Name = *version;
        let is_bare = *last_of(&mut version) & BARE != 0;
        *last_of(&mut version) &= !BARE;
        let file = KnownFile { content: ContentDigest(*digest.first_chunk()?), is_bare };
        Some((*path, Known { version, file, standing: Standing::Kept }))
    };
    let mut all = ByName::with_capacity_and_hasher(files.len() / LENGTH, BuildHasherDefault::default());
    for file in files.chunks(LENGTH) {
        let (path, known) = known(file)?;
        all.insert(path, known);
    }
    Some(all)
}

fn checksum_of(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish_bytes()
}

/// The name of a path where many of them are kept.
pub(super) fn hash_of(path: &Path) -> Name {
    let mut hasher = Hasher::new();
    hasher.update(path.as_os_str().as_bytes());
    first_half(hasher)
}

pub(super) fn first_half(hasher: Hasher) -> [u8; 16] {
    let bytes = hasher.finish_bytes();
    *bytes.first_chunk().expect("32 bytes have 16 to begin with")
}

#[cfg(test)]
mod tests {
    use ocibuild_dockerfile::IgnorePatterns;
    use ocibuild_sys::RootDir;

    use super::*;
    use crate::cache::Cache;
    use crate::copy::{LocalSource, OwnFiles, Source as _};

    const AT_REST: i64 = 6;

    fn version() -> FileVersion {
        let time = |seconds| Timestamp { seconds, nanoseconds: 5 };
        FileVersion { inode: (1, 2), size: 3, mode: 0o644, mtime: time(4), ctime: time(AT_REST) }
    }

    fn known_file() -> KnownFile {
        KnownFile { content: ContentDigest::of("content"), is_bare: true }
    }

    fn index(files: ByName<Known>) -> DigestIndex {
        DigestIndex { files: Mutex::new(files), moment: Timestamp { seconds: AT_REST + 3, nanoseconds: 0 } }
    }

    fn later(index: &DigestIndex) -> DigestIndex {
        super::tests::index(decode(&index.record().unwrap()).unwrap())
    }

    #[test]
    fn another_version_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let contexts =
            ContextDigests::new(Cache::open(directory.path().join("cache")).unwrap().context_digests());
        let digest = known_file();
        contexts.of((0, 1), directory.path()).put(Path::new("a/b"), &version(), digest);
        let known = |root, path: &str, version: FileVersion| {
            contexts.of(root, directory.path()).get(Path::new(path), &version)
        };
        assert_eq!(known((0, 1), "a/b", version()), Some(digest));
        assert_eq!(known((0, 2), "a/b", version()), None);
        assert_eq!(known((0, 1), "a/c", version()), None);
        let later = Timestamp { seconds: AT_REST, nanoseconds: 6 };
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

    #[test]
    fn later_builds_know_files_that_were_at_rest() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path().join("cache")).unwrap();
        let digest = known_file();
        let just_changed =
            FileVersion { ctime: Timestamp { seconds: i64::MAX, nanoseconds: 0 }, ..version() };
        let first = ContextDigests::new(cache.context_digests());
        let index = first.of((0, 1), directory.path());
        index.put(Path::new("old"), &version(), digest);
        index.put(Path::new("new"), &just_changed, digest);
        assert_eq!(index.get(Path::new("new"), &just_changed), Some(digest), "this build knows it");
        first.save().unwrap();
        let index = ContextDigests::new(cache.context_digests()).of((0, 1), directory.path());
        assert_eq!(index.get(Path::new("old"), &version()), Some(digest));
        assert_eq!(index.get(Path::new("new"), &just_changed), None);
        assert_eq!(index.record(), None, "nothing is new");
    }

    #[test]
    fn files_of_a_context_are_known_by_their_version_but_those_with_holes() {
        let directory = tempfile::tempdir().unwrap();
        let contexts =
            ContextDigests::new(Cache::open(directory.path().join("cache")).unwrap().context_digests());
        fs_err::write(directory.path().join("plain"), "plain").unwrap();
        let holes = fs_err::File::create(directory.path().join("holes")).unwrap();
        holes.set_len(8 << 20).unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let source = LocalSource::new(root, directory.path().to_owned(), IgnorePatterns::default());
        let source = source.of_build(&OwnFiles::default(), &contexts);
        let opened = |name: &str| source.open_version(Path::new(name)).unwrap().1;
        let plain = opened("plain");
        assert!(plain.is_some());
        assert_eq!(plain, source.stat(Path::new("plain")).unwrap().unwrap().version());
        if ocibuild_sys::is_sparse(holes.file()).unwrap() {
            assert_eq!(opened("holes"), None, "each step counts its holes");
        }
        fs_err::write(directory.path().join("plain"), "longer than before").unwrap();
        assert_ne!(opened("plain"), plain);
    }

    #[test]
    fn attributes_are_read_again_once_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let contexts =
            ContextDigests::new(Cache::open(directory.path().join("cache")).unwrap().context_digests());
        fs_err::write(directory.path().join("file"), "content").unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let top = root.top().unwrap();
        let source = LocalSource::new(root, directory.path().to_owned(), IgnorePatterns::default());
        let source = source.of_build(&OwnFiles::default(), &contexts);
        let found = || source.stat(Path::new("file")).unwrap().unwrap();
        let digests = source.digests().unwrap();
        digests.put(Path::new("file"), &found().version().unwrap(), known_file());
        assert_eq!(found().known, Some(known_file().content));
        // A change within the same tick would leave no trace, which is why only files at rest are kept.
        while found().known.is_some() {
            if let Err(error) = top.set_xattr("file", "user.note", b"x") {
                return ocibuild_testkit::skip(&format!("no attributes of users: {error}"));
            }
        }
        assert!(found().metadata.xattrs.contains_key("user.note"));
        digests.put(
            Path::new("file"),
            &found().version().unwrap(),
            KnownFile { is_bare: false, ..known_file() },
        );
        assert!(found().known.is_some() && found().metadata.xattrs.contains_key("user.note"));
        let record = KnownFile { is_bare: false, ..known_file() };
        let kept = later(&self::index(ByName::from_iter([(
            hash_of(Path::new("a")),
            Known { version: version().fingerprint(), file: record, standing: Standing::Read },
        )])));
        assert_eq!(kept.get(Path::new("a"), &version()), Some(record));
    }

    #[test]
    fn a_tick_of_the_coarsest_clock_has_to_pass() {
        let rest = |seconds| version().is_at_rest(Timestamp { seconds, nanoseconds: 0 });
        assert_eq!([AT_REST, AT_REST + 2, AT_REST + 3].map(rest), [false, false, true]);
    }

    #[test]
    fn what_was_wrong_is_forgotten() {
        let first = index(ByName::default());
        for path in ["right", "wrong"] {
            first.put(Path::new(path), &version(), known_file());
        }
        let second = later(&first);
        second.forget(Path::new("wrong"));
        second.forget(Path::new("unknown"));
        assert_eq!(second.get(Path::new("wrong"), &version()), None);
        let third = later(&second);
        assert!(third.get(Path::new("right"), &version()).is_some());
        assert_eq!(third.get(Path::new("wrong"), &version()), None);
        assert_eq!(lock(&third.files).len(), 1);
    }

    #[test]
    fn what_no_build_needs_goes_in_the_end() {
        let digest = known_file();
        let first = index(ByName::default());
        for number in 0..=MOST_UNUSED + 1 {
            first.put(&PathBuf::from(number.to_string()), &version(), digest);
        }
        let some_left = later(&first);
        some_left.put(Path::new("a"), &version(), digest);
        some_left.put(Path::new("b"), &version(), digest);
        assert_eq!(lock(&later(&some_left).files).len(), MOST_UNUSED + 4);
        let one_left = later(&first);
        one_left.put(Path::new("a"), &version(), digest);
        assert_eq!(lock(&later(&one_left).files).len(), 1);
    }

    #[test]
    fn damaged_records_are_none() {
        let first = index(ByName::default());
        first.put(Path::new("a"), &version(), known_file());
        let record = first.record().unwrap();
        assert_eq!(record.len(), MAGIC.len() + LENGTH + 32);
        for length in 0..record.len() {
            assert!(decode(&record[..length]).is_none(), "{length}");
        }
        for place in 0..record.len() {
            let mut damaged = record.clone();
            damaged[place] ^= 1;
            assert!(decode(&damaged).is_none(), "{place}");
        }
        assert!(decode(&encode(&[])).is_some_and(|files| files.is_empty()));
    }
}
