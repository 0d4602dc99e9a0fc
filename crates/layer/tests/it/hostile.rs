//! Tars that mean harm, or that two readers might understand differently.

use std::path::Path;

use ocibuild_layer::{Applied, Error, ErrorKind, Limits, Policy, TarReader, WhiteoutFormat, apply};
use ocibuild_spec::EntryKind;
use ocibuild_sys::RootDir;

use crate::support::{
    file, folder, hardlink, header, is_tar, listing, options, pad, pax, record, seal, symlink, tar, whiteout,
};

/// Applies `tar` beside a canary that must survive, and lists what came of it.
fn applied(tar: &[u8]) -> Result<(Applied, Vec<String>), Error> {
    applied_as(tar, WhiteoutFormat::Files)
}

fn applied_as(tar: &[u8], whiteouts: WhiteoutFormat) -> Result<(Applied, Vec<String>), Error> {
    let host = tempfile::tempdir().unwrap();
    fs_err::create_dir(host.path().join("outside")).unwrap();
    fs_err::write(host.path().join("outside/canary"), "sings").unwrap();
    fs_err::create_dir(host.path().join("root")).unwrap();
    let before = listing(&host.path().join("outside"));
    let root = RootDir::open(host.path().join("root")).unwrap();
    let mut tar = tar;
    let result = apply(&mut tar, &root, &options(whiteouts));
    let mut names: Vec<_> =
        fs_err::read_dir(host.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["outside", "root"]);
    assert_eq!(listing(&host.path().join("outside")), before);
    assert!(!Path::new("/evil").exists() && !Path::new("/pwn").exists());
    result.map(|applied| (applied, listing(&host.path().join("root"))))
}

fn names(tar: &[u8], policy: Policy) -> Result<Vec<String>, Error> {
    let mut reader = TarReader::new(tar, policy, Limits::UNLIMITED);
    let mut names = Vec::new();
    while let Some(found) = reader.next_entry()? {
        let size = match found.entry.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        };
        names.push(format!("{} {size}", found.entry.path.display()));
    }
    Ok(names)
}

fn both(tar: &[u8]) -> Vec<String> {
    let names_in_layer = names(tar, Policy::Layer).unwrap();
    assert_eq!(names(tar, Policy::Archive).unwrap(), names_in_layer);
    names_in_layer
}

#[test]
fn records_are_found_by_their_length() {
    // The real size is 1024; a reader that splits records at line ends would find an entry in the content.
    let attribute = record("SCHILY.xattr.user.a", b"x\ny");
    let inner = [header(b"smuggled", b'0').bytes(), vec![0; 512]].concat();
    let smuggled = tar(&[
        pax(b'x', &[attribute, record("size", b"1024")]),
        header(b"outer", b'0').bytes(),
        inner,
        file("last", b""),
    ]);
    assert_eq!(both(&smuggled), ["outer 1024", "last 0"]);

    let hidden = record("path", b"evil");
    let value = [b"x\n", &hidden[..hidden.len() - 1]].concat();
    let hidden = tar(&[pax(b'x', &[record("SCHILY.xattr.user.a", &value)]), file("good", b"")]);
    assert_eq!(both(&hidden), ["good 0"]);
}

#[test]
fn the_last_record_counts() {
    let twice = pax(b'x', &[record("path", b"first"), record("path", b"second")]);
    assert_eq!(both(&tar(&[twice, file("ustarname", b"")])), ["second 0"]);
    let emptied = pax(b'x', &[record("path", b"first"), record("path", b"")]);
    assert_eq!(both(&tar(&[emptied, file("ustarname", b"")])), ["ustarname 0"]);
}

#[test]
fn global_records_are_for_comments() {
    let global = |key| tar(&[pax(b'g', &[record(key, b"value")]), file("local", b"")]);
    assert_eq!(both(&global("comment")), ["local 0"]);
    assert_eq!(names(&global("path"), Policy::Archive).unwrap(), ["local 0"]);
    let between = tar(&[
        pax(b'x', &[record("path", b"lost")]),
        pax(b'g', &[record("comment", b"x")]),
        file("local", b""),
    ]);
    assert_eq!(names(&between, Policy::Archive).unwrap(), ["local 0"], "what comes before it is forgotten");
    let error = names(&global("path"), Policy::Layer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RefusedEntry { .. }), "{error}");
}

