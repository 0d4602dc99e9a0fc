//! Layers from a few lines of text, and steps from a few lines of shell.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ocibuild_snapshot::{
    ActiveSnapshot, CopySnapshots, ErrorKind, LayerNotes, Overlay, Snapshotter, Tree, Whiteouts,
};
use ocibuild_spec::{CancelToken, Content, DiffId, Digest, Entry, EntryKind, Metadata, Timestamp};
use ocibuild_sys::{FileType, RootDir};

/// Time of everything that a layer of a test has.
pub(crate) const THEN: Timestamp = Timestamp::from_seconds(1_000_000_000);

pub(crate) fn diff_id(name: &str) -> DiffId {
    DiffId(Digest::of(name))
}

/// Whether this is root, and of the host.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() && ocibuild_sys::in_initial_user_namespace()
}

/// The overlay driver, or `None` if this host has no overlay for us.
pub(crate) fn overlay(dir: &Path) -> Option<Overlay> {
    match Overlay::open(dir) {
        Ok(overlay) => Some(overlay),
        Err(error) if matches!(error.kind(), ErrorKind::NoOverlay { .. }) => {
            ocibuild_testkit::skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn copies(dir: &Path) -> CopySnapshots {
    CopySnapshots::open(dir).unwrap()
}

/// A layer as its entries and the content of its files.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestLayer {
    pub(crate) entries: Vec<Entry>,
    pub(crate) contents: HashMap<PathBuf, Vec<u8>>,
}

/// One entry a line: `d path mode`, `f path text`, `l path target`, `h path target`, `p path`, `w path`, `o path`.
pub(crate) fn layer(text: &str) -> TestLayer {
    let mut layer = TestLayer::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let argument = words.next().unwrap_or_default();
        let mut metadata = Metadata { mode: 0o644, mtime: THEN, ..Metadata::default() };
        let kind = match kind {
            "d" => {
                metadata.mode =
                    if argument.is_empty() { 0o755 } else { u32::from_str_radix(argument, 8).unwrap() };
                EntryKind::Directory
            }
            "f" => {
                layer.contents.insert(path.into(), argument.into());
                EntryKind::File { size: argument.len() as u64, content: Content(0) }
            }
            "l" => {
                metadata.mode = 0o777;
                EntryKind::Symlink { target: argument.into() }
            }
            "h" => EntryKind::Hardlink { target: argument.into() },
            "p" => EntryKind::Fifo,
            "w" => EntryKind::Whiteout,
            "o" => EntryKind::OpaqueWhiteout,
            other => panic!("{other}"),
        };
        layer.entries.push(Entry { path: path.into(), metadata, kind });
    }
    layer
}

/// What the `layer` crate does, for what tests have in their layers.
pub(crate) fn unpack(layer: &TestLayer, directory: &Path, whiteouts: Whiteouts) {
    let root = RootDir::open(directory).unwrap();
    for entry in &layer.entries {
        if let Some(above) = entry.path.parent() {
            root.mkdir_all(above, 0o755).unwrap();
        }
        let (parent, name) = root.parent(&entry.path).unwrap();
        let mode = entry.metadata.mode;
        match &entry.kind {
            EntryKind::Directory => parent.mkdir(&name, mode).unwrap(),
            EntryKind::File { .. } => {
                parent.create_file(&name, mode).unwrap();
                fs_err::write(directory.join(&entry.path), &layer.contents[&entry.path]).unwrap();
            }
            EntryKind::Symlink { target } => parent.symlink(target, &name).unwrap(),
            EntryKind::Hardlink { target } => {
                let (first, first_name) = root.parent(target).unwrap();
                match first.hardlink(first_name, &parent, &name) {
                    // Into a layer below.
                    Err(error) if error.kind() == ocibuild_sys::ErrorKind::NotFound => {}
                    result => result.unwrap(),
                }
            }
            EntryKind::Fifo => parent.mkfifo(&name, mode).unwrap(),
            EntryKind::Whiteout if whiteouts == Whiteouts::Files => {
                fs_err::write(
                    directory.join(entry.path.with_file_name(format!(".wh.{}", name.display()))),
                    "",
                )
                .unwrap();
            }
            EntryKind::Whiteout => parent.mknod(&name, FileType::CharDevice, 0, 0).unwrap(),
            EntryKind::OpaqueWhiteout => match whiteouts {
                Whiteouts::Files => {
                    fs_err::write(directory.join(&entry.path).join(".wh..wh..opq"), "").unwrap();
                }
                Whiteouts::OverlayTrusted => parent.set_xattr(&name, "trusted.overlay.opaque", b"y").unwrap(),
                Whiteouts::OverlayUser => parent.set_xattr(&name, "user.overlay.opaque", b"y").unwrap(),
            },
            EntryKind::CharacterDevice { major, minor } => {
                let rdev = ocibuild_sys::device(*major, *minor);
                parent.mknod(&name, FileType::CharDevice, mode, rdev).unwrap();
            }
            EntryKind::BlockDevice { .. } => panic!("no test has one"),
        }
    }
    for entry in layer.entries.iter().rev() {
        if !matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout | EntryKind::Hardlink { .. })
        {
            let (parent, name) = root.parent(&entry.path).unwrap();
            let Timestamp { seconds, nanoseconds } = entry.metadata.mtime;
            let time = ocibuild_sys::Timestamp { seconds, nanoseconds };
            if is_root() {
                parent.chown(&name, entry.metadata.uid, entry.metadata.gid).unwrap();
            }
            if !matches!(entry.kind, EntryKind::Symlink { .. }) {
                parent.chmod(&name, entry.metadata.mode).unwrap();
            }
            for (attribute, value) in &entry.metadata.xattrs {
                parent.set_xattr(&name, attribute, value).unwrap();
            }
            parent.set_times(name, None, Some(time)).unwrap();
        }
    }
}

