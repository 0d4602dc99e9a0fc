use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};

use ocibuild_spec::{
    Descriptor, Digest, Document, Hasher, MAX_DOCUMENT, MediaType, VerifyingReader, is_document,
    parse_manifest_or_index,
};

use crate::Error;

/// A place that takes blobs: the writing half of a store, and all that an archive written front to back can do.
///
/// A *blob* is a sequence of bytes named by its digest; a *descriptor* is its media type, digest and size.
/// Blobs are put in any order; a manifest after what it lists, so that whoever stops in between never leaves a
/// manifest without its parts.
///
/// * **Idempotent.** Putting a blob that is there succeeds and leaves the reader unread.
/// * **Atomic.** A blob is there with all its verified bytes, or not at all. Only an archive cannot take bytes
///   back: after a failed put it refuses everything else.
/// * **Concurrent.** All methods may be called from several threads, and for a directory from several processes.
pub trait BlobSink: Send + Sync + fmt::Debug {
    /// The size of a blob that is here; `None` when it is not.
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error>;

    /// Takes the blob from `reader`, which has to give exactly what `descriptor` says; its digest is computed here.
    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn Read) -> Result<(), Error>;

    /// Takes a small blob from memory.
    fn put(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.put_from(&descriptor, &mut &bytes[..])?;
        Ok(descriptor)
    }

    /// Whether the blob is here with the size that its descriptor states.
    fn has(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        Ok(self.stat(&descriptor.digest)? == Some(descriptor.size))
    }
}

/// A place that keeps blobs: what a build reads from and writes to.
///
/// # Lifecycle
/// 1. [`writer`](Self::writer) gives a [`BlobWriter`] that nobody else sees; bytes are hashed as they are written.
/// 2. [`BlobWriter::finish`] makes the blob visible under its digest. Dropping the writer instead leaves nothing.
/// 3. [`open`](Self::open) reads it back, by as many readers at once as one likes.
/// 4. A *reference* (a tag of [`ImageLayout`](crate::ImageLayout), a record of a cache) makes it stay. What no
///    reference reaches may be collected once the lease under which it was put has ended.
///
/// A blob survives a crash of the machine once something durable refers to it, not earlier:
/// [`flush`](Self::flush) before publishing a reference (`ImageLayout::tag` does so by itself).
///
/// ```
/// use std::io::{Read as _, Write as _};
/// use ocibuild_spec::MediaType;
/// use ocibuild_store::{BlobSink as _, BlobStore, ImageLayout};
///
/// # let directory = tempfile::tempdir().unwrap();
/// let layout = ImageLayout::open_or_create(directory.path().join("state"))?;
/// let mut writer = layout.writer()?;
/// writer.write_all(b"some layer").unwrap();
/// let layer = writer.finish(MediaType::ImageLayer)?;
/// let mut bytes = Vec::new();
/// layout.open(&layer)?.read_to_end(&mut bytes).unwrap();
/// assert_eq!(bytes, b"some layer");
/// assert_eq!(layout.stat(&layer.digest)?, Some(10));
/// # Ok::<(), ocibuild_store::Error>(())
/// ```
pub trait BlobStore: BlobSink {
    /// Reads a blob. Its size is checked before the first byte, its digest is not: wrap the reader into a
    /// [`VerifyingReader`] where the bytes leave the machine or enter an image.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error>;

    /// Starts a blob whose digest is not known yet.
    fn writer(&self) -> Result<BlobWriter, Error>;

    /// Makes these blobs survive a crash of the machine; nothing to do where that makes no difference.
    fn flush(&self, blobs: &[Descriptor]) -> Result<(), Error>;
}

/// A blob being written. [`finish`](Self::finish) makes it visible; dropping takes everything back.
#[must_use = "a blob exists only once its writer is finished"]
pub struct BlobWriter {
    pending: Box<dyn PendingBlob>,
    hasher: Hasher,
    size: u64,
}

/// Where the bytes of a [`BlobWriter`] go, for whoever implements a [`BlobStore`].
pub trait PendingBlob: Send {
    /// Takes more bytes, all of them.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes taken so far the blob `digest`, which has `size` bytes. Dropping instead of calling this
    /// gives everything back.
    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), Error>;
}

