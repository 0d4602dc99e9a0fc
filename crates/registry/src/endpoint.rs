use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::{HostTls, HttpClient, HttpRequest, Method, Scheme, Trust, Url, UrlError};
use crate::routes::{Route, Transport};

/// The server behind a registry's name, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) base: Url,
    pub(crate) trust: Trust,
    pub(crate) tls: Option<Arc<HostTls>>,
    /// It was not there to be asked how it speaks.
    pub(crate) is_assumed: bool,
    /// What stands in front of repositories.
    root: String,
    namespace: Option<String>,
}

impl Endpoint {
    /// A request there, which the user wants to be sent.
    pub(crate) fn request(&self, method: Method, url: Url) -> HttpRequest {
        HttpRequest { trust: self.trust, tls: self.tls.clone(), ..HttpRequest::new(method, url) }
    }

    /// Something below a repository.
    pub(crate) fn url(&self, repository: &str, path: &str) -> Result<Url, UrlError> {
        let url = self.base.with_path(&format!("{}/{repository}/{path}", self.root))?;
        Ok(match &self.namespace {
            Some(namespace) => url.with_query("ns", namespace),
            None => url,
        })
    }
}

/// Finds out the scheme of servers that may have either.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// Whether they speak TLS, by host and port.
    known: Mutex<BTreeMap<String, bool>>,
}

impl Endpoints {
    /// HTTPS, except for hosts that do not speak TLS and are either this machine or named insecure by the user. A
    /// failed handshake is never a reason to speak in the clear.
    pub(crate) fn of(&self, route: &Route, client: &HttpClient) -> Result<Endpoint, UrlError> {
        let server = route.server()?;
        let is_open = matches!(route.speaks, Transport::TlsOrPlain | Transport::Anything);
        let speaks_tls = if is_open { self.speaks_tls(&server, client) } else { Some(true) };
        let base = if speaks_tls == Some(false) {
            Url::new(Scheme::Http, &server.authority(), "/")?
        } else {
            server
        };
        let trust = match route.speaks {
            Transport::AnyTls | Transport::Anything if base.scheme() == Scheme::Https => Trust::NamedInsecure,
            _ => Trust::Named,
        };
        let (root, namespace) = (route.root.clone(), route.namespace.clone());
        let (is_assumed, tls) = (speaks_tls.is_none(), route.tls.clone());
        Ok(Endpoint { base, trust, tls, is_assumed, root, namespace })
    }

    /// What is known or found out about a server; nothing of one that is not there, which counts as one that speaks TLS.
    fn speaks_tls(&self, server: &Url, client: &HttpClient) -> Option<bool> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&server.authority()) {
            return Some(*known);
        }
        let speaks_tls = if let Some(behind_proxy) = client.speaks_tls(server) {
            behind_proxy
        } else {
            let patience = client.connect_timeout();
            let stream = connect(server, client, patience)?;
            answers_in_tls(stream, server, patience).unwrap_or(false)
        };
        known().insert(server.authority(), speaks_tls);
        Some(speaks_tls)
    }
}

fn bare(server: &Url) -> String {
    server.host().trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn connect(server: &Url, client: &HttpClient, patience: Duration) -> Option<TcpStream> {
    // Whatever is wrong with the host, the request itself says.
    let addresses = client.resolve(server.host(), server.port()).ok()?;
    addresses.into_iter().find_map(|address| TcpStream::connect_timeout(&address, patience).ok())
}

/// Whether a server answers a TLS greeting with a TLS record, be it an alert.
fn answers_in_tls(mut stream: TcpStream, server: &Url, patience: Duration) -> io::Result<bool> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(bare(server)).map_err(io::Error::other)?;
    let mut greeting = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name)
        .map_err(io::Error::other)?
        .write_tls(&mut greeting)?;
    stream.set_read_timeout(Some(patience.min(Duration::from_secs(5))))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&greeting)?;
    // A server in the clear waits for the end of a line it understands.
    stream.write_all(b"\r\n\r\n")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    Ok(matches!(first[0], 0x15 | 0x16))
}
