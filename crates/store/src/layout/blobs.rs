use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{Descriptor, Digest, MAX_DOCUMENT, MediaType, VerifyingReader};
use tempfile::NamedTempFile;

use super::{ImageLayout, ScratchDir, make_directory, open_regular};
use crate::blob::{BlobSink, BlobStore, BlobWriter, PendingBlob, read_document};
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
        Box::new(pending).commit(&descriptor.digest, descriptor.size)
    }
}

impl BlobStore for ImageLayout {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let _present = self.pin(&descriptor.digest)?;
        Ok(Box::new(open_expecting(self.root(), descriptor)?))
    }

    fn writer(&self) -> Result<BlobWriter, Error> {
        Ok(BlobWriter::new(Box::new(self.pending()?)))
    }

    fn flush(&self, blobs: &[Descriptor]) -> Result<(), Error> {
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
}

impl ImageLayout {
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

/// A blob under a temporary name.
struct PendingFile {
    layout: ImageLayout,
    file: BufWriter<NamedTempFile>,
    _directory: Arc<ScratchDir>,
}

impl PendingBlob for PendingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), Error> {
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
        Ok(_) => Err(Error::corrupt(format!("{} is no regular file", path.display()))),
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
