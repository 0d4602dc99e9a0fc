use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::layout::open_regular;
use crate::{Error, ErrorKind};

/// The members of a tar that is an image, found by one walk over its headers; contents are read in place.
///
/// Only what image archives have is understood: files, directories, links. A file that stands there twice is
/// refused, since two readers might take different ones.
#[derive(Debug)]
pub(super) struct Members {
    path: PathBuf,
    file: Arc<File>,
    files: BTreeMap<String, Place>,
    links: BTreeMap<String, String>,
}

/// Where the bytes of a member are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

const BLOCK: u64 = 512;
const MAX_MEMBERS: usize = 100_000;
/// Most bytes of an extended header; paths and numbers need far less.
const MAX_EXTENDED: u64 = 1 << 20;
/// Most links from a name to a file.
const MAX_LINKS: usize = 16;

impl Members {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // What the user names may be a link; what it leads to has to be a file.
        let target = fs_err::canonicalize(path).map_err(Error::fs)?;
        Self::read(open_regular(&target)?, path)
    }

    /// Those of a file that messages call `path`.
    pub(super) fn read(file: File, path: &Path) -> Result<Self, Error> {
        let size = file.metadata().map_err(|e| Error::io(format!("stat {}", path.display()), e))?.len();
        let mut members = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        members.check_magic()?;
        members.walk(size)?;
        Ok(members)
    }

    fn refuse(&self, why: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("{} is not a valid image archive: {why}", self.path.display()))
    }

    fn check_magic(&self) -> Result<(), Error> {
        let mut magic = [0; 6];
        let count = self.file.read_at(&mut magic, 0).map_err(|error| self.unreadable(error))?;
        let name = match &magic[..count] {
            [0x1f, 0x8b, ..] => "gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
            [b'B', b'Z', b'h', ..] => "bzip2",
            _ => return Ok(()),
        };
        let text = format!("{} is compressed as a whole by {name}", self.path.display());
        Err(Error::new(ErrorKind::Unsupported, text).with_hint(
            "decompress the archive first (`gunzip`, `zstd -d`, …); its layers may stay compressed",
        ))
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::io(format!("read {}", self.path.display()), error)
    }

    fn walk(&mut self, end: u64) -> Result<(), Error> {
        let mut at = 0;
        let mut extended = Extended::default();
        loop {
            if at + BLOCK > end {
                // A tar without its two empty blocks is what an interrupted writer leaves.
                return Err(self.refuse("it ends early"));
            }
            let header = Header(self.block(at)?);
            if header.0.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            if !header.has_checksum() {
                return Err(self.refuse(format!("no header at byte {at}")));
            }
            let stated = header.number(124, 12).ok_or_else(|| self.refuse("a size is malformed"))?;
            let kind = header.0[156];
            let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
            let size = if is_extension { stated } else { extended.size.unwrap_or(stated) };
            let offset = at + BLOCK;
            let next = size.checked_next_multiple_of(BLOCK).and_then(|padded| offset.checked_add(padded));
            // The padding of the last member may be missing, its bytes may not.
            at = match next {
                Some(next) if offset + size <= end => next,
                _ => return Err(self.refuse("a member is longer than the archive")),
            };
            let place = Place { offset, size };
            if is_extension {
                self.extend(kind, place, &mut extended)?;
            } else {
                self.add(&header, kind, place, std::mem::take(&mut extended))?;
            }
        }
    }

    fn block(&self, at: u64) -> Result<[u8; 512], Error> {
        let mut block = [0; 512];
        self.file.read_exact_at(&mut block, at).map_err(|error| self.unreadable(error))?;
        Ok(block)
    }

    fn extend(&self, kind: u8, place: Place, extended: &mut Extended) -> Result<(), Error> {
        if place.size > MAX_EXTENDED {
            return Err(self.refuse("an extended header is too large"));
        }
        let mut bytes = vec![0; place.size as usize];
        self.file.read_exact_at(&mut bytes, place.offset).map_err(|error| self.unreadable(error))?;
        match kind {
            b'L' => extended.path = Some(text_of(&bytes).ok_or_else(|| self.refuse("a name is not UTF-8"))?),
            b'K' => extended.link = Some(text_of(&bytes).ok_or_else(|| self.refuse("a link is not UTF-8"))?),
            b'x' => {
                extended.read_pax(&bytes).ok_or_else(|| self.refuse("an extended header is malformed"))?;
            }
            // Global headers carry comments; what would change members is refused.
            _ => {
                let mut global = Extended::default();
                global.read_pax(&bytes).ok_or_else(|| self.refuse("an extended header is malformed"))?;
                if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                    return Err(self.refuse("a global header names members"));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, header: &Header, kind: u8, place: Place, extended: Extended) -> Result<(), Error> {
        let name = match extended.path {
            Some(path) => path,
            None => header.path().ok_or_else(|| self.refuse("a name is not UTF-8"))?,
        };
        if self.files.len() + self.links.len() >= MAX_MEMBERS {
            return Err(self.refuse(format!("it has more than {MAX_MEMBERS} members")));
        }
        let clean = |path: &str| normalise("", path);
        let name = clean(&name).ok_or_else(|| self.refuse(format!("the name {name:?} leads out of it")))?;
        let target = || match &extended.link {
            Some(link) => Some(link.clone()),
            None => text_of(&header.0[157..257]),
        };
        let is_new = match kind {
            b'5' => true,
            b'0' | 0 | b'7' if name.is_empty() => return Err(self.refuse("a file has no name")),
            b'0' | 0 | b'7' => {
                !self.links.contains_key(&name) && self.files.insert(name.clone(), place).is_none()
            }
            b'1' | b'2' => {
                let parent =
                    if kind == b'2' { name.rsplit_once('/').map_or("", |(parent, _)| parent) } else { "" };
                let link = target()
                    .and_then(|link| normalise(parent, &link))
                    .ok_or_else(|| self.refuse(format!("the link {name:?} leads out of it")))?;
                !self.files.contains_key(&name) && self.links.insert(name.clone(), link).is_none()
            }
            other => return Err(self.refuse(format!("{name:?} is of type {:?}", char::from(other)))),
        };
        if is_new { Ok(()) } else { Err(self.refuse(format!("{name:?} stands there twice"))) }
    }

    /// Where the member `name` is, links followed.
    pub(super) fn find(&self, name: &str) -> Result<Option<Place>, Error> {
        let Some(mut name) = normalise("", name) else {
            return Err(self.refuse(format!("the name {name:?} leads out of it")));
        };
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Ok(self.files.get(&name).copied()),
            }
        }
        Err(self.refuse(format!("the links at {name:?} go in a circle")))
    }

    pub(super) fn read_small(&self, place: Place, most: u64) -> Result<Vec<u8>, Error> {
        if place.size > most {
            return Err(self.refuse(format!("a document has {} bytes, more than {most}", place.size)));
        }
        let mut bytes = vec![0; place.size as usize];
        self.file.read_exact_at(&mut bytes, place.offset).map_err(|error| self.unreadable(error))?;
        Ok(bytes)
    }

    pub(super) fn reader(&self, place: Place) -> MemberReader {
        MemberReader { file: Arc::clone(&self.file), at: place.offset, left: place.size }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads one member; any number of readers share the file.
#[derive(Debug)]
pub(super) struct MemberReader {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[derive(Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Extended {
    /// Records are `length key=value\n`, and the length counts itself.
    fn read_pax(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
            let length = std::str::from_utf8(&bytes[..space]).ok()?;
            let length: usize = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse().ok())??;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let value =
                || String::from_utf8(record[equals + 1..].to_vec()).ok().filter(|text| !text.contains('\0'));
            match &record[..equals] {
                b"path" => self.path = Some(value()?),
                b"linkpath" => self.link = Some(value()?),
                b"size" => self.size = Some(value()?.parse().ok()?),
                key if key.starts_with(b"GNU.sparse.") => return None,
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Some(())
    }
}

struct Header([u8; 512]);

impl Header {
    fn has_checksum(&self) -> bool {
        let sum: u64 = (0..512)
            .map(|at| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(self.0[at]) })
            .sum();
        self.number(148, 8) == Some(sum)
    }

    /// Octal digits, or a big-endian number marked by the first bit.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let field = &self.0[at..at + length];
        if field[0] == 0x80 {
            let (high, low) = field.split_at(length.saturating_sub(8).max(1));
            let is_small = high[1..].iter().all(|byte| *byte == 0);
            let value = low.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
            return is_small.then_some(value).filter(|value| i64::try_from(*value).is_ok());
        }
        let digits = text_of(field)?;
        let digits = digits.trim_matches(' ');
        if digits.is_empty() {
            return Some(0);
        }
        u64::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))
    }

    fn path(&self) -> Option<String> {
        let name = text_of(&self.0[..100])?;
        let prefix = text_of(&self.0[345..500])?;
        // Only POSIX headers have a prefix; GNU ones keep times there.
        let is_posix = &self.0[257..263] == b"ustar\0";
        if is_posix && !prefix.is_empty() { Some(format!("{prefix}/{name}")) } else { Some(name) }
    }
}

/// The bytes before the first NUL.
fn text_of(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).ok()
}

/// `path` below `parent` without `.` and `..`; `None` when it leads out, or is absolute.
fn normalise(parent: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in parent.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
