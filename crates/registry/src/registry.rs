use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ocibuild_spec::{
    CancelToken, Descriptor, Digest, Document, ImageSource, MAX_DOCUMENT, MediaType, Platform, Reference,
    ResolvedImage, SourceError, SourceErrorKind, VerifyingReader, is_document, media_types,
    parse_manifest_or_index, resolve_image,
};

use crate::auth::{Auth, Need, Realms, Via};
use crate::blob::BlobReader;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Endpoints};
use crate::exchange::{Access, Ask, Place};
use crate::failure;
use crate::http::{HttpClient, HttpClientBuilder, HttpError, HttpResponse, Method, Proxies};
use crate::manifests::{TaggedManifest, name_of};
use crate::retry::Retry;

/// Registries, as a source of images. One value serves any number of them; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    endpoints: Endpoints,
    auth: Auth,
    retry: Retry,
}

/// What a [`Registry`] is made with; nothing is read from the environment.
#[derive(Debug, Clone)]
pub struct RegistryBuilder {
    client: HttpClientBuilder,
    insecure: Vec<String>,
    credentials: Credentials,
    realms: Realms,
    retry: Retry,
}

impl RegistryBuilder {
    /// Certificate authorities to trust, in PEM; may be called several times.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.client = self.client.ca_pem(pem);
        self
    }

    /// Trusts what this system trusts, if its bundle is found and readable.
    #[must_use]
    pub fn system_roots(mut self) -> Self {
        self.client = self.client.system_roots();
        self
    }

    /// A registry (`host[:port]`, as in references) whose certificate does not matter, and which is spoken to in the
    /// clear when it does not know TLS. Its token service, where that is another server, is trusted no more for it.
    #[must_use]
    pub fn insecure(mut self, registry: impl Into<String>) -> Self {
        self.insecure.push(registry.into());
        self
    }

    /// Where passwords and tokens come from; nobody's are sent unless told so. They are looked for when a registry
    /// asks for a login, and sent to that registry and to its token service.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// A host whose token service may have credentials for a registry (`host[:port]`), or for every registry that
    /// names it. Without it those on the registry's own host and in its own domain may.
    #[must_use]
    pub fn allow_realm(mut self, registry: Option<&str>, host: &str) -> Self {
        self.realms.allow(registry, host);
        self
    }

    /// A directory with a folder of certificates for each host; see [`HttpClientBuilder::certs_d`].
    #[must_use]
    pub fn certs_d(mut self, directory: impl Into<PathBuf>) -> Self {
        self.client = self.client.certs_d(directory);
        self
    }

    /// Proxies to go through.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.client = self.client.proxies(proxies);
        self
    }

    /// What the `User-Agent` header says.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.client = self.client.user_agent(text);
        self
    }

    /// Longest wait for a connection.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.client = self.client.connect_timeout(time);
        self
    }

    /// Longest silence of a registry.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.client = self.client.stall_timeout(time);
        self
    }

    /// How often a request is tried, how long to wait before the second try (twice as long before each further
    /// one), and the longest wait, also when a registry asks for more. Five, one second and a minute unless told
    /// otherwise.
    #[must_use]
    pub fn retries(mut self, attempts: u32, pause: Duration, longest: Duration) -> Self {
        self.retry = Retry { attempts: attempts.max(1), pause, longest };
        self
    }

    /// The source.
    pub fn build(self) -> Result<Registry, HttpError> {
        let shared = Shared {
            client: self.client.build()?,
            endpoints: Endpoints::new(self.insecure),
            auth: Auth::new(self.credentials, self.realms),
            retry: self.retry,
        };
        Ok(Registry { shared: Arc::new(shared) })
    }
}

impl Registry {
    /// Public images, with what this system trusts. Where the system has no bundle of certificate authorities, no
    /// registry but those on this machine can be asked.
    pub fn anonymous() -> Self {
        let with_roots = Self::builder().system_roots().build();
        with_roots
            .or_else(|_unreadable| Self::builder().build())
            .expect("without certificates and proxies nothing can be malformed")
    }