impl BlobWriter {
    /// A writer whose bytes go to `pending`.
    pub fn new(pending: Box<dyn PendingBlob>) -> Self {
        Self { pending, hasher: Hasher::new(), size: 0 }
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob visible under the digest of what was written.
    pub fn finish(self, media_type: MediaType) -> Result<Descriptor, Error> {
        let digest = self.hasher.finish();
        self.pending.commit(&digest, self.size)?;
        Ok(Descriptor::new(media_type, digest, self.size))
    }

    /// Makes the blob visible if it is what `descriptor` says, and otherwise fails with
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt). Only for SHA-256, which is what a writer computes.
    pub fn finish_expecting(self, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = self.hasher.finish();
        if self.size != descriptor.size {
            let text = format!("{} has {} bytes, not {}", descriptor.digest, self.size, descriptor.size);
            return Err(Error::corrupt(text));
        }
        if digest != descriptor.digest {
            return Err(Error::corrupt(format!(
                "the bytes under {} have the digest {digest}",
                descriptor.digest
            )));
        }
        self.pending.commit(&digest, self.size)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

/// The verified bytes of a blob that is small: a manifest, an index or a config.
pub fn read_document(store: &dyn BlobStore, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    read_small(store.open(descriptor)?, descriptor)
}

pub(crate) fn read_small(reader: impl Read, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    if descriptor.size > MAX_DOCUMENT {
        let text = format!("{} has {} bytes, too many for a document", descriptor.digest, descriptor.size);
        return Err(Error::corrupt(text));
    }
    let mut bytes = Vec::with_capacity(descriptor.size as usize);
    VerifyingReader::new(reader, descriptor)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read blob {}", descriptor.digest), error))?;
    Ok(bytes)
}

/// Copies an image with all its blobs, each verified on the way: layers and config before their manifest, manifests
/// before their index.
pub fn copy_image(from: &dyn BlobStore, root: &Descriptor, to: &dyn BlobSink) -> Result<(), Error> {
    copy_from(&|descriptor| from.open(descriptor), root, to)
}

/// Opens blobs of wherever an image is.
pub(crate) type OpenBlob<'o> = dyn Fn(&Descriptor) -> Result<Box<dyn Read + Send>, Error> + 'o;

pub(crate) fn copy_from(open: &OpenBlob<'_>, root: &Descriptor, to: &dyn BlobSink) -> Result<(), Error> {
    let (documents, leaves): (Vec<_>, Vec<_>) =
        reachable_by(open, root)?.into_iter().partition(|descriptor| is_document(&descriptor.media_type));
    for descriptor in leaves.iter().chain(documents.iter().rev()) {
        if !to.has(descriptor)? {
            let reader = open(descriptor)?;
            to.put_from(descriptor, &mut VerifyingReader::new(reader, descriptor))?;
        }
    }
    Ok(())
}

/// Most blobs of one reference; an index of a thousand images with a hundred layers each has fewer.
const MAX_REACHABLE: usize = 200_000;
const MAX_DEPTH: usize = 8;

/// `root` and everything below it, each once, parents before children.
///
/// Every document on the way must be here; its layers and config need not.
pub fn reachable(store: &dyn BlobStore, root: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    reachable_by(&|descriptor| store.open(descriptor), root)
}

pub(crate) fn reachable_by(open: &OpenBlob<'_>, root: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut level = vec![root.clone()];
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for descriptor in level {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if is_document(&descriptor.media_type) {
                below.extend(children(open, &descriptor)?);
            }
            found.push(descriptor);
            if found.len() + below.len() > MAX_REACHABLE {
                let text = format!("{} reaches more than {MAX_REACHABLE} blobs", root.digest);
                return Err(Error::corrupt(text));
            }
        }
        if below.is_empty() {
            return Ok(found);
        }
        level = below;
    }
    Err(Error::corrupt(format!("the indexes below {} are nested more than {MAX_DEPTH} deep", root.digest)))
}

fn children(open: &OpenBlob<'_>, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let bytes = read_small(open(descriptor)?, descriptor)?;
    let document: Document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
        .map_err(|error| Error::document(&descriptor.digest, error))?;
    Ok(document.children().cloned().collect())
}
