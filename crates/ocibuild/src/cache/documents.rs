//! A folder of documents that are named by digests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use ocibuild_spec::{Digest, json};
use serde::{Deserialize, Serialize};

use super::CacheError;

/// Documents of one kind, each under the hexadecimal digits of its key.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    folder: PathBuf,
}

impl Documents {
    /// Those in this folder, which is made when it is missing.
    pub(super) fn open(folder: PathBuf) -> Result<Self, CacheError> {
        fs::create_dir_all(&folder).map_err(CacheError::write(&folder))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.hex())
    }

    /// The bytes of a document; `None` where there is none.
    pub(super) fn read(&self, key: &Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.path(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CacheError::Read(path, error)),
        }
    }

    /// A document in JSON; a damaged one counts as none.
    pub(super) fn read_json<T: for<'de> Deserialize<'de>>(
        &self,
        key: &Digest,
    ) -> Result<Option<T>, CacheError> {
        Ok(self.read(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The same of what can be found out again: one that cannot be read counts as none.
    pub(super) fn try_json<T: for<'de> Deserialize<'de>>(&self, key: &Digest) -> Option<T> {
        self.read_json(key).ok().flatten()
    }

    /// Puts a document in the place of whatever there was, whole or not at all.
    pub(super) fn write(&self, key: &Digest, bytes: &[u8]) -> Result<(), CacheError> {
        let path = self.path(key);
        let written = tempfile::NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        written.map_err(CacheError::write(&path))
    }

    /// The same in canonical JSON.
    pub(super) fn write_json(&self, key: &Digest, value: &impl Serialize) -> Result<(), CacheError> {
        self.write(key, &json::to_vec(value).expect("documents of the cache are plain data"))
    }

    /// When a document was used last; `None` where there is none.
    pub(super) fn used(&self, key: &Digest) -> Option<SystemTime> {
        fs::metadata(self.path(key)).and_then(|found| found.modified()).ok()
    }

    /// Says that a document is used now, if that was said longer than an hour ago. Where it cannot be said, as in a directory
    /// that may not be written to, the document counts as older than it is.
    pub(super) fn touch(&self, key: &Digest) {
        const HOUR: Duration = Duration::from_hours(1);
        let now = SystemTime::now();
        let is_said = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age < HOUR);
        if !self.used(key).is_some_and(is_said)
            && let Ok(file) = fs::File::open(self.path(key))
        {
            let _ = file.file().set_modified(now);
        }
    }

    /// Whether there is nothing, not even a file that is being written.
    pub(super) fn is_empty(&self) -> bool {
        fs::read_dir(&self.folder).is_ok_and(|mut found| found.next().is_none())
    }

    /// The keys of all documents.
    pub(super) fn keys(&self) -> Result<Vec<Digest>, CacheError> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(CacheError::read(&self.folder))? {
            let name = entry.map_err(CacheError::read(&self.folder))?.file_name();
            keys.extend(format!("sha256:{}", name.to_string_lossy()).parse::<Digest>());
        }
        Ok(keys)
    }

    /// Removes a document that may be gone already; its size.
    pub(super) fn remove(&self, key: &Digest) -> Result<u64, CacheError> {
        remove(&self.path(key))
    }

    /// Removes the documents that are not to be kept; the bytes that went.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<u64, CacheError> {
        let mut freed = 0;
        for key in self.keys()? {
            if !keep(&key) {
                freed += self.remove(&key)?;
            }
        }
        Ok(freed)
    }

    /// Removes all documents; the bytes that went.
    pub(super) fn clear(&self) -> Result<u64, CacheError> {
        self.retain(|_| false)
    }

    /// The time by the clock that files here get theirs from; `None` where no file can be made.
    pub(super) fn moment(&self) -> Option<ocibuild_sys::Timestamp> {
        let file = tempfile::tempfile_in(&self.folder).ok()?;
        ocibuild_sys::metadata_of_file(&file).ok().map(|found| found.mtime)
    }
}

fn remove(path: &Path) -> Result<u64, CacheError> {
    let size = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Remove(path.to_owned(), error))
        }
        _ => Ok(size),
    }
}
