//! Maps of sparse files, good and bad.

use proptest::prelude::*;

use super::*;

fn records(pairs: &[(&str, &str)]) -> Records {
    let keyed =
        |(key, value): &(&str, &str)| (format!("GNU.sparse.{key}").into_bytes(), value.as_bytes().to_vec());
    pairs.iter().map(keyed).collect()
}

#[test]
fn versions_are_told_apart() {
    let map = |pairs: &[(&str, &str)]| described(&records(pairs)).map(|found| found.map(|found| found.map));
    assert_eq!(map(&[]), Ok(None));
    assert_eq!(map(&[("major", "2"), ("minor", "0")]), Ok(None));
    assert_eq!(map(&[("major", "1")]), Ok(None));
    assert_eq!(map(&[("size", "5"), ("name", "x")]), Ok(None));
    assert_eq!(map(&[("major", "1"), ("minor", "0")]), Ok(Some(Place::Content)));
    let listed = Ok(Some(Place::Records(vec![(0, 3), (9, 1)])));
    assert_eq!(map(&[("map", "0,3,9,1"), ("numblocks", "2")]), listed);
    assert_eq!(map(&[("major", "0"), ("minor", "1"), ("map", "0,3,9,1"), ("numblocks", "2")]), listed);
    let none = Ok(Some(Place::Records(vec![])));
    assert_eq!(map(&[("major", "0"), ("minor", "0"), ("numblocks", "0")]), none);
    for bad in [
        &[("map", "0,3,9,1")][..],
        &[("map", "0,3,9,1"), ("numblocks", "1")],
        &[("map", "0,3,9"), ("numblocks", "1")],
        &[("map", "0,x"), ("numblocks", "1")],
        &[("map", "0,"), ("numblocks", "1")],
        &[("map", "0,1"), ("numblocks", "-1")],
        &[("map", "0,1"), ("numblocks", "9223372036854775807")],
        &[("map", "0,1"), ("numblocks", "1"), ("size", "x")],
        &[("major", "0"), ("minor", "0")],
    ] {
        assert!(map(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn names_and_sizes_of_the_file_itself_count() {
    let both = [("major", "1"), ("minor", "0"), ("name", "n"), ("realsize", "7")];
    let found = described(&records(&both)).unwrap().unwrap();
    assert_eq!((found.name.as_deref(), found.size), (Some(&b"n"[..]), Some(7)));
    let size = [&both[..], &[("size", "8")]].concat();
    assert_eq!(described(&records(&size)).unwrap().unwrap().size, Some(8));
}

#[test]
fn maps_are_in_order_and_within_the_file() {
    let map = |parts: &[(i64, i64)], size| SparseMap::new(parts.iter().copied(), size);
    assert_eq!(map(&[(0, 2), (2, 3), (5, 0), (9, 1)], 10).unwrap().parts[..], [(0, 5), (9, 1)]);
    assert_eq!(map(&[(10, 0)], 10).unwrap().stored(), 0);
    for bad in [
        &[(0, 2), (1, 3)][..],
        &[(5, 1), (0, 1)],
        &[(-1, 1)],
        &[(1, -1)],
        &[(10, 1)],
        &[(11, 0)],
        &[(i64::MAX, i64::MAX)],
    ] {
        assert!(map(bad, 10).is_err(), "{bad:?}");
    }
    assert!(map(&[], -1).is_err());
}

fn leading_of(text: &[u8]) -> Result<(Parts, usize), &'static str> {
    let mut leading = Leading::default();
    let mut blocks = text.chunks(BLOCK);
    loop {
        let next = blocks.next().ok_or("it ends")?;
        let mut block = [0; BLOCK];
        block[..next.len()].copy_from_slice(next);
        if let Some(map) = leading.feed(&block)? {
            return Ok((map, blocks.len()));
        }
    }
}

#[test]
fn a_leading_map_takes_the_blocks_it_needs() {
    assert_eq!(leading_of(b"0\n"), Ok((vec![], 0)));
    assert_eq!(leading_of(&[&b"1\n0\n5\n"[..], &[0; 1000]].concat()), Ok((vec![(0, 5)], 1)));
    let long = format!("100\n{}", "1234\n".repeat(200));
    assert_eq!(leading_of(long.as_bytes()).map(|(map, left)| (map.len(), left)), Ok((100, 0)));
    for bad in [
        &b""[..],
        b"\n",
        b"x\n",
        b"-1\n",
        b"1\n0\n",
        b"1\n0\nx\n",
        b"9223372036854775807\n",
        b"4611686018427387904\n",
        &b"x".repeat(3 << 20),
        &b"9999999\n1\n1\n".repeat(200_000),
    ] {
        assert!(leading_of(bad).is_err(), "{:?}", &bad[..bad.len().min(30)]);
    }
}

#[test]
fn a_hole_takes_no_memory() {
    let size = 1 << 40;
    let map = SparseMap::new([(size - 3, 3)], size).unwrap();
    let mut cursor = Cursor { part: 0, position: (size - 10) as u64, map };
    let mut stored = &b"end"[..];
    let mut end: Vec<u8> = Vec::new();
    let mut buffer = [1; 100];
    loop {
        match cursor.read(&mut buffer, |part| stored.read(part)).unwrap() {
            0 => break,
            count => end.extend(&buffer[..count]),
        }
    }
    assert_eq!(end, b"\0\0\0\0\0\0\0end");
}

#[test]
fn parts_that_are_missing_are_an_error() {
    let map = SparseMap::new([(2, 3)], 9).unwrap();
    let mut content = Vec::new();
    let error = map.expand(&b"ab"[..]).read_to_end(&mut content).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(content, b"\0\0ab");
}

proptest! {
    /// Taking a file apart by any map and expanding it again gives the file.
    #[test]
    fn expanding_undoes_taking_apart(
        runs in prop::collection::vec((0_usize..2000, 0_usize..2000), 0..20),
        tail in 0_usize..2000,
        most in 1_usize..3000,
    ) {
        let (mut whole, mut stored, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (hole, length) in runs {
            whole.resize(whole.len() + hole, 0);
            parts.push((whole.len() as i64, length as i64));
            let data: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            whole.extend(&data);
            stored.extend(&data);
        }
        whole.resize(whole.len() + tail, 0);
        let map = SparseMap::new(parts, whole.len() as i64).unwrap();
        prop_assert_eq!(map.stored(), stored.len() as u64);
        let mut expanded = map.expand(&stored[..]);
        let (mut content, mut buffer) = (Vec::<u8>::new(), vec![7; most]);
        loop {
            match expanded.read(&mut buffer).unwrap() {
                0 => break,
                count => content.extend(&buffer[..count]),
            }
        }
        prop_assert_eq!(content, whole);
    }
}
