//! Which repositories have a blob.

use ocibuild_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::{CacheError, VERSION};

/// Most repositories that are remembered of one blob.
pub(super) const MAX_ORIGINS: usize = 8;

/// Repositories of registries that have a blob, as far as pulls and pushes showed. Nothing depends on it being true.
#[derive(Debug, Clone)]
pub(crate) struct BlobOrigins {
    documents: Documents,
}

#[derive(Debug, Serialize, Deserialize)]
struct Origins {
    v: u32,
    of: Digest,
    /// `registry/repository`, the last one first.
    repositories: Vec<String>,
}

impl BlobOrigins {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    /// Remembers that a repository has a blob, so that others at its registry can take it over from there.
    pub(crate) fn put(&self, blob: &Digest, repository: &Reference) -> Result<(), CacheError> {
        let name = format!("{}/{}", repository.registry(), repository.repository());
        let mut repositories = self.all_with(blob);
        if repositories.first() == Some(&name) {
            return Ok(());
        }
        repositories.retain(|other| *other != name);
        repositories.insert(0, name);
        repositories.truncate(MAX_ORIGINS);
        self.documents.write_json(blob, &Origins { v: VERSION, of: blob.clone(), repositories })
    }

    /// Repositories at this registry that probably have a blob.
    pub(crate) fn repositories_with(&self, blob: &Digest, registry: &str) -> Vec<String> {
        let of_registry = |name: &String| name.strip_prefix(registry)?.strip_prefix('/').map(str::to_owned);
        self.all_with(blob).iter().filter_map(of_registry).collect()
    }

    fn all_with(&self, blob: &Digest) -> Vec<String> {
        let origins: Option<Origins> = self.documents.try_json(blob);
        origins
            .filter(|origins| origins.v == VERSION && origins.of == *blob)
            .map_or_else(Vec::new, |origins| origins.repositories)
    }

    /// Forgets all blobs but the ones to keep; the bytes that went.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<u64, CacheError> {
        self.documents.retain(keep)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn folder(&self) -> &Documents {
        &self.documents
    }
}
