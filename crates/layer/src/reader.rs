use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use ocibuild_spec::{Content, Entry, EntryKind, Metadata, Timestamp};

use crate::header::BLOCK;
use crate::limits::{Kept, Limit};
use crate::name::{self, LayerName};
use crate::pax::{self, Records};
use crate::raw::{self, Block, RawHeader};
use crate::sparse::{self, Cursor, Described, Leading, Place};
use crate::{Error, ErrorKind, Limits, SparseMap};

/// How strictly a tar is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// A layer: names are normalised, whiteouts recognised, and what two readers might understand differently is
    /// refused.
    Layer,
    /// An archive for ADD: what Go's reader accepts, names and link targets as they are stored.
    Archive,
}

/// One entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The entry; a file's content number is the offset of its bytes in the plain tar.
    ///
    /// With [`Policy::Layer`] paths are normalised (and empty for the root directory itself) and whiteouts have
    /// kinds of their own; with [`Policy::Archive`] path and hard link target are the bytes that are stored, and of
    /// owners the lowest 32 bits count, as with the kernel, where all of them set mean "leave it".
    pub entry: Entry,
    /// Where its first header begins in the plain tar.
    pub offset: u64,
    /// What is stored of a sparse file; only with [`Policy::Archive`].
    pub sparse: Option<SparseMap>,
}

/// Reads a plain tar entry by entry; as [`Read`], gives the content of the entry it is at.
///
/// PAX records are found by their stated length, and the last of several with one keyword counts; a size among them
/// counts before the one in the header. Names, links and attributes together may have 1 MiB per entry. Links,
/// directories, devices and pipes have no content whatever size their header states. The archive ends with two blocks
/// of zeros, or where the stream does; a single block of zeros in the middle is an error. All this is what Go does.
///
/// Global records say nothing. Sparse files are read in the PAX formats of GNU tar; a file's content number is then the offset of the first stored
/// part. Not as Go: sparse files of the old GNU format and parts of volumes are refused, of which BuildKit unpacks
/// neither. A layer, moreover, must not have sparse files at all, must not have unknown types, global
/// records other than comments, or two extended headers that say the same of one entry.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    policy: Policy,
    limits: Limits,
    /// Bytes read so far.
    position: u64,
    /// Bytes of the current content not yet read, and zeros after it.
    content: u64,
    padding: u64,
    /// How far the current content has been read, if it is a sparse file.
    cursor: Option<Cursor>,
    kept: Kept,
    /// Zeros that sparse files stated so far.
    holes: u64,
    /// Name of the entry being read, for errors.
    current: PathBuf,
    ended: bool,
    has_globals: bool,
}

/// Entries of metadata that may come before one that is not. Go reads any number of them; in a layer each sort may be
/// there once.
const MAX_PENDING: u32 = 1 << 16;

/// What headers before the entry's own said about it.
#[derive(Debug, Default)]
struct Pending {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    count: u32,
}

impl<R: Read> TarReader<R> {
    /// A reader at the start of `inner`.
    pub fn new(inner: R, policy: Policy, limits: Limits) -> Self {
        Self {
            inner,
            policy,
            limits,
            position: 0,
            content: 0,
            padding: 0,
            cursor: None,
            kept: Kept::default(),
            holes: 0,
            current: PathBuf::new(),
            ended: false,
            has_globals: false,
        }
    }

