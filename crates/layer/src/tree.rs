//! What remains of a layer's entries once they were applied to an empty directory one after the other.
//!
//! Unpacking and indexing both ask this tree what an entry does, so that they cannot differ. Its names are free of
//! links: a path through a link of the same layer is filed under where the link leads, as the kernel would resolve it
//! with the layer's root as `/`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{Content, ContentDigest, Entry, EntryKind, Metadata};

use crate::LayerListing;
use crate::digests::FileDigests;

/// A path with NUL instead of slashes: bytes then order as components do, and what lies below a path is contiguous.
type Key = Vec<u8>;

/// A key that is kept: there may be a million of them.
type KeptKey = Box<[u8]>;

/// Links that may be followed for one path, as in the kernel.
const MAX_LINKS: u32 = 40;

const PATH_MAX: usize = 4095;

/// Paths through links of which it is remembered where they lead.
const MAX_RESOLVED: usize = 1024;

/// Longer files of accounts are not kept.
const MAX_TEXT: u64 = 10 << 20;

#[derive(Debug, Default)]
pub(crate) struct Tree {
    names: BTreeMap<KeptKey, u32>,
    inodes: Vec<Inode>,
    whiteouts: BTreeSet<KeptKey>,
    opaque: BTreeSet<KeptKey>,
    /// Content of account files, with the inode it was of.
    texts: BTreeMap<Key, (u32, Vec<u8>)>,
    /// Of all files, those that were replaced since among them.
    digests: FileDigests,
    /// Where paths through links lead, as long as nothing that could be on the way is taken away.
    resolved: HashMap<Key, Key>,
}

#[derive(Debug)]
struct Inode {
    metadata: Metadata,
    /// A hard link only if its target is not in this layer.
    kind: EntryKind,
    implied: bool,
}

/// What an entry does to the directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before the end but `implied` parents: a deletion, or the root directory itself.
    Later { implied: Vec<PathBuf> },
    /// Makes `path`, after `implied` parents.
    Make { implied: Vec<PathBuf>, path: PathBuf, replaces: Replaces },
    /// Makes `path` another name of `target`.
    Link { implied: Vec<PathBuf>, path: PathBuf, replaces: Replaces, target: PathBuf },
    /// Leaves `path` free for a link to a file of another layer.
    Defer { implied: Vec<PathBuf>, path: PathBuf, replaces: Replaces },
}

impl Step {
    /// The directories that are missing above its path, the topmost first.
    pub(crate) fn implied(&self) -> &[PathBuf] {
        match self {
            Self::Later { implied }
            | Self::Make { implied, .. }
            | Self::Link { implied, .. }
            | Self::Defer { implied, .. } => implied,
        }
    }
}

/// What was at a path before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    Nothing,
    /// A directory that stays and gets new metadata.
    Itself,
    /// Anything else, to be removed with all it contains.
    Tree,
}

impl Tree {
    /// A tree that takes in entries whose digests are known.
    pub(crate) fn with_digests(digests: FileDigests) -> Self {
        Self { digests, ..Self::default() }
    }

