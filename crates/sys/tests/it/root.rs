use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;
use ocibuild_sys::{
    CopyMethod, DirHandle, ErrorKind, FileType, RootDir, Timestamp, copy_contents, try_lock_exclusive,
    try_lock_shared,
};

struct World {
    _host: tempfile::TempDir,
    canary: std::path::PathBuf,
    root: RootDir,
    path: std::path::PathBuf,
}

/// A root with a canary beside it that no path may reach.
fn world() -> World {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().join("root");
    let canary = host.path().join("canary");
    fs::create_dir(&path).unwrap();
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "outside").unwrap();
    let root = RootDir::open(&path).unwrap();
    World { _host: host, canary, root, path }
}

#[test]
fn links_are_resolved_inside_the_root() {
    let world = world();
    fs::create_dir_all(world.path.join("usr/lib")).unwrap();
    symlink("/usr/lib", world.path.join("lib")).unwrap();
    symlink("../../../usr", world.path.join("up")).unwrap();
    let (parent, name) = world.root.parent("lib/libc.so").unwrap();
    parent.create_file(&name, 0o644).unwrap();
    assert!(world.path.join("usr/lib/libc.so").exists());
    assert!(world.root.stat("/up/lib/libc.so").is_ok());
    assert!(world.root.stat("../../../../usr/lib").unwrap().is_dir());
}

