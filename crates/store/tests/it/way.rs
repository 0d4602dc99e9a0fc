//! The directories on the way to a state directory: nobody else may be able to exchange one.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use fs_err as fs;
use ocibuild_store::{ErrorKind, ImageLayout, check_way};
use ocibuild_testkit::skip;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Fails unless the directory is refused, by name, and nothing was made in it.
fn refused(root: &Path, culprit: &Path, why: &str) {
    for error in [ImageLayout::open_or_create(root).unwrap_err(), check_way(root).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        let text = error.to_string();
        assert!(text.contains(&culprit.display().to_string()) && text.contains(why), "{text}");
        assert!(error.hint().is_some());
    }
    assert!(!root.join("state.json").exists());
}

#[test]
fn others_cannot_write_above_a_state_directory() {
    let place = tempfile::tempdir().unwrap();
    let parent = place.path().join("parent");
    fs::create_dir(&parent).unwrap();
    let root = parent.join("below/state");
    chmod(&parent, 0o777);
    refused(&root, &parent, "everybody can write to it");
    assert!(!parent.join("below").exists(), "nothing is made on such a way");
    // In a sticky directory names are safe, and a group of one's own is nobody else.
    for mode in [0o1777, 0o775, 0o755] {
        chmod(&parent, mode);
        check_way(&root).unwrap();
        ImageLayout::open_or_create(&root).unwrap();
    }
    // One that exists is no better.
    chmod(&parent, 0o757);
    let error = ImageLayout::open_or_create(&root).unwrap_err();
    assert!(error.to_string().contains("everybody can write to it"), "{error}");
}

#[test]
fn the_way_leads_through_links_that_are_checked_like_everything_else() {
    let place = tempfile::tempdir().unwrap();
    let (good, bad) = (place.path().join("good"), place.path().join("bad"));
    for directory in [&good, &bad] {
        fs::create_dir(directory).unwrap();
    }
    chmod(&bad, 0o777);
    symlink("../bad/state", good.join("link")).unwrap();
    refused(&good.join("link"), &bad, "everybody");
    symlink("../good", bad.join("link")).unwrap();
    refused(&bad.join("link/state"), &bad, "everybody");
    symlink(good.join("real"), good.join("absolute")).unwrap();
    let layout = ImageLayout::open_or_create(good.join("absolute")).unwrap();
    assert_eq!(layout.root(), fs::canonicalize(good.join("real")).unwrap());
    symlink("loop", good.join("loop")).unwrap();
    assert!(ImageLayout::open_or_create(good.join("loop/x")).is_err());
}

#[test]
fn privileged_directories_of_another_user_are_no_way() {
    const OTHER: u32 = 12_345;
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make directories of others");
    }
    let place = tempfile::tempdir().unwrap();
    let parent = place.path().join("home");
    fs::create_dir(&parent).unwrap();
    let root = parent.join("state");
    for mode in [0o755, 0o1777] {
        chown(&parent, Some(OTHER), Some(OTHER)).unwrap();
        chmod(&parent, mode);
        refused(&root, &parent, "it belongs to user 12345");
    }
    // A group can exchange names as well.
    chown(&parent, Some(0), Some(OTHER)).unwrap();
    chmod(&parent, 0o2775);
    refused(&root, &parent, "group 12345 can write to it");
    chmod(&parent, 0o3775);
    // A link that another user left in a sticky directory leads where they like.
    let real = place.path().join("real");
    symlink(&real, &root).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        &root,
        Some(rustix::fs::Uid::from_raw(OTHER)),
        None,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    refused(&root, &root, "it belongs to user 12345");
    assert!(!real.exists());
    // What another user left in the directory itself, before it was tightened.
    let root = place.path().join("planted");
    ImageLayout::open_or_create(&root).unwrap();
    chown(root.join("blobs"), Some(OTHER), None).unwrap();
    let error = ImageLayout::open_or_create(&root).unwrap_err();
    assert!(error.to_string().contains("blobs belongs to user 12345"), "{error}");
}
