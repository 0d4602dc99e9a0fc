use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ocibuild_spec::{
    CancelToken, Changeset, Content, ContentHasher, Descriptor, DiffId, Entry, EntryKind, Hasher, Metadata,
    Timestamp,
};

use crate::blocks::{self, Blocks};
use crate::digests::FileDigests;
use crate::header::{self, BLOCK};
use crate::reader::layer_entry;
use crate::tree::{Step, Tree};
use crate::{Compression, Error, ErrorKind, LayerListing};

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
    contents: Contents,
    /// The entries, read back, are those of the changeset, in their order.
    is_plain: bool,
    clamp_mtime: Option<i64>,
}

impl WrittenLayer {
    /// The index of the layer, made of the changeset that was written: the entries as [`LayerListing::read_tar`] would
    /// find them in the tar. With `exact_times` they keep their own times, which the tar has cut to seconds and perhaps
    /// clamped.
    ///
    /// It takes the changeset, as both have as many entries as the layer has files.
    pub fn into_index(self, changeset: Changeset, exact_times: bool) -> Result<LayerListing, Error> {
        let Changeset { mut entries, shared, .. } = changeset;
        let clamp = self.clamp_mtime;
        if self.is_plain {
            for (entry, offset) in entries.iter_mut().zip(&self.contents.offsets) {
                make_as_read(clamp, entry, *offset, exact_times);
            }
            return Ok(LayerListing { shared, ..plain_index(entries, self.contents, self.tar_size) });
        }
        let mut read = entries.iter().zip(&self.contents.offsets).map(|(entry, offset)| {
            let mut entry = entry.clone();
            make_as_read(clamp, &mut entry, *offset, exact_times);
            entry
        });
        let (texts, digests) = (self.contents.texts, self.contents.digests);
        Ok(LayerListing { shared, ..indexed(&mut read, texts, digests, self.tar_size)? })
    }
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
    let blocks = estimate(changeset) / options.compression.block_size() as u64 + 1;
    let threads = usize::try_from(blocks).map_or(options.threads, |blocks| blocks.min(options.threads));
    let produce = |blocks: &mut dyn Blocks| TarWriter::new(blocks, options, cancel).write(changeset);
    let (made, blob) = blocks::run(options.compression, threads, sink, produce)?;
    let digest = blob.digest.unwrap_or_else(|| made.diff_id.0.clone());
    Ok(WrittenLayer {
        descriptor: Descriptor::new(options.compression.media_type(false), digest, blob.size),
        diff_id: made.diff_id,
        tar_size: made.tar_size,
        contents: made.contents,
        is_plain: made.is_plain,
        clamp_mtime: options.clamp_mtime,
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
    tar_size: u64,
    contents: Contents,
    is_plain: bool,
}

/// Turns entries into tar bytes, hashes them and hands them on block by block.
struct TarWriter<'w> {
    blocks: &'w mut dyn Blocks,
    options: &'w LayerOptions,
    cancel: &'w CancelToken,
    block: Vec<u8>,
    block_size: usize,
    position: u64,
    hasher: Hasher,
    contents: Contents,
}

/// Where the content of the entries is in the tar, its digests, and the text of account files: with the entries, the
/// index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Contents {
    /// One per entry, 0 for what has none.
    offsets: Vec<u64>,
    texts: Vec<(PathBuf, Vec<u8>)>,
    /// Of all files.
    digests: FileDigests,
}

impl<'w> TarWriter<'w> {
    fn new(blocks: &'w mut dyn Blocks, options: &'w LayerOptions, cancel: &'w CancelToken) -> Self {
        let block_size = options.compression.block_size();
        Self {
            blocks,
            options,
            cancel,
            block: Vec::with_capacity(block_size),
            block_size,
            position: 0,
            hasher: Hasher::new(),
            contents: Contents::default(),
        }
    }

    fn write(mut self, changeset: &Changeset) -> Result<Made, Error> {
        let mut headers = Vec::new();
        let mut is_plain = true;
        let mut order = Order::default();
        for entry in &changeset.entries {
            headers.clear();
            header::append(&mut headers, entry, mtime(self.options.clamp_mtime, entry))?;
            self.put(&headers)?;
            is_plain &= reads_as_itself(entry)? && order.takes(entry, &changeset.entries);
            self.contents.offsets.push(self.position);
            if let EntryKind::File { size, .. } = entry.kind {
                let mut text = Tree::wants_text(&entry.path, size).then(Vec::new);
                self.put_content(changeset, entry, size, text.as_mut())?;
                self.contents.texts.extend(text.map(|text| (entry.path.clone(), text)));
            }
        }
        self.put(&[0; 2 * BLOCK])?;
        self.flush()?;
        let (tar_size, contents) = (self.position, self.contents);
        Ok(Made { diff_id: DiffId(self.hasher.finish()), tar_size, contents, is_plain })
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.block_size - self.block.len()));
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
        let at = Content(self.position);
        let mut hasher = ContentHasher::default();
        let mut content =
            changeset.open(entry).map_err(|source| ErrorKind::OpenContent { path: path.clone(), source })?;
        let mut left = size;
        while left > 0 {
            let room = self.block_size - self.block.len();
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
            hasher.update(&self.block[start..]);
            if let Some(text) = &mut text {
                text.extend_from_slice(&self.block[start..]);
            }
            left -= count as u64;
            self.position += count as u64;
            self.flush_if_full()?;
        }
        check_end(&mut *content, path, size)?;
        self.contents.digests.push(at, hasher.finish());
        self.put(&[0; BLOCK][..(size.next_multiple_of(BLOCK as u64) - size) as usize])
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.block.len() == self.block_size { self.flush() } else { Ok(()) }
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