#[test]
fn headers_for_the_same_entry_do_not_compete() {
    let long = |typeflag, name: &[u8]| {
        let header = crate::support::Header { size: name.len() as u64, ..header(b"././@LongLink", typeflag) };
        [header.bytes(), pad(name.to_vec())].concat()
    };
    assert_eq!(both(&tar(&[long(b'L', b"longer\0"), file("short", b"x")])), ["longer 1"]);
    let pax_name = || pax(b'x', &[record("path", b"pax")]);
    for parts in [
        [pax_name(), pax_name()],
        [pax_name(), long(b'L', b"longer\0")],
        [long(b'L', b"a\0"), long(b'L', b"b\0")],
    ] {
        let bytes = tar(&[parts.concat(), file("short", b"")]);
        let error = names(&bytes, Policy::Layer).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RefusedEntry { .. }), "{error}");
        assert_eq!(names(&bytes, Policy::Archive).unwrap().len(), 1);
    }
}

#[test]
fn metadata_is_bounded() {
    for typeflag in [b'x', b'L', b'K', b'g'] {
        let huge = crate::support::Header { size: 8 << 30, ..header(b"huge", typeflag) };
        let error = names(&tar(&[huge.bytes()]), Policy::Archive).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MalformedTar { .. }), "{error}");
        assert!(!is_tar(&tar(&[huge.bytes()])[..]));
    }
    let endless = vec![pax(b'x', &[record("comment", b"x")]); 70_000];
    let error = names(&tar(&endless), Policy::Archive).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MalformedTar { .. }), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    let with = |key, value: &[u8]| tar(&[pax(b'x', &[record(key, value)]), file("f", b"")]);
    for (key, value) in [("uid", &b"-1"[..]), ("uid", b"4294967295"), ("gid", b"4294967296")] {
        assert!(names(&with(key, value), Policy::Layer).is_err(), "{key}");
        let mut archive = &with(key, value)[..];
        let found = TarReader::new(&mut archive, Policy::Archive, Limits::UNLIMITED).next_entry().unwrap();
        let metadata = found.unwrap().entry.metadata;
        let expected = if key == "uid" { (u32::MAX, 0) } else { (0, 0) };
        assert_eq!((metadata.uid, metadata.gid), expected, "the lowest bits count");
    }
    for (key, value) in [("uid", &b"x"[..]), ("size", b"-1"), ("size", b"0x10"), ("mtime", b"now")] {
        assert!(names(&with(key, value), Policy::Layer).is_err(), "{key}");
        assert!(names(&with(key, value), Policy::Archive).is_err(), "{key}");
    }
    assert!(names(&with("uid", b"4294967294"), Policy::Layer).is_ok());
    let mut negative = file("f", b"");
    negative[124..136].copy_from_slice(&[0xff; 12]);
    seal(&mut negative[..512]);
    assert!(names(&tar(&[negative]), Policy::Archive).is_err());
}

#[test]
fn sorts_that_are_not_read_are_named() {
    let sparse = pax(b'x', &[record("GNU.sparse.major", b"1")]);
    for (bytes, word) in [
        (tar(&[header(b"odd", b'S').bytes()]), "sparse"),
        (tar(&[header(b"odd", b'V').bytes()]), "label"),
        (tar(&[header(b"odd", b'M').bytes()]), "volume"),
        (tar(&[header(b"odd", b'7').bytes()]), "contiguous"),
        (tar(&[header(b"odd", b'Q').bytes()]), "unknown type"),
    ] {
        for policy in [Policy::Layer, Policy::Archive] {
            let error = names(&bytes, policy).unwrap_err();
            assert!(error.to_string().contains("odd") && error.to_string().contains(word), "{error}");
        }
        assert!(is_tar(&bytes[..]));
    }
    let error = names(&tar(&[sparse, file("odd", b"")]), Policy::Layer).unwrap_err();
    assert!(error.to_string().contains("odd") && error.to_string().contains("sparse"), "{error}");
}

