//! Files with holes as GNU tar keeps them in PAX archives, versions 0.0, 0.1 and 1.0 of its format (GNU tar manual,
//! "Storing Sparse Files").

use std::io::{self, Read};
use std::sync::Arc;

use crate::header::BLOCK;
use crate::pax::{self, Records};
use crate::raw::Block;

/// Keyword of the map of version 0.1, and prefix of all that are about holes.
pub(crate) const MAP: &[u8] = b"GNU.sparse.map";
pub(crate) const PREFIX: &[u8] = b"GNU.sparse.";
/// Keywords of version 0.0, which repeats the two for each part.
pub(crate) const OFFSET: &[u8] = b"GNU.sparse.offset";
pub(crate) const LENGTH: &[u8] = b"GNU.sparse.numbytes";

/// Which parts of a file are stored; all between them is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Offset and length of each part, none empty, in order and apart from each other.
    parts: Arc<[(u64, u64)]>,
    size: u64,
}

impl SparseMap {
    /// The map of a file of `size` bytes of which `parts`, offset and length of each, are stored.
    pub(crate) fn new(parts: impl IntoIterator<Item = (i64, i64)>, size: i64) -> Result<Self, &'static str> {
        const NEGATIVE: &str = "a number in the map of a sparse file is negative";
        let unsigned = |number: i64| u64::try_from(number).map_err(|_| NEGATIVE);
        let size = unsigned(size)?;
        let (mut kept, mut end): (Vec<(u64, u64)>, u64) = (Vec::new(), 0);
        for (offset, length) in parts {
            let (offset, length) = (unsigned(offset)?, unsigned(length)?);
            if offset < end {
                return Err("the parts of a sparse file overlap or are out of order");
            }
            // Two of i64 cannot overflow.
            end = offset + length;
            if end > size {
                return Err("a part of a sparse file is beyond its end");
            }
            match kept.last_mut() {
                _ if length == 0 => {}
                Some(last) if last.0 + last.1 == offset => last.1 += length,
                _ => kept.push((offset, length)),
            }
        }
        Ok(Self { parts: kept.into(), size })
    }

    /// Bytes of the file, holes and all.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are stored.
    pub fn stored(&self) -> u64 {
        self.parts.iter().map(|(_, length)| length).sum()
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The content of the file, of which `stored` has the parts one right after the other.
    pub fn expand<R: Read>(self, stored: R) -> Expanded<R> {
        Expanded { stored, cursor: Cursor::new(self) }
    }
}

/// Reads a sparse file; see [`SparseMap::expand`].
#[derive(Debug)]
pub struct Expanded<R> {
    stored: R,
    cursor: Cursor,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stored, cursor } = self;
        cursor.read(buffer, |part| match stored.read(part) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        })
    }
}

/// How far a sparse file has been read.
#[derive(Debug)]
pub(crate) struct Cursor {
    map: SparseMap,
    /// The part that is read or comes next.
    part: usize,
    position: u64,
}

impl Cursor {
    pub(crate) fn new(map: SparseMap) -> Self {
        Self { map, part: 0, position: 0 }
    }

    pub(crate) fn map(&self) -> &SparseMap {
        &self.map
    }

    /// The next bytes; `stored` fills a buffer from the parts, at least by one byte.
    pub(crate) fn read<E>(
        &mut self,
        buffer: &mut [u8],
        stored: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let (offset, length) = self.map.parts.get(self.part).copied().unwrap_or((self.map.size, 0));
        let is_hole = self.position < offset;
        let left = if is_hole { offset } else { offset + length } - self.position;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..wanted];
        let count = match wanted {
            0 => 0,
            _ if is_hole => {
                buffer.fill(0);
                wanted
            }
            _ => stored(buffer)?,
        };
        self.position += count as u64;
        if !is_hole && self.position == offset + length {
            self.part += 1;
        }
        Ok(count)
    }
}

