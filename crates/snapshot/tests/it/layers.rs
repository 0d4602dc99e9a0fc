//! Layers come, stay and go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_snapshot::{ErrorKind, LayerNotes, Snapshotter, Tree};
use ocibuild_spec::CancelToken;

use crate::fixture::{TestLayer, copies, diff_id, is_root, layer, overlay, run, stack};

#[test]
fn a_layer_is_there_once_it_is_committed() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let id = diff_id("a");
    let target = snapshots.prepare_layer(&id).unwrap();
    fs_err::write(target.path().join("f"), "text").unwrap();
    assert!(!snapshots.contains(&id).unwrap());
    drop(target);
    assert!(!snapshots.contains(&id).unwrap());
    let target = snapshots.prepare_layer(&id).unwrap();
    fs_err::write(target.path().join("f"), "text").unwrap();
    target.commit(&LayerNotes::default()).unwrap();
    assert!(snapshots.contains(&id).unwrap());
    assert_eq!(snapshots.list().unwrap(), std::slice::from_ref(&id));
    assert_eq!(fs_err::read(snapshots.layer_dir(&id).join("f")).unwrap(), b"text");
    let usage = snapshots.usage(&id).unwrap();
    assert_eq!((usage.bytes, usage.inodes), (4, 1));
    snapshots.remove(&id).unwrap();
    snapshots.remove(&id).unwrap();
    assert!(!snapshots.contains(&id).unwrap());
    assert!(matches!(snapshots.usage(&id).unwrap_err().kind(), ErrorKind::MissingLayer { .. }));
    assert_eq!(fs_err::read_dir(state.path().join("copy/work")).unwrap().count(), 0);
}

#[test]
fn many_at_once_make_one_layer() {
    let state = tempfile::tempdir().unwrap();
    let id = diff_id("a");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (state, id) = (state.path(), &id);
            scope.spawn(move || {
                let snapshots = copies(state);
                let target = snapshots.prepare_layer(id).unwrap();
                fs_err::write(target.path().join("f"), number.to_string()).unwrap();
                target.commit(&LayerNotes::default()).unwrap();
                assert!(snapshots.contains(id).unwrap());
            });
        }
    });
    let snapshots = copies(state.path());
    assert_eq!(snapshots.list().unwrap(), [id]);
    assert_eq!(snapshots.sweep().unwrap(), 0);
}

#[test]
fn what_is_in_use_stays() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let stack = stack(&snapshots, &[layer("f a text")]);
    let id = &stack.layers[0];
    let refused = |snapshots: &dyn Snapshotter| {
        matches!(
            snapshots.remove(id).map_err(|error| matches!(error.kind(), ErrorKind::InUse { .. })),
            Err(true)
        )
    };
    let active = stack.prepare(&snapshots);
    assert!(refused(&snapshots) && refused(&copies(state.path())));
    drop(active);
    let hold = snapshots.hold(&[diff_id("other"), id.clone()]).unwrap();
    assert!(refused(&snapshots));
    drop(hold);
    snapshots.remove(id).unwrap();
    let error = snapshots.prepare(&stack.layers, Arc::new(Tree::new()), &CancelToken::new()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MissingLayer { layer } if layer == id));
}

#[test]
fn a_layer_of_another_boot_is_made_again_unless_it_was_flushed() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let stack = stack(&snapshots, &[layer("f a text"), layer("f b text")]);
    let [a, b] = [&stack.layers[0], &stack.layers[1]];
    snapshots.sync().unwrap();
    assert!(snapshots.contains(a).unwrap());
    let marker = snapshots.layer_dir(b).with_file_name("unsynced");
    // A crash leaves anything in a file that was not flushed.
    for left in [&b"3d7fb1ab-0000-0000-0000-000000000000\n"[..], b"", b"\0\0\0", b"\xff\xfe"] {
        fs_err::write(&marker, left).unwrap();
        // Whoever boots is another process.
        let snapshots = copies(state.path());
        assert!(!snapshots.contains(b).unwrap());
        snapshots.sync().unwrap();
        assert!(!snapshots.contains(b).unwrap());
        assert_eq!(snapshots.list().unwrap(), std::slice::from_ref(a));
        let target = snapshots.prepare_layer(b).unwrap();
        fs_err::write(target.path().join("new"), "").unwrap();
        target.commit(&LayerNotes::default()).unwrap();
        assert!(snapshots.contains(b).unwrap());
        assert!(snapshots.layer_dir(b).join("new").exists());
    }
    snapshots.sync().unwrap();
    assert!(!marker.exists());
}

