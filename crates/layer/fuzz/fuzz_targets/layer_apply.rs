//! A hostile tar unpacked into a directory: nothing beside that directory changes, and in it is exactly what the index
//! says, of the kinds that it says.
#![no_main]

#[path = "../../../store/fuzz/tar_text.rs"]
mod tar_text;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use ocibuild_layer::{ApplyOptions, Devices, Limits, Owners, WhiteoutFormat, apply};
use ocibuild_spec::EntryKind;
use ocibuild_sys::RootDir;

const LIMITS: Limits = Limits { entries: 200, tar_size: 1 << 20, file_size: 1 << 20, holes: 1 << 20, metadata: 1 << 20 };
const CANARY: &str = "it sings";

fuzz_target!(|bytes: &[u8]| {
    let tar = tar_text::tar_of(bytes);
    // Where there is one in memory, ten times as many inputs are tried.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.expect("a temporary directory");
    let (root, canary) = (place.path().join("root"), place.path().join("canary"));
    fs::create_dir(&root).expect("a new directory");
    fs::create_dir(&canary).expect("a new directory");
    fs::write(canary.join("bird"), CANARY).expect("a new file");
    let before = state(place.path(), &root);
    let options = ApplyOptions {
        // What an ordinary user can do, so that every finding is the same for everybody.
        owners: Owners::Ignore,
        devices: Devices::Skip,
        limits: LIMITS,
        ..ApplyOptions::new(WhiteoutFormat::Files)
    };
    let top = RootDir::open(&root).expect("it was made above");
    let applied = apply(&mut &tar[..], &top, &options);
    assert_eq!(state(place.path(), &root), before, "something beside the root changed");
    assert_eq!(fs::read_to_string(canary.join("bird")).expect("the canary is alive"), CANARY);
    let Ok(applied) = applied else { return };

    let mut expected: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for entry in &applied.index.entries {
        // Another name of something has its kind.
        let kind = match &entry.kind {
            EntryKind::Hardlink { target } => {
                let file = applied.index.entries.iter().find(|other| other.path == *target);
                file.map_or("link", |file| kind_of(&file.kind))
            }
            kind => kind_of(kind),
        };
        let mut marker = OsString::from(".wh.");
        marker.push(entry.path.file_name().unwrap_or_default());
        let path = match &entry.kind {
            EntryKind::Whiteout => entry.path.with_file_name(marker),
            EntryKind::OpaqueWhiteout => entry.path.join(".wh..wh..opq"),
            _ => entry.path.clone(),
        };
        expected.insert(path, kind);
    }
    for path in &applied.index.implied_directories {
        expected.insert(path.clone(), "directory");
    }
    let mut found = BTreeMap::new();
    walk(&root, Path::new(""), &mut found);
    let found: BTreeMap<PathBuf, &str> = found;
    // What could not be made is not there, unless another entry of this name came after it.
    let by_itself = applied.skipped.iter().filter(|skipped| skipped.attribute.is_none()).map(|skipped| &skipped.path);
    for path in by_itself.chain(applied.deferred_links.iter().map(|(name, _)| name)) {
        if !found.contains_key(path) {
            expected.remove(path);
        }
    }
    assert_eq!(found, expected, "{:?}", applied.index);
});

fn kind_of(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File { .. } | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => "file",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Fifo => "pipe",
        _ => "other",
    }
}

/// All paths below `root`, links not followed.
fn walk(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, &'static str>) {
    for entry in fs::read_dir(root.join(below)).expect("a directory that was unpacked can be read") {
        let entry = entry.expect("a name");
        let path = below.join(entry.file_name());
        let kind = entry.file_type().expect("a file has a type");
        let name = match () {
            () if kind.is_dir() => "directory",
            () if kind.is_file() => "file",
            () if kind.is_symlink() => "symlink",
            () if kind.is_fifo() => "pipe",
            () => "other",
        };
        if kind.is_dir() {
            walk(root, &path, found);
        }
        found.insert(path, name);
    }
}

/// Everything about what is in `place` but below `root`.
fn state(place: &Path, root: &Path) -> Vec<(PathBuf, u32, u64, i64, i64)> {
    let mut out = Vec::new();
    let mut todo = vec![place.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        out.push((path.clone(), metadata.mode(), metadata.nlink(), metadata.mtime(), metadata.mtime_nsec()));
        if path != root && metadata.is_dir() {
            todo.extend(fs::read_dir(&path).expect("it can be read").map(|entry| entry.expect("a name").path()));
        }
    }
    out.retain(|(path, ..)| path != root);
    out.sort();
    out
}
