//! What servers said about URLs.

use ocibuild_spec::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::{CacheError, VERSION};

/// What a server said about each URL, so that it need not send again what did not change (6.71).
#[derive(Debug, Clone)]
pub(crate) struct UrlValidators {
    documents: Documents,
}

/// What a server said about a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validator {
    v: u32,
    /// Digest of the URL.
    of: Digest,
    pub(crate) etag: String,
    pub(crate) last_modified: Option<Timestamp>,
    /// Of the content.
    pub(crate) digest: Digest,
}

impl Validator {
    pub(crate) fn new(of: Digest, etag: String, last_modified: Option<Timestamp>, digest: Digest) -> Self {
        Self { v: VERSION, of, etag, last_modified, digest }
    }
}

impl UrlValidators {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    /// What is known of the URL with this digest.
    pub(crate) fn get(&self, of: &Digest) -> Option<Validator> {
        let validator: Option<Validator> = self.documents.try_json(of);
        validator.filter(|validator| validator.v == VERSION && validator.of == *of)
    }

    pub(crate) fn put(&self, validator: &Validator) -> Result<(), CacheError> {
        self.documents.write_json(&validator.of, validator)
    }

    /// Forgets everything; the bytes that went.
    pub(super) fn clear(&self) -> Result<u64, CacheError> {
        self.documents.clear()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn folder(&self) -> &Documents {
        &self.documents
    }
}