/// What a process knows of a layer is of one directory: another one that made the layer again is looked at.
#[test]
fn a_layer_that_others_made_again_is_looked_at_again() {
    let state = tempfile::tempdir().unwrap();
    let Some(snapshots) = overlay(state.path()) else { return };
    let mut one = stack(&snapshots, &[layer("d d 700"), layer("f d/f text")]);
    assert_eq!(
        one.step(&snapshots, "stat -c %a d >mode; cat mode d/f >both"),
        ["f both 644 \"700\\ntext\"", "f mode 644 \"700\\n\"",]
    );
    let id = one.layers[1].clone();
    let other = overlay(state.path()).unwrap();
    other.remove(&id).unwrap();
    assert!(!snapshots.contains(&id).unwrap());
    let error = snapshots.prepare(&one.layers, Arc::new(one.tree.clone()), &CancelToken::new()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MissingLayer { layer } if *layer == id));
    // This time without a note of the directory that the layer implies, as a driver might that has no need for one.
    let target = other.prepare_layer(&id).unwrap();
    fs_err::create_dir(target.path().join("d")).unwrap();
    fs_err::write(target.path().join("d/f"), "again").unwrap();
    target.commit(&LayerNotes::default()).unwrap();
    assert!(snapshots.contains(&id).unwrap());
    let active = one.prepare(&snapshots);
    run(&*active, "test $(stat -c %a d) = 755; test $(cat d/f) = again");
}

/// A step makes nothing for each layer below it: links are kept beside the layers.
#[test]
fn links_of_an_overlay_are_kept_and_go_with_their_layer() {
    let state = tempfile::tempdir().unwrap();
    let Some(snapshots) = overlay(state.path()) else { return };
    let name = if is_root() { "overlay" } else { "overlay-user" };
    let (links, work) = (state.path().join(name).join("links"), state.path().join(name).join("work"));
    let names = |folder: &Path| -> BTreeSet<PathBuf> {
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut stack = stack(&snapshots, &[layer("f a 1"), layer("f b 2")]);
    stack.step(&snapshots, "cat a b >c");
    let first = names(&links);
    assert_eq!(first.len(), 2);
    // Another process takes the same ones.
    let other = overlay(state.path()).unwrap();
    let active = stack.prepare(&other);
    assert!(first.is_subset(&names(&links)) && names(&links).len() == 3);
    let of_step: Vec<PathBuf> = names(&work).into_iter().flat_map(|step| names(&step)).collect();
    assert!(!of_step.iter().any(|path| path.is_symlink()), "{of_step:?}");
    run(&*active, "test $(cat c) = 12");
    drop(active);
    other.remove(&stack.layers[2]).unwrap();
    assert_eq!(names(&links), first);
    // A name that is taken by another layer: the step has links of its own.
    for link in &first {
        fs_err::remove_file(link).unwrap();
        fs_err::os::unix::fs::symlink("../layers/other/fs", link).unwrap();
    }
    stack.layers.pop();
    let third = overlay(state.path()).unwrap();
    let active = stack.prepare(&third);
    run(&*active, "test $(cat a b) = 12");
    drop(active);
    third.remove(&stack.layers[0]).unwrap();
    assert_eq!(names(&links), first, "the link of another layer stays");
}

/// As many layers as the kernel takes: its list of them is a page long.
#[test]
fn five_hundred_layers_can_be_mounted() {
    let state = tempfile::tempdir().unwrap();
    let Some(snapshots) = overlay(state.path()) else { return };
    let layers: Vec<TestLayer> = (0..500).map(|number| layer(&format!("f f{number} {number}"))).collect();
    let stack = stack(&snapshots, &layers);
    let active = stack.prepare(&snapshots);
    run(&*active, "test $(cat f0 f77 f499) = 077499");
}

#[test]
fn what_the_dead_leave_is_swept() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let alive = snapshots.prepare_layer(&diff_id("a")).unwrap();
    // As after kill -9: with and without the files that come first.
    let work = state.path().join("copy/work");
    fs_err::create_dir_all(work.join("dead/layer/fs/x")).unwrap();
    fs_err::write(work.join("dead/lock"), "").unwrap();
    fs_err::create_dir(work.join("unborn")).unwrap();
    assert_eq!(snapshots.sweep().unwrap(), 2);
    assert!(alive.path().exists());
    drop(alive);
    assert_eq!(fs_err::read_dir(work).unwrap().count(), 0);
}