    /// Bytes of the tar read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; what was left of the content of the one before is skipped. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, Error> {
        loop {
            self.skip_content()?;
            let offset = self.position;
            let mut pending = Pending::default();
            let Some(header) = self.next_header(&mut pending)? else { return Ok(None) };
            self.count(1, 0)?;
            if let Some(entry) = self.entry(header, pending, offset)? {
                self.count(0, weight(&entry))?;
                let sparse = self.cursor.as_ref().map(|cursor| cursor.map().clone());
                return Ok(Some(TarEntry { entry, offset, sparse }));
            }
        }
    }

    /// Reads whatever follows the archive, up to the end of the stream, so that a digest of it is complete.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.skip_content()?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.read_some(&mut buffer)? == 0 {
                return Ok(());
            }
        }
    }

    /// The inner reader.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next header of an entry, with what the headers before it said; `None` at the end.
    fn next_header(&mut self, pending: &mut Pending) -> Result<Option<RawHeader>, Error> {
        loop {
            let Some(block) = self.header_block()? else {
                return if pending.count == 0 || self.policy == Policy::Archive {
                    Ok(None)
                } else {
                    Err(self.malformed("it ends where an entry should follow"))
                };
            };
            let header = raw::parse(&block).map_err(|reason| self.malformed(reason))?;
            let special = matches!(header.typeflag, b'x' | b'g' | b'L' | b'K');
            self.current = bytes_to_path(header.name.clone());
            if !special {
                return Ok(Some(header));
            }
            pending.count += 1;
            if pending.count > MAX_PENDING {
                return Err(self.malformed("there are too many extended headers before one entry"));
            }
            let body = self.special_body(&header)?;
            self.take_special(header.typeflag, body, pending)?;
        }
    }

    fn take_special(&mut self, typeflag: u8, body: Vec<u8>, pending: &mut Pending) -> Result<(), Error> {
        let strict = self.policy == Policy::Layer;
        let until_nul = |mut body: Vec<u8>| {
            body.truncate(body.iter().position(|byte| *byte == 0).unwrap_or(body.len()));
            body
        };
        let twice = match typeflag {
            b'x' => {
                let records = pax::parse(&body).map_err(|reason| self.malformed(reason))?;
                pending.records.replace(records).is_some()
            }
            b'L' => pending.long_name.replace(until_nul(body)).is_some(),
            b'K' => pending.long_link.replace(until_nul(body)).is_some(),
            _ => {
                let records = pax::parse(&body).map_err(|reason| self.malformed(reason))?;
                self.has_globals = true;
                let harmless = records.keys().all(|key| key == b"comment");
                if strict && !harmless {
                    return Err(self.refused("it is a global header with more than comments"));
                }
                if strict {
                    pending.count -= 1;
                } else {
                    *pending = Pending::default();
                }
                false
            }
        };
        if strict && twice {
            return Err(self.refused("two extended headers are for the same entry"));
        }
        Ok(())
    }

    /// The content of an extended header.
    fn special_body(&mut self, header: &RawHeader) -> Result<Vec<u8>, Error> {
        let size = usize::try_from(header.size).map_err(|_| self.malformed("a size is negative"))?;
        if size > pax::MAX_BODY {
            return Err(self.malformed("an extended header has more than 1 MiB"));
        }
        let mut body = vec![0; size.next_multiple_of(BLOCK)];
        if self.read_full(&mut body)? < body.len() {
            return Err(self.truncated());
        }
        body.truncate(size);
        Ok(body)
    }

    /// A block that is no end mark; `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<Block>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        for first in [true, false] {
            match self.read_full(&mut block)? {
                0 => break,
                BLOCK => {}
                _ => return Err(self.truncated()),
            }
            let zero = block.iter().all(|byte| *byte == 0);
            if !zero && first {
                return Ok(Some(block));
            }
            if !zero {
                return Err(self.malformed("a single block of zeros is followed by something else"));
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// The entry that headers describe, with the reader at its content; `None` for one that is passed over.
    fn entry(
        &mut self,
        mut header: RawHeader,
        pending: Pending,
        offset: u64,
    ) -> Result<Option<Entry>, Error> {
        let (metadata, sparse) = self.merge(&mut header, pending)?;
        let path = bytes_to_path(std::mem::take(&mut header.name));
        self.current.clone_from(&path);
        let folder_name = path_bytes(&path).ends_with(b"/");
        if header.typeflag == 0 {
            header.typeflag = if folder_name { b'5' } else { b'0' };
        }
        let path = match &sparse {
            Some(Described { name: Some(name), .. }) => bytes_to_path(name.clone()),
            _ => path,
        };
        let refuse = |reason| Error::from(ErrorKind::RefusedEntry { offset, entry: path.clone(), reason });
        let kind = match header.typeflag {
            b'0' if folder_name && self.policy == Policy::Layer => {
                return Err(refuse("it is a file with the name of a directory"));
            }
            b'0' => {
                let size = self.begin_content(&header)?;
                let size = sparse.map_or(Ok(size), |sparse| self.begin_sparse(sparse, &header))?;
                EntryKind::File { size, content: Content(self.position) }
            }
            _ if sparse.is_some() => return Err(self.malformed("a sparse entry is not a file")),
            b'5' => EntryKind::Directory,
            b'1' => EntryKind::Hardlink { target: bytes_to_path(header.link.clone()) },
            b'2' => EntryKind::Symlink { target: bytes_to_path(header.link.clone()) },
            b'6' => EntryKind::Fifo,
            b'3' | b'4' => {
                let part =
                    |value: i64| u32::try_from(value).map_err(|_| refuse("a device number is out of range"));
                let (major, minor) = (part(header.device.0)?, part(header.device.1)?);
                match header.typeflag {
                    b'3' => EntryKind::CharacterDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            typeflag => return Err(self.unsupported(typeflag, offset)),
        };
        let entry = Entry { path: path.clone(), metadata, kind };
        if self.policy == Policy::Archive { Ok(Some(entry)) } else { layer_entry(entry).map_err(refuse) }
    }

    /// The metadata of an entry from its header and what came before; names, size and devices go into the header.
    fn merge(
        &mut self,
        header: &mut RawHeader,
        pending: Pending,
    ) -> Result<(Metadata, Option<Described>), Error> {
        let mut mtime = Timestamp::from_seconds(header.mtime);
        let mut xattrs = std::collections::BTreeMap::new();
        let records = pending.records.unwrap_or_default();
        let strict = self.policy == Policy::Layer;
        if strict
            && (pending.long_name.is_some() && records.contains_key(&b"path"[..])
                || pending.long_link.is_some() && records.contains_key(&b"linkpath"[..]))
        {
            return Err(self.refused("two extended headers name the same entry"));
        }
        if strict && records.keys().any(|key| key.starts_with(sparse::PREFIX)) {
            return Err(self.unsupported(b'S', self.position));
        }
        let sparse = sparse::described(&records).map_err(|reason| self.malformed(reason))?;
        // An empty value means that the header's own one stands.
        for (key, value) in records.into_iter().filter(|(_, value)| !value.is_empty()) {
            let number = |value: &[u8]| pax::number(value).map_err(|reason| self.malformed(reason));
            match &key[..] {
                b"path" => header.name = value,
                b"linkpath" => header.link = value,
                b"size" => header.size = number(&value)?,
                b"uid" => header.uid = number(&value)?,
                b"gid" => header.gid = number(&value)?,
                b"mtime" => mtime = pax::time(&value).map_err(|reason| self.malformed(reason))?,
                b"atime" | b"ctime" => {
                    pax::time(&value).map_err(|reason| self.malformed(reason))?;
                }
                _ => {
                    let name = key.strip_prefix(pax::XATTR_PREFIX).map(<[u8]>::to_vec);
                    if let Some(name) = name.and_then(|name| String::from_utf8(name).ok()) {
                        xattrs.insert(name, value);
                    }
                }
            }
        }
        if let Some(name) = pending.long_name.filter(|name| !name.is_empty()) {
            header.name = name;
        }
        if let Some(link) = pending.long_link.filter(|link| !link.is_empty()) {
            header.link = link;
        }
        let id = |value: i64| match self.policy {
            // The last id means "leave it" to chown.
            Policy::Layer => u32::try_from(value).ok().filter(|id| *id != u32::MAX),
            Policy::Archive => Some(value as u32),
        };
        let (Some(uid), Some(gid)) = (id(header.uid), id(header.gid)) else {
            self.current = bytes_to_path(header.name.clone());
            return Err(self.refused("its owner or group is out of range"));
        };
        let mode = (header.mode & 0o7777) as u32;
        Ok((Metadata { mode, uid, gid, mtime, xattrs }, sparse))
    }

    /// Counts entries, and bytes of what is kept of them, towards the limits.
    pub(crate) fn count(&mut self, entries: u64, metadata: u64) -> Result<(), Error> {
        self.kept.add(entries, metadata, &self.limits).map_err(|(what, maximum)| self.limit(what, maximum))
    }

    fn begin_content(&mut self, header: &RawHeader) -> Result<u64, Error> {
        let size = u64::try_from(header.size).map_err(|_| self.malformed("a size is negative"))?;
        if size > self.limits.file_size {
            return Err(self.limit(Limit::FileSize, self.limits.file_size));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(size)
    }

    /// Makes the content that was begun that of a sparse file, and gives its size.
    fn begin_sparse(&mut self, sparse: Described, header: &RawHeader) -> Result<u64, Error> {
        let parts = match sparse.map {
            Place::Records(parts) => parts,
            Place::Content => self.leading_map()?,
        };
        let size = sparse.size.unwrap_or(header.size);
        let map = SparseMap::new(parts, size).map_err(|reason| self.malformed(reason))?;
        if map.stored() != self.content {
            return Err(self.refused("what is stored of the sparse file is not what its map states"));
        }
        if map.size() > self.limits.file_size {
            return Err(self.limit(Limit::FileSize, self.limits.file_size));
        }
        self.count(map.parts() as u64, 0)?;
        self.holes = self.holes.saturating_add(map.size() - map.stored());
        if self.holes > self.limits.holes {
            return Err(self.limit(Limit::Holes, self.limits.holes));
        }
        let size = map.size();
        self.cursor = Some(Cursor::new(map));
        Ok(size)
    }

    /// The map of a sparse file at the beginning of its content.
    fn leading_map(&mut self) -> Result<sparse::Parts, Error> {
        let mut leading = Leading::default();
        let mut block = [0; BLOCK];
        loop {
            if self.content < BLOCK as u64 || self.read_full(&mut block)? < BLOCK {
                return Err(self.truncated());
            }
            self.content -= BLOCK as u64;
            if let Some(parts) = leading.feed(&block).map_err(|reason| self.malformed(reason))? {
                return Ok(parts);
            }
        }
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        self.cursor = None;
        if self.content + self.padding == 0 {
            return Ok(());
        }
        let mut buffer =
            vec![0; usize::try_from(self.content.max(BLOCK as u64)).map_or(BUFFER, |size| size.min(BUFFER))];
        while self.content > 0 {
            if self.read_stored(&mut buffer)? == 0 {
                return Err(self.truncated());
            }
        }
        let padding = std::mem::take(&mut self.padding) as usize;
        // Go lets the padding of the last file be missing.
        self.read_full(&mut buffer[..padding]).map(|_| ())
    }

    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(mut cursor) = self.cursor.take() else { return self.read_stored(buffer) };
        let read = cursor.read(buffer, |part| self.read_stored(part));
        self.cursor = Some(cursor);
        read
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        if length == 0 {
            return Ok(0);
        }
        match self.read_some(&mut buffer[..length])? {
            0 => Err(self.truncated()),
            count => {
                self.content -= count as u64;
                Ok(count)
            }
        }
    }

    fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.inner.read(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    if self.position > self.limits.tar_size {
                        return Err(self.limit(Limit::TarSize, self.limits.tar_size));
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unreadable(source)),
            }
        }
    }

    /// What the stream below says of itself, as an error of this crate, is told as it is.
    fn unreadable(&self, source: io::Error) -> Error {
        source.downcast::<Error>().unwrap_or_else(|source| {
            let entry = self.current.clone();
            ErrorKind::ReadTar { offset: self.position, entry, source }.into()
        })
    }

    fn malformed(&self, reason: &'static str) -> Error {
        ErrorKind::MalformedTar { offset: self.position, entry: self.current.clone(), reason }.into()
    }

    fn truncated(&self) -> Error {
        self.malformed("it ends in the middle of an entry")
    }

    fn refused(&self, reason: &'static str) -> Error {
        ErrorKind::RefusedEntry { offset: self.position, entry: self.current.clone(), reason }.into()
    }

    fn limit(&self, what: Limit, maximum: u64) -> Error {
        ErrorKind::LimitExceeded { offset: self.position, entry: self.current.clone(), what, maximum }.into()
    }

    fn unsupported(&self, typeflag: u8, offset: u64) -> Error {
        let what = match typeflag {
            b'S' if self.policy == Policy::Archive => "a sparse file in the old format of GNU tar".to_owned(),
            b'S' => "a sparse file".to_owned(),
            b'M' => "the rest of a file on another volume".to_owned(),
            b'V' => "a volume label".to_owned(),
            b'7' => "a contiguous file".to_owned(),
            other => format!("of the unknown type {:?}", char::from(other)),
        };
        ErrorKind::UnsupportedEntry { offset, entry: self.current.clone(), what }.into()
    }
}

