//! Laws of trees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ocibuild_snapshot::{NodeId, NodeKind, Tree, changes};
use ocibuild_spec::{Content, Entry, EntryKind, Metadata, Timestamp};
use proptest::prelude::*;

/// Few names, so that they meet.
fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "a.b"]), 1..4)
        .prop_map(|parts| parts.iter().collect())
}

fn metadata() -> impl Strategy<Value = Metadata> {
    (prop::sample::select(vec![0o644, 0o755]), 0..3_i64).prop_map(|(mode, seconds)| Metadata {
        mode,
        mtime: Timestamp::from_seconds(seconds),
        ..Metadata::default()
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        3 => Just(EntryKind::Directory),
        3 => (0..3_u64).prop_map(|size| EntryKind::File { size, content: Content(size) }),
        1 => path().prop_map(|target| EntryKind::Symlink { target }),
        1 => path().prop_map(|target| EntryKind::Hardlink { target }),
        1 => Just(EntryKind::Fifo),
        1 => (0..2_u32).prop_map(|minor| EntryKind::CharacterDevice { major: 1, minor }),
        1 => Just(EntryKind::Whiteout),
        1 => Just(EntryKind::OpaqueWhiteout),
    ]
}

/// Any entries at all, in any order: more than a layer may have.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry =
        (path(), metadata(), kind()).prop_map(|(path, metadata, kind)| Entry { path, metadata, kind });
    prop::collection::vec(entry, 0..20)
}

fn tree(layers: &[Vec<Entry>]) -> Tree {
    let mut tree = Tree::new();
    for (number, entries) in layers.iter().enumerate() {
        tree.apply_layer(number as u32, entries);
    }
    tree
}

/// What a layer can say of each path; of directories, whose times alone are no change, not the time.
fn listing(tree: &Tree) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut todo = vec![(PathBuf::new(), tree.root())];
    while let Some((folder, id)) = todo.pop() {
        for (name, child) in tree.children(id) {
            let path = folder.join(name);
            let node = tree.node(child);
            let Metadata { mode, mtime, .. } = node.metadata;
            let line = match &node.kind {
                NodeKind::Directory(_) => {
                    todo.push((path.clone(), child));
                    format!("d {mode:o}")
                }
                NodeKind::File { size, .. } => format!("f {mode:o} {mtime} {size}"),
                other => format!("{other:?} {mode:o} {mtime}"),
            };
            lines.insert(path, line);
        }
    }
    lines
}

fn same(_: &Path, _: &ocibuild_snapshot::Node, _: &ocibuild_snapshot::Node) -> bool {
    true
}

/// Which paths of a tree are one file.
fn groups(tree: &Tree, among: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    let mut groups: BTreeMap<NodeId, Vec<PathBuf>> = BTreeMap::new();
    for path in among {
        let id = tree.lookup(path).unwrap();
        if matches!(tree.node(id).kind, NodeKind::File { .. }) {
            groups.entry(id).or_default().push(path.clone());
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    groups
}

proptest! {
    /// The law: what changed, laid over what was, is what is.
    #[test]
    fn changes_lead_from_old_to_new(layers in prop::collection::vec(entries(), 0..3), more in entries()) {
        let old = tree(&layers);
        let mut new = old.clone();
        new.apply_layer(9, &more);
        let changed = changes(&old, &new, &mut same).entries;
        let mut again = old.clone();
        again.apply_layer(9, &changed);
        prop_assert_eq!(listing(&again), listing(&new));
        prop_assert!(changes(&new, &again, &mut same).entries.is_empty());
        // Files that are one file and both changed stay one.
        let files = changed.iter().filter(|entry| {
            matches!(entry.kind, EntryKind::File { .. } | EntryKind::Hardlink { .. })
        });
        let files: Vec<PathBuf> = files.map(|entry| entry.path.clone()).collect();
        prop_assert_eq!(groups(&again, &files), groups(&new, &files));
    }

    /// Two trees that have nothing to do with each other.
    #[test]
    fn changes_lead_anywhere(a in entries(), b in entries()) {
        let (old, new) = (tree(&[a]), tree(&[b]));
        let changed = changes(&old, &new, &mut |_, _, _| false).entries;
        let mut again = old.clone();
        again.apply_layer(9, &changed);
        prop_assert_eq!(listing(&again), listing(&new));
    }

    /// Entries of changes are what the contract of `Changeset` says: parents first, ordered component by component,
    /// no path twice, every parent of a change there.
    #[test]
    fn changes_are_in_order(a in entries(), b in entries()) {
        let (old, new) = (tree(&[a]), tree(&[b]));
        let changed = changes(&old, &new, &mut same).entries;
        let paths: Vec<&PathBuf> = changed.iter().map(|entry| &entry.path).collect();
        // Paths compare component by component.
        prop_assert!(paths.windows(2).all(|pair| pair[0] < pair[1]), "{paths:?}");
        for entry in &changed {
            let parent = entry.path.parent().unwrap();
            prop_assert!(parent.as_os_str().is_empty() || paths.contains(&&parent.to_owned()));
            if let EntryKind::Hardlink { target } = &entry.kind {
                prop_assert!(target < &entry.path);
            }
        }
    }

    /// Deletions hit what was below, wherever they stand.
    #[test]
    fn the_place_of_whiteouts_does_not_matter(below in entries(), layer in entries(), at in any::<prop::sample::Index>()) {
        let base = tree(&[below]);
        let is_deletion = |entry: &Entry| {
            matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout)
        };
        let (deletions, others): (Vec<Entry>, Vec<Entry>) = layer.into_iter().partition(is_deletion);
        let place = at.index(others.len() + 1);
        let middle: Vec<Entry> =
            others[..place].iter().chain(deletions.iter().rev()).chain(&others[place..]).cloned().collect();
        let first: Vec<Entry> = deletions.iter().chain(&others).cloned().collect();
        let (mut a, mut b) = (base.clone(), base);
        a.apply_layer(1, &middle);
        b.apply_layer(1, &first);
        prop_assert_eq!(listing(&a), listing(&b));
    }

    /// What is kept is what was there, and nothing else is there but the way to it.
    #[test]
    fn one_path_is_kept(entries in entries(), kept in path()) {
        let tree = tree(&[entries]);
        let mut one = tree.clone();
        one.retain(&kept);
        let is_on_the_way = |path: &Path| kept.starts_with(path) || path.starts_with(&kept);
        let mut todo = vec![(PathBuf::new(), tree.root())];
        while let Some((path, id)) = todo.pop() {
            let found = one.lookup(&path);
            // Where the path leads to nothing, a directory on the way may have lost what is in it or not.
            if tree.lookup(&kept).is_some() {
                prop_assert_eq!(found.is_some(), is_on_the_way(&path), "{:?}", path);
            }
            if let Some(found) = found {
                prop_assert_eq!(&one.node(found).metadata, &tree.node(id).metadata);
            }
            todo.extend(tree.children(id).map(|(name, child)| (path.join(name), child)));
        }
    }

    /// Resolution ends, stays inside, and finds what a lookup of its result finds.
    #[test]
    fn resolved_paths_are_found_without_links(entries in entries(), path in path()) {
        let tree = tree(&[entries]);
        if let Ok(resolved) = tree.resolve(&path, true) {
            prop_assert_eq!(tree.lookup(&resolved.path), resolved.node);
            if let Some(id) = resolved.node {
                prop_assert!(!matches!(tree.node(id).kind, NodeKind::Symlink(_)));
            }
        }
    }
}