/// Whoever falls back to another driver once leaves nothing there for good.
#[test]
fn what_the_dead_leave_with_another_driver_is_swept() {
    let state = tempfile::tempdir().unwrap();
    let other = state.path().join("overlay");
    fs_err::create_dir_all(other.join("work/dead/layer")).unwrap();
    fs_err::write(other.join("lock"), "").unwrap();
    copies(state.path());
    assert_eq!(fs_err::read_dir(other.join("work")).unwrap().count(), 0);
    // What somebody uses stays.
    fs_err::create_dir(other.join("work/alive")).unwrap();
    let held = ocibuild_sys::lock_exclusive(other.join("work/alive/lock")).unwrap();
    copies(state.path());
    assert!(other.join("work/alive").exists());
    drop(held);
}

#[test]
fn cancelling_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let snapshots = copies(state.path());
    let stack = stack(&snapshots, &[layer("f a text")]);
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = snapshots.prepare(&stack.layers, Arc::new(stack.tree.clone()), &cancel).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled));
    assert_eq!(fs_err::read_dir(state.path().join("copy/work")).unwrap().count(), 0);
}

#[test]
fn the_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("snapshots");
    copies(&dir);
    assert_eq!(fs_err::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn an_overlay_needs_a_path_without_separators() {
    let state = tempfile::tempdir().unwrap();
    let error = ocibuild_snapshot::Overlay::open(state.path().join("a,b")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnsuitablePath { .. }));
    let snapshots = ocibuild_snapshot::auto(state.path().join("a:b")).unwrap();
    assert_eq!(snapshots.whiteouts(), ocibuild_snapshot::Whiteouts::Files);
}

/// Everything that works in one directory at once, each as a process of its own would: nothing of that is an error.
#[test]
fn users_makers_removers_and_sweepers_do_not_fail_each_other() {
    const ROUNDS: usize = 60;
    let state = tempfile::tempdir().unwrap();
    let (id, path) = (diff_id("a"), state.path());
    let make = |snapshots: &dyn Snapshotter| {
        let target = snapshots.prepare_layer(&id).unwrap();
        fs_err::create_dir(target.path().join("d")).unwrap();
        fs_err::write(target.path().join("d/f"), "text").unwrap();
        target.commit(&LayerNotes::default()).unwrap();
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        // Opening sweeps.
                        let snapshots = copies(path);
                        // Held first, then looked for: from then on it stays.
                        let hold = snapshots.hold(std::slice::from_ref(&id)).unwrap();
                        if !snapshots.contains(&id).unwrap() {
                            make(&snapshots);
                        }
                        let stack = std::slice::from_ref(&id);
                        let active =
                            snapshots.prepare(stack, Arc::new(Tree::new()), &CancelToken::new()).unwrap();
                        drop(hold);
                        assert_eq!(fs_err::read(snapshots.layer_dir(&id).join("d/f")).unwrap(), b"text");
                        drop(active);
                        drop(snapshots.prepare_layer(&diff_id("b")).unwrap());
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let snapshots = copies(path);
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    snapshots.sweep().unwrap();
                    for layer in snapshots.list().unwrap() {
                        match snapshots.usage(&layer) {
                            Err(error) if matches!(error.kind(), ErrorKind::MissingLayer { .. }) => {}
                            other => drop(other.unwrap()),
                        }
                        match snapshots.remove(&layer) {
                            Err(error) if matches!(error.kind(), ErrorKind::InUse { .. }) => {}
                            other => other.unwrap(),
                        }
                    }
                }
            });
        }
        let ended: Vec<_> = users.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for user in ended {
            user.unwrap();
        }
    });
    assert_eq!(copies(path).sweep().unwrap(), 0);
    assert_eq!(fs_err::read_dir(path.join("copy/work")).unwrap().count(), 0);
}

/// What is killed while it finds out whether there are overlays leaves nothing that stays, and two that try at once do not
/// meet.
#[test]
fn privileged_overlays_are_tried_apart_from_each_other() {
    let state = tempfile::tempdir().unwrap();
    if crate::fixture::overlay(state.path()).is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    crate::fixture::overlay(state.path()).unwrap();
                }
            });
        }
    });
    let left: Vec<_> =
        fs_err::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