/// Bytes that are skipped at once.
const BUFFER: usize = 64 * 1024;

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_content(buffer).map_err(io::Error::other)
    }
}

/// The entry of a layer; `None` for one that is to be passed over.
pub(crate) fn layer_entry(mut entry: Entry) -> Result<Option<Entry>, &'static str> {
    let whiteout = |path, kind| Ok(Some(Entry { path, metadata: Metadata::default(), kind }));
    match name::layer_name(path_bytes(&entry.path))? {
        LayerName::Aufs => Ok(None),
        LayerName::Whiteout(path) => whiteout(path, EntryKind::Whiteout),
        LayerName::Opaque(path) => whiteout(path, EntryKind::OpaqueWhiteout),
        LayerName::Path(path) => {
            if path.as_os_str().is_empty() && entry.kind != EntryKind::Directory {
                return Err("it would replace the root directory");
            }
            entry.path = path;
            match &mut entry.kind {
                EntryKind::Hardlink { target } => *target = name::layer_target(path_bytes(target))?,
                EntryKind::Symlink { target } if target.as_os_str().is_empty() => {
                    return Err("it is a symbolic link to nothing");
                }
                EntryKind::Symlink { target } if target.as_os_str().len() > 4095 => {
                    return Err("it is a symbolic link to more than 4095 bytes");
                }
                _ => {}
            }
            Ok(Some(entry))
        }
    }
}

