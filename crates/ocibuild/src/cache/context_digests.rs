//! What builds have read of contexts.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ocibuild_spec::Digest;
use ocibuild_sys::Timestamp;

use super::CacheError;
use super::documents::Documents;
use crate::keys::Framed;

/// What builds have read of the context in each directory, as bytes: who writes them knows what they mean.
#[derive(Debug, Clone)]
pub(crate) struct KeptContextDigests {
    documents: Documents,
}

impl KeptContextDigests {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    /// What is kept of the context in this directory. What cannot be read counts as nothing: the files are read again.
    pub(crate) fn get(&self, directory: &Path) -> Option<Vec<u8>> {
        self.documents.read(&key(directory)).ok().flatten()
    }

    pub(crate) fn put(&self, directory: &Path, record: &[u8]) -> Result<(), CacheError> {
        self.documents.write(&key(directory), record)
    }

    /// The time by the clock that files here get theirs from; `None` where no file can be made.
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        self.documents.moment()
    }

    /// Forgets everything; the bytes that went.
    pub(super) fn clear(&self) -> Result<u64, CacheError> {
        self.documents.clear()
    }
}

fn key(directory: &Path) -> Digest {
    let mut framed = Framed::new("ocibuild context digests v1");
    framed.field(directory.as_os_str().as_bytes());
    framed.finish()
}
