use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ocibuild_spec::{
    CancelToken, Changeset, Content, Descriptor, DiffId, Entry, EntryKind, Hasher, Metadata, Timestamp,
};

use crate::blocks::{self, Blocks};
use crate::compression::BLOCK_SIZE;
use crate::header::{self, BLOCK};
use crate::reader::layer_entry;
use crate::tree::{Step, Tree};
use crate::{Compression, Error, ErrorKind, LayerIndex};

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// How its bytes are compressed.
    pub compression: Compression,
    /// Times later than this second become it (`rewrite-timestamp`, 11.42).
    pub clamp_mtime: Option<i64>,
    /// Threads that compress. With one, or for a tar of one block, everything happens in the calling thread.
    pub threads: usize,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self { compression: Compression::default(), clamp_mtime: None, threads: 1 }
    }
}

/// What came out of [`write()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLayer {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// The blob: OCI's media type, digest and size of what went to the sink.
    pub descriptor: Descriptor,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// The entries, as [`LayerIndex::read_tar`] would find them in the tar.
    pub index: LayerIndex,
}

/// Writes `changeset` as a layer to `sink`, in one pass.
///
/// The tar has the bytes that BuildKit's would have. Entries are written in the order given, each file is opened once
/// and read to its end: one that is shorter or longer than its entry says is an error that names it, never padded or
/// cut. Memory is bounded by the number of entries and of threads, not by the size of files. The blob depends on the
/// entries, the contents and the options other than `threads`.
///
/// After an error or a cancellation `sink` holds the beginning of a blob, to be thrown away.
pub fn write(
    changeset: &Changeset,
    sink: &mut dyn Write,
    options: &LayerOptions,
    cancel: &CancelToken,
) -> Result<WrittenLayer, Error> {
    let blocks = estimate(changeset) / BLOCK_SIZE as u64 + 1;
    let threads = usize::try_from(blocks).map_or(options.threads, |blocks| blocks.min(options.threads));
    let produce = |blocks: &mut dyn Blocks| TarWriter::new(blocks, options, cancel).write(changeset);
    let (made, blob) = blocks::run(options.compression, threads, sink, produce)?;
    let digest = blob.digest.unwrap_or_else(|| made.diff_id.0.clone());
    Ok(WrittenLayer {
        descriptor: Descriptor::new(options.compression.media_type(false), digest, blob.size),
        diff_id: made.diff_id,
        tar_size: made.index.tar_size,
        index: made.index,
    })
}

/// About how many bytes the tar will have.
fn estimate(changeset: &Changeset) -> u64 {
    let of_entry = |entry: &Entry| match entry.kind {
        EntryKind::File { size, .. } => BLOCK as u64 + size,
        _ => BLOCK as u64,
    };
    changeset.entries.iter().map(of_entry).fold(0, u64::saturating_add)
}

struct Made {
    diff_id: DiffId,
    index: LayerIndex,
}

/// Turns entries into tar bytes, hashes them and hands them on block by block.
struct TarWriter<'w> {
    blocks: &'w mut dyn Blocks,
    options: &'w LayerOptions,
    cancel: &'w CancelToken,
    block: Vec<u8>,
    position: u64,
    hasher: Hasher,
    tree: Tree,
}

impl<'w> TarWriter<'w> {
    fn new(blocks: &'w mut dyn Blocks, options: &'w LayerOptions, cancel: &'w CancelToken) -> Self {
        Self {
            blocks,
            options,
            cancel,
            block: Vec::with_capacity(BLOCK_SIZE),
            position: 0,
            hasher: Hasher::new(),
            tree: Tree::default(),
        }
    }

    fn write(mut self, changeset: &Changeset) -> Result<Made, Error> {
        let mut headers = Vec::new();
        for entry in &changeset.entries {
            let mtime = self.mtime(entry.metadata.mtime);
            headers.clear();
            header::append(&mut headers, entry, mtime)?;
            self.put(&headers)?;
            let text_path = self.index(entry, mtime)?;
            if let EntryKind::File { size, .. } = entry.kind {
                let mut text = text_path.as_ref().map(|_| Vec::new());
                self.put_content(changeset, entry, size, text.as_mut())?;
                if let (Some(path), Some(text)) = (text_path, text) {
                    self.tree.keep_text(&path, text);
                }
            }
        }
        self.put(&[0; 2 * BLOCK])?;
        self.flush()?;
        let index = self.tree.finish(self.position);
        Ok(Made { diff_id: DiffId(self.hasher.finish()), index })
    }

