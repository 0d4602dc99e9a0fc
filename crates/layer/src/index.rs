use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_spec::{
    CancelToken, ContentDigest, ContentHasher, DiffId, Entry, EntryKind, Hasher, SharedFile,
};

use crate::cancellable::Cancellable;
use crate::digests::FileDigests;
use crate::read_ahead::read_ahead;
use crate::reader::{Policy, TarEntry, TarReader};
use crate::tree::{Step, Tree};
use crate::{Error, ErrorKind, Limits};

/// Everything about a layer but the content of its files (`DESIGN.md` 4.4): small, kept for ever, one per diff id.
///
/// Its record ([`LayerListing::encode`]) is described in the documentation of this crate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerListing {
    /// The entries that remain once the layer's own repetitions are resolved, parents before children, ordered
    /// component by component; an opaque whiteout follows its directory. A file's content number is the offset of its
    /// bytes in the plain tar. Of the names of one file the first is the file and the others are hard links to it;
    /// a hard link to a path that is not here is to a file of a layer below.
    pub entries: Vec<Entry>,
    /// Directories that have no entry but have entries below them, in the same order. A layer below may know their
    /// metadata; otherwise they are 0755 of root.
    pub implied_directories: Vec<PathBuf>,
    /// Content of `etc/passwd`, if that is a file of this layer of no more than 10 MiB.
    pub passwd: Option<Vec<u8>>,
    /// Content of `etc/group`, likewise.
    pub group: Option<Vec<u8>>,
    /// Files that are one with files of the layers below: known of layers made here, which no tar tells.
    pub shared: Vec<SharedFile>,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// The digest of each file among the entries: which files are equal is known without reading any.
    pub digests: Arc<FileDigests>,
}

impl LayerListing {
    /// The index and the diff id of a plain tar, which is read to the end of the stream.
    pub fn read_tar(
        tar: &mut dyn Read,
        limits: &Limits,
        cancel: &CancelToken,
    ) -> Result<(Self, DiffId), Error> {
        let mut reader = LayerReader::new(tar, limits, cancel);
        let mut tree = Tree::default();
        let mut buffer = vec![0; BUFFER];
        while let Some(TarEntry { entry, offset, .. }) = reader.next_entry()? {
            let step = tree.insert(&entry).map_err(|reason| refused(&entry, offset, reason))?;
            reader.count_implied(step.implied())?;
            if let (Step::Make { path, .. }, EntryKind::File { size, content }) = (&step, &entry.kind) {
                if Tree::wants_text(path, *size) {
                    let text = reader.read_text(*size)?;
                    tree.keep_digest(*content, ContentDigest::of(&text));
                    tree.keep_text(path, text);
                } else {
                    tree.keep_digest(*content, reader.read_digest(&mut buffer)?);
                }
            }
        }
        let (diff_id, tar_size) = reader.finish()?;
        Ok((tree.finish(tar_size), diff_id))
    }
}

pub(crate) fn refused(entry: &Entry, offset: u64, reason: &'static str) -> Error {
    ErrorKind::RefusedEntry { offset, entry: entry.path.clone(), reason }.into()
}

/// Bytes asked of a plain tar at once; decoders like large buffers.
const BUFFER: usize = 128 * 1024;

/// A tar of a layer that is hashed while it is read, and can be cancelled.
pub(crate) struct LayerReader<'r> {
    tar: TarReader<Box<dyn Read + 'r>>,
    hasher: SharedHasher,
    cancel: &'r CancelToken,
}

/// The hasher of a tar: of the thread that reads it, until that has come to the end.
type SharedHasher = Arc<Mutex<Hasher>>;

struct Hashing<R> {
    inner: Cancellable<R>,
    hasher: SharedHasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..count]);
        Ok(count)
    }
}

impl<'r> LayerReader<'r> {
    pub(crate) fn new(tar: &'r mut dyn Read, limits: &Limits, cancel: &'r CancelToken) -> Self {
        let hasher = SharedHasher::default();
        let hashing = Hashing { inner: Cancellable::new(tar, cancel), hasher: Arc::clone(&hasher) };
        let buffered = Box::new(io::BufReader::with_capacity(BUFFER, hashing));
        Self { tar: TarReader::new(buffered, Policy::Layer, *limits), hasher, cancel }
    }

    /// One whose tar is read and hashed in a thread of its own.
    pub(crate) fn ahead(tar: Box<dyn Read + Send>, limits: &Limits, cancel: &'r CancelToken) -> Self {
        let hasher = SharedHasher::default();
        let hashing = Hashing { inner: Cancellable::new(tar, cancel), hasher: Arc::clone(&hasher) };
        let tar = TarReader::new(read_ahead(Box::new(hashing)) as Box<dyn Read>, Policy::Layer, *limits);
        Self { tar, hasher, cancel }
    }

    /// Counts directories that entries imply towards the limits.
    pub(crate) fn count_implied(&mut self, implied: &[PathBuf]) -> Result<(), Error> {
        let bytes: usize = implied.iter().map(|path| path.as_os_str().len()).sum();
        self.tar.count(implied.len() as u64, bytes as u64)
    }

    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, Error> {
        self.check_cancelled()?;
        self.tar.next_entry()
    }

    /// Some of the content of the current entry.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.check_cancelled()?;
        self.tar.read_content(buffer)
    }

    /// All of the content of the current entry, known to be small.
    pub(crate) fn read_text(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut text = vec![0; size as usize];
        let mut filled = 0;
        while filled < text.len() {
            filled += self.read_content(&mut text[filled..])?;
        }
        Ok(text)
    }

    /// The digest of the content of the current entry, which is read to its end by way of `buffer`.
    fn read_digest(&mut self, buffer: &mut [u8]) -> Result<ContentDigest, Error> {
        let mut hasher = ContentHasher::default();
        loop {
            match self.read_content(buffer)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    pub(crate) fn as_reader(&mut self) -> &mut dyn Read {
        &mut self.tar
    }

    /// Reads to the end of the stream: the digest and the size of all of it.
    pub(crate) fn finish(mut self) -> Result<(DiffId, u64), Error> {
        self.tar.drain()?;
        let size = self.tar.position();
        // The stream has ended, and with it the thread that had the other half.
        drop(self.tar);
        let hasher = std::mem::take(&mut *self.hasher.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((DiffId(hasher.finish()), size))
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(ErrorKind::Cancelled.into()) } else { Ok(()) }
    }
}
