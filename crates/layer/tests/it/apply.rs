//! Deletions, implied directories, attributes and cancellation.

use std::io::Read;
use std::path::{Path, PathBuf};

use ocibuild_layer::{Applied, ApplyOptions, ErrorKind, Times, WhiteoutFormat, apply, apply_ahead};
use ocibuild_spec::{ContentDigest, DiffId, Digest, EntryKind};
use ocibuild_sys::RootDir;

use crate::support::{file, folder, is_root, listing, options, pax, record, symlink, tar, whiteout};

fn unpacked(tar: &[u8], whiteouts: WhiteoutFormat) -> (Applied, tempfile::TempDir) {
    let host = tempfile::tempdir().unwrap();
    let root = RootDir::open(host.path()).unwrap();
    let mut bytes = tar;
    let applied = apply(&mut bytes, &root, &options(whiteouts)).unwrap();
    assert_eq!(applied.diff_id, DiffId(Digest::of(tar)));
    assert_eq!(applied.index.tar_size, tar.len() as u64);
    (applied, host)
}

fn shapes(root: &Path) -> Vec<String> {
    let short = |line: &String| {
        let mut parts = line.splitn(4, ' ');
        let kind = parts.next().unwrap().to_owned();
        format!("{kind} {}", parts.nth(2).unwrap())
    };
    listing(root).iter().map(short).collect()
}

#[test]
fn deletions_are_independent_of_order() {
    let parts = [
        whiteout("d/.wh.gone"),
        folder("d/", 0o755),
        whiteout(".wh.again"),
        folder("again/", 0o700),
        file("again/new", b""),
        whiteout(".wh.file"),
        file("file", b"x"),
        file("o/kept", b""),
        whiteout("o/.wh..wh..opq"),
    ];
    let mut results = Vec::new();
    for turn in 0..parts.len() {
        let mut turned = parts.to_vec();
        turned.rotate_left(turn);
        let (applied, host) = unpacked(&tar(&turned), WhiteoutFormat::Files);
        let mut index = applied.index;
        // Where the files are in the tar is another place each time, and so are their digests.
        let known = std::mem::take(&mut index.digests);
        let mut digests = Vec::new();
        for entry in &mut index.entries {
            if let EntryKind::File { content, .. } = &mut entry.kind {
                digests.push(known.get(*content).unwrap());
                content.0 = 0;
            }
        }
        assert_eq!(digests, ["", "x", ""].map(ContentDigest::of));
        let mut expected_shapes = shapes(host.path());
        expected_shapes.sort();
        results.push((index, expected_shapes));
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    let (index, shapes) = &results[0];
    let deletions: Vec<_> = index
        .entries
        .iter()
        .filter(|entry| matches!(entry.kind, EntryKind::Whiteout))
        .map(|e| e.path.clone())
        .collect();
    assert_eq!(deletions, [PathBuf::from("d/gone")]);
    assert_eq!(
        shapes.as_slice(),
        [
            "dir again",
            "dir d",
            "dir o",
            "file again/.wh..wh..opq",
            "file again/new",
            "file d/.wh.gone",
            "file file x",
            "file o/.wh..wh..opq",
            "file o/kept"
        ]
    );
}

#[test]
fn overlayfs_finds_its_own_marks() {
    let bytes = tar(&[
        whiteout("d/.wh.gone"),
        folder("o/", 0o755),
        whiteout("o/.wh..wh..opq"),
        whiteout(".wh..wh..opq"),
    ]);
    let (_, host) = unpacked(&bytes, WhiteoutFormat::OverlayUser);
    assert_eq!(shapes(host.path()), ["dir d", "char d/gone 0,0", "dir o"]);
    let attribute = |path: &Path, name: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(path, name, &mut value).map(|length| value[..length].to_vec())
    };
    assert_eq!(attribute(&host.path().join("o"), "user.overlay.opaque").unwrap(), b"y");
    assert_eq!(attribute(host.path(), "user.overlay.opaque").unwrap(), b"y");
    if !is_root() {
        ocibuild_testkit::skip("trusted attributes need root");
        return;
    }
    let (_, host) = unpacked(&bytes, WhiteoutFormat::OverlayTrusted);
    assert_eq!(attribute(&host.path().join("o"), "trusted.overlay.opaque").unwrap(), b"y");
}

#[test]
fn implied_directories_are_told_apart() {
    let bytes = tar(&[file("a/b/f", b""), folder("c/", 0o711), whiteout("x/y/.wh.z"), folder("a/", 0o500)]);
    let (applied, host) = unpacked(&bytes, WhiteoutFormat::Files);
    assert_eq!(applied.index.implied_directories, ["a/b", "x", "x/y"].map(PathBuf::from));
    let lines = listing(host.path());
    assert!(lines.contains(&"dir 500 1700000000 a".to_owned()), "{lines:?}");
    assert!(lines.contains(&"dir 755 0 a/b".to_owned()), "{lines:?}");
    assert!(lines.contains(&"dir 755 0 x/y".to_owned()), "{lines:?}");
}