#[test]
fn ends_are_those_of_go() {
    let one = file("ok", b"hi");
    assert_eq!(both(&one), ["ok 2"]);
    assert_eq!(both(&[&one[..], &[0; 512]].concat()), ["ok 2"]);
    assert_eq!(both(&[&tar(std::slice::from_ref(&one))[..], &b"garbage".repeat(100)].concat()), ["ok 2"]);
    assert_eq!(both(&one[..514]), ["ok 2"]);
    assert!(both(&[]).is_empty());
    for bad in [
        [&one[..], &[0; 512], &one].concat(),
        [&one[..], b"garbage"].concat(),
        one[..513].to_vec(),
        one[..511].to_vec(),
    ] {
        assert!(names(&bad, Policy::Layer).is_err());
        assert!(names(&bad, Policy::Archive).is_err());
    }
    let no_entry = tar(&[one.clone(), pax(b'x', &[record("path", b"x")])]);
    assert!(names(&no_entry, Policy::Layer).is_err());
    assert_eq!(names(&no_entry, Policy::Archive).unwrap(), ["ok 2"]);
    let mut wrong = one.clone();
    wrong[0] ^= 1;
    let error = names(&wrong, Policy::Layer).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn a_tar_is_known_by_its_first_header() {
    assert!(is_tar(&tar(&[file("ok", b"")])[..]));
    assert!(is_tar(&tar(&[file("../x", b"")])[..]));
    assert!(is_tar(&tar(&[pax(b'g', &[record("comment", b"x")])])[..]));
    assert!(!is_tar(&tar(&[pax(b'x', &[record("path", b"x")])])[..]));
    for other in [&b""[..], &[0; 1024], b"PK\x03\x04 a zip", &[b'x'; 2048]] {
        assert!(!is_tar(other));
    }
}

#[test]
fn names_that_climb_are_refused_loudly() {
    let bad = ["../../evil", "a/../../evil", "a/..", "..", "", ".wh.", "a/.wh..", "a/.wh.b/c", "f/"];
    for name in bad {
        let error = applied(&tar(&[file(name, b"hi"), file("ok", b"hi")])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RefusedEntry { .. }), "{name}: {error}");
    }
    let (_, lines) = applied(&tar(&[file("/evil", b"hi"), file("C:\\x", b""), file("./a//b", b"")])).unwrap();
    assert_eq!(lines[0], "file 644 1700000000 C:\\x");
    assert_eq!(lines[3], "file 644 1700000000 evil hi");
    for target in ["../../../../etc/passwd", "a/../b", "", "b"] {
        assert!(applied(&tar(&[file("a", b""), hardlink("b", target)])).is_err(), "{target}");
    }
}

#[test]
fn archives_keep_names_as_they_are() {
    let bytes = tar(&[file("../up", b""), file("/abs", b""), file(".wh.x", b"")]);
    assert_eq!(names(&bytes, Policy::Archive).unwrap(), ["../up 0", "/abs 0", ".wh.x 0"]);
}

#[test]
fn links_lead_nowhere_but_inside() {
    let absolute =
        [folder("usr/", 0o755), folder("usr/lib/", 0o755), symlink("lib", "/usr/lib"), file("lib/x", b"hi")];
    let (applied_layer, lines) = applied(&tar(&absolute)).unwrap();
    assert!(lines.contains(&"file 644 1700000000 usr/lib/x hi".to_owned()), "{lines:?}");
    let paths: Vec<_> =
        applied_layer.index.entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["lib", "usr", "usr/lib", "usr/lib/x"]);
    assert_eq!(applied_layer.index.passwd, None);

    let relative = [file("usr/lib/k", b""), symlink("lib", "usr/lib"), file("lib/x", b"hi")];
    assert!(applied(&tar(&relative)).unwrap().1.contains(&"file 644 1700000000 usr/lib/x hi".to_owned()));

    let out = [symlink("x", "../../outside"), file("x/pwn", b"hi")];
    assert!(applied(&tar(&out)).unwrap().1.contains(&"file 644 1700000000 outside/pwn hi".to_owned()));

    let chain = [symlink("b", "x"), symlink("a", "b/.."), symlink("x", "y/z"), file("a/in", b"hi")];
    assert!(applied(&tar(&chain)).unwrap().1.iter().any(|line| line.ends_with("in hi")));

    let loops = [symlink("x", "y"), symlink("y", "x"), file("x/f", b"")];
    assert!(applied(&tar(&loops)).is_err());
    let through_file = [file("a", b""), file("a/b", b"")];
    assert!(applied(&tar(&through_file)).is_err());
}