/// Whole seconds, no later than the caller allows.
fn mtime(clamp: Option<i64>, entry: &Entry) -> i64 {
    let seconds = entry.metadata.mtime.seconds;
    clamp.map_or(seconds, |latest| seconds.min(latest))
}

/// Makes an entry what a reader of the tar finds there, its time aside if that is wanted.
fn make_as_read(clamp: Option<i64>, entry: &mut Entry, offset: u64, exact_time: bool) {
    if matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout) {
        entry.metadata = Metadata::default();
        return;
    }
    if !exact_time {
        entry.metadata.mtime = Timestamp::from_seconds(mtime(clamp, entry));
    }
    if let EntryKind::File { content, .. } = &mut entry.kind {
        *content = Content(offset);
    }
    entry.metadata.mode &= 0o7777;
    entry.metadata.xattrs.retain(|name, value| name == header::CAPABILITY && !value.is_empty());
}

/// Whether a reader takes the entry for what it is; what no reader would take is refused, and so is what every reader
/// would take for a deletion.
fn reads_as_itself(entry: &Entry) -> Result<bool, Error> {
    let is_deletion = matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout);
    if !is_deletion && crate::name::is_reserved(&entry.path) {
        return Err(ErrorKind::ReservedName { path: entry.path.clone() }.into());
    }
    let stored = stored(entry);
    let read = layer_entry(stored).map_err(|reason| unwritable(entry, reason))?;
    match read {
        None => Err(unwritable(entry, "it would be taken for book-keeping of AUFS")),
        Some(read) => Ok(read.path == entry.path && read.kind == entry.kind),
    }
}

/// The entry under the name it has in the tar.
fn stored(entry: &Entry) -> Entry {
    let path = match entry.kind {
        EntryKind::Whiteout | EntryKind::OpaqueWhiteout => header::name_of(entry),
        _ => entry.path.clone(),
    };
    Entry { path, metadata: Metadata::default(), kind: entry.kind.clone() }
}

fn unwritable(entry: &Entry, reason: &'static str) -> Error {
    ErrorKind::UnwritableEntry { path: entry.path.clone(), reason }.into()
}

/// Watches that entries come as changesets list them: each path once, in order, below a directory that is listed, links
/// to a file that is listed. Then they are the index as they are.
#[derive(Default)]
struct Order {
    seen: usize,
    open: Vec<PathBuf>,
}

impl Order {
    fn takes(&mut self, entry: &Entry, entries: &[Entry]) -> bool {
        let before = &entries[..self.seen];
        self.seen += 1;
        while self.open.last().is_some_and(|directory| !entry.path.starts_with(directory)) {
            self.open.pop();
        }
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        let is_below = parent == self.open.last().map_or(Path::new(""), PathBuf::as_path);
        let is_next = before.last().is_none_or(|last| last.path < entry.path);
        let is_simple = match &entry.kind {
            EntryKind::OpaqueWhiteout => false,
            EntryKind::Hardlink { target } => {
                let found = before.binary_search_by(|other| other.path.cmp(target));
                found.is_ok_and(|at| matches!(before[at].kind, EntryKind::File { .. }))
            }
            EntryKind::Directory => {
                self.open.push(entry.path.clone());
                true
            }
            _ => true,
        };
        is_below && is_next && is_simple
    }
}

fn plain_index(entries: Vec<Entry>, contents: Contents, tar_size: u64) -> LayerListing {
    let Contents { texts, digests, .. } = contents;
    let mut index = LayerListing { entries, tar_size, digests: digests.into(), ..LayerListing::default() };
    for (path, text) in texts {
        match path.to_str() {
            Some("etc/passwd") => index.passwd = Some(text),
            _ => index.group = Some(text),
        }
    }
    index
}

/// The index by way of the tree that readers use, for entries that are in any order and repeat each other.
fn indexed(
    entries: &mut dyn Iterator<Item = Entry>,
    texts: Vec<(PathBuf, Vec<u8>)>,
    digests: FileDigests,
    tar_size: u64,
) -> Result<LayerListing, Error> {
    let mut tree = Tree::with_digests(digests);
    let mut texts = texts.into_iter().peekable();
    for entry in entries {
        let metadata = entry.metadata.clone();
        let read = layer_entry(stored(&entry)).map_err(|reason| unwritable(&entry, reason))?;
        let text = texts.next_if(|(path, _)| *path == entry.path);
        let Some(read) = read else { continue };
        let read = Entry { metadata, ..read };
        let step = tree.insert(&read).map_err(|reason| unwritable(&entry, reason))?;
        if let (Step::Make { path, .. }, EntryKind::File { size, .. }, Some((_, text))) =
            (step, &read.kind, text)
            && Tree::wants_text(&path, *size)
        {
            tree.keep_text(&path, text);
        }
    }
    Ok(tree.finish(tar_size))
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
