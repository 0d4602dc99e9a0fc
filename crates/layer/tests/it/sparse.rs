//! Files with holes in archives for ADD: those of GNU tar, and hostile ones.

use std::io::Read as _;

use ocibuild_layer::{Error, ErrorKind, Limits, Policy, TarReader};
use ocibuild_spec::{Content, EntryKind};

use crate::support::{Header, file, folder, header, is_tar, pad, pax, record, tar};

/// The tar that a fixture writes down block by block.
fn blocks(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Ok(times) = line.parse::<usize>() {
            let last = bytes[bytes.len() - 512..].repeat(times);
            bytes.extend(last);
            continue;
        }
        let mut rest = line;
        while let Some((before, run)) = rest.split_once('{') {
            let (run, after) = run.split_once('}').unwrap();
            let (byte, count) = run.split_once('*').unwrap();
            bytes.extend(before.bytes());
            bytes.extend(vec![byte.parse::<u8>().unwrap(); count.parse().unwrap()]);
            rest = after;
        }
        bytes.extend(rest.bytes());
    }
    assert_eq!(bytes.len() % 512, 0);
    tar(&[bytes])
}

/// Names and contents, which the reader gives and which can be found in the tar as well.
fn contents(tar: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut reader = TarReader::new(tar, Policy::Archive, Limits::UNLIMITED);
    let mut found = Vec::new();
    while let Some(next) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        if let (EntryKind::File { size, content: Content(at) }, Some(map)) = (&next.entry.kind, &next.sparse)
        {
            assert_eq!((*size, map.size()), (content.len() as u64, content.len() as u64));
            let stored = &tar[usize::try_from(*at).unwrap()..][..usize::try_from(map.stored()).unwrap()];
            let mut again = Vec::new();
            map.clone().expand(stored).read_to_end(&mut again).unwrap();
            assert_eq!(again, content);
        }
        found.push((next.entry.path.display().to_string(), content));
    }
    Ok(found)
}

#[test]
fn what_gnu_tar_writes_is_read() {
    let mut disk = vec![0; (1 << 20) + 100];
    for (place, letter) in (b'a'..=b'f').enumerate() {
        disk[place << 16..][..4096].fill(letter);
    }
    for text in [
        include_str!("../../../../fixtures/layer/sparse-pax-0.0.blocks"),
        include_str!("../../../../fixtures/layer/sparse-pax-0.1.blocks"),
        include_str!("../../../../fixtures/layer/sparse-pax-1.0.blocks"),
    ] {
        let tar = blocks(text);
        let found = contents(&tar).unwrap();
        assert!(found[0] == ("disk".to_owned(), disk.clone()));
        assert_eq!(found[1..], [("after".to_owned(), b"after\n".to_vec())]);
        let in_layer = TarReader::new(&tar[..], Policy::Layer, Limits::UNLIMITED).next_entry().unwrap_err();
        assert!(matches!(in_layer.kind(), ErrorKind::UnsupportedEntry { .. }), "{in_layer}");
    }
    let old = blocks(include_str!("../../../../fixtures/layer/sparse-gnu.blocks"));
    let error = contents(&old).unwrap_err();
    assert!(error.to_string().contains("old format of GNU tar"), "{error}");
}

/// A sparse file of version 0.1 or 1.0, and a plain one after it.
fn sparse(records: &[(&str, &str)], stored: &[u8]) -> Vec<u8> {
    let records: Vec<_> =
        records.iter().map(|(key, value)| record(&format!("GNU.sparse.{key}"), value.as_bytes())).collect();
    let own = Header { size: stored.len() as u64, ..header(b"own", b'0') };
    tar(&[pax(b'x', &records), own.bytes(), pad(stored.to_vec()), file("after", b"z")])
}

const V1: [(&str, &str); 3] = [("major", "1"), ("minor", "0"), ("realsize", "10")];

fn v0<'a>(map: &'a str, count: &'a str) -> [(&'a str, &'a str); 3] {
    [("map", map), ("numblocks", count), ("size", "10")]
}

