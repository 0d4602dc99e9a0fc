use std::cmp::Ordering;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ocibuild_spec::{Entry, EntryKind, Metadata, SharedFile};

use crate::{Node, NodeId, NodeKind, Tree};

/// What turns the tree `old` into `new`, as the entries of a layer (11.10, 11.11, 11.16).
///
/// `same_content` is asked about a file whose metadata, time and size are equal in both trees although it is another
/// node in `new`: only then can the metadata not tell whether its bytes changed. Both nodes are files.
pub fn changes(old: &Tree, new: &Tree, same_content: &mut dyn FnMut(&Path, &Node, &Node) -> bool) -> Changes {
    let listed = vec![0; new.node_count()];
    let mut differ = Differ { old, new, same_content, entries: Vec::new(), listed, untouched: Vec::new() };
    differ.compare();
    differ.finish()
}

/// What turns one tree into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The entries of the layer, in its order.
    pub entries: Vec<Entry>,
    /// Files among them that are one with files which stay as they are.
    pub shared: Vec<SharedFile>,
}

struct Differ<'a> {
    old: &'a Tree,
    new: &'a Tree,
    same_content: &'a mut dyn FnMut(&Path, &Node, &Node) -> bool,
    entries: Vec<Entry>,
    /// For each node of `new`, one more than the index in `entries` of its first name; 0 for none. Of many
    /// files there are many, so nothing bigger is kept of each.
    listed: Vec<u32>,
    /// Files that are another node in `new` and yet the same: links to them may be among the entries.
    untouched: Vec<(NodeId, PathBuf)>,
}

type Names<'a> = std::iter::Peekable<Box<dyn Iterator<Item = (&'a OsStr, NodeId)> + 'a>>;

/// A directory on the way, and what is left of its names in either tree.
struct Level<'a> {
    old: Names<'a>,
    new: Names<'a>,
    /// Where its entry is, if it is to be one only for what changed below it.
    provisional: Option<usize>,
}

impl<'a> Level<'a> {
    fn new(old: Option<(&'a Tree, NodeId)>, (new, id): (&'a Tree, NodeId)) -> Self {
        let old = old.into_iter().flat_map(|(old, id)| old.children(id));
        let (old, new): (Box<dyn Iterator<Item = _>>, Box<dyn Iterator<Item = _>>) =
            (Box::new(old), Box::new(new.children(id)));
        Self { old: old.peekable(), new: new.peekable(), provisional: None }
    }

    /// The next name, with what each tree has there.
    fn next(&mut self) -> Option<(&'a OsStr, Option<NodeId>, Option<NodeId>)> {
        let order = match (self.old.peek(), self.new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { self.old.next() } else { None };
        let new = if order.is_ge() { self.new.next() } else { None };
        let (name, _) = old.or(new)?;
        Some((name, old.map(|(_, id)| id), new.map(|(_, id)| id)))
    }
}

impl<'a> Differ<'a> {
    fn finish(self) -> Changes {
        let Self { entries, listed, untouched, .. } = self;
        let listed = |id: NodeId| listed.get(usize::try_from(id.number()).ok()?)?.checked_sub(1);
        let shared = untouched.into_iter().filter_map(|(id, below)| {
            let path = entries[listed(id)? as usize].path.clone();
            Some(SharedFile { path, below })
        });
        let shared = shared.collect();
        Changes { entries, shared }
    }

    /// Compares the roots and all below them. Trees may be as deep as paths are long, and so this has a stack of its own.
    fn compare(&mut self) {
        let mut path = PathBuf::new();
        let mut levels = vec![Level::new(Some((self.old, self.old.root())), (self.new, self.new.root()))];
        while let Some(level) = levels.last_mut() {
            let Some((name, old, new)) = level.next() else {
                // A directory that is as it was is an entry only for what changed below it.
                if level.provisional.is_some_and(|place| self.entries.len() == place + 1) {
                    self.entries.pop();
                }
                levels.pop();
                path.pop();
                continue;
            };
            path.push(name);
            match self.name(&path, old, new) {
                Some(below) => levels.push(below),
                None => {
                    path.pop();
                }
            }
        }
    }

    /// Lists what became of one name; gives the directory that is to be looked into next.
    fn name(&mut self, path: &Path, old: Option<NodeId>, new: Option<NodeId>) -> Option<Level<'a>> {
        match (old, new) {
            (Some(old), Some(new)) => self.both(path, old, new),
            (None, Some(new)) => self.added(path, new),
            (Some(_), None) => {
                self.entries.push(whiteout(path));
                None
            }
            (None, None) => None,
        }
    }

