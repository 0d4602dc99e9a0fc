use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocibuild_spec::{CancelToken, Scheme, Url};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Proxy, ProxyProtocol, SendBody};

use super::address::{
    ConfinedResolver, KnownReach, LinkLocal, Reach, TooNear, bare, is_link_local, reach_of,
};
use super::certs_d::CertsD;
use super::error::{HttpError, HttpErrorKind};
use super::proxy::Proxies;
use super::roots::{SystemRoots, certificates};
use super::tls::{HostTls, TlsConnector, TlsSettings};
use super::transport::{Interruptible, SentBody, sending, with_token};

const MAX_REDIRECTS: usize = 5;
/// A body slower than this over the whole of the window counts as stalled.
const SLOWEST: u64 = 1024;
/// Stall times that all of a small body may take.
const WHOLE_BODY: u32 = 4;

/// Sends requests; clones share connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
    is_offline: bool,
}

#[derive(Debug)]
struct Shared {
    options: HttpClientBuilder,
    tls: Arc<TlsSettings>,
    known: KnownReach,
    link_local: Arc<BTreeSet<String>>,
    /// A connection is only used again where it could have been made: one agent for each kind of trust and proxy.
    agents: Mutex<BTreeMap<AgentKey, Agent>>,
}

/// Trust, what is trusted besides, and the proxy.
type AgentKey = (Trust, Option<Arc<HostTls>>, Option<String>);

/// Who named the host of a request, and so where it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// The user: it may be anywhere.
    Named,
    /// The user, who also said that its certificate does not matter.
    NamedInsecure,
    /// Whoever configured this program to take an identity of the machine from there: it may even be link-local.
    Metadata,
    /// Another server, which is as near as this: the host may be no nearer.
    Foreign(Reach),
}

/// What is to be done with a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// One request.
#[derive(Clone)]
pub struct HttpRequest {
    /// Where to.
    pub url: Url,
    /// What to do there.
    pub method: Method,
    /// Headers; `authorization` goes to the origin of `url` alone.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent by methods that send something.
    pub body: Vec<u8>,
    /// Who named the host.
    pub trust: Trust,
    /// What is trusted of the origin of `url` alone.
    pub tls: Option<Arc<HostTls>>,
    /// Longest wait for the answer once all was sent, instead of twice the client's stall time.
    pub patience: Option<Duration>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and bodies hold credentials.
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl HttpRequest {
    /// A `GET` of a URL that the user named.
    pub fn get(url: Url) -> Self {
        Self::new(Method::Get, url)
    }

    /// Another method on a URL that the user named.
    pub fn new(method: Method, url: Url) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { url, method, headers, body, trust: Trust::Named, tls: None, patience: None }
    }

    /// The same with these bytes to send.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What a client is made with; nothing is read from the environment.
#[derive(Debug, Clone)]
pub struct HttpClientBuilder {
    ca_bundles: Vec<Vec<u8>>,
    trusts_system: bool,
    certs_d: Vec<PathBuf>,
    proxies: Proxies,
    user_agent: String,
    connect_timeout: Duration,
    stall_timeout: Duration,
    link_local: BTreeSet<String>,
}

impl HttpClientBuilder {
    /// Certificate authorities to trust, in PEM; may be called several times. Without any, no `https` server is
    /// trusted; the system's are found by [`system_ca_bundle`](super::system_ca_bundle).
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_bundles.push(pem.into());
        self
    }

    /// Trusts what this system trusts, if its bundle is found and readable. It is read for the first `https` server.
    #[must_use]
    pub fn system_roots(mut self) -> Self {
        self.trusts_system = true;
        self
    }

    /// A directory with a folder of certificates for each host, as docker and containers have them: in
    /// `HOST[:PORT]/`, `*.crt` are authorities trusted for that host alone, and `NAME.cert` with `NAME.key` is shown
    /// to it. Where several name a client certificate for a host, the first counts.
    #[must_use]
    pub fn certs_d(mut self, directory: impl Into<PathBuf>) -> Self {
        self.certs_d.push(directory.into());
        self
    }

    /// Proxies to go through.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// What the `User-Agent` header says.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }

    /// Longest wait for a connection; 10 seconds unless told otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Longest silence, before the answer and within it; 30 seconds unless told otherwise.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.stall_timeout = time;
        self
    }

    /// A host that may be at a link-local address; no other may, whoever names it. Clouds keep the credentials of machines
    /// at such.
    #[must_use]
    pub fn allow_link_local(mut self, host: impl AsRef<str>) -> Self {
        self.link_local.insert(bare(host.as_ref()));
        self
    }

    /// The client.
    pub fn build(self) -> Result<HttpClient, HttpError> {
        let mut anchors = Vec::new();
        for bundle in &self.ca_bundles {
            let malformed =
                |text| HttpError::new(HttpErrorKind::Configuration, "certificate authorities", text);
            anchors.extend(certificates(bundle).map_err(malformed)?);
        }
        for proxy in
            [&self.proxies.http, &self.proxies.https].into_iter().flatten().filter(|text| !text.is_empty())
        {
            parse_proxy(proxy)?;
        }
        let tls = TlsSettings {
            anchors,
            system: SystemRoots::new(self.trusts_system),
            certs_d: CertsD(self.certs_d.clone()),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        };
        let shared = Shared {
            link_local: Arc::new(self.link_local.clone()),
            options: self,
            tls: Arc::new(tls),
            known: KnownReach::default(),
            agents: Mutex::default(),
        };
        Ok(HttpClient { shared: Arc::new(shared), is_offline: false })
    }
}

fn parse_proxy(text: &str) -> Result<Proxy, HttpError> {
    let unusable = |why: &str| HttpError::new(HttpErrorKind::Configuration, "proxy", why);
    let proxy = Proxy::new(text).map_err(|_| unusable("the URL is malformed"))?;
    if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return Err(unusable("SOCKS is not spoken; use an HTTP proxy"));
    }
    Ok(proxy)
}

impl HttpClient {
    /// How to make a client.
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder {
            ca_bundles: Vec::new(),
            trusts_system: false,
            certs_d: Vec::new(),
            proxies: Proxies::default(),
            user_agent: concat!("ocibuild/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            link_local: BTreeSet::new(),
        }
    }

