//! The record of a [`LayerListing`]; its layout is in the documentation of the crate.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{Content, ContentDigest, Entry, EntryKind, Metadata, SharedFile, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::digests::FileDigests;
use crate::{Error, ErrorKind, LayerListing};

/// First bytes of a record. The last one is the version: records of another are made anew, never converted.
const MAGIC: &[u8] = b"ocibuild layer index\0\x03";

const CHECKSUM: usize = 32;

impl LayerListing {
    /// The record, as [`LayerListing::decode`] reads it. Equal indexes have equal records.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer { bytes: MAGIC.to_vec(), previous: Vec::new() };
        out.number(self.tar_size);
        for text in [&self.passwd, &self.group] {
            out.number(u64::from(text.is_some()));
            if let Some(text) = text {
                out.text(text);
            }
        }
        out.number(self.implied_directories.len() as u64);
        for path in &self.implied_directories {
            out.path(path);
        }
        out.number(self.entries.len() as u64);
        out.previous.clear();
        for entry in &self.entries {
            out.entry(entry, &self.digests);
        }
        out.number(self.shared.len() as u64);
        for file in &self.shared {
            out.text(file.path.as_os_str().as_bytes());
            out.text(file.below.as_os_str().as_bytes());
        }
        let checksum = Sha256::digest(&out.bytes);
        out.bytes.extend_from_slice(&checksum);
        out.bytes
    }

    /// How many bytes [`LayerListing::is_other_version`] wants to see.
    pub const BEGINNING: usize = MAGIC.len();

    /// Whether these are the first bytes of a record of another version. It is to be made anew: what it says of files is
    /// less, or something else.
    pub fn is_other_version(beginning: &[u8]) -> bool {
        let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
        beginning.strip_prefix(name).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(version))
    }

    /// Reads a record. One that was cut, altered or written by another version is an error.
    pub fn decode(record: &[u8]) -> Result<Self, Error> {
        let failed = |offset, reason| Error::from(ErrorKind::MalformedIndex { offset, reason });
        if !record.starts_with(MAGIC) {
            return Err(failed(0, "it is not a record of this version"));
        }
        let end = record.len() - record.len().min(CHECKSUM);
        if end < MAGIC.len() || Sha256::digest(&record[..end])[..] != record[end..] {
            return Err(failed(end, "its checksum is wrong"));
        }
        let (bytes, digests) = (&record[..end], FileDigests::default());
        let mut reader = Reader { bytes, at: MAGIC.len(), previous: Vec::new(), digests };
        reader.index().map_err(|reason| failed(reader.at, reason))
    }
}

fn kind_number(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::Directory => 0,
        EntryKind::File { .. } => 1,
        EntryKind::Symlink { .. } => 2,
        EntryKind::Hardlink { .. } => 3,
        EntryKind::Fifo => 4,
        EntryKind::CharacterDevice { .. } => 5,
        EntryKind::BlockDevice { .. } => 6,
        EntryKind::Whiteout => 7,
        EntryKind::OpaqueWhiteout => 8,
    }
}

struct Writer {
    bytes: Vec<u8>,
    previous: Vec<u8>,
}

impl Writer {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    /// Most of a path is that of the one before.
    fn path(&mut self, path: &Path) {
        let path = path.as_os_str().as_bytes();
        let shared = path.iter().zip(&self.previous).take_while(|(left, right)| left == right).count();
        self.number(shared as u64);
        self.text(&path[shared..]);
        self.previous = path.to_vec();
    }

    fn entry(&mut self, entry: &Entry, digests: &FileDigests) {
        self.bytes.push(kind_number(&entry.kind));
        self.path(&entry.path);
        match &entry.kind {
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return,
            EntryKind::File { size, content } => {
                self.number(*size);
                self.number(content.0);
                let digest = digests.get(*content);
                self.number(u64::from(digest.is_some()));
                self.bytes.extend(digest.into_iter().flat_map(|digest| digest.0));
            }
            EntryKind::Symlink { target } | EntryKind::Hardlink { target } => {
                self.text(target.as_os_str().as_bytes());
            }
            EntryKind::CharacterDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.number(u64::from(*major));
                self.number(u64::from(*minor));
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
        let Metadata { mode, uid, gid, mtime, xattrs } = &entry.metadata;
        for value in [mode, uid, gid] {
            self.number(u64::from(*value));
        }
        // Signs in the lowest bit keep the usual numbers short.
        self.number(((mtime.seconds << 1) ^ (mtime.seconds >> 63)).cast_unsigned());
        self.number(u64::from(mtime.nanoseconds));
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.text(name.as_bytes());
            self.text(value);
        }
    }
}