    /// How to make a source.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            client: HttpClient::builder(),
            insecure: Vec::new(),
            credentials: Credentials::none(),
            realms: Realms::default(),
            retry: Retry::default(),
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        self.shared.retry
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.shared.client
    }

    /// How long a registry may take to look at what it was sent: it may hash all of a layer.
    pub(crate) fn patience_of_commit(&self) -> Duration {
        self.shared.client.stall_timeout() * 10
    }

    pub(crate) fn endpoint(&self, reference: &Reference) -> Result<Endpoint, SourceError> {
        self.endpoint_of(reference.registry(), &reference.familiar())
    }

    /// The server of a registry; `subject` is what it is about.
    pub(crate) fn endpoint_of(&self, registry: &str, subject: &str) -> Result<Endpoint, SourceError> {
        let patience = self.shared.client.connect_timeout();
        self.shared
            .endpoints
            .of(registry, patience)
            .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, format!("{subject}: {error}")))
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.shared.auth
    }

    /// The `authorization` header for requests that need this access, if it takes one.
    pub(crate) fn authorization(
        &self,
        reference: &Reference,
        access: &Access,
        cancel: &CancelToken,
    ) -> Result<Option<String>, SourceError> {
        let (subject, endpoint) = (reference.familiar(), self.endpoint(reference)?);
        self.auth().header(&Need::new(reference, access), self.via(&endpoint, &subject, cancel))
    }

    pub(crate) fn via<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        subject: &'a str,
        cancel: &'a CancelToken,
    ) -> Via<'a> {
        Via { client: &self.shared.client, endpoint, retry: self.shared.retry, subject, cancel }
    }

    /// A refusal for good, with what there is to know about the login.
    pub(crate) fn refused(
        &self,
        reference: &Reference,
        access: &Access,
        response: HttpResponse,
    ) -> SourceError {
        let status = response.status;
        let error = failure::of_status(reference, response);
        match status {
            401 | 403 => error.hint(self.auth().advice(&Need::new(reference, access))),
            _ => error,
        }
    }

    /// Does what a refusal tells to do about it.
    pub(crate) fn authorize(
        &self,
        reference: &Reference,
        access: &Access,
        refusal: &HttpResponse,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        let (subject, endpoint) = (reference.familiar(), self.endpoint(reference)?);
        self.auth().answer(&Need::new(reference, access), self.via(&endpoint, &subject, cancel), refusal)
    }

    /// A blob from byte `from` on; the answer may be the whole of it.
    pub(crate) fn get_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: u64,
        cancel: &CancelToken,
    ) -> Result<HttpResponse, SourceError> {
        let path = format!("blobs/{}", descriptor.digest);
        let mut ask = Ask::new(Method::Get, Place::Below(&path), &Access::Pull, &[200, 206, 416]);
        if from > 0 {
            ask = ask.header("range", format!("bytes={from}-"));
        }
        let response = self.ask(reference, &ask, cancel)?;
        match response.header("content-encoding") {
            None | Some("identity") => Ok(response),
            Some(encoding) => {
                let text = format!("{}: {} sent {encoding:?} bytes", reference.familiar(), response.url);
                Err(SourceError::new(SourceErrorKind::Corrupt, text))
            }
        }
    }

    /// A manifest or index by tag or digest.
    fn get_manifest(
        &self,
        reference: &Reference,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<Fetched, SourceError> {
        let path = format!("manifests/{name}");
        let ask = Ask::new(Method::Get, Place::Below(&path), &Access::Pull, &[200]);
        let response = self.ask(reference, &ask.header("accept", accepted()), cancel)?;
        let url = response.url.clone();
        let stated = match response.content_type().as_deref() {
            // Types that say nothing: what the document calls itself has to do.
            None | Some("application/json" | "application/octet-stream" | "text/plain") => None,
            Some(media_type) => Some(MediaType::from(media_type)),
        };
        let told = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let etag = response.header("etag").map(str::to_owned);
        let bytes = response.read_capped(MAX_DOCUMENT).map_err(|error| {
            let error = failure::of_http(reference, &error);
            error.hint("no manifest is that large; is this address a registry?")
        })?;
        match told {
            Some(told) if verified(bytes.as_slice(), &told, bytes.len() as u64).is_none() => {
                let text = format!("{}: {url} announced {told} and sent other bytes", reference.familiar());
                Err(SourceError::new(SourceErrorKind::Corrupt, text))
            }
            _ => Ok(Fetched { bytes, stated, etag }),
        }
    }

    /// What the reference names, verified if it has a digest.
    pub(crate) fn root(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<TaggedManifest, SourceError> {
        let Fetched { bytes, stated, etag } = self.get_manifest(reference, &name_of(reference), cancel)?;
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
        if is_document(&descriptor.media_type) {
            let Fetched { bytes, .. } = self.get_manifest(reference, descriptor.digest.as_str(), cancel)?;
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
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        let read = self.open(reference, descriptor, cancel)?.read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|error| of_read(reference, error))
    }
}

/// A manifest or index as it came.
struct Fetched {
    bytes: Vec<u8>,
    /// What the registry calls it.
    stated: Option<MediaType>,
    etag: Option<String>,
}

/// The bytes if they have this digest.
fn verified(bytes: &[u8], digest: &Digest, size: u64) -> Option<()> {
    let stated = Descriptor::new(MediaType::EmptyJSON, digest.clone(), size);
    std::io::copy(&mut VerifyingReader::new(bytes, &stated), &mut std::io::sink()).ok().map(drop)
}

fn check_digest(reference: &Reference, bytes: &[u8], digest: &Digest) -> Result<(), SourceError> {
    verified(bytes, digest, bytes.len() as u64).ok_or_else(|| {
        let text = format!("{}: the registry sent other bytes than those of {digest}", reference.familiar());
        SourceError::new(SourceErrorKind::Corrupt, text)
    })
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

impl ImageSource for Registry {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let TaggedManifest { descriptor: root, bytes, .. } = self.root(reference, cancel)?;
        let mut bytes = Some(bytes);
        resolve_image(&reference.familiar(), &root, platform, &mut |descriptor| {
            // The root is asked for first and once, and is here already.
            match bytes.take() {
                Some(bytes) => Ok(bytes),
                None => self.document(reference, descriptor, cancel),
            }
        })
    }

    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let reader = BlobReader::open(self, reference, descriptor, cancel)?;
        Ok(Box::new(VerifyingReader::new(reader, descriptor)))
    }
}