#[test]
fn the_root_stays() {
    assert!(applied(&tar(&[symlink("./", "../outside"), file("pwn", b"hi")])).is_err());
    assert!(applied(&tar(&[file("/", b"hi")])).is_err());
    let (applied, _) = applied(&tar(&[folder("./", 0o777), file("ok", b"")])).unwrap();
    assert_eq!(applied.index.entries.len(), 1);
}

#[test]
fn a_directory_over_a_link_is_a_directory() {
    let bytes = tar(&[symlink("d", "../outside"), folder("d/", 0o777), file("d/f", b"x")]);
    let (_, lines) = applied(&bytes).unwrap();
    assert_eq!(lines, ["dir 777 1700000000 d", "file 644 1700000000 d/f x"]);
}

#[test]
fn entries_replace_earlier_ones() {
    let (_, lines) = applied(&tar(&[file("a", b"hi"), folder("a/", 0o755), file("a/b", b"hi")])).unwrap();
    assert_eq!(lines, ["dir 755 1700000000 a", "file 644 1700000000 a/b hi"]);
    let (applied_layer, lines) =
        applied(&tar(&[folder("a/", 0o755), file("a/b", b"hi"), file("a", b"x")])).unwrap();
    assert_eq!(lines, ["file 644 1700000000 a x"]);
    assert_eq!(applied_layer.index.entries.len(), 1);
    let (_, lines) = applied(&tar(&[file("a", b"hi"), file("b", b"xx"), hardlink("b", "a")])).unwrap();
    assert_eq!(lines, ["file 644 1700000000 a hi", "file 644 1700000000 b hi"]);
    // The first name is replaced, and the other keeps the content.
    let (applied_layer, lines) =
        applied(&tar(&[file("a", b"hi"), hardlink("b", "/a"), file("a", b"new")])).unwrap();
    assert_eq!(lines, ["file 644 1700000000 a new", "file 644 1700000000 b hi"]);
    assert!(applied_layer.index.entries.iter().all(|entry| matches!(entry.kind, EntryKind::File { .. })));
}

#[test]
fn hard_links_are_to_files_of_the_image() {
    let (applied_layer, lines) =
        applied(&tar(&[hardlink("passwd", "/etc/passwd"), hardlink("b", "passwd")])).unwrap();
    assert!(lines.is_empty());
    let deferred =
        [("b", "etc/passwd"), ("passwd", "etc/passwd")].map(|(link, target)| (link.into(), target.into()));
    assert_eq!(applied_layer.deferred_links, deferred);
    assert!(applied(&tar(&[folder("d/", 0o755), hardlink("l", "d")])).is_err());
    let (_, lines) = applied(&tar(&[symlink("s", "/etc/shadow"), hardlink("l", "s")])).unwrap();
    assert_eq!(lines, ["link 777 1700000000 l /etc/shadow", "link 777 1700000000 s /etc/shadow"]);
}

#[test]
fn modes_and_times_come_last() {
    let (_, lines) = applied(&tar(&[folder("d/", 0), file("d/f", b"hi"), folder("t/", 0o1777)])).unwrap();
    assert_eq!(lines, ["dir 0 1700000000 d", "file 644 1700000000 d/f hi", "dir 1777 1700000000 t"]);
    let setuid = crate::support::Header { mode: 0o4755, ..header(b"s", b'0') };
    let (_, lines) = applied(&tar(&[setuid.bytes()])).unwrap();
    assert_eq!(lines, ["file 4755 1700000000 s"]);
    let early = pax(b'x', &[record("mtime", b"-5")]);
    let (applied_layer, lines) = applied(&tar(&[early, file("f", b"")])).unwrap();
    assert_eq!(lines, ["file 644 0 f"]);
    assert_eq!(applied_layer.index.entries[0].metadata.mtime.seconds, -5);
}