/// The stack of some layers, unpacked.
pub(crate) struct Stack {
    pub(crate) layers: Vec<DiffId>,
    pub(crate) tree: Tree,
}

pub(crate) fn stack(snapshots: &dyn Snapshotter, layers: &[TestLayer]) -> Stack {
    let mut stack = Stack { layers: Vec::new(), tree: Tree::new() };
    for (number, layer) in layers.iter().enumerate() {
        let id = diff_id(&format!("{layer:?}"));
        if !snapshots.contains(&id).unwrap() {
            let target = snapshots.prepare_layer(&id).unwrap();
            unpack(layer, target.path(), snapshots.whiteouts());
            target.commit(&notes(layer)).unwrap();
        }
        stack.tree.apply_layer(number as u32, &layer.entries);
        stack.layers.push(id);
    }
    stack
}

fn notes(layer: &TestLayer) -> LayerNotes {
    let has = |path: &Path| layer.entries.iter().any(|entry| entry.path == path);
    let mut notes = LayerNotes::default();
    for entry in &layer.entries {
        for above in entry.path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            if !has(above) && !notes.implied_directories.contains(&above.to_owned()) {
                notes.implied_directories.push(above.to_owned());
            }
        }
        if let EntryKind::Hardlink { target } = &entry.kind
            && !has(target)
        {
            notes.deferred_links.push((entry.path.clone(), target.clone()));
        }
    }
    notes
}

impl Stack {
    pub(crate) fn prepare(&self, snapshots: &dyn Snapshotter) -> Box<dyn ActiveSnapshot> {
        snapshots.prepare(&self.layers, Arc::new(self.tree.clone()), &CancelToken::new()).unwrap()
    }

    /// Runs a step, commits it, and goes on from there. The listing says what it changed.
    pub(crate) fn step(&mut self, snapshots: &dyn Snapshotter, script: &str) -> Vec<String> {
        let snapshot = self.prepare(snapshots);
        run(&*snapshot, script);
        let (after, changeset) = snapshot.diff(None, &CancelToken::new()).unwrap();
        let listing = listing(&changeset);
        let contents = contents(&changeset);
        let id = diff_id(&format!("{script}{listing:?}{:?}", self.layers));
        let written = TestLayer { entries: changeset.entries.clone(), contents };
        snapshot.commit(&id, &changeset.entries).unwrap();
        // The committed layer must be what unpacking the written one gives.
        let other = tempfile::tempdir().unwrap();
        unpack(&written, other.path(), snapshots.whiteouts());
        assert_eq!(disk(&snapshots.layer_dir(&id)), disk(other.path()), "{script}");
        self.layers.push(id);
        self.tree = after;
        listing
    }
}

fn contents(changeset: &ocibuild_spec::Changeset) -> HashMap<PathBuf, Vec<u8>> {
    let files = changeset.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    files
        .map(|entry| {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut changeset.open(entry).unwrap(), &mut content).unwrap();
            (entry.path.clone(), content)
        })
        .collect()
}

