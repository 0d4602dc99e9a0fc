use std::collections::BTreeSet;
use std::sync::Arc;

use ocibuild_registry::ManifestPush;
use ocibuild_spec::{Descriptor, Document, Reference};

use super::draft::{IndexDraft, IndexEntry};
use super::lookup::{Found, ImageLookup, parse};
use super::{FirstError, back_off};
use crate::cache::BlobOrigins;
use crate::error::Error;
use crate::failure::{DocumentProblem, IndexFailure};
use crate::transfer::{ImageUpload, Origin, Pushed, Transfer, Watcher, push};

/// How often an index that goes on with another is written again, because others did the same.
const MAX_ROUNDS: u32 = 8;

/// What indexes are pushed with.
pub(crate) struct Publishing<'a> {
    pub(crate) lookup: ImageLookup<'a>,
    pub(crate) origins: &'a BlobOrigins,
    pub(crate) watcher: &'a Watcher<'a>,
}

impl Publishing<'_> {
    /// Makes every image be in the repository of the draft's name, then puts the index under that name.
    pub(crate) fn run(&self, draft: &mut IndexDraft) -> Result<Pushed, Error> {
        let name = draft.name.clone();
        for entry in draft.entries.iter().filter(|entry| !entry.is_of_base) {
            self.bring(entry, &name, None)?;
        }
        if draft.base.is_some() {
            return self.go_on(draft);
        }
        let (descriptor, bytes) = draft.document();
        self.put(&name, &descriptor, &bytes)
    }

    /// Makes an image be in the repository of `target`, and gives it a name there.
    pub(crate) fn bring(
        &self,
        entry: &IndexEntry,
        target: &Reference,
        name: Option<&Reference>,
    ) -> Result<(), Error> {
        let is_there = matches!(&entry.origin, Origin::Registry(from)
            if from.registry() == target.registry() && from.repository() == target.repository());
        if is_there && name.is_none() {
            return Ok(());
        }
        let descriptor = plain(&entry.descriptor);
        let bytes = self.lookup.document(&entry.origin, &descriptor)?;
        let Document::Manifest(manifest) = parse(&entry.name, &descriptor, &bytes)? else {
            let problem = DocumentProblem::IsIndex(descriptor.digest);
            return Err(IndexFailure::document(entry.name.familiar(), problem).into());
        };
        let mut seen = BTreeSet::new();
        let listed = std::iter::once(&manifest.config).chain(manifest.layers());
        let mut blobs: Vec<Descriptor> =
            listed.filter(|blob| seen.insert(blob.digest.clone())).cloned().collect();
        if is_there {
            blobs.clear();
        }
        if let Origin::Registry(from) = &entry.origin {
            for blob in &blobs {
                self.origins.put(&blob.digest, from)?;
            }
        }
        let failed = Arc::new(FirstError::default());
        let by_digest = target.with_digest(descriptor.digest.clone());
        let upload = ImageUpload {
            documents: vec![(descriptor, bytes)],
            blobs,
            open: &|blob| self.lookup.open(&entry.origin, blob, &failed),
        };
        let names = [name.cloned().unwrap_or(by_digest)];
        let result =
            push(self.lookup.registry, self.origins, &names, &upload, (self.lookup.cancel, self.watcher));
        match (result, failed.take()) {
            (Ok(_), _) => Ok(()),
            // Why a blob could not be read says more than that it could not be sent.
            (Err(error), None) | (Err(_), Some(error)) => Err(error),
        }
    }

    /// Puts an index, of which everything is there, under a name.
    pub(crate) fn put(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Pushed, Error> {
        let ImageLookup { registry, cancel, .. } = self.lookup;
        let stored = registry.put_manifest(name, &descriptor.media_type, bytes, cancel);
        self.stored(stored.map_err(Error::of_registry)?, name, descriptor)
    }

    fn stored(
        &self,
        stored: ManifestPush,
        name: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Pushed, Error> {
        if let ManifestPush::MissingParts { said } = stored {
            return Err(IndexFailure::ImagesMissing { name: name.clone(), said }.into());
        }
        (self.watcher)(Transfer::Named { name, descriptor });
        Ok(Pushed { name: name.clone(), descriptor: descriptor.clone() })
    }

    /// Puts an index that goes on with what its name stands for. Registries store it whatever was written meanwhile,
    /// so the name is read again afterwards, until it has all that is the draft's own.
    fn go_on(&self, draft: &mut IndexDraft) -> Result<Pushed, Error> {
        let ImageLookup { registry, cancel, .. } = self.lookup;
        let name = draft.name.clone();
        for round in 0..MAX_ROUNDS {
            let current = registry.tagged_manifest(&name, cancel).map_err(Error::of_registry)?;
            let etag = current.as_ref().and_then(|current| current.etag.clone());
            let digest = current.as_ref().map(|current| current.descriptor.digest.clone());
            if draft.base.as_ref().is_none_or(|base| base.digest != digest) {
                self.rebase(draft, current.map(|current| (current.descriptor, current.bytes)))?;
            }
            let (descriptor, bytes) = draft.document();
            let put = || match &etag {
                Some(etag) => {
                    registry.replace_manifest(&name, (&descriptor.media_type, &bytes), etag, cancel)
                }
                None => registry.put_manifest(&name, &descriptor.media_type, &bytes, cancel).map(Some),
            };
            if digest.as_ref() != Some(&descriptor.digest)
                && let Some(stored) = put().map_err(Error::of_registry)?
            {
                self.stored(stored, &name, &descriptor)?;
            }
            back_off(round, cancel)?;
            let Some(now) = registry.tagged_manifest(&name, cancel).map_err(Error::of_registry)? else {
                continue;
            };
            let is_within = match parse(&name, &now.descriptor, &now.bytes)? {
                Document::Index(index) => draft.is_within(&index),
                Document::Manifest(_) => false,
            };
            if is_within {
                return Ok(Pushed { name, descriptor: now.descriptor });
            }
        }
        Err(IndexFailure::ChangedByOthers { name }.into())
    }

    /// Goes on with what the name stands for now.
    pub(crate) fn rebase(
        &self,
        draft: &mut IndexDraft,
        current: Option<(Descriptor, Vec<u8>)>,
    ) -> Result<Vec<Descriptor>, Error> {
        let Some((descriptor, bytes)) = current else {
            draft.rebase(None, Vec::new(), std::collections::BTreeMap::new())?;
            return Ok(Vec::new());
        };
        let digest = descriptor.digest.clone();
        let annotations = match parse(&draft.name, &descriptor, &bytes)? {
            Document::Index(index) => index.annotations,
            Document::Manifest(_) => std::collections::BTreeMap::new(),
        };
        let origin = Origin::Registry(draft.name.with_digest(digest.clone()));
        let by_digest = draft.name.with_digest(digest.clone());
        let gathered = self.lookup.gather(&by_digest, &Found { origin, descriptor, bytes })?;
        draft.rebase(Some(digest), gathered.entries, annotations)?;
        Ok(gathered.left_out)
    }
}

/// What the descriptor says of the bytes alone.
pub(crate) fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size)
}
