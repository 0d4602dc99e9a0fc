use ocibuild_spec::{
    CancelToken, Descriptor, Digest, MAX_DOCUMENT, MediaType, Reference, SourceError, SourceErrorKind,
};

use crate::documents::accepted;
use crate::exchange::{Access, Ask, Place};
use crate::failure::{self, Refusal};
use crate::http::Method;
use crate::registry::Registry;

/// What became of a manifest that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestPush {
    /// It is stored.
    Stored {
        /// Whether the registry lists it under its subject by itself (`OCI-Subject`).
        lists_subject: bool,
    },
    /// The registry misses blobs or manifests that this one lists.
    MissingParts {
        /// Its words.
        said: String,
    },
}

/// What a name stands for at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedManifest {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its verified bytes.
    pub bytes: Vec<u8>,
    /// What the registry calls this state of the name, for [`Registry::replace_manifest`].
    pub etag: Option<String>,
}

impl Registry {
    /// Descriptor of what a reference names, without its bytes; `None` when there is no such thing. By a tag it is
    /// only what the registry says.
    pub fn stat_manifest(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<Option<Descriptor>, SourceError> {
        let path = format!("manifests/{}", name_of(reference));
        let ask = Ask::new(Method::Head, Place::Below(&path), &Access::Pull, &[200, 404, 405, 501]);
        let response = self.ask(reference, &ask.header("accept", accepted()), cancel)?;
        match response.status {
            404 => return Ok(None),
            // This registry, or a proxy in front of it, does not know the method.
            405 | 501 => {
                return self.tagged_manifest(reference, cancel).map(|found| found.map(|it| it.descriptor));
            }
            _ => {}
        }
        let told = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let known = told.filter(|told| reference.digest().is_none_or(|digest| digest == told));
        let media_type = response.content_type().map(|text| MediaType::from(text.as_str()));
        match (known, media_type, response.content_length()) {
            (Some(digest), Some(media_type), Some(size)) if size <= MAX_DOCUMENT => {
                Ok(Some(Descriptor::new(media_type, digest, size)))
            }
            // Registries need not tell all of that for a HEAD.
            _ => self.root_at(reference, None, cancel).map(|found| Some(found.descriptor)),
        }
    }

    /// What a reference names, with its verified bytes: a manifest or an index.
    pub fn manifest(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<(Descriptor, Vec<u8>), SourceError> {
        self.root(reference, cancel).map(|found| (found.descriptor, found.bytes))
    }

    /// What a reference names now, if anything, at the very registry that it names, whatever mirrors there are: what is
    /// to be changed there has to be read there.
    pub fn tagged_manifest(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<Option<TaggedManifest>, SourceError> {
        match self.root_at(reference, None, cancel) {
            Err(error) if error.kind() == SourceErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Stores a manifest or an index under the tag of `reference`, or under its own digest where that has none.
    /// Everything that it lists has to be there before.
    pub fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
        cancel: &CancelToken,
    ) -> Result<ManifestPush, SourceError> {
        let stored = self.store_manifest(reference, (media_type, bytes), None, cancel)?;
        Ok(stored.expect("only a condition that does not hold keeps it out"))
    }

    /// The same if the name still stands for what had this `etag` (RFC 9110, 13.1.1); `None` when it does not. Many
    /// registries store it whatever the condition says, and where a request had to be made twice it may be this call
    /// that changed the name, so whoever depends on it reads the name again.
    pub fn replace_manifest(
        &self,
        reference: &Reference,
        (media_type, bytes): (&MediaType, &[u8]),
        etag: &str,
        cancel: &CancelToken,
    ) -> Result<Option<ManifestPush>, SourceError> {
        self.store_manifest(reference, (media_type, bytes), Some(etag), cancel)
    }

    fn store_manifest(
        &self,
        reference: &Reference,
        (media_type, bytes): (&MediaType, &[u8]),
        etag: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Option<ManifestPush>, SourceError> {
        let digest = Digest::of(bytes);
        let name = match reference.tag() {
            Some(tag) if reference.digest().is_none() => tag.to_owned(),
            _ => digest.to_string(),
        };
        let (path, access) = (format!("manifests/{name}"), Access::Push(Vec::new()));
        let mut expected = vec![200, 201, 202, 400, 404];
        expected.extend(etag.map(|_| 412));
        let mut ask = Ask::new(Method::Put, Place::Below(&path), &access, &expected)
            .header("content-type", media_type.as_ref());
        if let Some(etag) = etag {
            ask = ask.header("if-match", etag);
        }
        ask.body = bytes;
        let response = self.ask(reference, &ask, cancel)?;
        if response.status == 412 {
            return Ok(None);
        }
        if response.status >= 400 {
            let refusal = Refusal::read(reference, response);
            return if refusal.misses_parts() {
                Ok(Some(ManifestPush::MissingParts { said: refusal.words() }))
            } else {
                Err(refusal.into_error())
            };
        }
        let told = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match told {
            Some(told) if told != digest && told.algorithm() == digest.algorithm() => {
                let text = format!(
                    "{}: the registry stored {told} where it was sent {digest}",
                    reference.familiar()
                );
                Err(SourceError::new(SourceErrorKind::Corrupt, text))
            }
            _ => Ok(Some(ManifestPush::Stored { lists_subject: response.header("oci-subject").is_some() })),
        }
    }

    /// Removes what a reference names: a manifest by its digest, with all tags that name it, or only a tag where the
    /// registry can do that.
    pub fn delete_manifest(&self, reference: &Reference, cancel: &CancelToken) -> Result<(), SourceError> {
        self.delete(reference, &format!("manifests/{}", name_of(reference)), cancel)
    }

    /// Removes a blob from a repository.
    pub fn delete_blob(
        &self,
        repository: &Reference,
        digest: &Digest,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        self.delete(repository, &format!("blobs/{digest}"), cancel)
    }

    fn delete(&self, reference: &Reference, path: &str, cancel: &CancelToken) -> Result<(), SourceError> {
        let ask = Ask::new(Method::Delete, Place::Below(path), &Access::Delete, &[200, 202, 204, 404, 405]);
        let response = self.ask(reference, &ask, cancel)?;
        match response.status {
            405 => Err(failure::of_status(reference, response)
                .hint("this registry removes nothing, or nothing by tag; its configuration decides")),
            404 => Err(failure::of_status(reference, response)),
            _ => Ok(()),
        }
    }
}

/// Digest or tag, as the last part of a manifest's path.
pub(crate) fn name_of(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}
