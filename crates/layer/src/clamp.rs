//! A tar whose times are cut, and which is otherwise the same to the byte.

use std::io::{self, Read};
use std::ops::Range;

use crate::header::BLOCK;
use crate::pax::{self, Records};
use crate::raw::{self, Block};

const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
/// Of headers of GNU tar: when the file was last read, and when its inode changed.
const GNU_TIMES: [Range<usize>; 2] = [345..357, 357..369];

/// Reads a plain tar with every time later than `latest` replaced by that.
///
/// Names, their order, attributes and the form of the headers stay: what BuildKit writes of a layer that Go's `archive/tar`
/// wrote is the same.
#[derive(Debug)]
pub struct ClampedTar<R> {
    inner: R,
    latest: i64,
    /// Headers that are ready, and how much of them was given away.
    ready: Vec<u8>,
    given: usize,
    /// Bytes that pass as they are.
    content: u64,
    /// The end of the archive was read: all that follows passes.
    ended: bool,
    /// What an extended header says about the next entry: its size, and whether its time was cut.
    size: Option<i64>,
    is_cut: bool,
}

impl<R: Read> ClampedTar<R> {
    /// A reader at the start of `inner`.
    pub fn new(inner: R, latest: i64) -> Self {
        Self {
            inner,
            latest,
            ready: Vec::new(),
            given: 0,
            content: 0,
            ended: false,
            size: None,
            is_cut: false,
        }
    }

    /// Makes the next header ready; `false` at the end of the stream.
    fn next_header(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.given = 0;
        let Some(mut block) = self.block()? else { return Ok(false) };
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            self.ready.extend(block);
            return Ok(true);
        }
        let header = raw::parse(&block).map_err(malformed)?;
        match header.typeflag {
            b'x' => self.records(block, header.size)?,
            b'g' | b'L' | b'K' => {
                self.content = padded(header.size)?;
                self.ready.extend(block);
            }
            typeflag => {
                let (size, is_cut) = (self.size.take(), std::mem::take(&mut self.is_cut));
                if is_cut || header.mtime > self.latest {
                    self.set_time(&mut block, MTIME);
                }
                if &block[257..265] == b"ustar  \0" {
                    for field in GNU_TIMES {
                        if raw::number(&block[field.clone()]).is_ok_and(|time| time > self.latest) {
                            self.set_time(&mut block, field);
                        }
                    }
                }
                // Links, directories, devices and pipes have none, whatever they state.
                let has_content = !(b'1'..=b'6').contains(&typeflag);
                self.content = if has_content { padded(size.unwrap_or(header.size))? } else { 0 };
                seal(&mut block);
                self.ready.extend(block);
            }
        }
        Ok(true)
    }

    /// The next block; `None` where the stream ends before it.
    fn block(&mut self) -> io::Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(malformed("the archive ends within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(block))
    }

    /// An extended header, which goes where nothing is left in it.
    fn records(&mut self, mut block: Block, size: i64) -> io::Result<()> {
        let length = usize::try_from(size).ok().filter(|length| *length <= pax::MAX_BODY);
        let length = length.ok_or_else(|| malformed("an extended header is longer than 1 MiB"))?;
        let mut body = vec![0; length.next_multiple_of(BLOCK)];
        self.inner.read_exact(&mut body)?;
        let mut records = pax::parse(&body[..length]).map_err(malformed)?;
        self.size =
            records.get(&b"size"[..]).map(|value| pax::number(value)).transpose().map_err(malformed)?;
        if !self.cut(&mut records)? {
            self.ready.extend(block);
            self.ready.extend(body);
            return Ok(());
        }
        if records.is_empty() {
            return Ok(());
        }
        let body = pax::encode(&records);
        let digits = format!("{:011o}\0", body.len());
        block[SIZE].copy_from_slice(digits.as_bytes());
        seal(&mut block);
        self.ready.extend(block);
        self.ready.extend(&body);
        self.ready.resize(self.ready.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// Cuts the times of records; whether there were any to cut. A whole second needs no record of its own.
    fn cut(&mut self, records: &mut Records) -> io::Result<bool> {
        let mut any = false;
        for key in [&b"mtime"[..], b"atime", b"ctime"] {
            let Some(value) = records.get_mut(key) else { continue };
            let time = pax::time(value).map_err(malformed)?;
            if (time.seconds, time.nanoseconds) <= (self.latest, 0) {
                continue;
            }
            any = true;
            if key == b"mtime" && fits(self.latest) {
                records.remove(key);
                self.is_cut = true;
            } else {
                *value = self.latest.to_string().into_bytes();
            }
        }
        Ok(any)
    }

    fn set_time(&self, block: &mut Block, field: Range<usize>) {
        // A time that the field cannot hold stands in a record.
        let seconds = if fits(self.latest) { self.latest } else { 0 };
        block[field].copy_from_slice(format!("{seconds:011o}\0").as_bytes());
    }
}

impl<R: Read> Read for ClampedTar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = &self.ready[self.given..];
            if !ready.is_empty() {
                let count = ready.len().min(buffer.len());
                buffer[..count].copy_from_slice(&ready[..count]);
                self.given += count;
                return Ok(count);
            }
            if self.ended {
                return self.inner.read(buffer);
            }
            if self.content > 0 {
                let wanted = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
                let count = self.inner.read(&mut buffer[..wanted])?;
                if count == 0 && wanted > 0 {
                    return Err(malformed("the archive ends within a file"));
                }
                self.content -= count as u64;
                return Ok(count);
            }
            if !self.next_header()? {
                return Ok(0);
            }
        }
    }
}

fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn padded(size: i64) -> io::Result<u64> {
    let size = u64::try_from(size).map_err(|_| malformed("a size is negative"))?;
    size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| malformed("a size is too large"))
}

/// Whether a time can be written in the octal digits of a header.
fn fits(seconds: i64) -> bool {
    (0..1 << 33).contains(&seconds)
}

/// Sets the checksum, with Go's `NUL space` at its end.
fn seal(block: &mut Block) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::{Content, Entry, EntryKind, Metadata, Timestamp};

    use super::*;
    use crate::header;

    fn entry(path: &str, seconds: i64, content: &[u8]) -> Vec<u8> {
        let metadata =
            Metadata { mode: 0o644, mtime: Timestamp::from_seconds(seconds), ..Metadata::default() };
        let kind = EntryKind::File { size: content.len() as u64, content: Content(0) };
        let mut out = Vec::new();
        header::append(&mut out, &Entry { path: path.into(), metadata, kind }, seconds).unwrap();
        out.extend(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut out = entries.concat();
        out.resize(out.len() + 2 * BLOCK, 0);
        out
    }

    fn clamped(tar: &[u8], latest: i64) -> Vec<u8> {
        let mut out = Vec::new();
        ClampedTar::new(tar, latest).read_to_end(&mut out).unwrap();
        out
    }

    /// An entry with these records in front.
    fn extended(records: &[(&str, &str)], seconds: i64) -> Vec<u8> {
        let records: Records =
            records.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let body = pax::encode(&records);
        let mut out = entry("PaxHeaders.0/f", 0, &body);
        out[156] = b'x';
        let mut block: Block = out[..BLOCK].try_into().unwrap();
        seal(&mut block);
        out[..BLOCK].copy_from_slice(&block);
        out.extend(entry("f", seconds, b"x"));
        out
    }

    #[test]
    fn later_times_become_the_latest_and_nothing_else_changes() {
        let long = "n".repeat(200);
        let of = |a: i64, b: i64| {
            archive(&[entry("a", a, b"content"), entry(&long, b, &[7; 1000]), entry("c", 3, b"")])
        };
        assert_eq!(clamped(&of(50, 9_000), 10), of(10, 10));
        assert_eq!(clamped(&of(5, 10), 10), of(5, 10));
        let trailing = [of(1, 2), vec![1; 700]].concat();
        assert_eq!(
            clamped(&trailing, 0),
            [
                archive(&[entry("a", 0, b"content"), entry(&long, 0, &[7; 1000]), entry("c", 0, b"")]),
                vec![1; 700]
            ]
            .concat()
        );
    }

    #[test]
    fn times_in_records_are_cut_as_well() {
        let of = |records: &[(&str, &str)], seconds| archive(&[extended(records, seconds)]);
        // A whole second needs no record, and an extended header without any none either.
        assert_eq!(clamped(&of(&[("mtime", "50.5")], 50), 10), archive(&[entry("f", 10, b"x")]));
        assert_eq!(clamped(&of(&[("mtime", "10.5"), ("uname", "u")], 10), 10), of(&[("uname", "u")], 10));
        assert_eq!(
            clamped(&of(&[("atime", "99"), ("mtime", "3.5")], 3), 10),
            of(&[("atime", "10"), ("mtime", "3.5")], 3)
        );
        assert_eq!(clamped(&of(&[("mtime", "9.5")], 9), 10), of(&[("mtime", "9.5")], 9));
        // A size that only the record has.
        let mut huge = of(&[("size", "1")], 20);
        huge[2 * BLOCK..][SIZE].copy_from_slice(b"00000000000\0");
        let mut block: Block = huge[2 * BLOCK..3 * BLOCK].try_into().unwrap();
        seal(&mut block);
        huge[2 * BLOCK..3 * BLOCK].copy_from_slice(&block);
        assert_eq!(clamped(&huge, 10).len(), huge.len());
    }

    #[test]
    fn what_is_no_tar_is_an_error() {
        let cut = archive(&[entry("a", 1, &[1; 600])]);
        for bad in [&cut[..700], &cut[..100], &vec![1; BLOCK][..]] {
            assert!(ClampedTar::new(bad, 0).read_to_end(&mut Vec::new()).is_err());
        }
    }
}