#[test]
fn attributes_are_chosen() {
    let attributes = pax(
        b'x',
        &[
            record("SCHILY.xattr.user.kept", b"v\0\n"),
            record("SCHILY.xattr.user.overlay.opaque", b"y"),
            record("SCHILY.xattr.trusted.overlay.redirect", b"/"),
            record("SCHILY.xattr.security.selinux", b"label"),
        ],
    );
    let bytes = tar(&[
        attributes.clone(),
        file("f", b"x"),
        attributes.clone(),
        folder("d/", 0o500),
        attributes,
        symlink("s", "f"),
    ]);
    let (applied, host) = unpacked(&bytes, WhiteoutFormat::OverlayUser);
    for name in ["f", "d"] {
        let path = host.path().join(name);
        let mut list = vec![0; 1024];
        let length = rustix::fs::llistxattr(&path, &mut list).unwrap();
        let list = String::from_utf8_lossy(&list[..length]).into_owned();
        let kept: Vec<&str> =
            list.split('\0').filter(|name| name.starts_with("user.") || name.contains("overlay")).collect();
        assert_eq!(kept, ["user.kept"]);
        let mut value = [0; 8];
        assert_eq!(rustix::fs::lgetxattr(&path, "user.kept", &mut value), Ok(3));
    }
    assert_eq!(applied.skipped.len(), 1);
    assert_eq!(applied.skipped[0].path, Path::new("s"));
}

#[test]
fn capabilities_survive() {
    if !is_root() {
        ocibuild_testkit::skip("capabilities of files need root");
        return;
    }
    let value = *b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let owned = [record("SCHILY.xattr.security.capability", &value), record("uid", b"5")];
    let (_, host) = unpacked(&tar(&[pax(b'x', &owned), file("f", b"x")]), WhiteoutFormat::Files);
    let mut found = [0; 64];
    let length = rustix::fs::lgetxattr(host.path().join("f"), "security.capability", &mut found).unwrap();
    assert_eq!(found[..length], value);
}

#[test]
fn account_files_are_kept() {
    let bytes = tar(&[
        file("etc/passwd", b"old"),
        file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        file("etc/group", b"g"),
        symlink("etc/group", "x"),
    ]);
    let (applied, host) = unpacked(&bytes, WhiteoutFormat::Files);
    assert_eq!(applied.index.passwd.as_deref(), Some(&b"root:x:0:0::/:/bin/sh\n"[..]));
    assert_eq!(applied.index.group, None);
    assert_eq!(fs_err::read(host.path().join("etc/passwd")).unwrap(), b"root:x:0:0::/:/bin/sh\n");
}

#[test]
fn long_runs_of_zeros_take_no_room() {
    use std::os::unix::fs::MetadataExt as _;
    let zeros = vec![0; 8 << 20];
    let middle = [b"begin", &zeros[..], b"end"].concat();
    let (_, host) = unpacked(&tar(&[file("zeros", &zeros), file("middle", &middle)]), WhiteoutFormat::Files);
    for (name, content) in [("zeros", &zeros), ("middle", &middle)] {
        let path = host.path().join(name);
        assert!(fs_err::read(&path).unwrap() == *content, "{name}");
        let metadata = fs_err::metadata(&path).unwrap();
        assert!(metadata.blocks() * 512 < 1 << 20, "{name} takes {} blocks", metadata.blocks());
    }
}

#[test]
fn what_follows_the_archive_counts() {
    let bytes = [tar(&[file("f", b"x")]), vec![0; 10_000], b"more".to_vec()].concat();
    let (applied, _host) = unpacked(&bytes, WhiteoutFormat::Files);
    assert_eq!(applied.index.entries.len(), 1);
}

/// Cancels once some bytes were read.
struct Cancelling<'b> {
    bytes: &'b [u8],
    token: ocibuild_spec::CancelToken,
}

impl Read for Cancelling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.token.cancel();
        let length = buffer.len().min(1000);
        self.bytes.read(&mut buffer[..length])
    }
}