    fn both(&mut self, path: &Path, old: NodeId, new: NodeId) -> Option<Level<'a>> {
        let (before, after) = (self.old.node(old), self.new.node(new));
        match (&before.kind, &after.kind) {
            (NodeKind::Directory(_), NodeKind::Directory(_)) => {
                let place = self.entries.len();
                self.entries.push(directory_entry(path, &after.metadata));
                let mut level = Level::new(Some((self.old, old)), (self.new, new));
                level.provisional = same_owner_and_mode(&before.metadata, &after.metadata).then_some(place);
                Some(level)
            }
            _ if old == new && before == after => None,
            (_, kind) if self.is_same(path, before, after) => {
                if matches!(kind, NodeKind::File { .. }) {
                    self.untouched.push((new, path.to_owned()));
                }
                None
            }
            _ => self.added(path, new),
        }
    }

    /// A path that is new or replaces something else; a directory with everything below it.
    fn added(&mut self, path: &Path, id: NodeId) -> Option<Level<'a>> {
        let node = self.new.node(id);
        if let NodeKind::Directory(_) = node.kind {
            self.entries.push(directory_entry(path, &node.metadata));
            return Some(Level::new(None, (self.new, id)));
        }
        let listed = &mut self.listed[usize::try_from(id.number()).expect("a tree fits into memory")];
        let first = listed.checked_sub(1);
        if first.is_none() {
            *listed = u32::try_from(self.entries.len() + 1).expect("a tree has fewer than 2^32 nodes");
        }
        let kind = match &node.kind {
            NodeKind::Directory(_) => EntryKind::Directory,
            NodeKind::File { size, origin } => EntryKind::File { size: *size, content: origin.content },
            NodeKind::Symlink(target) => EntryKind::Symlink { target: target.clone() },
            NodeKind::Fifo => EntryKind::Fifo,
            NodeKind::CharacterDevice(major, minor) => {
                EntryKind::CharacterDevice { major: *major, minor: *minor }
            }
            NodeKind::BlockDevice(major, minor) => EntryKind::BlockDevice { major: *major, minor: *minor },
        };
        let kind = match first {
            Some(first) => EntryKind::Hardlink { target: self.entries[first as usize].path.clone() },
            None => kind,
        };
        self.entries.push(Entry { path: path.to_owned(), metadata: node.metadata.clone(), kind });
        None
    }

    fn is_same(&mut self, path: &Path, before: &Node, after: &Node) -> bool {
        let same_metadata = same_owner_and_mode(&before.metadata, &after.metadata)
            && before.metadata.mtime == after.metadata.mtime;
        same_metadata
            && match (&before.kind, &after.kind) {
                (NodeKind::File { size: a, .. }, NodeKind::File { size: b, .. }) => {
                    a == b && (self.same_content)(path, before, after)
                }
                (a, b) => a == b,
            }
    }
}

/// Only what a layer can hold counts: of the attributes that is the capabilities.
fn same_owner_and_mode(a: &Metadata, b: &Metadata) -> bool {
    const CAPABILITY: &str = "security.capability";
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs.get(CAPABILITY) == b.xattrs.get(CAPABILITY)
}

fn directory_entry(path: &Path, metadata: &Metadata) -> Entry {
    Entry { path: path.to_owned(), metadata: metadata.clone(), kind: EntryKind::Directory }
}

