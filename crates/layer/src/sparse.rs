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

/// Offset and length of each part, as stated.
pub(crate) type Parts = Vec<(i64, i64)>;

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
    Records(Parts),
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
fn listed(map: &[u8], count: &[u8]) -> Result<Parts, &'static str> {
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

fn pairs(numbers: &[i64]) -> Parts {
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
    pub(crate) fn feed(&mut self, block: &Block) -> Result<Option<Parts>, &'static str> {
        if self.text.len() + BLOCK > pax::MAX_BODY {
            return Err("the map of a sparse file has more than 1 MiB");
        }
        self.lines += block.split(|byte| *byte == b'\n').count() - 1;
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
mod tests;
