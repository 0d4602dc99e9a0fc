use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{Descriptor, Digest, Hasher, MAX_DOCUMENT, MediaType, VerifyingReader};
use tempfile::NamedTempFile;

use super::{ImageLayout, ScratchDir, make_directory, open_regular};
use crate::blob::{BlobSink, read_document};
use crate::source::descriptor_of;
use crate::{Error, ErrorKind};

const BUFFER: usize = 128 << 10;
/// More blobs than this are flushed with all else that the file system has: each by itself waits for the disk once.
const MANY: usize = 64;

impl BlobSink for ImageLayout {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let _present = self.pin(digest)?;
        stat_blob(self.root(), digest)
    }

    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn Read) -> Result<(), Error> {
        if self.has(descriptor)? {
            return Ok(());
        }
        let mut pending = self.pending()?;
        io::copy(&mut VerifyingReader::new(reader, descriptor), &mut pending.file)
            .map_err(|error| Error::io(format!("write blob {}", descriptor.digest), error))?;
        pending.commit(&descriptor.digest, descriptor.size)
    }
}

/// # Blobs
/// 1. [`writer`](Self::writer) gives a [`BlobWriter`] that nobody else sees; bytes are hashed as they are written.
/// 2. [`BlobWriter::finish`] makes the blob visible under its digest. Dropping the writer instead leaves nothing.
/// 3. [`open_blob`](Self::open_blob) reads it back, by as many readers at once as one likes.
/// 4. A *reference* (a tag, a record of a cache) makes it stay. What no reference reaches may be collected once the lease
///    under which it was put has ended.
///
/// A blob survives a crash of the machine once something durable refers to it, not earlier: [`flush`](Self::flush) before
/// publishing a reference ([`tag`](Self::tag) does so by itself).
///
/// ```
/// use std::io::{Read as _, Write as _};
/// use ocibuild_spec::MediaType;
/// use ocibuild_store::{BlobSink as _, ImageLayout};
///
/// # let directory = tempfile::tempdir().unwrap();
/// let layout = ImageLayout::open_or_create(directory.path().join("state"))?;
/// let mut writer = layout.writer()?;
/// writer.write_all(b"some layer").unwrap();
/// let layer = writer.finish(MediaType::ImageLayer)?;
/// let mut bytes = Vec::new();
/// layout.open_blob(&layer)?.read_to_end(&mut bytes).unwrap();
/// assert_eq!(bytes, b"some layer");
/// assert_eq!(layout.stat(&layer.digest)?, Some(10));
/// # Ok::<(), ocibuild_store::Error>(())
/// ```
impl ImageLayout {
    /// Reads a blob. Its size is checked before the first byte, its digest is not: wrap the reader into a
    /// [`VerifyingReader`] where the bytes leave the machine or enter an image.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let _present = self.pin(&descriptor.digest)?;
        Ok(Box::new(open_expecting(self.root(), descriptor)?))
    }

    /// Starts a blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter, Error> {
        Ok(BlobWriter { pending: self.pending()?, hasher: Hasher::new(), size: 0 })
    }

    /// Starts a blob whose bytes are hashed by whoever writes them.
    pub fn hashed_writer(&self) -> Result<HashedBlobWriter, Error> {
        Ok(HashedBlobWriter { pending: self.pending()?, size: 0 })
    }

    /// Makes these blobs survive a crash of the machine.
    pub fn flush(&self, blobs: &[Descriptor]) -> Result<(), Error> {
        if blobs.len() > MANY {
            for descriptor in blobs {
                open_expecting(self.root(), descriptor)?;
            }
            let root = fs_err::File::open(self.root()).map_err(Error::fs)?;
            return ocibuild_sys::sync_filesystem(root.file()).map_err(|error| {
                let source = io::Error::from_raw_os_error(error.raw_os_error());
                Error::io(format!("flush the file system of {}", self.root().display()), source)
            });
        }
        for descriptor in blobs {
            open_expecting(self.root(), descriptor)?
                .sync_all()
                .map_err(|error| Error::io(format!("flush blob {}", descriptor.digest), error))?;
        }
        if blobs.is_empty() {
            return Ok(());
        }
        for algorithm in ["sha256", "sha512"] {
            if blobs.iter().any(|blob| blob.digest.algorithm() == algorithm) {
                sync_directory(&self.root().join("blobs").join(algorithm))?;
            }
        }
        sync_directory(&self.root().join("blobs"))
    }

    /// A manifest or an index that is here, of which only the digest is known.
    pub fn document(&self, digest: &Digest) -> Result<Option<(Descriptor, Vec<u8>)>, Error> {
        let Some(size) = self.stat(digest)?.filter(|size| *size <= MAX_DOCUMENT) else { return Ok(None) };
        let bytes = read_document(self, &Descriptor::new(MediaType::EmptyJSON, digest.clone(), size))?;
        Ok(descriptor_of(&bytes, digest).map(|descriptor| (descriptor, bytes)))
    }

    fn pending(&self) -> Result<PendingFile, Error> {
        let directory = self.session_dir()?;
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory.path())
            .map_err(|error| Error::io(format!("create a file in {}", directory.path().display()), error))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(PendingFile { layout: self.clone(), file, _directory: directory })
    }
}