    /// Takes in the next entry of the layer.
    pub(crate) fn insert(&mut self, entry: &Entry) -> Result<Step, &'static str> {
        let key = key_of(&entry.path);
        match &entry.kind {
            EntryKind::OpaqueWhiteout => {
                let (folder, implied) = self.folder(&key)?;
                self.opaque.insert(folder.into());
                return Ok(Step::Later { implied });
            }
            _ if key.is_empty() => return Ok(Step::Later { implied: Vec::new() }),
            EntryKind::Whiteout => {
                let (folder, name) = split(&key);
                let (folder, implied) = self.folder(folder)?;
                self.whiteouts.insert(join(folder, name).into());
                return Ok(Step::Later { implied });
            }
            _ => {}
        }
        let (folder, name) = split(&key);
        let (folder, implied) = self.folder(folder)?;
        let key = join(folder, name);
        if key.len() > PATH_MAX {
            return Err("links lead to a path of more than 4095 bytes");
        }
        let path = path_of(&key);
        if let EntryKind::Hardlink { target } = &entry.kind {
            let (folder, name) = split_path(target);
            let target = join(self.resolve(&key_of(folder))?, name);
            return self.insert_link(&key, path, &target, &entry.metadata, implied);
        }
        let replaces = self.make_room(&key, entry.kind == EntryKind::Directory);
        let inode = Inode { metadata: entry.metadata.clone(), kind: entry.kind.clone(), implied: false };
        match self.names.get(key.as_slice()).copied() {
            Some(existing) => *self.inode_mut(existing) = inode,
            None => self.add(key, inode),
        }
        Ok(Step::Make { implied, path, replaces })
    }

    fn insert_link(
        &mut self,
        key: &[u8],
        path: PathBuf,
        target: &[u8],
        metadata: &Metadata,
        implied: Vec<PathBuf>,
    ) -> Result<Step, &'static str> {
        if target == key {
            return Err("it is a hard link to itself");
        }
        let replaces = self.make_room(key, false);
        match self.names.get(target).copied() {
            Some(inode) if self.inode(inode).kind == EntryKind::Directory => {
                Err("it is a hard link to a directory")
            }
            // The target itself is missing from this layer.
            Some(inode) if matches!(self.inode(inode).kind, EntryKind::Hardlink { .. }) => {
                self.names.insert(key.into(), inode);
                Ok(Step::Defer { implied, path, replaces })
            }
            Some(inode) => {
                self.names.insert(key.into(), inode);
                Ok(Step::Link { implied, path, replaces, target: path_of(target) })
            }
            None => {
                let kind = EntryKind::Hardlink { target: path_of(target) };
                self.add(key.to_vec(), Inode { metadata: metadata.clone(), kind, implied: false });
                Ok(Step::Defer { implied, path, replaces })
            }
        }
    }

    /// Whether the content of this file, at its path in the tree, is to be kept.
    pub(crate) fn wants_text(path: &Path, size: u64) -> bool {
        size <= MAX_TEXT && (path == Path::new("etc/passwd") || path == Path::new("etc/group"))
    }

    /// Keeps the content of the file last made at `path`.
    pub(crate) fn keep_text(&mut self, path: &Path, text: Vec<u8>) {
        let key = key_of(path);
        if let Some(inode) = self.names.get(key.as_slice()) {
            self.texts.insert(key, (*inode, text));
        }
    }

    /// Keeps the digest of a file; its content lies behind that of the one before.
    pub(crate) fn keep_digest(&mut self, content: Content, digest: ContentDigest) {
        self.digests.push(content, digest);
    }

    /// Names that are links to files of other layers, and those.
    pub(crate) fn deferred_links(&self) -> Vec<(PathBuf, PathBuf)> {
        let link = |(key, inode): (&KeptKey, &u32)| match &self.inode(*inode).kind {
            EntryKind::Hardlink { target } => Some((path_of(key), target.clone())),
            _ => None,
        };
        self.names.iter().filter_map(link).collect()
    }

    /// The index of everything taken in.
    pub(crate) fn finish(mut self, tar_size: u64) -> LayerListing {
        self.settle_whiteouts();
        let passwd = self.text(b"etc\0passwd");
        let group = self.text(b"etc\0group");
        let names = std::mem::take(&mut self.names);
        let mut deletions: Vec<(KeptKey, EntryKind)> = Vec::new();
        deletions
            .extend(std::mem::take(&mut self.whiteouts).into_iter().map(|key| (key, EntryKind::Whiteout)));
        let opaque = std::mem::take(&mut self.opaque).into_iter();
        deletions.extend(opaque.map(|key| (key, EntryKind::OpaqueWhiteout)));
        // Stable: of one path the whiteout comes first.
        deletions.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut deletions = deletions.into_iter().map(deletion).peekable();
        let mut entries = Vec::with_capacity(names.len() + deletions.len());
        let mut implied_directories = Vec::new();
        let mut shared = SharedInodes::new(&names, self.inodes.len());
        for (key, number) in names {
            while let Some((_, entry)) = deletions.next_if(|(deleted, _)| *deleted < key) {
                entries.push(entry);
            }
            let path = path_of(&key);
            let inode = &mut self.inodes[number as usize];
            if inode.implied {
                implied_directories.push(path);
                continue;
            }
            let (metadata, kind) = shared.name(number, &path, inode);
            entries.push(Entry { path, metadata, kind });
        }
        entries.extend(deletions.map(|(_, entry)| entry));
        let digests = Arc::new(self.digests.of_entries(&entries));
        LayerListing { entries, implied_directories, passwd, group, shared: Vec::new(), tar_size, digests }
    }

    /// A deletion of what the layer also has is about the layers below: a directory hides theirs, and anything else
    /// does so anyhow.
    fn settle_whiteouts(&mut self) {
        let both: Vec<KeptKey> =
            self.whiteouts.iter().filter(|key| self.names.contains_key(*key)).cloned().collect();
        for key in both {
            self.whiteouts.remove(&key);
            if self.kind(&key) == Some(&EntryKind::Directory) {
                self.opaque.insert(key);
            }
        }
    }

    fn text(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let current = self.names.get(key)?;
        self.texts.remove(key).filter(|(inode, _)| inode == current).map(|(_, text)| text)
    }

    fn kind(&self, key: &[u8]) -> Option<&EntryKind> {
        self.names.get(key).map(|inode| &self.inode(*inode).kind)
    }

    fn inode(&self, number: u32) -> &Inode {
        &self.inodes[number as usize]
    }

    fn inode_mut(&mut self, number: u32) -> &mut Inode {
        &mut self.inodes[number as usize]
    }

    fn add(&mut self, key: Key, inode: Inode) {
        let number = u32::try_from(self.inodes.len()).expect("limits keep entries below 2^32");
        self.names.insert(key.into(), number);
        self.inodes.push(inode);
    }

    /// Frees `key` for something new; a directory stays for a directory.
    fn make_room(&mut self, key: &[u8], directory: bool) -> Replaces {
        match self.kind(key) {
            None => return Replaces::Nothing,
            Some(EntryKind::Directory) if directory => return Replaces::Itself,
            Some(EntryKind::Directory | EntryKind::Symlink { .. }) => self.resolved.clear(),
            Some(_) => {}
        }
        self.names.remove(key);
        self.opaque.remove(key);
        let below: Vec<KeptKey> =
            self.names.range::<[u8], _>(bounds(&range_below(key))).map(|(key, _)| key.clone()).collect();
        for name in below {
            self.names.remove(&name);
        }
        for set in [&mut self.whiteouts, &mut self.opaque] {
            let below: Vec<KeptKey> = set.range::<[u8], _>(bounds(&range_below(key))).cloned().collect();
            for name in below {
                set.remove(&name);
            }
        }
        Replaces::Tree
    }

    /// Where the directory `key` really is, with what is missing of it added as implied.
    fn folder(&mut self, key: &[u8]) -> Result<(Key, Vec<PathBuf>), &'static str> {
        if key.is_empty() || self.kind(key) == Some(&EntryKind::Directory) {
            return Ok((key.to_vec(), Vec::new()));
        }
        if let Some(real) = self.resolved.get(key) {
            return Ok((real.clone(), Vec::new()));
        }
        let real = self.resolve(key)?;
        let mut implied = Vec::new();
        let ends = real.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(place, _)| place);
        for end in ends.chain([real.len()]) {
            let parent = &real[..end];
            if !parent.is_empty() && !self.names.contains_key(parent) {
                let metadata = Metadata::of_implied_directory();
                self.add(parent.to_vec(), Inode { metadata, kind: EntryKind::Directory, implied: true });
                implied.push(path_of(parent));
            }
        }
        // All of it are directories now.
        if real != key {
            if self.resolved.len() >= MAX_RESOLVED {
                self.resolved.clear();
            }
            self.resolved.insert(key.to_vec(), real.clone());
        }
        Ok((real, implied))
    }

    /// Follows the links of this layer on the way to a directory; what the layer does not have is taken as it stands.
    fn resolve(&self, key: &[u8]) -> Result<Key, &'static str> {
        if key.is_empty() || self.kind(key) == Some(&EntryKind::Directory) {
            return Ok(key.to_vec());
        }
        let mut real = Key::new();
        let mut rest: Vec<Vec<u8>> = key.rsplit(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    real.truncate(split(&real).0.len());
                    continue;
                }
                _ => {}
            }
            let above = real.len();
            append(&mut real, &part);
            match self.kind(&real) {
                None | Some(EntryKind::Directory) => {}
                Some(EntryKind::Symlink { target }) => {
                    real.truncate(above);
                    links += 1;
                    if links > MAX_LINKS {
                        return Err("there are too many links on the way to it");
                    }
                    let target = target.as_os_str().as_bytes();
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    rest.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
                }
                Some(_) => return Err("a parent of it is not a directory"),
            }
            if real.len() > PATH_MAX {
                return Err("links lead to a path of more than 4095 bytes");
            }
        }
        Ok(real)
    }
}