#[test]
fn nothing_outside_is_reached() {
    let world = world();
    let canary = world.canary.to_str().unwrap();
    symlink(canary, world.path.join("abs")).unwrap();
    symlink("../canary", world.path.join("rel")).unwrap();
    symlink("/proc/self/cwd", world.path.join("magic")).unwrap();
    for path in ["abs/file", "rel/file", "../canary/file", "magic/file", "abs/../../canary/file"] {
        assert_eq!(world.root.stat(path).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
    }
}

#[test]
fn dangling_links_become_directories_inside() {
    let world = world();
    symlink(world.canary.join("new"), world.path.join("d")).unwrap();
    let mut made = Vec::new();
    world
        .root
        .mkdir_all_with("d/e", 0o755, |_, name| {
            made.push(name.to_owned());
            Ok(())
        })
        .unwrap();
    assert!(!world.canary.join("new").exists());
    let inside = world.path.join(world.canary.strip_prefix("/").unwrap()).join("new/e");
    assert!(inside.is_dir());
    assert_eq!(made.last().unwrap(), "e");
}

#[test]
fn link_loops_end() {
    let world = world();
    symlink("b", world.path.join("a")).unwrap();
    symlink("a", world.path.join("b")).unwrap();
    assert_eq!(world.root.dir("a/x").unwrap_err().kind(), ErrorKind::Link);
    assert_eq!(world.root.mkdir_all("a/x", 0o755).unwrap_err().kind(), ErrorKind::Link);
}

#[test]
fn a_path_without_a_name_has_no_parent() {
    let world = world();
    for path in ["", "/", ".", "..", "a/..", "//", "/."] {
        assert_eq!(world.root.parent(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
    }
    let (_, name) = world.root.parent("x/").unwrap();
    assert_eq!(name, "x");
}

#[test]
fn names_are_single_components() {
    let top = world().root.top().unwrap();
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        assert_eq!(top.mkdir(name, 0o755).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(top.stat(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let world = world();
    let top = world.root.top().unwrap();
    top.create_file("f", 0o6777).unwrap();
    top.mkdir("d", 0o1777).unwrap();
    top.mkfifo("p", 0o666).unwrap();
    assert_eq!(top.stat("f").unwrap().mode, 0o6777);
    assert_eq!(top.stat("d").unwrap().mode, 0o1777);
    assert_eq!(top.stat("p").unwrap().mode, 0o666);
    assert_eq!(top.create_file("f", 0o600).unwrap_err().kind(), ErrorKind::Exists);
}

#[test]
fn links_in_the_last_place_are_not_followed() {
    let world = world();
    let target = world.canary.join("file");
    symlink(&target, world.path.join("l")).unwrap();
    let top = world.root.top().unwrap();
    assert_eq!(top.create_file("l", 0o600).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(top.open_read("l").unwrap_err().kind(), ErrorKind::Link);
    assert_eq!(top.chmod("l", 0o777).unwrap_err().kind(), ErrorKind::Unsupported);
    let time = Timestamp { seconds: -5, nanoseconds: 123_456_789 };
    top.set_times("l", None, Some(time)).unwrap();
    assert_eq!(top.stat("l").unwrap().mtime, time);
    assert_eq!(top.read_link("l").unwrap(), target.as_os_str());
    top.hardlink("l", &top, "l2").unwrap();
    assert_eq!(top.stat("l2").unwrap().file_type, FileType::Symlink);
    top.unlink("l").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"outside");
}

#[test]
fn pipes_do_not_block_readers() {
    let world = world();
    let top = world.root.top().unwrap();
    top.mkfifo("p", 0o644).unwrap();
    assert_eq!(top.open_read("p").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(world.root.open_read("p").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(world.root.open_read("/").unwrap_err().kind(), ErrorKind::IsADirectory);
}

#[test]
fn attributes_belong_to_the_name() {
    let world = world();
    let top = world.root.top().unwrap();
    top.create_file("f", 0o644).unwrap();
    let long = vec![b'x'; 2000];
    if let Err(error) = top.set_xattr("f", "user.long", &long) {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        return;
    }
    top.set_xattr("f", "user.a", b"").unwrap();
    assert_eq!(top.list_xattrs("f").unwrap(), ["user.a", "user.long"]);
    assert_eq!(top.get_xattr("f", "user.long").unwrap().unwrap(), long);
    assert_eq!(top.get_xattr("f", "user.none").unwrap(), None);
    top.remove_xattr("f", "user.long").unwrap();
    assert_eq!(top.list_xattrs("f").unwrap(), ["user.a"]);
    symlink("f", world.path.join("l")).unwrap();
    assert_eq!(top.list_xattrs("l").unwrap(), [] as [&OsStr; 0]);
}

#[test]
fn directories_list_what_is_in_them() {
    let world = world();
    let top = world.root.top().unwrap();
    top.mkdir("d", 0o755).unwrap();
    top.symlink("x", "l").unwrap();
    let mut entries: Vec<_> = top.read_dir().unwrap().map(Result::unwrap).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].name.to_str(), entries[1].name.to_str()), (Some("d"), Some("l")));
    assert_eq!(entries[1].ino, top.stat("l").unwrap().ino);
}

#[test]
fn whole_trees_go_and_links_in_them_stay_links() {
    let world = world();
    let top = world.root.top().unwrap();
    for i in 0..50 {
        fs::create_dir_all(world.path.join(format!("t/{i}/x/y"))).unwrap();
        fs::write(world.path.join(format!("t/{i}/x/f")), "").unwrap();
    }
    symlink(&world.canary, world.path.join("t/out")).unwrap();
    fs::set_permissions(world.path.join("t/7"), std::fs::Permissions::from_mode(0o0)).unwrap();
    top.remove_tree("t").unwrap();
    top.remove_tree("t").unwrap();
    assert!(!world.path.join("t").exists());
    assert!(world.canary.join("file").exists());
    symlink(&world.canary, world.path.join("t")).unwrap();
    top.remove_tree("t").unwrap();
    assert!(world.canary.join("file").exists());
}

#[test]
fn trees_deeper_than_any_path_or_descriptor_table_go() {
    let world = world();
    let top = world.root.top().unwrap();
    let mut dir = top.try_clone().unwrap();
    for i in 0..3000 {
        dir.mkdir("deep", 0o755).unwrap();
        if i % 100 == 0 {
            dir.mkdir("side", 0o755).unwrap();
            dir.create_file("file", 0o644).unwrap();
        }
        dir = dir.open_dir("deep").unwrap();
    }
    top.remove_tree("deep").unwrap();
    top.remove_tree("side").unwrap();
    top.remove_tree("file").unwrap();
    assert_eq!(top.read_dir().unwrap().count(), 0);
}

#[test]
fn contents_are_copied() {
    let host = tempfile::tempdir().unwrap();
    let dir = DirHandle::open(host.path()).unwrap();
    let mut source = dir.create_file("a", 0o644).unwrap();
    source.write_all(&vec![7; 300_000]).unwrap();
    let target = dir.create_file("b", 0o644).unwrap();
    let (method, bytes) = copy_contents(&source, &target).unwrap();
    assert_ne!(method, CopyMethod::User);
    assert_eq!(bytes, 300_000);
    assert_eq!(fs::read(host.path().join("b")).unwrap(), vec![7; 300_000]);
}

#[test]
fn files_that_lie_about_their_size_are_copied() {
    let host = tempfile::tempdir().unwrap();
    let source = fs::File::open("/proc/self/status").unwrap().into_parts().0;
    let target = DirHandle::open(host.path()).unwrap().create_file("b", 0o644).unwrap();
    assert!(copy_contents(&source, &target).unwrap().1 > 100);
}

#[test]
fn locks_exclude_and_are_let_go() {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().join("lock");
    let shared = try_lock_shared(&path).unwrap().unwrap();
    assert!(try_lock_exclusive(&path).unwrap().is_none());
    let second = try_lock_shared(&path).unwrap();
    drop((shared, second));
    assert!(try_lock_exclusive(&path).unwrap().is_some());
}

#[test]
fn locks_end_although_a_child_still_has_the_file() {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().join("lock");
    let held = try_lock_exclusive(&path).unwrap().unwrap();
    let inherited = held.file().try_clone().unwrap();
    drop(held);
    assert!(try_lock_exclusive(&path).unwrap().is_some());
    drop(inherited);
}

#[test]
fn files_are_read_through_links_inside() {
    let world = world();
    fs::create_dir(world.path.join("etc")).unwrap();
    fs::write(world.path.join("real"), "root:x:0:0").unwrap();
    symlink("/real", world.path.join("etc/passwd")).unwrap();
    let mut text = String::new();
    world.root.open_read(Path::new("/etc/passwd")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "root:x:0:0");
}

/// What one of them finds gone is gone: an owner that removes its own, and others that take it for abandoned.
#[test]
fn several_may_remove_one_tree_at_once() {
    let world = world();
    for round in 0..20 {
        let mut dir = world.root.top().unwrap();
        dir.mkdir("t", 0o755).unwrap();
        dir = dir.open_dir("t").unwrap();
        // Deeper than what is kept open.
        for depth in 0..150 {
            for number in 0..3 {
                dir.mkdir(format!("{number}"), 0o755).unwrap();
                dir.create_file(format!("file{number}"), 0o644).unwrap();
            }
            dir = dir.open_dir(format!("{}", (round + depth) % 3)).unwrap();
        }
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let top = world.root.top().unwrap();
                    start.wait();
                    top.remove_tree("t").unwrap();
                });
            }
        });
        assert!(!world.path.join("t").exists());
    }
}

#[test]
fn looking_at_a_lock_makes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let error = ocibuild_sys::try_lock_existing_exclusive(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(ocibuild_sys::try_lock_existing_shared(&path).is_err());
    assert!(!path.exists());
    let held = ocibuild_sys::lock_exclusive(&path).unwrap();
    assert!(ocibuild_sys::try_lock_existing_exclusive(&path).unwrap().is_none());
    assert!(ocibuild_sys::try_lock_existing_shared(&path).unwrap().is_none());
    drop(held);
    // A directory can be locked as well.
    for path in [&path, directory.path()] {
        let shared = ocibuild_sys::try_lock_existing_shared(path).unwrap().unwrap();
        let second = ocibuild_sys::try_lock_existing_shared(path).unwrap().unwrap();
        assert!(ocibuild_sys::try_lock_existing_exclusive(path).unwrap().is_none());
        drop((shared, second));
        assert!(ocibuild_sys::try_lock_existing_exclusive(path).unwrap().is_some());
    }
}
