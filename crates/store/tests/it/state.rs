use std::os::unix::fs::PermissionsExt;

use ocibuild_store::{ErrorKind, Fault, ImageLayout};

use super::open;

fn mode(path: &std::path::Path) -> u32 {
    fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn new_and_empty_directories_are_taken_and_tightened() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b/state");
    let layout = open(&root);
    assert_eq!(mode(&root), 0o700);
    assert_eq!(fs_err::read_to_string(root.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    for name in ["cache", "mounts", "snapshots", "tmp"] {
        assert!(layout.private_dir(name).is_dir());
    }
    let empty = directory.path().join("empty");
    fs_err::create_dir(&empty).unwrap();
    fs_err::create_dir(empty.join("lost+found")).unwrap();
    fs_err::set_permissions(&empty, PermissionsExt::from_mode(0o755)).unwrap();
    open(&empty);
    assert_eq!(mode(&empty), 0o700);
    fs_err::set_permissions(&empty, PermissionsExt::from_mode(0o777)).unwrap();
    open(&empty);
    assert_eq!(mode(&empty), 0o700);
}

#[test]
fn directories_of_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs_err::write(directory.path().join("precious"), "x").unwrap();
    let before = mode(directory.path());
    let error = ImageLayout::open_or_create(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStateDirectory);
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    let path = fs_err::canonicalize(directory.path()).unwrap();
    assert_eq!(error.fault(), Some(&Fault::NotAStateDirectory { path }));
    assert_eq!(mode(directory.path()), before);
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
    let file = directory.path().join("precious");
    assert_eq!(ImageLayout::open_or_create(file).unwrap_err().kind(), ErrorKind::NotAStateDirectory);
}

#[test]
fn newer_and_broken_formats_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    open(&root);
    fs_err::write(root.join("state.json"), r#"{"format":"ocibuild-state","version":2}"#).unwrap();
    assert_eq!(ImageLayout::open_or_create(&root).unwrap_err().kind(), ErrorKind::NewerFormat);
    fs_err::write(root.join("state.json"), "{").unwrap();
    assert_eq!(ImageLayout::open_or_create(&root).unwrap_err().kind(), ErrorKind::Corrupt);
    fs_err::write(root.join("state.json"), r#"{"format":"other","version":1}"#).unwrap();
    assert_eq!(ImageLayout::open_or_create(&root).unwrap_err().kind(), ErrorKind::NotAStateDirectory);
}

#[test]
fn a_start_that_was_killed_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    open(&root);
    for name in ["index.json", "oci-layout"] {
        fs_err::remove_file(root.join(name)).unwrap();
        open(&root);
        assert!(root.join(name).exists());
    }
    fs_err::remove_dir(root.join("cache")).unwrap();
    open(&root);
    assert!(root.join("cache").is_dir());
    let blob = root.join("blobs/sha256").join("0".repeat(64));
    fs_err::write(blob, "x").unwrap();
    fs_err::remove_file(root.join("index.json")).unwrap();
    let error = ImageLayout::open_or_create(&root).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn many_may_begin_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| open(&root));
        }
    });
}