/// A blob being written. [`finish`](Self::finish) makes it visible; dropping takes everything back.
#[must_use = "a blob exists only once its writer is finished"]
pub struct BlobWriter {
    pending: PendingFile,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
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
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.file.write_all(bytes)?;
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

/// A blob being written by someone who hashes it: the digest is taken on trust. As with [`BlobWriter`], dropping takes
/// everything back.
#[must_use = "a blob exists only once its writer is finished"]
pub struct HashedBlobWriter {
    pending: PendingFile,
    size: u64,
}

impl HashedBlobWriter {
    /// Makes the blob visible under the digest of what was written, which `descriptor` has. With another size it fails with
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub fn finish(self, descriptor: &Descriptor) -> Result<(), Error> {
        if self.size != descriptor.size {
            let text = format!("{} has {} bytes, not {}", descriptor.digest, self.size, descriptor.size);
            return Err(Error::corrupt(text));
        }
        self.pending.commit(&descriptor.digest, self.size)
    }
}

impl Write for HashedBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for HashedBlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedBlobWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

/// A blob under a temporary name.
struct PendingFile {
    layout: ImageLayout,
    file: BufWriter<NamedTempFile>,
    _directory: Arc<ScratchDir>,
}

impl PendingFile {
    fn commit(self, digest: &Digest, size: u64) -> Result<(), Error> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| Error::io(format!("write blob {digest}"), error.into_error()))?;
        let _present = self.layout.pin(digest)?;
        rename_blob(self.layout.root(), file, digest, size)
    }
}

/// Gives the file the name of its digest, unless a blob of the same size has it already.
pub(crate) fn rename_blob(root: &Path, file: NamedTempFile, digest: &Digest, size: u64) -> Result<(), Error> {
    if stat_blob(root, digest).is_ok_and(|found| found == Some(size)) {
        return Ok(());
    }
    let path = blob_path(root, digest);
    if digest.algorithm() != "sha256" {
        make_directory(&root.join("blobs").join(digest.algorithm()))?;
    }
    file.persist(&path)
        .map(drop)
        .map_err(|error| Error::io(format!("create {}", path.display()), error.error))
}

pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs").join(digest.algorithm()).join(digest.hex())
}

/// The size of a blob, which is not opened; `None` when there is none. Only regular files are blobs.
pub(crate) fn stat_blob(root: &Path, digest: &Digest) -> Result<Option<u64>, Error> {
    let path = blob_path(root, digest);
    match fs_err::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(Error::corrupt(format!("{} is not a regular file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::fs(error)),
    }
}

/// A blob and its size; `None` when there is none. Only regular files are blobs.
pub(crate) fn open_blob(root: &Path, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
    let path = blob_path(root, digest);
    let file = match open_regular(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let size = file.metadata().map_err(|error| Error::io(format!("stat {}", path.display()), error))?.len();
    Ok(Some((file, size)))
}

/// A blob that has the size it should have.
pub(crate) fn open_expecting(root: &Path, descriptor: &Descriptor) -> Result<File, Error> {
    match open_blob(root, &descriptor.digest)? {
        None => Err(Error::missing(&descriptor.digest, root)),
        Some((file, size)) if size == descriptor.size => Ok(file),
        Some((_, size)) => {
            let path = blob_path(root, &descriptor.digest);
            let text = format!("{} has {size} bytes, not {}", path.display(), descriptor.size);
            Err(Error::corrupt(text).with_hint("remove this file; the blob is then fetched or built again"))
        }
    }
}

/// Makes names in a directory survive a crash.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = fs_err::File::open(path).map_err(Error::fs)?;
    match directory.sync_all() {
        // Some network file systems do not know the call for directories.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(Error::fs),
    }
}
