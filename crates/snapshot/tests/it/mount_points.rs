//! Mount points: made without a mount, and gone afterwards.

use std::path::Path;

use ocibuild_snapshot::{ActiveSnapshot, MountPointKind, Snapshotter};
use ocibuild_spec::CancelToken;

use crate::fixture::{copies, layer, listing, overlay, run, stack};

const BASE: &str = "
    d etc
    f etc/passwd root
    d real
    d real/empty
    l link real
    l dangling /made/by/link
    l loop loop
    f file text
";

fn made(snapshot: &mut dyn ActiveSnapshot) {
    use MountPointKind::{Directory, File};
    for (path, kind) in [
        ("/etc/hosts", File),
        ("/etc/passwd", File),
        ("/link/a/b", Directory),
        ("/link/empty", Directory),
        ("/dangling", Directory),
        ("/new/file", File),
        ("/new/other", Directory),
        ("/new/other/../more", Directory),
        ("/new/other", Directory),
    ] {
        snapshot.create_mount_point(path.as_ref(), kind).unwrap();
    }
}

fn change(snapshots: &dyn Snapshotter, script: &str) -> Vec<String> {
    let stack = stack(snapshots, &[layer(BASE)]);
    let mut snapshot = stack.prepare(snapshots);
    made(&mut *snapshot);
    let present = "test -f etc/hosts -a -d real/a/b -a -d made/by/link -a -f new/file -a -d new/more";
    run(&*snapshot, &format!("{present}\numask 022\n{script}"));
    snapshot.remove_mount_points().unwrap();
    let (_, changeset) = snapshot.diff(None, &CancelToken::new()).unwrap();
    listing(&changeset)
}

const STEPS: &[(&str, &[&str])] = &[
    ("true", &[]),
    ("echo x > file", &["f file 644 \"x\\n\""]),
    ("echo x > new/file", &["d new 755", "f new/file 644 \"x\\n\""]),
    ("touch new/mine", &["d new 755", "f new/mine 644 \"\""]),
    ("touch real/a/b/c", &["d real 755", "d real/a 755", "d real/a/b 755", "f real/a/b/c 644 \"\""]),
    ("rm -r real/a", &[]),
    (
        "rm -r real; ln -s etc real; mkdir -p etc/a/b",
        &["d etc 755", "d etc/a 755", "d etc/a/b 755", "l real etc"],
    ),
    ("rmdir real/empty", &["d real 755", "- real/empty"]),
    ("rm etc/hosts; ln -s passwd etc/hosts", &["d etc 755", "l etc/hosts passwd"]),
    ("rm -r new; : > new", &["f new 644 \"\""]),
];

#[test]
fn a_copy_is_left_as_if_nothing_had_been_mounted() {
    for (script, expected) in STEPS {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(&change(&copies(state.path()), script), expected, "{script}");
    }
}

#[test]
fn privileged_an_overlay_is_left_as_if_nothing_had_been_mounted() {
    for (script, expected) in STEPS {
        let state = tempfile::tempdir().unwrap();
        let Some(overlay) = overlay(state.path()) else { return };
        assert_eq!(&change(&overlay, script), expected, "{script}");
    }
}

#[test]
fn parents_keep_the_time_they_have_when_a_mount_point_goes() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    parents_keep_their_time(&snapshots);
}

#[test]
fn privileged_parents_keep_the_time_they_have_when_a_mount_point_goes() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        parents_keep_their_time(&snapshots);
    }
}

fn parents_keep_their_time(snapshots: &dyn Snapshotter) {
    let mut snapshot = stack(snapshots, &[layer(BASE)]).prepare(snapshots);
    made(&mut *snapshot);
    run(&*snapshot, ": > etc/new; touch -d @77 etc");
    snapshot.remove_mount_points().unwrap();
    let (_, changeset) = snapshot.diff(None, &CancelToken::new()).unwrap();
    assert_eq!(changeset.entries[0].path, Path::new("etc"));
    assert_eq!(changeset.entries[0].metadata.mtime.seconds, 77);
}

#[test]
fn working_directories_stay() {
    let state = tempfile::tempdir().unwrap();
    working_directories(&copies(state.path()));
}

#[test]
fn privileged_working_directories_stay() {
    let state = tempfile::tempdir().unwrap();
    if let Some(snapshots) = overlay(state.path()) {
        working_directories(&snapshots);
    }
}

fn working_directories(snapshots: &dyn Snapshotter) {
    let mut snapshot = stack(snapshots, &[layer(BASE)]).prepare(snapshots);
    let (uid, gid) = if crate::fixture::is_root() { (7, 8) } else { (0, 0) };
    snapshot.create_directory("/link/work/here".as_ref(), uid, gid).unwrap();
    snapshot.create_directory("/link/empty".as_ref(), uid, gid).unwrap();
    if !crate::fixture::is_root() {
        let error = snapshot.create_directory("/other".as_ref(), 7, 8).unwrap_err();
        assert!(error.to_string().starts_with("other cannot belong to 7:8"), "{error}");
    }
    snapshot.remove_mount_points().unwrap();
    let (_, changeset) = snapshot.diff(None, &CancelToken::new()).unwrap();
    let owner = if crate::fixture::is_root() { " 7:8" } else { "" };
    let expected =
        ["d real 755".to_owned(), format!("d real/work 755{owner}"), format!("d real/work/here 755{owner}")];
    assert_eq!(listing(&changeset), expected);
}

#[test]
fn what_cannot_be_mounted_on_is_refused() {
    use MountPointKind::{Directory, File};
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let mut snapshot = stack(&snapshots, &[layer(BASE)]).prepare(&snapshots);
    made(&mut *snapshot);
    for (path, kind, expected) in [
        ("/file", Directory, "file cannot be mounted on: it is not a directory"),
        ("/etc", File, "etc cannot be mounted on: it is a directory"),
        ("/new/more", File, "new/more cannot be mounted on: it is a directory"),
        ("/new/file", Directory, "new/file cannot be mounted on: it is not a directory"),
        ("/new/file/x", Directory, "new/file cannot be mounted on: it is not a directory"),
        ("/file/x", Directory, "make the mount point /file/x"),
        ("/loop/x", Directory, "make the mount point /loop/x"),
    ] {
        let error = snapshot.create_mount_point(path.as_ref(), kind).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