#[test]
fn content_that_is_skipped_leaves_the_reader_at_the_next_entry() {
    let stored = [pad(b"2\n2\n3\n8\n1\n".to_vec()), b"abcd".to_vec()].concat();
    let whole = sparse(&[&V1[..], &[("name", "named")]].concat(), &stored);
    let found = contents(&whole).unwrap();
    assert_eq!(found[0], ("named".to_owned(), b"\0\0abc\0\0\0d\0".to_vec()));
    assert_eq!(found[1].0, "after");
    let mut reader = TarReader::new(&whole[..], Policy::Archive, Limits::UNLIMITED);
    reader.next_entry().unwrap();
    reader.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().entry.path.as_os_str(), "after");
    let old = contents(&sparse(&v0("2,3,8,1", "2"), b"abcd")).unwrap();
    assert_eq!(old[0], ("own".to_owned(), b"\0\0abc\0\0\0d\0".to_vec()));
}

#[test]
fn versions_that_nobody_knows_say_nothing() {
    let found = contents(&sparse(&[("major", "2"), ("minor", "0"), ("name", "x")], b"abc")).unwrap();
    assert_eq!(found[0], ("own".to_owned(), b"abc".to_vec()));
}

#[test]
fn bad_maps_are_no_tar() {
    let endless = [b"1000000\n".to_vec(), b"0\n0\n".repeat(1_000_000)].concat();
    for bad in [
        sparse(&v0("2,3,4,1", "2"), b"abcd"),
        sparse(&v0("8,1,2,3", "2"), b"abcd"),
        sparse(&v0("2,3,8,3", "2"), b"abcdef"),
        sparse(&v0("-2,3,8,1", "2"), b"abcd"),
        sparse(&v0("2,3,8,1", "3"), b"abcd"),
        sparse(&v0("9223372036854775807,9223372036854775807", "1"), b""),
        sparse(&V1, b"1\n0\n4\nabcd"),
        sparse(&V1, &pad(b"-1\n0\n4\n".to_vec())),
        sparse(&V1, &endless),
        tar(&[
            pax(b'x', &[record("GNU.sparse.map", b"0,0"), record("GNU.sparse.numblocks", b"1")]),
            folder("d", 0o755),
        ]),
    ] {
        let error = contents(&bad).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MalformedTar { .. }), "{error}");
        assert!(!is_tar(&bad[..]));
    }
}

#[test]
fn stored_bytes_must_be_those_of_the_map() {
    for stored in [&b"abc"[..], b"abcde"] {
        let bad = sparse(&v0("2,3,8,1", "2"), stored);
        let error = contents(&bad).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RefusedEntry { .. }), "{error}");
        assert!(is_tar(&bad[..]));
    }
}

#[test]
fn sizes_of_holes_are_limited() {
    let whole = |size: &str| sparse(&[("map", "0,1"), ("numblocks", "1"), ("size", size)], b"x");
    let read = |bytes: &[u8], limits| {
        let mut reader = TarReader::new(bytes, Policy::Archive, limits);
        while reader.next_entry()?.is_some() {}
        Ok::<_, Error>(())
    };
    read(&whole("1000000000000"), Limits::UNLIMITED).unwrap();
    for (size, limits) in [
        ("9223372036854775807", Limits::UNLIMITED),
        ("2000000000", Limits::for_blob(100)),
        ("2000", Limits { file_size: 1000, ..Limits::UNLIMITED }),
    ] {
        let error = read(&whole(size), limits).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
    }
    // All files together, and parts count as entries.
    let end = whole("600000000000").len() - 1024;
    let twice = [&whole("600000000000")[..end], &whole("600000000000")].concat();
    assert!(read(&twice, Limits::UNLIMITED).is_err());
    let parts = sparse(&v0("2,1,4,1,6,1,8,1", "4"), b"abcd");
    assert!(read(&parts, Limits { entries: 5, ..Limits::UNLIMITED }).is_err());
    read(&parts, Limits { entries: 6, ..Limits::UNLIMITED }).unwrap();
}
