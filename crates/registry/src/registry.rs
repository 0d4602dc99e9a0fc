use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocibuild_spec::{
    CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError, SourceErrorKind,
};

use crate::auth::{Auth, Clock, Need, Realms, Via};
use crate::blob::VerifiedBlob;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Endpoints};
use crate::exchange::{Access, Ask, Failed, Place, check_encoding, corrupt};
use crate::failure;
use crate::http::{HttpClient, HttpClientBuilder, HttpError, HttpResponse, Method, Proxies};
use crate::lookup::{Failures, Visit};
use crate::manifests::TaggedManifest;
use crate::retry::{Retry, RetryWatcher, Retrying};
use crate::routes::{MirrorRule, Route, Routes};

/// Registries, as a source of images. One value serves any number of them; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    endpoints: Endpoints,
    routes: Routes,
    failures: Failures,
    auth: Auth,
    retry: Retry,
    watcher: RetryWatcher,
    /// Registries that take no pieces of blobs, by name.
    whole_blobs: Mutex<BTreeSet<String>>,
}

/// What a [`Registry`] is made with; nothing is read from the environment.
#[derive(Debug, Clone)]
pub struct RegistryBuilder {
    client: HttpClientBuilder,
    insecure: Vec<String>,
    mirrors: Vec<MirrorRule>,
    registries_conf: Vec<PathBuf>,
    certs_d: Vec<PathBuf>,
    credentials: Credentials,
    realms: Realms,
    clock: Clock,
    retry: Retry,
    watcher: RetryWatcher,
    is_offline: bool,
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

    /// A directory with a folder for each host: certificates, as [`HttpClientBuilder::certs_d`] has them, and
    /// containerd's `hosts.toml`.
    #[must_use]
    pub fn certs_d(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        self.client = self.client.certs_d(&directory);
        self.certs_d.push(directory);
        self
    }

    /// A mirror, asked before what `registries.conf` and `hosts.toml` name. Those named for the same names are asked in
    /// the order of these calls.
    #[must_use]
    pub fn mirror(mut self, rule: MirrorRule) -> Self {
        self.mirrors.push(rule);
        self
    }

    /// Containers' `registries.conf`, or a folder of such files; one that is not there says nothing. What a later one
    /// says about a prefix replaces what an earlier one said.
    #[must_use]
    pub fn registries_conf(mut self, path: impl Into<PathBuf>) -> Self {
        self.registries_conf.push(path.into());
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

    /// A host that may be at a link-local address, as [`HttpClientBuilder::allow_link_local`] has it.
    #[must_use]
    pub fn allow_link_local(mut self, host: impl AsRef<str>) -> Self {
        self.client = self.client.allow_link_local(host);
        self
    }

    /// Nothing is asked or sent: every request fails, as [`HttpClient::offline`] has it.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.is_offline = true;
        self
    }

    /// How often a request is tried, how long to wait before the second try (twice as long before each further
    /// one), and the longest wait. Five, one second and a minute unless told otherwise. What a registry asks for
    /// (`Retry-After`) is waited as long as all waits together are no longer than the longest one for each further try
    /// would be; whoever asks for more gets no further try.
    #[must_use]
    pub fn retries(mut self, attempts: u32, pause: Duration, longest: Duration) -> Self {
        self.retry = Retry { attempts: attempts.max(1), pause, longest };
        self
    }