#[test]
fn devices_are_devices() {
    let device = |name: &[u8], major, minor| {
        crate::support::Header { device: (major, minor), ..header(name, b'3') }.bytes()
    };
    let bytes = tar(&[device(b"null", 1, 3), header(b"fifo", b'6').bytes()]);
    let (applied_layer, lines) = applied(&bytes).unwrap();
    if crate::support::is_root() {
        assert_eq!(lines, ["fifo 644 1700000000 fifo", "char 644 1700000000 null 1,3"]);
    } else {
        assert_eq!(applied_layer.skipped.len(), 1);
    }
    let zero = tar(&[device(b"zero", 0, 0)]);
    let error = applied_as(&zero, WhiteoutFormat::OverlayUser).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RefusedEntry { .. }), "{error}");
}

#[test]
fn devices_that_may_not_be_made_are_left_out_by_all_their_names() {
    // Root may make all: the test runs once more as nobody.
    if crate::support::is_root() {
        return crate::support::again_as_nobody(
            "hostile::devices_that_may_not_be_made_are_left_out_by_all_their_names",
        );
    }
    let device = |name: &[u8]| crate::support::Header { device: (8, 0), ..header(name, b'4') }.bytes();
    let bytes = tar(&[
        device(b"disk"),
        hardlink("same", "disk"),
        hardlink("again", "same"),
        device(b"replaced"),
        file("replaced", b"text"),
        hardlink("linked", "replaced"),
    ]);
    let host = tempfile::tempdir().unwrap();
    let root = RootDir::open(host.path()).unwrap();
    let mut options = ocibuild_layer::ApplyOptions::new(WhiteoutFormat::Files);
    options.owners = ocibuild_layer::Owners::Ignore;
    assert!(apply(&mut &bytes[..], &root, &options).is_err(), "unless it is asked for, it is an error");
    options.devices = ocibuild_layer::Devices::MakeOrSkip;
    let host = tempfile::tempdir().unwrap();
    let applied = apply(&mut &bytes[..], &RootDir::open(host.path()).unwrap(), &options).unwrap();
    let names = ["linked", "replaced"].map(|name| format!("file 644 1700000000 {name} text"));
    assert_eq!(listing(host.path()), names);
    let skipped: Vec<_> = applied.skipped.iter().map(|skipped| skipped.path.to_str().unwrap()).collect();
    assert_eq!(skipped, ["disk", "same", "again", "replaced"]);
    let listed: Vec<_> = applied.index.entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(listed, ["again", "disk", "linked", "replaced", "same"], "the index has them all");
}

#[test]
fn whiteouts_through_links_stay_inside() {
    let (applied_layer, lines) = applied(&tar(&[symlink("x", "/"), whiteout("x/.wh.etc")])).unwrap();
    assert_eq!(
        lines,
        ["file 600 0 .wh.etc", "link 777 1700000000 x /"].map(|line| line.replace(" 0 ", &{
            // A marker has the time at which it was made.
            let time = lines[0].split(' ').nth(2).unwrap();
            format!(" {time} ")
        }))
    );
    assert_eq!(applied_layer.index.entries[0].kind, EntryKind::Whiteout);
    assert_eq!(applied_layer.index.entries[0].path, Path::new("etc"));
}

#[test]
fn bombs_stop_at_the_limit() {
    let limited = |limits: Limits, bytes: Vec<u8>| {
        let host = tempfile::tempdir().unwrap();
        let root = RootDir::open(host.path()).unwrap();
        let mut options = options(WhiteoutFormat::Files);
        options.limits = limits;
        let error = apply(&mut &bytes[..], &root, &options).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
    };
    let zeros = tar(&[file("zeros", &vec![0; 1 << 20])]);
    limited(Limits { file_size: 1000, ..Limits::UNLIMITED }, zeros.clone());
    limited(Limits { tar_size: 1 << 19, ..Limits::UNLIMITED }, zeros);
    let many: Vec<Vec<u8>> = (0..11).map(|number| file(&format!("f{number}"), b"")).collect();
    limited(Limits { entries: 10, ..Limits::UNLIMITED }, tar(&many));
    assert_eq!(Limits::for_blob(1 << 20).tar_size, 1 << 30);
    assert_eq!(Limits::for_blob(1 << 30).tar_size, 250 << 30);
    assert_eq!(Limits::for_blob(100).entries, 400_001);
    assert_eq!(Limits::for_blob(40 << 20).entries, 400_000 + (40 << 20) / 64);
    assert_eq!(Limits::for_blob(u64::MAX).entries, 8_000_000);
}

