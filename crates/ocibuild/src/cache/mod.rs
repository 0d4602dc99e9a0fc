//! What earlier builds left to later ones, below `cache/` of the state directory: each kind of document is a noun with a
//! folder of its own.

mod base_names;
mod context_digests;
mod documents;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod listings;
mod origins;
mod record;
mod records;
mod validators;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use ocibuild_spec::{Descriptor, DiffId, Digest, Reference};

use self::base_names::BaseNames;
use self::documents::Documents;
use crate::error::Error;
use crate::failure::{FileAction, HostFailure};

pub(crate) use self::context_digests::KeptContextDigests;
pub(crate) use self::listings::LayerListings;
pub(crate) use self::origins::BlobOrigins;
pub(crate) use self::record::{EncodingOptions, LayerEncoding, StepRecord};
pub(crate) use self::records::{RecordDirectory, StepRecords};
pub(crate) use self::validators::{UrlValidators, Validator};

/// Version of every document here; others are not looked at.
const VERSION: u32 = 1;

/// What earlier builds left to later ones: records of finished steps, listings of layers, and what is remembered of
/// registries, URLs and contexts.
///
/// A record names a layer by its digests; the blob is the store's. A record that is damaged, or whose parts are gone,
/// counts as none: the step runs again.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
    records: RecordDirectory,
    listings: LayerListings,
    origins: BlobOrigins,
    validators: UrlValidators,
    base_names: BaseNames,
    context_digests: KeptContextDigests,
}

impl Cache {
    /// What is kept below this directory, which is made when it is missing.
    pub(crate) fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let folder = |name: &str| Documents::open(root.join(name));
        fs::create_dir_all(root.join("drafts")).map_err(|error| CacheError::Write(root.clone(), error))?;
        Ok(Self {
            records: RecordDirectory::new(folder("records")?, folder("aliases")?),
            listings: LayerListings::new(folder("layer-listings")?),
            origins: BlobOrigins::new(folder("origins")?),
            validators: UrlValidators::new(folder("urls")?),
            base_names: BaseNames::new(folder("bases")?),
            context_digests: KeptContextDigests::new(folder("contexts")?),
            root,
        })
    }

    /// Where drafts of indexes are, which are not a cache: whoever makes them keeps them there.
    pub(crate) fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    /// Records of finished steps.
    pub(crate) fn records(&self) -> &RecordDirectory {
        &self.records
    }

    /// What layers consist of.
    pub(crate) fn listings(&self) -> &LayerListings {
        &self.listings
    }

    /// Which repositories have a blob.
    pub(crate) fn origins(&self) -> &BlobOrigins {
        &self.origins
    }

    /// What servers said about URLs.
    pub(crate) fn validators(&self) -> &UrlValidators {
        &self.validators
    }

    /// What builds have read of contexts.
    pub(crate) fn context_digests(&self) -> &KeptContextDigests {
        &self.context_digests
    }

    /// What the name of a base image stood for when it was last looked up: a manifest or an index.
    pub(crate) fn base_image(&self, name: &Reference) -> Option<Descriptor> {
        self.base_names.get(name)
    }

    /// Remembers that, for builds that may not ask.
    pub(crate) fn put_base_image(&self, name: &Reference, root: &Descriptor) -> Result<(), Error> {
        Ok(self.base_names.put(name, root)?)
    }

    /// What the names of base images stood for, each under what it is forgotten by, and when it was used last.
    pub(crate) fn base_images(&self) -> Result<Vec<(Digest, Descriptor, SystemTime)>, Error> {
        Ok(self.base_names.all()?)
    }

    /// Forgets what a name of a base image stood for; the bytes that went.
    pub(crate) fn forget_base_image(&self, key: &Digest) -> Result<u64, Error> {
        Ok(self.base_names.forget(key)?)
    }

    /// Removes what is known of layers and of blobs but those to keep, and aliases of records that are gone; with `all` also what is
    /// known of URLs and of contexts. The bytes that went.
    pub(crate) fn remove_unneeded(
        &self,
        keep: impl Fn(&DiffId) -> bool,
        keep_blob: impl Fn(&Digest) -> bool,
        all: bool,
    ) -> Result<u64, Error> {
        let mut freed = self.listings.retain(keep)?;
        freed += self.origins.retain(keep_blob)?;
        if all {
            freed += self.validators.clear()?;
            freed += self.context_digests.clear()?;
        }
        Ok(freed + self.records.remove_dangling_aliases()?)
    }

    /// Bytes of all documents.
    pub(crate) fn size(&self) -> u64 {
        let files = walkdir::WalkDir::new(&self.root).into_iter().filter_map(Result::ok);
        files
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    }
}

/// A document of the cache that could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("cannot read the cache at {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write the cache at {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot remove {} from the cache", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

impl From<CacheError> for Error {
    fn from(error: CacheError) -> Self {
        let (action, path, source) = match error {
            CacheError::Read(path, source) => (FileAction::ReadCache, path, source),
            CacheError::Write(path, source) => (FileAction::WriteCache, path, source),
            CacheError::Remove(path, source) => (FileAction::Remove, path, source),
        };
        HostFailure::file(action, &path, source).into()
    }
}

impl CacheError {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Read(path, error)
    }

    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Write(path, error)
    }
}
