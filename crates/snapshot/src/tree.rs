use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use ocibuild_spec::{Content, Entry, EntryKind, Metadata, Owned, SharedFile, Timestamp};

use crate::nodes::Nodes;

/// What a stack of layers looks like when it is mounted: the metadata of every path, without any content on disk.
///
/// A tree is made by applying the entries of one layer after the other ([`apply_layer`](Self::apply_layer)), and it
/// can be changed in the way a kernel would change it ([`insert`](Self::insert), [`link`](Self::link),
/// [`remove`](Self::remove)), so that a step may be carried out on it before anything is written.
/// [`changes`](crate::changes) then tells what the layer of that step consists of. Every path is relative to the
/// root and names bytes, not text.
///
/// Clones share what neither changes: to clone a tree costs next to nothing beside making it.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Nodes,
}

/// A node of one [`Tree`] and of the trees cloned from it: what other systems call an inode. Several paths of a tree
/// that are hard links of one file share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// A number that differs between the nodes of a tree.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }
}

/// Metadata and kind of what is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Mode, owner, time, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory with its names.
    Directory(BTreeMap<OsString, NodeId>),
    /// A regular file.
    File {
        /// Number of bytes.
        size: u64,
        /// Where the bytes are.
        origin: Origin,
    },
    /// A symbolic link with its target.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// A character device, major and minor number.
    CharacterDevice(u32, u32),
    /// A block device, major and minor number.
    BlockDevice(u32, u32),
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Which layer of the stack, counted from the lowest; whoever builds the tree gives the numbers.
    pub layer: u32,
    /// Path of the content in that layer, which hard links do not share.
    pub path: PathBuf,
    /// The layer's own way to find the bytes.
    pub content: Content,
}

/// Where a path leads once links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links, `.` and `..`.
    pub path: PathBuf,
    /// What is there; `None` when that path, or a part of it, does not exist.
    pub node: Option<NodeId>,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Links that lead in a circle, or too many of them.
    #[error("{}: too many links", .0.display())]
    Loop(PathBuf),
    /// A part before the last is no directory.
    #[error("{}: not a directory", .0.display())]
    NotDirectory(PathBuf),
}