#[test]
fn what_is_kept_of_a_layer_has_a_limit() {
    let attribute = |size: usize| record("SCHILY.xattr.user.a", &vec![b'x'; size]);
    let long = |record: Vec<u8>, entry: Vec<u8>| [pax(b'x', &[record]), entry].concat();
    let path = [&b"p"[..]; 200].join(&b'/');
    let small: Vec<u8> = (0..300_u32).flat_map(|n| record(&format!("SCHILY.xattr.user.{n}"), b"v")).collect();
    for (what, bytes, passes) in [
        ("attributes", long(attribute(900_000), file("f", b"")), 0),
        ("many attributes", long(small, file("f", b"")), 0),
        ("a link", long(record("linkpath", &[b'l'; 2000]), symlink("l", "x")), 0),
        ("a name", long(record("path", &path), file("f", b"")), 0),
        ("directories that a name implies", long(record("path", &path[..277]), file("f", b"")), 0),
        ("what every entry may have", long(attribute(20), file("f", b"")), 1),
    ] {
        let limits = Limits { metadata: 150, ..Limits::UNLIMITED };
        let result = ocibuild_layer::LayerListing::read_tar(
            &mut &tar(&[bytes])[..],
            &limits,
            &ocibuild_spec::CancelToken::new(),
        );
        match result {
            Ok(_) => assert_eq!(passes, 1, "{what}"),
            Err(error) => {
                assert_eq!(passes, 0, "{what}: {error}");
                assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{what}: {error}");
            }
        }
    }
    // Directories that are only implied are entries like others.
    let deep = tar(&[long(record("path", &path), file("f", b""))]);
    let limits = Limits { entries: 100, ..Limits::UNLIMITED };
    let cancel = ocibuild_spec::CancelToken::new();
    let error = ocibuild_layer::LayerListing::read_tar(&mut &deep[..], &limits, &cancel).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::LimitExceeded { what: ocibuild_layer::Limit::Entries, .. }),
        "{error}"
    );
}

/// Zeros without end, and a token that is cancelled once some were read.
struct Endless<'t>(&'t ocibuild_spec::CancelToken, u32);

impl std::io::Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 += 1;
        if self.1 > 20 {
            self.0.cancel();
        }
        assert!(self.1 < 100, "it goes on reading");
        buffer.fill(0);
        Ok(buffer.len())
    }
}

#[test]
fn reading_ends_when_it_is_cancelled() {
    use std::io::Read as _;
    let endless_content = crate::support::Header { size: 1 << 40, ..header(b"f", b'0') }.bytes();
    let end = vec![0; 1024];
    let pairs = pax(b'g', &[record("comment", b"x")]);
    for (what, start) in [
        ("what is skipped", [endless_content, file("g", b"")].concat()),
        ("what follows the end", [file("f", b""), end].concat()),
        ("headers before an entry", [pairs.repeat(3), vec![0; 1024]].concat()),
    ] {
        let cancel = ocibuild_spec::CancelToken::new();
        let mut stream = start.chain(Endless(&cancel, 0));
        let error =
            ocibuild_layer::LayerListing::read_tar(&mut stream, &Limits::UNLIMITED, &cancel).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{what}: {error}");
    }
}

#[test]
fn owners_that_do_not_exist_are_named() {
    // Root has every owner: the test runs once more as nobody.
    if crate::support::is_root() {
        return crate::support::again_as_nobody("hostile::owners_that_do_not_exist_are_named");
    }
    let host = tempfile::tempdir().unwrap();
    let root = RootDir::open(host.path()).unwrap();
    let owned = pax(b'x', &[record("uid", b"4294967294")]);
    let bytes = tar(&[owned, file("f", b"")]);
    let options = ocibuild_layer::ApplyOptions::new(WhiteoutFormat::Files);
    let error = apply(&mut &bytes[..], &root, &options).unwrap_err();
    assert!(error.to_string().contains("4294967294") && error.hint().is_some(), "{error}");
}