/// What the records before an entry say of its holes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: Option<Vec<u8>>,
    /// Size of the whole file, if it is not that of the entry.
    pub(crate) size: Option<i64>,
    pub(crate) map: Place,
}

/// Where the map is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the parts, in blocks of its own (version 1.0).
    Content,
    /// In the records.
    Records(Vec<(i64, i64)>),
}

/// Reads the records on holes; `None` if there are none, or of a version that nobody knows, which says nothing.
pub(crate) fn described(records: &Records) -> Result<Option<Described>, &'static str> {
    let value = |key: &[u8]| records.get(key).filter(|value| !value.is_empty());
    let text = |key: &[u8]| value(key).map_or(&b""[..], |value| value);
    let is_1_0 = match (text(b"GNU.sparse.major"), text(b"GNU.sparse.minor")) {
        (b"0", b"0" | b"1") => false,
        (b"1", b"0") => true,
        // 0.0 and 0.1 state no version.
        (b"", b"") if value(MAP).is_some() => false,
        _ => return Ok(None),
    };
    let size = value(b"GNU.sparse.size").or_else(|| value(b"GNU.sparse.realsize"));
    let size = size.map(|size| pax::number(size)).transpose()?;
    let map = if is_1_0 {
        Place::Content
    } else {
        Place::Records(listed(text(MAP), text(b"GNU.sparse.numblocks"))?)
    };
    Ok(Some(Described { name: value(b"GNU.sparse.name").cloned(), size, map }))
}

/// A map of version 0.1: numbers between commas.
fn listed(map: &[u8], count: &[u8]) -> Result<Vec<(i64, i64)>, &'static str> {
    let numbers: Vec<i64> = match map {
        b"" => Vec::new(),
        _ => map.split(|byte| *byte == b',').map(pax::number).collect::<Result<_, _>>()?,
    };
    let count = pax::number(count)?;
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(2)) != Some(numbers.len()) {
        return Err("the map of a sparse file has another length than it states");
    }
    Ok(pairs(&numbers))
}

fn pairs(numbers: &[i64]) -> Vec<(i64, i64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A map of version 1.0, a number on each line, first how many parts there are; it is given block after block.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    text: Vec<u8>,
    lines: usize,
    /// Lines the map has; one at least.
    wanted: Option<usize>,
}

impl Leading {
    /// Takes in the next block; gives the map once it is complete.
    pub(crate) fn feed(&mut self, block: &Block) -> Result<Option<Vec<(i64, i64)>>, &'static str> {
        if self.text.len() + BLOCK > pax::MAX_BODY {
            return Err("the map of a sparse file has more than 1 MiB");
        }
        self.lines += block.iter().filter(|byte| **byte == b'\n').count();
        self.text.extend(block);
        if self.lines < self.wanted.unwrap_or(1) {
            return Ok(None);
        }
        let mut numbers = self.text.split(|byte| *byte == b'\n').map(pax::number);
        let count = usize::try_from(numbers.next().transpose()?.unwrap_or(-1)).ok();
        let wanted = count.and_then(|count| count.checked_mul(2)?.checked_add(1));
        let wanted = wanted.ok_or("a sparse file has no such number of parts")?;
        self.wanted = Some(wanted);
        if self.lines < wanted {
            return Ok(None);
        }
        let numbers: Vec<i64> = numbers.take(wanted - 1).collect::<Result<_, _>>()?;
        Ok(Some(pairs(&numbers)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(pairs: &[(&str, &str)]) -> Records {
        let keyed = |(key, value): &(&str, &str)| {
            (format!("GNU.sparse.{key}").into_bytes(), value.as_bytes().to_vec())
        };
        pairs.iter().map(keyed).collect()
    }

    #[test]
    fn versions_are_told_apart() {
        let map =
            |pairs: &[(&str, &str)]| described(&records(pairs)).map(|found| found.map(|found| found.map));
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

    fn leading_of(text: &[u8]) -> Result<(Vec<(i64, i64)>, usize), &'static str> {
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
}