const ROOT: NodeId = NodeId(0);
/// As many as the Linux kernel follows.
const MAX_LINKS: usize = 40;

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty root directory, 0755 and root's.
    pub fn new() -> Self {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        let mut nodes = Nodes::default();
        nodes.push(Node { metadata, kind: NodeKind::Directory(BTreeMap::new()) });
        Self { nodes }
    }

    /// What a disk without owners and devices cannot have of it: all that is not root's, and all devices, by path.
    pub fn unkept_without_owners(&self) -> Vec<(PathBuf, Owned)> {
        let mut unkept = Vec::new();
        let mut todo = vec![(PathBuf::new(), ROOT)];
        while let Some((path, id)) = todo.pop() {
            let node = self.node(id);
            let device = match node.kind {
                NodeKind::CharacterDevice(major, minor) => Some(EntryKind::CharacterDevice { major, minor }),
                NodeKind::BlockDevice(major, minor) => Some(EntryKind::BlockDevice { major, minor }),
                _ => None,
            };
            todo.extend(self.children(id).map(|(name, child)| (path.join(name), child)));
            let owned = Owned { uid: node.metadata.uid, gid: node.metadata.gid, device };
            if owned != Owned::by(0, 0) {
                unkept.push((path, owned));
            }
        }
        unkept
    }

    /// The root directory.
    pub fn root(&self) -> NodeId {
        ROOT
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0 as usize)
    }

    /// How many nodes there are or have been: no [`NodeId::number`] of this tree reaches it.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The names in a directory; empty for anything else.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = (&OsStr, NodeId)> {
        let names = match &self.node(id).kind {
            NodeKind::Directory(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten().map(|(name, id)| (name.as_os_str(), *id))
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.children(ROOT).next().is_none()
    }

    /// What is at `path`, following no link.
    pub fn lookup(&self, path: &Path) -> Option<NodeId> {
        let mut id = ROOT;
        for part in names(path) {
            id = self.child(id, part)?;
        }
        Some(id)
    }

    /// The node at `name` in a directory.
    pub fn child(&self, directory: NodeId, name: &OsStr) -> Option<NodeId> {
        match &self.node(directory).kind {
            NodeKind::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Whether a node is a directory.
    pub fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).kind, NodeKind::Directory(_))
    }

    /// Follows the links of `path` as a process would whose root this tree is: absolute targets start at the root,
    /// `..` ends there. The last part is followed too if `follow_last` says so. Parts below something that does not
    /// exist are taken as they are.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<Resolved, ResolveError> {
        self.resolve_below(ROOT, path, follow_last)
    }

    /// As [`resolve`](Self::resolve), for a process whose root is the directory `base`; the path found is relative to
    /// it.
    pub fn resolve_below(
        &self,
        base: NodeId,
        path: &Path,
        follow_last: bool,
    ) -> Result<Resolved, ResolveError> {
        let mut links = 0;
        let mut todo: Vec<OsString> = parts(path).rev().collect();
        let mut at: Vec<(OsString, Option<NodeId>)> = Vec::new();
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let directory = at.last().map_or(Some(base), |(_, id)| *id);
            if directory.is_some_and(|id| !self.is_directory(id)) {
                return Err(ResolveError::NotDirectory(path_of(&at)));
            }
            let found = directory.and_then(|directory| self.child(directory, &part));
            let target = found.and_then(|id| match &self.node(id).kind {
                NodeKind::Symlink(target) => Some(target),
                _ => None,
            });
            match target {
                Some(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::Loop(path.to_owned()));
                    }
                    if target.is_absolute() {
                        at.clear();
                    }
                    todo.extend(parts(target).rev());
                }
                _ => at.push((part, found)),
            }
        }
        let node = at.last().map_or(Some(base), |(_, id)| *id);
        Ok(Resolved { path: path_of(&at), node })
    }

    /// Puts a node at `path`, whose parent must be a directory, in place of what is there. The parent's time becomes
    /// `now`, as the kernel would have it.
    pub fn insert(&mut self, path: &Path, node: Node, now: Timestamp) -> NodeId {
        let id = self.add(node);
        self.link(path, id, now);
        id
    }

    /// Makes `path` one more name of a node.
    pub fn link(&mut self, path: &Path, id: NodeId, now: Timestamp) {
        if let Some((parent, name)) = self.parent_of(path) {
            self.set_child(parent, name, id);
            self.node_mut(parent).metadata.mtime = now;
        }
    }

    /// Removes what is at `path` with everything below it; the parent's time becomes `now`.
    pub fn remove(&mut self, path: &Path, now: Timestamp) {
        if let Some((parent, name)) = self.parent_of(path)
            && let NodeKind::Directory(names) = &mut self.node_mut(parent).kind
            && names.remove(&name).is_some()
        {
            self.node_mut(parent).metadata.mtime = now;
        }
    }

    /// Removes everything but what is at a path, what is below it, and the directories that lead there.
    pub fn retain(&mut self, path: &Path) {
        let mut at = self.root();
        for name in path {
            if let NodeKind::Directory(names) = &mut self.node_mut(at).kind {
                names.retain(|found, _| found == name);
            }
            let Some(next) = self.child(at, name) else { return };
            at = next;
        }
    }

    /// Removes everything below a directory.
    pub(crate) fn clear(&mut self, id: NodeId) {
        if let NodeKind::Directory(names) = &mut self.node_mut(id).kind {
            names.clear();
        }
    }

    /// The metadata of a node, to be changed.
    pub fn metadata_mut(&mut self, id: NodeId) -> &mut Metadata {
        &mut self.node_mut(id).metadata
    }

    /// The first hard link among a layer's entries, which are in order, to a file that neither the layer has nor the
    /// tree below it. Nothing would come of such a link.
    pub fn dangling_link<'e>(&self, entries: &'e [Entry]) -> Option<&'e Entry> {
        let is_file = |kind: &EntryKind| {
            !matches!(kind, EntryKind::Directory | EntryKind::Whiteout | EntryKind::OpaqueWhiteout)
        };
        entries.iter().find(|entry| {
            let EntryKind::Hardlink { target } = &entry.kind else { return false };
            let own = entries.binary_search_by(|other| other.path.cmp(target));
            let is_own = own.is_ok_and(|at| is_file(&entries[at].kind));
            !is_own && self.file_at(target).is_none()
        })
    }

    /// Lays the entries of a layer over the tree; files get `layer` as their origin's layer.
    ///
    /// Deletions hit what was there before this layer, wherever they stand among its entries, but for files that the
    /// layer links to: those keep their new names. Parents that the layer does not list are kept or, when missing, made
    /// 0755.
    pub fn apply_layer(&mut self, layer: u32, entries: &[Entry]) {
        let below = self.linked_from(entries);
        for entry in entries {
            match entry.kind {
                EntryKind::Whiteout => self.detach(&entry.path),
                EntryKind::OpaqueWhiteout => self.empty(&entry.path),
                _ => {}
            }
        }
        for entry in entries {
            self.apply_entry(layer, entry, &below);
        }
    }

    /// The files that a layer, which deletes something, may link to, as long as they are there.
    fn linked_from<'e>(&self, entries: &'e [Entry]) -> BTreeMap<&'e Path, NodeId> {
        let deletes = |entry: &Entry| matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout);
        if !entries.iter().any(deletes) {
            return BTreeMap::new();
        }
        let target = |entry: &'e Entry| match &entry.kind {
            EntryKind::Hardlink { target } => Some((target.as_path(), self.file_at(target)?)),
            _ => None,
        };
        entries.iter().filter_map(target).collect()
    }

    /// What is at `path`, if that can have several names: a directory could come to be inside itself.
    fn file_at(&self, path: &Path) -> Option<NodeId> {
        self.lookup(path).filter(|id| !self.is_directory(*id))
    }

    /// Makes files of a layer that was laid over the tree further names of files below it.
    pub fn share(&mut self, entries: &[Entry], shared: &[SharedFile]) {
        for SharedFile { path, below } in shared {
            let file = |id: &NodeId| matches!(self.node(*id).kind, NodeKind::File { .. });
            let (Some(_), Some(id)) = (self.lookup(path).filter(file), self.lookup(below).filter(file))
            else {
                continue;
            };
            let links = entries.iter().filter(|entry| match &entry.kind {
                EntryKind::Hardlink { target } => target == path,
                _ => false,
            });
            for name in std::iter::once(path).chain(links.map(|entry| &entry.path)) {
                if let Some((parent, name)) = self.parent_of(name) {
                    self.set_child(parent, name, id);
                }
            }
        }
    }

    fn apply_entry(&mut self, layer: u32, entry: &Entry, below: &BTreeMap<&Path, NodeId>) {
        let kind = match &entry.kind {
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return,
            EntryKind::Hardlink { target } => {
                let id = self.file_at(target).or_else(|| below.get(target.as_path()).copied());
                if let Some(id) = id {
                    let parent = self.make_parents(&entry.path);
                    self.set_named(parent, &entry.path, id);
                }
                return;
            }
            EntryKind::Directory => {
                self.apply_directory(entry);
                return;
            }
            EntryKind::File { size, content } => NodeKind::File {
                size: *size,
                origin: Origin { layer, path: entry.path.clone(), content: *content },
            },
            EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::CharacterDevice { major, minor } => NodeKind::CharacterDevice(*major, *minor),
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice(*major, *minor),
        };
        let parent = self.make_parents(&entry.path);
        let id = self.add(Node { metadata: entry.metadata.clone(), kind });
        self.set_named(parent, &entry.path, id);
    }

    fn apply_directory(&mut self, entry: &Entry) {
        let existing = self.lookup(&entry.path).filter(|id| self.is_directory(*id));
        let id = existing.unwrap_or_else(|| {
            let parent = self.make_parents(&entry.path);
            let id =
                self.add(Node { metadata: Metadata::default(), kind: NodeKind::Directory(BTreeMap::new()) });
            self.set_named(parent, &entry.path, id);
            id
        });
        self.node_mut(id).metadata = entry.metadata.clone();
    }

    /// The directory above `path`, made with all that is missing.
    fn make_parents(&mut self, path: &Path) -> NodeId {
        let mut id = ROOT;
        for part in path.parent().into_iter().flat_map(names) {
            let existing = self.child(id, part).filter(|id| self.is_directory(*id));
            id = existing.unwrap_or_else(|| {
                let metadata = Metadata::of_implied_directory();
                let child = self.add(Node { metadata, kind: NodeKind::Directory(BTreeMap::new()) });
                self.set_child(id, part.to_owned(), child);
                child
            });
        }
        id
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(id.0 as usize)
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a tree has fewer than 2^32 nodes"));
        self.nodes.push(node);
        id
    }

    fn parent_of(&self, path: &Path) -> Option<(NodeId, OsString)> {
        let name = path.file_name()?;
        let parent = self.lookup(path.parent().unwrap_or(Path::new("")))?;
        self.is_directory(parent).then(|| (parent, name.to_owned()))
    }

    fn set_named(&mut self, parent: NodeId, path: &Path, id: NodeId) {
        if let Some(name) = path.file_name() {
            self.set_child(parent, name.to_owned(), id);
        }
    }

    fn set_child(&mut self, parent: NodeId, name: OsString, id: NodeId) {
        if let NodeKind::Directory(names) = &mut self.node_mut(parent).kind {
            names.insert(name, id);
        }
    }

    fn detach(&mut self, path: &Path) {
        if let Some((parent, name)) = self.parent_of(path)
            && let NodeKind::Directory(names) = &mut self.node_mut(parent).kind
        {
            names.remove(&name);
        }
    }

    fn empty(&mut self, path: &Path) {
        if let Some(id) = self.lookup(path) {
            self.clear(id);
        }
    }
}

