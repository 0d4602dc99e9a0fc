//! What the fuzz target `copy_placement` checks, in memory alone; the tests below run it over the target's corpus.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ocibuild_snapshot::{Changes, Node, NodeKind, Origin, Tree, changes};
use ocibuild_spec::{Content, Metadata, Timestamp};

use super::{Choice, Placement, TreeSource, parse_chmod, select};

/// A scene as text: the lines of a tree (`d PATH`, `f PATH`, `l PATH -> TARGET`, `h PATH -> TARGET`, `p PATH`) after
/// `base` and after `source`, then `copy [parents] [exclude=PATTERN] [chmod=MODE] [chown] SOURCE... DESTINATION`.
struct Scene<'a> {
    base: Tree,
    source: Tree,
    copy: Vec<&'a str>,
}

/// Places the sources of a scene, and checks what came of it: no panic; nothing changed but what is at the destination,
/// on the way to it or below it; and the layer applied to the base gives the tree that was made.
///
/// # Panics
///
/// When one of that does not hold.
pub fn check_placement(text: &str) {
    let Some(scene) = Scene::parse(text) else { return };
    let Some(after) = scene.place() else { return };
    let Changes { entries, shared } = changes(&scene.base, &after.tree, &mut |_, _, _| false);
    for entry in &entries {
        assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_))), "{entry:?}");
        let is_on_the_way = after.destination.starts_with(&entry.path);
        assert!(is_on_the_way || entry.path.starts_with(&after.destination), "{entry:?}");
    }
    let mut applied = scene.base.clone();
    applied.apply_layer(1, &entries);
    applied.share(&entries, &shared);
    assert_eq!(listing(&applied), listing(&after.tree));
}

struct Placed {
    tree: Tree,
    /// Where the destination leads, links followed.
    destination: PathBuf,
}

impl<'a> Scene<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut scene = Self { base: Tree::new(), source: Tree::new(), copy: Vec::new() };
        let mut is_source = false;
        for line in text.lines().take(200) {
            match line {
                "base" => is_source = false,
                "source" => is_source = true,
                _ => match line.strip_prefix("copy ") {
                    Some(words) => scene.copy = words.split(' ').collect(),
                    None => grow(if is_source { &mut scene.source } else { &mut scene.base }, line),
                },
            }
        }
        (scene.copy.len() > 1).then_some(scene)
    }

    fn place(&self) -> Option<Placed> {
        let (mut excludes, mut parents, mut words) = (Vec::new(), false, Vec::new());
        let mut placement = Placement::new(self.base.clone(), time(9));
        for word in &self.copy {
            match word.split_once('=') {
                Some(("exclude", pattern)) => excludes.push(pattern.to_owned()),
                Some(("chmod", mode)) => placement.chmod = Some(parse_chmod(mode).ok()?),
                _ if *word == "parents" => parents = true,
                _ if *word == "chown" => placement.owner = Some((1000, 1000)),
                _ => words.push(*word),
            }
        }
        let (destination, sources) = words.split_last()?;
        // A plan has absolute, clean destinations alone.
        let is_clean = destination.starts_with('/') && !destination.contains('\0');
        if !is_clean || Path::new(destination).components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let leads_to = self.base.resolve(Path::new(destination), true).ok()?.path;
        let choice = Choice::new(&excludes, parents).ok()?;
        let source = TreeSource::new(Arc::new(self.source.clone()));
        for word in sources {
            for selected in select(&source, word, &choice).ok()? {
                placement.copy(&source, &selected, destination).ok()?;
            }
        }
        Some(Placed { tree: placement.tree, destination: leads_to })
    }
}

/// Adds what a line names to a tree, and the directories above it; what nobody could make is left out.
fn grow(tree: &mut Tree, line: &str) {
    let Some((kind, rest)) = line.split_once(' ') else { return };
    let (path, target) = rest.split_once(" -> ").unwrap_or((rest, ""));
    let path = Path::new(path);
    let is_clean = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_clean || path.as_os_str().is_empty() || path.as_os_str().len() > 1000 || rest.contains('\0') {
        return;
    }
    let mut at = PathBuf::new();
    for part in path.parent().into_iter().flatten() {
        at.push(part);
        match tree.lookup(&at) {
            Some(id) if tree.is_directory(id) => {}
            Some(_) => return,
            None => _ = tree.insert(&at, node(0o755, NodeKind::Directory(BTreeMap::new())), time(1)),
        }
    }
    let is_taken = tree.lookup(path).is_some();
    let kind = match kind {
        "d" => NodeKind::Directory(BTreeMap::new()),
        "f" => {
            let origin = Origin { layer: 0, path: path.to_owned(), content: Content(0) };
            NodeKind::File { size: path.as_os_str().len() as u64, origin }
        }
        "l" if !target.is_empty() => NodeKind::Symlink(target.into()),
        "p" => NodeKind::Fifo,
        "h" => {
            let file = tree.lookup(Path::new(target));
            let file = file.filter(|id| matches!(tree.node(*id).kind, NodeKind::File { .. }));
            if let (Some(id), false) = (file, is_taken) {
                tree.link(path, id, time(1));
            }
            return;
        }
        _ => return,
    };
    if !is_taken {
        let mode = if matches!(kind, NodeKind::Symlink(_)) { 0o777 } else { 0o640 };
        tree.insert(path, node(mode, kind), time(1));
    }
}

fn node(mode: u32, kind: NodeKind) -> Node {
    Node { metadata: Metadata { mode, mtime: time(1), ..Metadata::default() }, kind }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, ..Timestamp::default() }
}

/// Every path but the root's with all that a layer tells of it.
fn listing(tree: &Tree) -> BTreeMap<PathBuf, (Metadata, String)> {
    let (mut out, mut todo) = (BTreeMap::new(), vec![(PathBuf::new(), tree.root())]);
    while let Some((path, id)) = todo.pop() {
        let node = tree.node(id);
        let kind = match &node.kind {
            NodeKind::Directory(_) => "directory".to_owned(),
            NodeKind::File { size, .. } => format!("file of {size}"),
            other => format!("{other:?}"),
        };
        todo.extend(tree.children(id).map(|(name, id)| (path.join(name), id)));
        let mut metadata = node.metadata.clone();
        if tree.is_directory(id) {
            // A directory of which nothing but its time is different is not in a layer.
            metadata.mtime = Timestamp::default();
        }
        out.insert(path, (metadata, kind));
    }
    out.remove(Path::new(""));
    out
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn scenes_of_the_corpus_hold() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/copy_placement");
        let mut placed = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            check_placement(&text);
            placed += usize::from(Scene::parse(&text).unwrap().place().is_some());
        }
        assert!(placed >= 4, "only {placed} scenes of the corpus are carried out");
    }

    #[test]
    fn a_scene_is_carried_out() {
        let scene = "base\nd opt\nl app -> opt\nsource\nf src/a\nl src/b -> a\ncopy src /app/";
        let after = Scene::parse(scene).unwrap().place().unwrap();
        assert_eq!(after.destination, Path::new("opt"));
        let paths: Vec<PathBuf> = listing(&after.tree).into_keys().collect();
        assert_eq!(paths, ["app", "opt", "opt/a", "opt/b"].map(PathBuf::from));
    }
}