/// Which files have several names, and the first of each.
struct SharedInodes {
    names: Vec<u32>,
    firsts: HashMap<u32, PathBuf>,
}

impl SharedInodes {
    fn new(names: &BTreeMap<KeptKey, u32>, inodes: usize) -> Self {
        let mut counts = vec![0; inodes];
        for number in names.values() {
            counts[*number as usize] += 1;
        }
        Self { names: counts, firsts: HashMap::new() }
    }

    /// What the entry of the next name of a file says.
    fn name(&mut self, number: u32, path: &Path, inode: &mut Inode) -> (Metadata, EntryKind) {
        if self.names[number as usize] == 1 {
            let kind = std::mem::replace(&mut inode.kind, EntryKind::Fifo);
            return (std::mem::take(&mut inode.metadata), kind);
        }
        let metadata = inode.metadata.clone();
        if matches!(inode.kind, EntryKind::Hardlink { .. }) {
            return (metadata, inode.kind.clone());
        }
        if let Some(first) = self.firsts.get(&number) {
            return (metadata, EntryKind::Hardlink { target: first.clone() });
        }
        self.firsts.insert(number, path.to_owned());
        (metadata, inode.kind.clone())
    }
}

fn deletion((key, kind): (KeptKey, EntryKind)) -> (KeptKey, Entry) {
    let entry = Entry { path: path_of(&key), metadata: Metadata::default(), kind };
    (key, entry)
}

/// All keys between `key` and its siblings that follow.
fn range_below(key: &[u8]) -> (Key, Key) {
    let (mut from, mut to) = (key.to_vec(), key.to_vec());
    from.push(0);
    to.push(1);
    (from, to)
}

fn bounds((from, to): &(Key, Key)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Excluded(from), Bound::Excluded(to))
}

fn key_of(path: &Path) -> Key {
    let bytes = path.as_os_str().as_bytes();
    bytes.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn path_of(key: &[u8]) -> PathBuf {
    let bytes = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    PathBuf::from(OsString::from_vec(bytes))
}

/// Parent and last component.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    match key.iter().rposition(|byte| *byte == 0) {
        Some(place) => (&key[..place], &key[place + 1..]),
        None => (&[], key),
    }
}

fn split_path(path: &Path) -> (&Path, &[u8]) {
    let name = path.file_name().map(std::ffi::OsStr::as_bytes).unwrap_or_default();
    (path.parent().unwrap_or(Path::new("")), name)
}

fn join(mut folder: Key, name: &[u8]) -> Key {
    append(&mut folder, name);
    folder
}

fn append(folder: &mut Key, name: &[u8]) {
    if !folder.is_empty() {
        folder.push(0);
    }
    folder.extend(name);
}