struct Reader<'r> {
    bytes: &'r [u8],
    at: usize,
    previous: Vec<u8>,
    digests: FileDigests,
}

type Read<T> = Result<T, &'static str>;

const ENDS: &str = "it ends early";

impl<'r> Reader<'r> {
    fn index(&mut self) -> Read<LayerListing> {
        let tar_size = self.number()?;
        let (passwd, group) = (self.optional_text()?, self.optional_text()?);
        let count = self.number()?;
        let mut implied_directories = Vec::new();
        for _ in 0..count {
            implied_directories.push(self.path()?);
        }
        let count = self.number()?;
        self.previous.clear();
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.entry()?);
        }
        let mut shared = Vec::new();
        for _ in 0..self.number()? {
            shared.push(SharedFile { path: to_path(self.text()?), below: to_path(self.text()?) });
        }
        if self.at != self.bytes.len() {
            return Err("something follows its end");
        }
        let digests = Arc::new(std::mem::take(&mut self.digests).sorted());
        Ok(LayerListing { entries, implied_directories, passwd, group, shared, tar_size, digests })
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = self.bytes.get(self.at).ok_or(ENDS)?;
        self.at += 1;
        Ok(*byte)
    }

    fn number(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too large")
    }

    fn small(&mut self) -> Read<u32> {
        self.number()?.try_into().map_err(|_| "a number is too large")
    }

    fn text(&mut self) -> Read<&'r [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| ENDS)?;
        let end = self.at.checked_add(length).ok_or(ENDS)?;
        let text = self.bytes.get(self.at..end).ok_or(ENDS)?;
        self.at = end;
        Ok(text)
    }

    fn optional_text(&mut self) -> Read<Option<Vec<u8>>> {
        match self.number()? {
            0 => Ok(None),
            1 => self.text().map(|text| Some(text.to_vec())),
            _ => Err("neither a text nor none"),
        }
    }

    fn path(&mut self) -> Read<PathBuf> {
        let shared = usize::try_from(self.number()?).map_err(|_| ENDS)?;
        if shared > self.previous.len() {
            return Err("a path shares more than the one before it has");
        }
        self.previous.truncate(shared);
        let rest = self.text()?;
        self.previous.extend_from_slice(rest);
        Ok(to_path(&self.previous))
    }

    fn entry(&mut self) -> Read<Entry> {
        let number = self.byte()?;
        let path = self.path()?;
        let kind = match number {
            0 => EntryKind::Directory,
            1 => self.file()?,
            2 => EntryKind::Symlink { target: to_path(self.text()?) },
            3 => EntryKind::Hardlink { target: to_path(self.text()?) },
            4 => EntryKind::Fifo,
            5 => EntryKind::CharacterDevice { major: self.small()?, minor: self.small()? },
            6 => EntryKind::BlockDevice { major: self.small()?, minor: self.small()? },
            7 => return Ok(Entry { path, metadata: Metadata::default(), kind: EntryKind::Whiteout }),
            8 => return Ok(Entry { path, metadata: Metadata::default(), kind: EntryKind::OpaqueWhiteout }),
            _ => return Err("an entry is of an unknown sort"),
        };
        Ok(Entry { path, metadata: self.metadata()?, kind })
    }

    fn file(&mut self) -> Read<EntryKind> {
        let (size, content) = (self.number()?, Content(self.number()?));
        match self.number()? {
            0 => {}
            1 => {
                let rest = &self.bytes[self.at..];
                let digest = rest.first_chunk().ok_or(ENDS)?;
                self.at += digest.len();
                self.digests.push(content, ContentDigest(*digest));
            }
            _ => return Err("neither a digest nor none"),
        }
        Ok(EntryKind::File { size, content })
    }

    fn metadata(&mut self) -> Read<Metadata> {
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let seconds = self.number()?;
        let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        let mtime = Timestamp { seconds, nanoseconds: self.small()? };
        let mut xattrs = BTreeMap::new();
        for _ in 0..self.number()? {
            let name =
                std::str::from_utf8(self.text()?).map_err(|_| "the name of an attribute is not text")?;
            xattrs.insert(name.to_owned(), self.text()?.to_vec());
        }
        Ok(Metadata { mode, uid, gid, mtime, xattrs })
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}