fn path_bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

fn bytes_to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// What an attribute takes besides its name and value.
const OF_ATTRIBUTE: usize = 64;

/// Bytes that are kept of an entry beside its numbers.
fn weight(entry: &Entry) -> u64 {
    let target = match &entry.kind {
        EntryKind::Symlink { target } | EntryKind::Hardlink { target } => target.as_os_str().len(),
        _ => 0,
    };
    let attributes = entry.metadata.xattrs.iter();
    let attributes: usize = attributes.map(|(name, value)| OF_ATTRIBUTE + name.len() + value.len()).sum();
    (entry.path.as_os_str().len() + target + attributes) as u64
}

/// Whether the stream is a tar by its first entry (6.60), for which a global header counts too. An empty archive is none;
/// one whose first entry is of a sort that is not supported, or goes beyond the limits, is one. A stream that breaks off
/// with an error of its own before that is neither.
pub fn is_tar(reader: &mut dyn Read, limits: &Limits) -> Result<bool, Error> {
    let mut reader = TarReader::new(reader, Policy::Archive, *limits);
    match reader.next_entry() {
        Ok(entry) => Ok(entry.is_some() || reader.has_globals),
        Err(_) if reader.has_globals => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::UnsupportedEntry { .. }
            | ErrorKind::RefusedEntry { .. }
            | ErrorKind::LimitExceeded { .. } => Ok(true),
            ErrorKind::MalformedTar { .. } => Ok(false),
            _ => Err(error),
        },
    }
}
