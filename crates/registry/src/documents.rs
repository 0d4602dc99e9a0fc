//! Manifests, indexes and configs: small, and read whole.

use std::io::Read;

use ocibuild_spec::{
    CancelToken, Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, Platform, Reference, ResolvedImage,
    SourceError, SourceErrorKind, VerifyingReader, is_document, media_types, parse_manifest_or_index,
    resolve_image,
};

use crate::exchange::{Access, Ask, Failed, Place, check_encoding};
use crate::failure;
use crate::http::{HttpErrorKind, HttpResponse, Method};
use crate::lookup::Visit;
use crate::manifests::{TaggedManifest, name_of};
use crate::registry::Registry;
use crate::routes::Route;

impl Registry {
    /// A manifest or index by tag or digest.
    fn get_manifest(
        &self,
        reference: &Reference,
        visit: Option<Visit<'_>>,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<Fetched, SourceError> {
        let path = format!("manifests/{name}");
        let ask = Ask::new(Method::Get, Place::Below(&path), &Access::Pull, &[200]).at(visit);
        let ask = ask.header("accept", accepted());
        self.ask_for(reference, &ask, cancel, |response| Fetched::read(reference, response))
    }

    /// The manifest or index that the reference itself names, with its bytes, from the first place that has it; verified
    /// if the reference has a digest.
    pub(crate) fn root(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<TaggedManifest, SourceError> {
        let is_pinned = reference.digest().is_some();
        let may = |route: &Route| if is_pinned { route.serves_content } else { route.resolves_tags };
        self.look_up(reference, may, |visit| self.root_at(&visit.route.reference, Some(visit), cancel))
    }

    /// What the reference names, verified if it has a digest; without a place at the registry that it names.
    pub(crate) fn root_at(
        &self,
        reference: &Reference,
        visit: Option<Visit<'_>>,
        cancel: &CancelToken,
    ) -> Result<TaggedManifest, SourceError> {
        let Fetched { bytes, stated, etag } =
            self.get_manifest(reference, visit, &name_of(reference), cancel)?;
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => Digest::of(&bytes),
        };
        check_digest(reference, &bytes, &digest)?;
        let document = parse_manifest_or_index(&bytes, stated.as_ref())
            .map_err(|error| error.of(reference.familiar()))?;
        let (own, usual) = match &document {
            Document::Manifest(manifest) => (manifest.media_type.clone(), MediaType::ImageManifest),
            Document::Index(index) => (index.media_type.clone(), MediaType::ImageIndex),
        };
        let media_type = own.or(stated).unwrap_or(usual);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Ok(TaggedManifest { descriptor, bytes, etag })
    }