    /// Who is told when a request failed and is made again, before the wait; from any thread.
    #[must_use]
    pub fn on_retry(mut self, watcher: impl Fn(Retrying<'_>) + Send + Sync + 'static) -> Self {
        self.watcher = RetryWatcher(Some(Arc::new(watcher)));
        self
    }

    /// The clock by which the lives of tokens and credentials are measured; the system's monotonic clock unless told
    /// otherwise. Tests give one that they move themselves.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// The source.
    pub fn build(self) -> Result<Registry, HttpError> {
        let client = self.client.build()?;
        let shared = Shared {
            client: if self.is_offline { client.offline() } else { client },
            endpoints: Endpoints::default(),
            routes: Routes::new(&self.mirrors, self.insecure, self.registries_conf, self.certs_d),
            failures: Failures::default(),
            auth: Auth::new(self.credentials, self.realms, self.clock),
            retry: self.retry,
            watcher: self.watcher,
            whole_blobs: Mutex::default(),
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
            mirrors: Vec::new(),
            registries_conf: Vec::new(),
            certs_d: Vec::new(),
            credentials: Credentials::none(),
            realms: Realms::default(),
            clock: Clock::default(),
            retry: Retry::default(),
            watcher: RetryWatcher::default(),
            is_offline: false,
        }
    }

    /// Whether a registry is known to take blobs in one request alone.
    pub(crate) fn takes_whole_blobs_alone(&self, repository: &Reference) -> bool {
        let known = self.shared.whole_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(repository.registry())
    }

    pub(crate) fn note_whole_blobs(&self, repository: &Reference) {
        let mut known = self.shared.whole_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(repository.registry().to_owned());
    }

    pub(crate) fn retry(&self) -> Retry {
        self.shared.retry
    }

    pub(crate) fn watcher(&self) -> &RetryWatcher {
        &self.shared.watcher
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.shared.client
    }

    /// How long a registry may take to look at what it was sent: it may hash all of a layer.
    pub(crate) fn patience_of_commit(&self) -> Duration {
        self.shared.client.stall_timeout() * 10
    }

    pub(crate) fn places(&self) -> &Routes {
        &self.shared.routes
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.shared.failures
    }

    /// The registry that a reference names, whatever mirrors there are.
    pub(crate) fn endpoint(&self, reference: &Reference) -> Result<Endpoint, SourceError> {
        self.endpoint_at(reference, None)
    }

    /// The server of a place, or of the registry that a reference names.
    pub(crate) fn endpoint_at(
        &self,
        reference: &Reference,
        visit: Option<Visit<'_>>,
    ) -> Result<Endpoint, SourceError> {
        let client = &self.shared.client;
        let found = match visit {
            Some(visit) => self.shared.endpoints.of(visit.route, client),
            None => self.shared.endpoints.of(&self.shared.routes.own(reference)?, client),
        };
        found.map_err(|error| {
            SourceError::new(SourceErrorKind::Unsupported, format!("{}: {error}", reference.familiar()))
        })
    }

    /// The server of a registry; `subject` is what it is about.
    pub(crate) fn endpoint_of(&self, registry: &str, subject: &str) -> Result<Endpoint, SourceError> {
        let sample: Reference = "localhost/any".parse().expect("a name that is well-formed");
        let reference = sample
            .at(registry, "any")
            .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, format!("{subject}: {error}")))?;
        self.endpoint(&reference)
    }

    /// What users should know about the credentials that were sent so far.
    pub fn warnings(&self) -> Vec<String> {
        self.auth().warnings()
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.shared.auth
    }

    /// The `authorization` header for requests that need this access, if it takes one.
    pub(crate) fn authorization(
        &self,
        (reference, access): (&Reference, &Access),
        endpoint: &Endpoint,
        cancel: &CancelToken,
    ) -> Result<Option<String>, SourceError> {
        let subject = reference.familiar();
        self.auth().header(&Need::new(reference, access), self.via(endpoint, &subject, cancel))
    }

    pub(crate) fn via<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        subject: &'a str,
        cancel: &'a CancelToken,
    ) -> Via<'a> {
        let Shared { client, retry, watcher, .. } = &*self.shared;
        Via { client, endpoint, retry: *retry, watcher, subject, cancel }
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
            401 | 403 => error.caused_by(self.auth().fault(&Need::new(reference, access))),
            _ => error,
        }
    }

    /// Does what a refusal tells to do about it.
    pub(crate) fn authorize(
        &self,
        (reference, access): (&Reference, &Access),
        endpoint: &Endpoint,
        refusal: HttpResponse,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        let subject = reference.familiar();
        self.auth().answer(&Need::new(reference, access), self.via(endpoint, &subject, cancel), refusal)
    }

    /// A blob from byte `from` on, from the first place that has it; the answer may be the whole of it.
    pub(crate) fn get_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: u64,
        cancel: &CancelToken,
    ) -> Result<(HttpResponse, Route), SourceError> {
        let serves = |route: &Route| route.serves_content;
        self.look_up(reference, serves, |visit| {
            let response = self.get_blob_at(visit, descriptor, from, cancel, Ok)?;
            Ok((response, visit.route.clone()))
        })
    }

    /// What is made of an answer with a blob in it.
    pub(crate) fn get_blob_at<T>(
        &self,
        visit: Visit<'_>,
        descriptor: &Descriptor,
        from: u64,
        cancel: &CancelToken,
        make: impl Fn(HttpResponse) -> Result<T, Failed>,
    ) -> Result<T, SourceError> {
        let reference = &visit.route.reference;
        let path = format!("blobs/{}", descriptor.digest);
        let ask = Ask::new(Method::Get, Place::Below(&path), &Access::Pull, &[200, 206, 416]);
        let mut ask = ask.at(Some(visit));
        if from > 0 {
            ask = ask.header("range", format!("bytes={from}-"));
        }
        self.ask_for(reference, &ask, cancel, |response| {
            check_encoding(reference, &response)?;
            match response.content_length() {
                Some(length) if response.status == 200 && length != descriptor.size => {
                    let what = format!("has {length} bytes, not {}", descriptor.size);
                    Err(corrupt(reference, &response, &what).into())
                }
                _ => make(response),
            }
        })
    }
}

impl ImageSource for Registry {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let TaggedManifest { descriptor: root, bytes, .. } = self.root(reference, cancel)?;
        self.resolve_from(reference, (&root, bytes), platform, &|_| None, cancel)
    }

    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(VerifiedBlob::open(self, reference, descriptor, cancel)?))
    }
}