/// The ordinary parts of a path.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// The parts of a path, `..` among them.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

fn path_of(parts: &[(OsString, Option<NodeId>)]) -> PathBuf {
    parts.iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), metadata: Metadata { mode: 0o755, ..Metadata::default() }, kind }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 1, content: Content(0) })
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::Symlink { target: target.into() })
    }

    #[test]
    fn links_are_followed_below_the_root() {
        let mut tree = Tree::new();
        tree.apply_layer(
            0,
            &[
                file("real/f"),
                link("abs", "/real"),
                link("up", "../../../real"),
                link("chain", "abs/../up"),
                link("dangling", "/no/where"),
                link("loop", "loop"),
            ],
        );
        for (path, expected, exists) in [
            ("/abs/f", "real/f", true),
            ("up/f", "real/f", true),
            ("chain/f", "real/f", true),
            ("abs/../real/./f", "real/f", true),
            ("dangling", "no/where", false),
            ("dangling/x", "no/where/x", false),
            ("..", "", true),
            ("nothing/../real", "real", true),
        ] {
            let resolved = tree.resolve(Path::new(path), true).unwrap();
            assert_eq!(resolved.path, Path::new(expected), "{path}");
            assert_eq!(resolved.node.is_some(), exists, "{path}");
        }
        assert_eq!(tree.resolve(Path::new("abs"), false).unwrap().path, Path::new("abs"));
        assert!(matches!(tree.resolve(Path::new("loop/x"), true), Err(ResolveError::Loop(_))));
        assert!(matches!(tree.resolve(Path::new("real/f/x"), true), Err(ResolveError::NotDirectory(_))));
    }

    #[test]
    fn deletions_hit_only_what_was_below() {
        let mut tree = Tree::new();
        tree.apply_layer(0, &[file("a/x"), file("a/y"), file("b/z"), file("c")]);
        tree.apply_layer(
            1,
            &[
                file("a/n"),
                entry("a", EntryKind::OpaqueWhiteout),
                file("c"),
                entry("c", EntryKind::Whiteout),
                entry("b", EntryKind::Whiteout),
            ],
        );
        let names: Vec<_> =
            tree.children(tree.lookup(Path::new("a")).unwrap()).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["n"]);
        assert!(tree.lookup(Path::new("b")).is_none());
        let NodeKind::File { origin, .. } = &tree.node(tree.lookup(Path::new("c")).unwrap()).kind else {
            panic!()
        };
        assert_eq!(origin.layer, 1);
    }

    #[test]
    fn hard_links_share_a_node() {
        let mut tree = Tree::new();
        tree.apply_layer(0, &[file("a"), entry("b", EntryKind::Hardlink { target: "a".into() })]);
        assert_eq!(tree.lookup(Path::new("a")), tree.lookup(Path::new("b")));
    }

    #[test]
    fn links_to_files_below_survive_the_deletion_of_those() {
        let to = |path, target: &str| entry(path, EntryKind::Hardlink { target: target.into() });
        for deletion in [entry("d/a", EntryKind::Whiteout), entry("d", EntryKind::OpaqueWhiteout)] {
            let mut tree = Tree::new();
            tree.apply_layer(0, &[file("d/a")]);
            let below = tree.lookup(Path::new("d/a")).unwrap();
            let entries = [deletion, to("l", "d/a"), to("m", "d/a")];
            assert_eq!(tree.dangling_link(&entries), None);
            tree.apply_layer(1, &entries);
            assert_eq!(tree.lookup(Path::new("d/a")), None);
            assert_eq!(tree.lookup(Path::new("l")), Some(below));
            assert_eq!(tree.lookup(Path::new("m")), Some(below));
        }
    }

    #[test]
    fn links_to_nothing_are_found() {
        let to = |path, target: &str| entry(path, EntryKind::Hardlink { target: target.into() });
        let mut tree = Tree::new();
        tree.apply_layer(0, &[file("d/a")]);
        let whole = [file("x"), to("y", "x"), to("z", "d/a")];
        assert_eq!(tree.dangling_link(&whole), None);
        for target in ["b", "d", "d/b", "d/a/c", "w"] {
            let entries = [to("l", target), entry("w", EntryKind::Whiteout)];
            assert_eq!(tree.dangling_link(&entries), Some(&entries[0]), "{target}");
        }
    }
}