/// Runs `script` in the root file system, mounted as its mounts say in a mount namespace that ends with it. Without
/// privilege a bind mount is left out, for it changes nothing here.
pub(crate) fn run(snapshot: &dyn ActiveSnapshot, script: &str) {
    let mounts = snapshot.rootfs_mounts();
    let mount = &mounts[0];
    let source = mount.source().as_ref().unwrap().to_str().unwrap();
    let options = mount.options().as_ref().unwrap().join(",");
    let here = tempfile::tempdir().unwrap();
    let at = here.path().display();
    let mut command;
    if mount.typ().as_deref() == Some("overlay") {
        // As an executor does with long lists of layers.
        let lowest = options.split("lowerdir=").nth(1).unwrap().split([':', ',']).next().unwrap();
        let directory = Path::new(lowest).parent().unwrap().display().to_string();
        let options = options.replace(&format!("{directory}/"), "");
        command = Command::new("unshare");
        let mounting =
            format!("cd '{directory}' && mount -i -t overlay overlay -o '{options}' {at} && cd {at}");
        command.args(["-m", "--propagation", "private", "sh", "-ec"]).arg(format!("{mounting}\n{script}"));
    } else if is_root() {
        command = Command::new("unshare");
        let mounting = format!("mount --bind '{source}' {at} && cd {at}");
        command.args(["-m", "--propagation", "private", "sh", "-ec"]).arg(format!("{mounting}\n{script}"));
    } else {
        command = Command::new("sh");
        command.arg("-ec").arg(format!("cd '{source}'\n{script}"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// One entry a line: sign, path, what differs from the ordinary.
pub(crate) fn listing(changeset: &ocibuild_spec::Changeset) -> Vec<String> {
    let print = |entry: &Entry| {
        let path = entry.path.display();
        let Metadata { mode, uid, gid, .. } = entry.metadata;
        let mut line = match &entry.kind {
            EntryKind::Whiteout => return format!("- {path}"),
            EntryKind::Hardlink { target } => return format!("h {path} {}", target.display()),
            EntryKind::Directory => format!("d {path} {mode:o}"),
            EntryKind::File { .. } => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut changeset.open(entry).unwrap(), &mut text).unwrap();
                format!("f {path} {mode:o} {text:?}")
            }
            EntryKind::Symlink { target } => format!("l {path} {}", target.display()),
            EntryKind::Fifo => format!("p {path} {mode:o}"),
            EntryKind::CharacterDevice { major, minor } => format!("c {path} {major}:{minor}"),
            other => panic!("{other:?}"),
        };
        if (uid, gid) != (0, 0) {
            let _ = write!(line, " {uid}:{gid}");
        }
        line
    };
    changeset.entries.iter().map(print).collect()
}

/// Everything about a directory of the host that a layer can hold.
pub(crate) fn disk(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let root = RootDir::open(top).unwrap();
        let directory = root.dir(&folder).unwrap();
        for entry in directory.read_dir().unwrap() {
            let name = entry.unwrap().name;
            let path = folder.join(&name);
            let found = directory.stat(&name).unwrap();
            let content = match found.file_type {
                FileType::Regular => format!("{:?}", fs_err::read(top.join(&path)).unwrap()),
                FileType::Symlink => directory.read_link(&name).unwrap().into_string().unwrap(),
                _ => String::new(),
            };
            let is_marker = name.as_encoded_bytes().starts_with(b".wh.");
            let is_whiteout = is_marker || found.file_type == FileType::CharDevice && found.rdev == 0;
            let opaque = directory.get_xattr(&name, "trusted.overlay.opaque").unwrap();
            let time = if is_whiteout { (0, 0) } else { (found.mtime.seconds, found.mtime.nanoseconds) };
            let mode = if is_whiteout { 0 } else { found.mode };
            let names = if found.is_dir() || is_whiteout { 1 } else { found.nlink };
            let capability = directory.get_xattr(&name, "security.capability").unwrap();
            lines.push(format!(
                "{} {:?} {mode:o} {:?} {time:?} {names} {content} {opaque:?} {capability:?}",
                path.display(),
                found.file_type,
                (found.rdev, if is_whiteout { (0, 0) } else { (found.uid, found.gid) }),
            ));
            if found.is_dir() {
                todo.push(path);
            }
        }
    }
    lines.sort();
    lines
}