    /// Whole seconds, no later than the caller allows.
    fn mtime(&self, time: Timestamp) -> i64 {
        self.options.clamp_mtime.map_or(time.seconds, |latest| time.seconds.min(latest))
    }

    /// Takes the entry into the index as whoever reads the tar will understand it. Returns where its content is to be
    /// kept.
    fn index(&mut self, entry: &Entry, mtime: i64) -> Result<Option<PathBuf>, Error> {
        let unwritable =
            |reason| Error::from(ErrorKind::UnwritableEntry { path: entry.path.clone(), reason });
        let read = layer_entry(self.as_read(entry, mtime)).map_err(unwritable)?;
        let Some(read) = read else {
            return match entry.kind {
                EntryKind::Whiteout => Err(unwritable("it would be taken for book-keeping of AUFS")),
                _ => Ok(None),
            };
        };
        let step = self.tree.insert(&read).map_err(unwritable)?;
        Ok(match (step, &read.kind) {
            (Step::Make { path, .. }, EntryKind::File { size, .. }) if Tree::wants_text(&path, *size) => {
                Some(path)
            }
            _ => None,
        })
    }

    fn as_read(&self, entry: &Entry, mtime: i64) -> Entry {
        let metadata = &entry.metadata;
        let capability =
            metadata.xattrs.get_key_value(header::CAPABILITY).filter(|(_, value)| !value.is_empty());
        let kind = match &entry.kind {
            EntryKind::File { size, .. } => EntryKind::File { size: *size, content: Content(self.position) },
            other => other.clone(),
        };
        let path = match entry.kind {
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => header::name_of(entry),
            _ => entry.path.clone(),
        };
        let metadata = Metadata {
            mode: metadata.mode & 0o7777,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: Timestamp::from_seconds(mtime),
            xattrs: capability.map(|(name, value)| (name.clone(), value.clone())).into_iter().collect(),
        };
        Entry { path, metadata, kind }
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            self.position += now.len() as u64;
            bytes = later;
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn put_content(
        &mut self,
        changeset: &Changeset,
        entry: &Entry,
        size: u64,
        mut text: Option<&mut Vec<u8>>,
    ) -> Result<(), Error> {
        let path = &entry.path;
        let mut content =
            changeset.open(entry).map_err(|source| ErrorKind::OpenContent { path: path.clone(), source })?;
        let mut left = size;
        while left > 0 {
            let room = BLOCK_SIZE - self.block.len();
            let wanted = usize::try_from(left).map_or(room, |left| left.min(room));
            let start = self.block.len();
            // Straight into the block: no byte of a file is copied before it is hashed and compressed.
            let count = content
                .by_ref()
                .take(wanted as u64)
                .read_to_end(&mut self.block)
                .map_err(|source| ErrorKind::ReadContent { path: path.clone(), source })?;
            if count < wanted {
                let actual = size - left + count as u64;
                return Err(ErrorKind::ContentShrank { path: path.clone(), expected: size, actual }.into());
            }
            if let Some(text) = &mut text {
                text.extend_from_slice(&self.block[start..]);
            }
            left -= count as u64;
            self.position += count as u64;
            self.flush_if_full()?;
        }
        check_end(&mut *content, path, size)?;
        self.put(&[0; BLOCK][..(size.next_multiple_of(BLOCK as u64) - size) as usize])
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.block.len() == BLOCK_SIZE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        if !self.block.is_empty() {
            self.hasher.update(&self.block);
            self.blocks.take(&mut self.block)?;
        }
        Ok(())
    }
}

fn check_end(content: &mut dyn Read, path: &Path, size: u64) -> Result<(), Error> {
    loop {
        match content.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(ErrorKind::ContentGrew { path: path.to_owned(), expected: size }.into()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ErrorKind::ReadContent { path: path.to_owned(), source }.into()),
        }
    }
}
