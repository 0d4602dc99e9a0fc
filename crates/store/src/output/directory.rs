use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use ocibuild_spec::{Descriptor, Digest, VerifyingReader, json};
use rustix::fs::FlockOperation;

use super::{OutputImage, entries};
use crate::blob::BlobSink;
use crate::layout::{
    CONTAINERD_NAME, EMPTY_INDEX, OCI_LAYOUT, REF_NAME, blob_path, make_directory, open_blob, read_index,
    rename_blob, replace, sync_directory,
};
use crate::{Error, Fault};

/// A plain OCI layout in a directory that other tools read.
///
/// An existing layout keeps what it has; names that are given again move. Nothing but the layout is written, and
/// its `index.json` is touched by [`finish`](Self::finish) alone.
#[derive(Debug)]
pub struct LayoutDirectory {
    root: PathBuf,
}

impl LayoutDirectory {
    /// The layout in `root`, which may be missing, empty, or a layout.
    pub fn open_or_create(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref().to_owned();
        fs_err::create_dir_all(&root).map_err(Error::fs)?;
        let is_layout = root.join("oci-layout").is_file();
        if !is_layout && fs_err::read_dir(&root).map_err(Error::fs)?.next().is_some() {
            return Err(Fault::NotEmpty { path: root }.into());
        }
        make_directory(&root.join("blobs"))?;
        make_directory(&root.join("blobs/sha256"))?;
        Ok(Self { root })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Flushes all blobs put so far and then names the images, all at once.
    pub fn finish(self, images: &[OutputImage]) -> Result<(), Error> {
        let directory = fs_err::File::open(&self.root).map_err(Error::fs)?;
        rustix::fs::flock(directory.file(), FlockOperation::LockExclusive)
            .map_err(|error| Error::io(format!("lock {}", self.root.display()), error.into()))?;
        ocibuild_sys::sync_filesystem(directory.file())?;
        sync_directory(&self.root.join("blobs/sha256"))?;
        if !self.root.join("index.json").exists() {
            self.replace("index.json", EMPTY_INDEX.as_bytes())?;
        }
        let mut index = read_index(&self.root)?;
        for entry in images.iter().flat_map(entries) {
            if open_blob(&self.root, &entry.digest)?.is_none() {
                return Err(Error::missing(&entry.digest, &self.root));
            }
            index.manifests.retain(|other| !replaces(&entry, other));
            index.manifests.push(entry);
        }
        let bytes = json::to_vec(&index)
            .map_err(|error| Error::corrupt("index.json cannot be written").caused_by(error))?;
        self.replace("index.json", &bytes)?;
        self.replace("oci-layout", OCI_LAYOUT.as_bytes())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        replace(&self.root, name, &self.root.join(format!("{name}.new")), bytes)
    }
}

/// Whether the new entry takes the place of the old one: the same name, or the same unnamed image.
fn replaces(new: &Descriptor, old: &Descriptor) -> bool {
    let names =
        |entry: &Descriptor| [CONTAINERD_NAME, REF_NAME].map(|key| entry.annotations.get(key).cloned());
    match names(new) {
        [None, None] => new.digest == old.digest && names(old) == [None, None],
        wanted => wanted == names(old),
    }
}

impl BlobSink for LayoutDirectory {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(open_blob(&self.root, digest)?.map(|(_, size)| size))
    }

    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn Read) -> Result<(), Error> {
        if self.has(descriptor)? {
            return Ok(());
        }
        let path = blob_path(&self.root, &descriptor.digest);
        let write = |error| Error::io(format!("write {}", path.display()), error);
        let file = tempfile::Builder::new()
            .prefix(".blob-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(self.root.join("blobs"))
            .map_err(write)?;
        let mut file = BufWriter::with_capacity(128 << 10, file);
        io::copy(&mut VerifyingReader::new(reader, descriptor), &mut file).map_err(write)?;
        let file = file.into_inner().map_err(|error| write(error.into_error()))?;
        rename_blob(&self.root, file, &descriptor.digest, descriptor.size)
    }
}