    /// The same, but every request fails with [`HttpErrorKind::Offline`] before anything goes to a network.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.is_offline = true;
        self
    }

    /// Whether it sends nothing.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// The addresses at which a host that the user named is, without those that may not be asked: for programs that make
    /// connections of their own.
    pub fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, HttpError> {
        let place = format!("{host}:{port}");
        if self.is_offline {
            return Err(HttpError::offline(&place));
        }
        let unknown = |text: String| HttpError::new(HttpErrorKind::UnknownHost, &place, text);
        let found = (bare(host).as_str(), port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(|error| unknown(error.to_string()))?.collect();
        let is_allowed =
            |address: &SocketAddr| self.link_local(Trust::Named).allows(host) || !is_link_local(address.ip());
        match (found.first(), found.iter().copied().filter(is_allowed).collect::<Vec<_>>()) {
            (None, _) => Err(unknown("the host has no address".to_owned())),
            (Some(first), allowed) if allowed.is_empty() => Err(HttpError::link_local(&place, first.ip())),
            (_, allowed) => Ok(allowed),
        }
    }

    /// The same for the host of a URL; `None` where a proxy is asked in its place.
    pub fn resolve_url(&self, url: &Url) -> Result<Option<Vec<SocketAddr>>, HttpError> {
        self.check_literal(url, Trust::Named)?;
        match self.proxy(url) {
            Some(_) => Ok(None),
            None => self.resolve(url.host(), url.port()).map(Some),
        }
    }

    fn link_local(&self, trust: Trust) -> LinkLocal {
        match trust {
            Trust::Metadata => LinkLocal::Any,
            _ => LinkLocal::Of(Arc::clone(&self.shared.link_local)),
        }
    }

    /// Looks at a host that is an address before a proxy is asked for it, which would not look.
    fn check_literal(&self, url: &Url, trust: Trust) -> Result<(), HttpError> {
        let Ok(address) = bare(url.host()).parse::<IpAddr>() else { return Ok(()) };
        match trust {
            Trust::Foreign(nearest) if reach_of(address).is_none_or(|reach| reach > nearest) => {
                Err(HttpError::new(HttpErrorKind::Refused, url, TooNear.to_string()))
            }
            Trust::Foreign(_) => Ok(()),
            _ if is_link_local(address) && !self.link_local(trust).allows(url.host()) => {
                Err(HttpError::link_local(url, address))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.shared.options.connect_timeout
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        self.shared.options.stall_timeout
    }

    /// Sends one request and gives the answer as it comes, redirects included.
    pub fn send(&self, request: &HttpRequest, cancel: &CancelToken) -> Result<HttpResponse, HttpError> {
        self.send_from(request, request.body.len() as u64, &mut request.body.as_slice(), cancel)
    }

    /// The same with a body of `length` bytes that is read while it is sent. A server may answer before it has all of
    /// it; the rest is then not read.
    pub fn send_from(
        &self,
        request: &HttpRequest,
        length: u64,
        body: &mut dyn Read,
        cancel: &CancelToken,
    ) -> Result<HttpResponse, HttpError> {
        if cancel.is_cancelled() {
            return Err(HttpError::new(HttpErrorKind::Cancelled, &request.url, "cancelled"));
        }
        if self.is_offline {
            return Err(HttpError::offline(&request.url));
        }
        self.check_literal(&request.url, request.trust)?;
        let agent = self.agent(request)?;
        let asked = Instant::now();
        let mut builder = ureq::http::Request::builder()
            .method(request.method.as_str())
            .uri(request.url.to_request())
            .header("accept-encoding", "identity");
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let malformed = |error: ureq::http::Error| {
            HttpError::new(HttpErrorKind::Protocol, &request.url, error.to_string())
        };
        let patience = request.patience.unwrap_or(self.shared.options.stall_timeout * 2);
        let mut sent = SentBody::new(body, length);
        let answer = if request.method.has_body() {
            let built = builder.header("content-length", length).body(SendBody::from_reader(&mut sent));
            let built = built.map_err(malformed)?;
            let built = agent.configure_request(built).timeout_recv_response(Some(patience)).build();
            with_token(cancel, || sending(|| agent.run(built)))
        } else {
            let built = builder.body(()).map_err(malformed)?;
            with_token(cancel, || agent.run(built))
        };
        let answer = answer.map_err(|error| match sent.failure.take() {
            Some(failure) => HttpError::of_sent(&request.url, failure),
            None => match self.proxy(&request.url) {
                Some(proxy) => HttpError::of(&request.url, &error).through(&proxy),
                None => HttpError::of(&request.url, &error),
            },
        })?;
        let (parts, body) = answer.into_parts();
        Ok(HttpResponse {
            status: parts.status.as_u16(),
            url: request.url.clone(),
            headers: parts.headers,
            body: body.into_with_config().limit(u64::MAX).reader(),
            cancel: cancel.clone(),
            asked,
            window: Window::new(self.shared.options.stall_timeout),
        })
    }

    /// Sends a request and follows redirects: five at most, never from `https` to `http`, never to a nearer address,
    /// and with `authorization` for the first origin alone.
    pub fn follow(&self, request: &HttpRequest, cancel: &CancelToken) -> Result<HttpResponse, HttpError> {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&request, cancel)?;
            let location = match response.status {
                301 | 302 | 303 | 307 | 308 => response.header("location"),
                _ => return Ok(response),
            };
            let refuse = |why: String| HttpError::new(HttpErrorKind::Refused, &request.url, why);
            let location = location.ok_or_else(|| refuse("a redirect without a target".to_owned()))?;
            let next = request.url.join(location).map_err(|error| refuse(format!("a redirect: {error}")))?;
            if request.url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
                return Err(refuse(format!("a redirect from https to {next}")));
            }
            if !next.is_same_origin(&request.url) {
                request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
                request.trust = Trust::Foreign(self.reach(&request));
                request.tls = None;
            }
            request.url = next;
        }
        Err(HttpError::new(
            HttpErrorKind::Refused,
            &request.url,
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    /// The proxy that a URL is asked through, as `host:port`.
    fn proxy(&self, url: &Url) -> Option<String> {
        let proxy = parse_proxy(self.shared.options.proxies.of(url)?).ok()?;
        Some(format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Whether a server behind a proxy answers in TLS; `None` where there is no proxy in between, and it can be asked
    /// directly. A proxy that does not let TLS through counts as a server that does not speak it.
    pub(crate) fn speaks_tls(&self, server: &Url) -> Option<bool> {
        self.proxy(server)?;
        let request =
            HttpRequest { trust: Trust::NamedInsecure, ..HttpRequest::new(Method::Head, server.clone()) };
        match self.send(&request, &CancelToken::new()) {
            Ok(_) => Some(true),
            Err(error) => Some(error.kind() == HttpErrorKind::Tls),
        }
    }

    /// How near the server of a request is, once it was asked.
    pub(crate) fn reach(&self, request: &HttpRequest) -> Reach {
        match request.trust {
            Trust::Named | Trust::NamedInsecure | Trust::Metadata => self.shared.known.of(request.url.host()),
            Trust::Foreign(reach) => reach,
        }
    }

    fn agent(&self, request: &HttpRequest) -> Result<Agent, HttpError> {
        let proxy = self.shared.options.proxies.of(&request.url).map(str::to_owned);
        let key = (request.trust, request.tls.clone(), proxy);
        let mut agents = self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(&key)?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, (trust, own, proxy): &AgentKey) -> Result<Agent, HttpError> {
        let options = &self.shared.options;
        let proxy = proxy.as_deref().map(parse_proxy).transpose()?;
        let connector = ConnectProxyConnector::default()
            .chain(TcpConnector::default())
            .chain(TlsConnector::new(
                &self.shared.tls,
                own.clone(),
                *trust == Trust::NamedInsecure,
                proxy.as_ref().map(|proxy| (proxy.host().to_owned(), proxy.port())),
            ))
            .chain(Interruptible);
        let resolver = ConfinedResolver {
            nearest: match *trust {
                Trust::Named | Trust::NamedInsecure | Trust::Metadata => None,
                Trust::Foreign(reach) => Some(reach),
            },
            link_local: self.link_local(*trust),
            known: self.shared.known.clone(),
            proxy: proxy.as_ref().map(|proxy| proxy.host().to_owned()),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(options.user_agent.as_str())
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_send_request(Some(options.stall_timeout))
            // Headers that trickle in byte by byte end here.
            .timeout_recv_response(Some(options.stall_timeout * 2))
            .timeout_per_read(Some(options.stall_timeout))
            .timeout_per_write(Some(options.stall_timeout))
            .build();
        Ok(Agent::with_parts(config, connector, resolver))
    }
}

/// An answer: status and headers, and the body still to be read.
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: Url,
    headers: ureq::http::HeaderMap,
    body: ureq::BodyReader<'static>,
    cancel: CancelToken,
    asked: Instant,
    window: Window,
}

impl HttpResponse {
    /// A header that is plain text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When the request was sent.
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    /// Every header of this name.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// What `Content-Length` says.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The type of the body without its parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        let text = self.header("content-type")?.split(';').next().unwrap_or_default();
        Some(text.trim().to_ascii_lowercase()).filter(|text| !text.is_empty())
    }

    /// The body if it has no more than `most` bytes, and if all of it is here within four times the client's stall
    /// time: it is not for blobs. One that is announced as larger is not waited for.
    pub fn read_capped(mut self, most: u64) -> Result<Vec<u8>, HttpError> {
        let mut bytes = Vec::new();
        let url = self.url.clone();
        if let Some(length) = self.content_length().filter(|length| *length > most) {
            let text = format!("the answer has {length} bytes, more than {most}");
            return Err(HttpError::new(HttpErrorKind::Protocol, &url, text));
        }
        let longest = self.window.length * WHOLE_BODY;
        let (start, mut body) = (Instant::now(), (&mut self).take(most.saturating_add(1)));
        while read_more(&mut body, &mut bytes).map_err(|error| HttpError::of_body(&url, &error))? {
            if start.elapsed() > longest {
                let text = format!("the answer is not here after {} seconds", longest.as_secs());
                return Err(HttpError::new(HttpErrorKind::Slow, &url, text));
            }
        }
        if bytes.len() as u64 > most {
            let text = format!("the answer is larger than {most} bytes");
            return Err(HttpError::new(HttpErrorKind::Protocol, &url, text));
        }
        Ok(bytes)
    }

    /// The first bytes of the body, whatever happens after them, and as many as come within the client's stall time.
    pub(crate) fn read_some(mut self, most: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let longest = self.window.length;
        let (start, mut body) = (Instant::now(), (&mut self).take(most));
        while start.elapsed() < longest && read_more(&mut body, &mut bytes).unwrap_or(false) {}
        bytes
    }
}

/// Appends what one read gives; `false` at the end.
fn read_more(from: &mut impl Read, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let count = from.read(&mut buffer)?;
    to.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}

impl Read for HttpResponse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let (body, cancel) = (&mut self.body, &self.cancel);
        let count = with_token(cancel, || body.read(buffer))?;
        self.window.note(start.elapsed(), count as u64)?;
        Ok(count)
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Notices a server that sends a byte now and then. Time that the reader spends elsewhere does not count.
#[derive(Debug)]
struct Window {
    length: Duration,
    waited: Duration,
    bytes: u64,
}

impl Window {
    fn new(length: Duration) -> Self {
        Self { length, waited: Duration::ZERO, bytes: 0 }
    }

    fn note(&mut self, waited: Duration, bytes: u64) -> io::Result<()> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.length {
            return Ok(());
        }
        let is_slow = bytes > 0 && self.bytes < SLOWEST * self.length.as_secs().max(1);
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if is_slow {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server sends less than a kilobyte per second",
            ));
        }
        Ok(())
    }
}