fn whiteout(path: &Path) -> Entry {
    Entry { path: path.to_owned(), metadata: Metadata::default(), kind: EntryKind::Whiteout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocibuild_spec::{Content, Timestamp};

    const NOW: Timestamp = Timestamp::from_seconds(9);

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), metadata: Metadata { mode: 0o755, ..Metadata::default() }, kind }
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let file = EntryKind::File { size: 1, content: Content(0) };
        tree.apply_layer(
            0,
            &[
                entry("d", EntryKind::Directory),
                entry("d/a", file.clone()),
                entry("d/b", EntryKind::Hardlink { target: "d/a".into() }),
                entry("e", EntryKind::Directory),
                entry("e/x", file.clone()),
                entry("e.txt", file),
            ],
        );
        tree
    }

    fn listing(old: &Tree, new: &Tree) -> Vec<String> {
        let print = |entry: &Entry| {
            let sign = match &entry.kind {
                EntryKind::Whiteout => "-".to_owned(),
                EntryKind::Directory => "d".to_owned(),
                EntryKind::Hardlink { target } => format!("h {}", target.display()),
                _ => "+".to_owned(),
            };
            format!("{sign} {}", entry.path.display())
        };
        changes(old, new, &mut |_, _, _| true).entries.iter().map(print).collect()
    }

    #[test]
    fn nothing_changed_gives_nothing() {
        let mut new = tree();
        let d = new.lookup(Path::new("d")).unwrap();
        new.metadata_mut(d).mtime = NOW;
        assert!(listing(&tree(), &new).is_empty(), "a directory's time alone is no change");
    }

    #[test]
    fn parents_come_first_and_deletions_sort_by_the_name_they_delete() {
        let old = tree();
        let mut new = old.clone();
        new.remove(Path::new("e/x"), NOW);
        new.remove(Path::new("e.txt"), NOW);
        assert_eq!(listing(&old, &new), ["d e", "- e/x", "- e.txt"]);
        new.remove(Path::new("e"), NOW);
        assert_eq!(listing(&old, &new), ["- e", "- e.txt"]);
    }

    #[test]
    fn trees_may_be_deeper_than_a_stack() {
        let path = |depth: usize| PathBuf::from(vec!["d"; depth].join("/"));
        let compare = move || {
            let mut old = Tree::new();
            let folders: Vec<Entry> =
                (1..2000).map(|depth| entry(path(depth).to_str().unwrap(), EntryKind::Directory)).collect();
            old.apply_layer(0, &folders);
            let mut new = old.clone();
            let pipe = Node { metadata: Metadata::default(), kind: NodeKind::Fifo };
            new.insert(&path(1999).join("p"), pipe, NOW);
            assert_eq!(listing(&Tree::new(), &new).len(), 2000);
            assert_eq!(listing(&old, &new).len(), 2000, "all parents are listed for one pipe");
            assert!(listing(&old, &old).is_empty());
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(compare).unwrap().join().unwrap();
    }

    #[test]
    fn a_changed_file_is_listed_under_all_its_names() {
        let old = tree();
        let mut new = old.clone();
        let a = new.lookup(Path::new("d/a")).unwrap();
        new.metadata_mut(a).mode = 0o600;
        assert_eq!(listing(&old, &new), ["d d", "+ d/a", "h d/a d/b"]);
    }

    #[test]
    fn a_link_to_a_file_left_alone_is_a_file_that_both_names_share() {
        let old = tree();
        let mut new = old.clone();
        // As after a kernel's copy up: another node, alike in all.
        let x = old.node(old.lookup(Path::new("e/x")).unwrap()).clone();
        let id = new.insert(Path::new("e/x"), x, Timestamp::default());
        new.link(Path::new("e/w"), id, NOW);
        new.link(Path::new("e/y"), id, NOW);
        assert_eq!(listing(&old, &new), ["d e", "+ e/w", "h e/w e/y"]);
        let found = changes(&old, &new, &mut |_, _, _| true);
        assert_eq!(found.shared, [SharedFile { path: "e/w".into(), below: "e/x".into() }]);
        let mut after = old.clone();
        after.apply_layer(1, &found.entries);
        assert_ne!(after.lookup(Path::new("e/w")), after.lookup(Path::new("e/x")));
        after.share(&found.entries, &found.shared);
        for name in ["e/w", "e/y"] {
            assert_eq!(after.lookup(Path::new(name)), after.lookup(Path::new("e/x")), "{name}");
        }
    }

    #[test]
    fn links_and_pipes_have_hard_links_too() {
        let old = tree();
        let mut new = old.clone();
        for (name, kind) in [("l", NodeKind::Symlink("x".into())), ("p", NodeKind::Fifo)] {
            let id = new.insert(Path::new(name), Node { metadata: Metadata::default(), kind }, NOW);
            new.link(Path::new(&format!("{name}2")), id, NOW);
        }
        assert_eq!(listing(&old, &new), ["+ l", "h l l2", "+ p", "h p p2"]);
    }

    #[test]
    fn a_file_in_place_of_a_directory_needs_no_deletion() {
        let old = tree();
        let mut new = old.clone();
        new.insert(Path::new("d"), Node { metadata: Metadata::default(), kind: NodeKind::Fifo }, NOW);
        assert_eq!(listing(&old, &new), ["+ d"]);
    }
}
