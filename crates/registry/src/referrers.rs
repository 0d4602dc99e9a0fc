use ocibuild_spec::{
    CancelToken, Descriptor, Digest, Index, MediaType, Reference, SourceError, SourceErrorKind, json,
    parse_manifest_or_index,
};

use crate::exchange::{Access, Ask, Place};
use crate::http::Method;
use crate::manifests::ManifestPush;
use crate::registry::Registry;
use crate::retry;

/// How often the list of a registry that keeps none by itself is read again after it was written.
const MAX_ROUNDS: u32 = 5;

impl Registry {
    /// Manifests whose subject is `digest`, of one artifact type or of all: from the registry's own list, and from
    /// the tag that stands in for it where the registry keeps none ("Listing Referrers").
    pub fn referrers(
        &self,
        repository: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let found = match self.own_list(repository, digest, artifact_type, cancel)? {
            Some(found) => found,
            None => self.tagged_list(repository, digest, cancel)?,
        };
        let is_wanted = |entry: &Descriptor| {
            artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
        };
        Ok(found.into_iter().filter(is_wanted).collect())
    }

    fn own_list(
        &self,
        repository: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Option<Vec<Descriptor>>, SourceError> {
        let filter = artifact_type.map(|text| format!("?artifactType={text}")).unwrap_or_default();
        let path = format!("referrers/{digest}{filter}");
        // Registries that do not know the request answer in many ways, but with no index.
        let probe = Ask::new(Method::Get, Place::Below(&path), &Access::Pull, &[200, 400, 404, 405]);
        let response = self.ask(repository, &probe, cancel)?;
        let is_list = response.status == 200
            && response.content_type().as_deref() == Some(MediaType::ImageIndex.as_ref());
        if !is_list {
            return Ok(None);
        }
        let found =
            self.pages(repository, response, &Access::Pull, cancel, |index: Index| index.manifests)?;
        Ok(Some(found))
    }

    fn tagged_list(
        &self,
        repository: &Reference,
        digest: &Digest,
        cancel: &CancelToken,
    ) -> Result<Vec<Descriptor>, SourceError> {
        match self.tagged_manifest(&fallback_tag(repository, digest)?, cancel)? {
            Some(found) => parse_list(repository, &found.bytes).map(|index| index.manifests),
            None => Ok(Vec::new()),
        }
    }

    /// Stores a manifest or index that has a subject, under its digest, and sees to it that it is listed there; its
    /// entry in that list.
    pub fn put_referrer(
        &self,
        repository: &Reference,
        bytes: &[u8],
        cancel: &CancelToken,
    ) -> Result<Descriptor, SourceError> {
        let document =
            parse_manifest_or_index(bytes, None).map_err(|error| error.of(repository.familiar()))?;
        let entry = document.referrer_entry(bytes);
        let subject = document.subject().ok_or_else(|| {
            let text = format!("{}: {} has no subject", repository.familiar(), entry.digest);
            SourceError::new(SourceErrorKind::Unsupported, text)
        })?;
        self.store_referrer(repository, &subject.digest, (&entry, bytes), cancel)?;
        Ok(entry)
    }

    fn store_referrer(
        &self,
        repository: &Reference,
        subject: &Digest,
        (entry, bytes): (&Descriptor, &[u8]),
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        let name = repository.with_digest(entry.digest.clone());
        match self.put_manifest(&name, &entry.media_type, bytes, cancel)? {
            ManifestPush::Stored { lists_subject: true } => Ok(()),
            ManifestPush::Stored { lists_subject: false } => {
                self.list_by_tag(repository, subject, entry, cancel)
            }
            ManifestPush::MissingParts { said } => {
                let text = format!(
                    "{}: the registry misses parts of {}: {said}",
                    repository.familiar(),
                    entry.digest
                );
                Err(SourceError::new(SourceErrorKind::NotFound, text))
            }
        }
    }

    /// Adds an entry to the list under the tag. Others may do so at the same time, so it is read again afterwards and
    /// written once more when the entry got lost.
    fn list_by_tag(
        &self,
        repository: &Reference,
        subject: &Digest,
        entry: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        let tag = fallback_tag(repository, subject)?;
        let mut tries = self.retry().tries_of(MAX_ROUNDS + 1);
        while let Some(pause) = tries.next_pause(None) {
            let mut entries = self.tagged_list(repository, subject, cancel)?;
            if entries.iter().any(|other| other.digest == entry.digest) {
                return Ok(());
            }
            entries.push(entry.clone());
            let bytes = list_of(repository, entries)?;
            self.put_manifest(&tag, &MediaType::ImageIndex, &bytes, cancel)?;
            retry::wait(pause, &repository.familiar(), cancel)?;
        }
        let text = format!("{}: others keep replacing the list of referrers", tag.familiar());
        Err(SourceError::new(SourceErrorKind::Network, text).hint("try again when nobody else writes to it"))
    }
}

/// `sha256-<hex>`: the tag that stands in for a list ("Referrers Tag Schema").
fn fallback_tag(repository: &Reference, digest: &Digest) -> Result<Reference, SourceError> {
    let hex: String = digest.hex().chars().take(64).collect();
    repository
        .with_tag(&format!("{}-{hex}", digest.algorithm()))
        .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, error.to_string()))
}

fn parse_list(repository: &Reference, bytes: &[u8]) -> Result<Index, SourceError> {
    json::from_slice(bytes).map_err(|error| {
        let text = format!("{}: the list of referrers is not an index: {error}", repository.familiar());
        SourceError::new(SourceErrorKind::Corrupt, text)
    })
}

fn list_of(repository: &Reference, entries: Vec<Descriptor>) -> Result<Vec<u8>, SourceError> {
    json::to_vec(&Index::new(entries)).map_err(|error| {
        let text = format!("{}: the list of referrers cannot be written: {error}", repository.familiar());
        SourceError::new(SourceErrorKind::Corrupt, text)
    })
}