#[test]
fn cancelling_stops_within_a_file() {
    let bytes = tar(&[file("f", &vec![1; 1 << 20])]);
    let host = tempfile::tempdir().unwrap();
    let options = options(WhiteoutFormat::Files);
    let mut reader = Cancelling { bytes: &bytes, token: options.cancel.clone() };
    let error = apply(&mut reader, &RootDir::open(host.path()).unwrap(), &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    assert!(reader.bytes.len() > 900_000);
}

#[test]
fn deep_trees_can_be_made() {
    let path = "d/".repeat(2000);
    let bytes = tar(&[pax(b'x', &[record("path", format!("{path}f").as_bytes())]), file("f", b"x")]);
    let (applied, host) = unpacked(&bytes, WhiteoutFormat::Files);
    assert_eq!(applied.index.implied_directories.len(), 2000);
    let top = ocibuild_sys::DirHandle::open(host.path()).unwrap();
    top.remove_tree("d").unwrap();
}

#[test]
fn a_known_listing_saves_hashing_and_tells_exact_times() {
    let parts = [
        folder("d/", 0o755),
        file("d/f", b"content"),
        symlink("d/link", "f"),
        whiteout("d/.wh..wh..opq"),
        file("unlisted", b"x"),
    ];
    let bytes = tar(&parts);
    let (first, _host) = unpacked(&bytes, WhiteoutFormat::Files);
    let mut known = first.index.clone();
    known.entries.retain(|entry| entry.path != Path::new("unlisted"));
    for (entry, seconds) in
        known.entries.iter_mut().zip([-5, 1_600_000_000, 1_500_000_000].into_iter().cycle())
    {
        entry.metadata.mtime = ocibuild_spec::Timestamp { seconds, nanoseconds: 123_456_789 };
    }
    // A digest of other bytes comes back as it is: nothing was hashed.
    let elsewhere = tar(&[folder("d/", 0o755), file("d/f", b"CONTENT"), symlink("d/link", "f")]);
    known.digests = unpacked(&elsewhere, WhiteoutFormat::Files).0.index.digests;
    let known = std::sync::Arc::new(known);
    let apply_with = |times: Times| {
        let host = tempfile::tempdir().unwrap();
        let options = ApplyOptions {
            times,
            known: Some(std::sync::Arc::clone(&known)),
            ..options(WhiteoutFormat::Files)
        };
        let root = RootDir::open(host.path()).unwrap();
        let applied = apply(&mut bytes.as_slice(), &root, &options).unwrap();
        assert_eq!(applied.diff_id, first.diff_id);
        assert_eq!(applied.index.digests, known.digests);
        assert_ne!(applied.index.digests, first.index.digests);
        assert_eq!(applied.index.entries, first.index.entries);
        let time = |name: &str| {
            use std::os::unix::fs::MetadataExt as _;
            let metadata = fs_err::symlink_metadata(host.path().join(name)).unwrap();
            (metadata.mtime(), metadata.mtime_nsec())
        };
        ["d", "d/f", "d/link", "unlisted"].map(time)
    };
    let of_tar = (1_700_000_000, 0);
    assert_eq!(apply_with(Times::Tar), [of_tar; 4]);
    let kinds: Vec<bool> =
        known.entries.iter().map(|entry| matches!(entry.kind, EntryKind::OpaqueWhiteout)).collect();
    assert_eq!(kinds, [false, true, false, false], "the directory comes before its opaque whiteout");
    let exact = |seconds| (seconds, 123_456_789);
    assert_eq!(apply_with(Times::Known), [exact(-5), exact(1_500_000_000), exact(-5), of_tar]);
}

#[test]
fn reading_ahead_changes_nothing() {
    let large: Vec<u8> = (0..3_000_000u32).map(|at| at.to_le_bytes()[1]).collect();
    let parts = [
        folder("d/", 0o755),
        file("d/small", b"x"),
        file("d/large", &large),
        symlink("d/link", "small"),
        whiteout("d/.wh.gone"),
        file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    ];
    let bytes = tar(&parts);
    let (expected, host) = unpacked(&bytes, WhiteoutFormat::Files);
    let ahead = |bytes: Vec<u8>, host: &Path| {
        let root = RootDir::open(host).unwrap();
        apply_ahead(Box::new(std::io::Cursor::new(bytes)), &root, &options(WhiteoutFormat::Files))
    };
    let other = tempfile::tempdir().unwrap();
    assert_eq!(ahead(bytes.clone(), other.path()).unwrap(), expected);
    let without_times = |root: &Path| -> Vec<String> {
        listing(root).into_iter().filter(|line| !line.contains(".wh.")).collect()
    };
    assert_eq!(without_times(other.path()), without_times(host.path()));
    assert!(other.path().join("d/.wh.gone").exists());
    // A tar that is cut off is the same error.
    for length in [700, 100_000, bytes.len() - 2000] {
        let mut cut = &bytes[..length];
        let here = tempfile::tempdir().unwrap();
        let root = RootDir::open(here.path()).unwrap();
        let plain = apply(&mut cut, &root, &options(WhiteoutFormat::Files)).unwrap_err();
        let other = tempfile::tempdir().unwrap();
        assert_eq!(ahead(bytes[..length].to_vec(), other.path()).unwrap_err().to_string(), plain.to_string());
    }
}

#[test]
fn cancelling_stops_reading_ahead() {
    let options = options(WhiteoutFormat::Files);
    options.cancel.cancel();
    let host = tempfile::tempdir().unwrap();
    let root = RootDir::open(host.path()).unwrap();
    let error = apply_ahead(Box::new(std::io::repeat(0)), &root, &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
}
