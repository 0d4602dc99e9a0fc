//! What names of base images stood for.

use std::time::SystemTime;

use ocibuild_spec::{Descriptor, Digest, Reference};
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::{CacheError, VERSION};
use crate::keys::Framed;

/// What each name of a base image stood for when it was last looked up, for builds that may not ask.
#[derive(Debug, Clone)]
pub(super) struct BaseNames {
    documents: Documents,
}

#[derive(Debug, Serialize, Deserialize)]
struct Base {
    v: u32,
    name: String,
    root: Descriptor,
}

impl BaseNames {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    /// The manifest or index.
    pub(super) fn get(&self, name: &Reference) -> Option<Descriptor> {
        let base: Option<Base> = self.documents.try_json(&key(name));
        base.filter(|base| base.v == VERSION && base.name == name.to_string()).map(|base| base.root)
    }

    pub(super) fn put(&self, name: &Reference, root: &Descriptor) -> Result<(), CacheError> {
        if self.get(name).as_ref() == Some(root) {
            self.documents.touch(&key(name));
            return Ok(());
        }
        let base = Base { v: VERSION, name: name.to_string(), root: root.clone() };
        self.documents.write_json(&key(name), &base)
    }

    /// What they all stood for, each with its key and the time when it was used last.
    pub(super) fn all(&self) -> Result<Vec<(Digest, Descriptor, SystemTime)>, CacheError> {
        let mut all = Vec::new();
        for key in self.documents.keys()? {
            let base: Option<Base> = self.documents.try_json(&key);
            if let (Some(base), Some(used)) =
                (base.filter(|base| base.v == VERSION), self.documents.used(&key))
            {
                all.push((key, base.root, used));
            }
        }
        Ok(all)
    }

    /// Forgets one; the bytes that went.
    pub(super) fn forget(&self, key: &Digest) -> Result<u64, CacheError> {
        self.documents.remove(key)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn folder(&self) -> &Documents {
        &self.documents
    }
}

pub(super) fn key(name: &Reference) -> Digest {
    let mut framed = Framed::new("ocibuild base image v1");
    framed.field(name.to_string().as_bytes());
    framed.finish()
}