    /// A document that another one lists.
    fn document(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>, SourceError> {
        if descriptor.size > MAX_DOCUMENT {
            let text = format!("{}: {} is too large for a document", reference.familiar(), descriptor.digest);
            return Err(SourceError::new(SourceErrorKind::Corrupt, text));
        }
        let serves = |route: &Route| route.serves_content;
        self.look_up(reference, serves, |visit| {
            if is_document(&descriptor.media_type) {
                return self.listed_manifest(visit, descriptor, cancel);
            }
            let read = |response: HttpResponse| Ok(response.read_capped(MAX_DOCUMENT)?);
            let bytes = self.get_blob_at(visit, descriptor, 0, cancel, read)?;
            let mut verified = Vec::new();
            let read = VerifyingReader::new(bytes.as_slice(), descriptor).read_to_end(&mut verified);
            read.map(|_| verified).map_err(|error| of_read(&visit.route.reference, error))
        })
    }

    fn listed_manifest(
        &self,
        visit: Visit<'_>,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>, SourceError> {
        let reference = &visit.route.reference;
        let Fetched { bytes, .. } =
            self.get_manifest(reference, Some(visit), descriptor.digest.as_str(), cancel)?;
        if bytes.len() as u64 != descriptor.size {
            let text = format!(
                "{}: {} has {} bytes, not {}",
                reference.familiar(),
                descriptor.digest,
                bytes.len(),
                descriptor.size
            );
            return Err(SourceError::new(SourceErrorKind::Corrupt, text));
        }
        check_digest(reference, &bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// The image for a platform that a manifest or an index leads to, which is here already. The registry is asked for
    /// what else it takes unless that is `known`.
    pub fn resolve_from(
        &self,
        reference: &Reference,
        (root, bytes): (&Descriptor, Vec<u8>),
        platform: &Platform,
        known: &KnownDocuments<'_>,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let mut bytes = Some(bytes);
        resolve_image(&reference.familiar(), root, platform, &mut |descriptor| {
            // The root is asked for first and once.
            match bytes.take().or_else(|| known(descriptor)) {
                Some(bytes) => Ok(bytes),
                None => self.document(reference, descriptor, cancel),
            }
        })
    }
}

/// Verified bytes of manifests, indexes and configs that somebody has already.
pub type KnownDocuments<'a> = dyn Fn(&Descriptor) -> Option<Vec<u8>> + 'a;

/// A manifest or index as it came.
struct Fetched {
    bytes: Vec<u8>,
    /// What the registry calls it.
    stated: Option<MediaType>,
    etag: Option<String>,
}

impl Fetched {
    fn read(reference: &Reference, response: HttpResponse) -> Result<Self, Failed> {
        check_encoding(reference, &response)?;
        let content_type = response.content_type();
        let stated = match content_type.as_deref() {
            // Types that say nothing: what the document calls itself has to do.
            None | Some("application/json" | "application/octet-stream" | "text/plain") => None,
            Some(media_type) => Some(MediaType::from(media_type)),
        };
        let told = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let (url, etag) = (response.url.clone(), response.header("etag").map(str::to_owned));
        let bytes = response.read_capped(MAX_DOCUMENT).map_err(|error| match error.kind() {
            HttpErrorKind::Protocol => Failed::Source(
                failure::of_http(reference, &error)
                    .hint("no manifest is that large; is this address a registry?"),
            ),
            _ => Failed::Http(error),
        })?;
        let corrupt = |what: String| {
            let text = format!("{}: {url} {what}", reference.familiar());
            SourceError::new(SourceErrorKind::Corrupt, text)
        };
        if let Some(told) = told.filter(|told| !has_digest(&bytes, told)) {
            return Err(corrupt(format!("announced {told} and sent other bytes")).into());
        }
        if failure::is_page(&bytes) {
            let (kind, words) =
                (content_type.unwrap_or_else(|| "text/html".into()), failure::words_of(&bytes));
            return Err(corrupt(format!("sent a page of type {kind} instead of a manifest: {words}"))
                .hint("is this address a registry, or does a proxy in between want a login?")
                .into());
        }
        Ok(Self { bytes, stated, etag })
    }
}

fn has_digest(bytes: &[u8], digest: &Digest) -> bool {
    let stated = Descriptor::new(MediaType::EmptyJSON, digest.clone(), bytes.len() as u64);
    std::io::copy(&mut VerifyingReader::new(bytes, &stated), &mut std::io::sink()).is_ok()
}

fn check_digest(reference: &Reference, bytes: &[u8], digest: &Digest) -> Result<(), SourceError> {
    if has_digest(bytes, digest) {
        return Ok(());
    }
    let text = format!("{}: the registry sent other bytes than those of {digest}", reference.familiar());
    Err(SourceError::new(SourceErrorKind::Corrupt, text))
}

/// The error inside a failed read of a blob.
fn of_read(reference: &Reference, error: std::io::Error) -> SourceError {
    let kind = match error.kind() {
        std::io::ErrorKind::InvalidData => SourceErrorKind::Corrupt,
        _ => SourceErrorKind::Network,
    };
    let text = format!("{}: {error}", reference.familiar());
    match error.downcast::<SourceError>() {
        Ok(inner) => inner,
        Err(_) => SourceError::new(kind, text),
    }
}

pub(crate) fn accepted() -> String {
    [
        MediaType::ImageIndex.as_ref(),
        MediaType::ImageManifest.as_ref(),
        media_types::DOCKER_INDEX,
        media_types::DOCKER_MANIFEST,
    ]
    .join(", ")
}
