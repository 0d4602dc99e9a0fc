use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::{Scheme, Trust, Url, is_loopback};

/// The server behind a registry's name, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) base: Url,
    pub(crate) trust: Trust,
}

/// Chooses scheme and server for the names in references.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    insecure: Vec<String>,
    known: Mutex<BTreeMap<String, Endpoint>>,
}

impl Endpoints {
    pub(crate) fn new(insecure: Vec<String>) -> Self {
        Self { insecure, known: Mutex::default() }
    }

    /// HTTPS, except for hosts that do not speak TLS and are either this machine or named insecure by the user. A
    /// failed handshake is never a reason to speak in the clear.
    pub(crate) fn of(&self, registry: &str, patience: Duration) -> Result<Endpoint, crate::http::UrlError> {
        if let Some(known) = self.known().get(registry) {
            return Ok(known.clone());
        }
        let server = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let base = Url::new(Scheme::Https, server, "/")?;
        let insecure = self.insecure.iter().any(|name| name == registry);
        let endpoint = if (insecure || is_loopback(base.host())) && !speaks_tls(&base, patience) {
            Endpoint { base: Url::new(Scheme::Http, server, "/")?, trust: Trust::Named }
        } else if insecure {
            Endpoint { base, trust: Trust::NamedInsecure }
        } else {
            Endpoint { base, trust: Trust::Named }
        };
        self.known().insert(registry.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Endpoint>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server answers a TLS greeting with a TLS record, be it an alert.
fn speaks_tls(base: &Url, patience: Duration) -> bool {
    greet(base, patience).is_some_and(|first| matches!(first, 0x15 | 0x16))
}

/// The first byte of the answer to a TLS greeting.
fn greet(base: &Url, patience: Duration) -> Option<u8> {
    let host = base.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let addresses = (host.as_str(), base.port()).to_socket_addrs().ok()?;
    let mut stream =
        addresses.into_iter().find_map(|address| TcpStream::connect_timeout(&address, patience).ok())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host).ok()?;
    let mut greeting = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut greeting).ok()?;
    stream.set_read_timeout(Some(patience.min(Duration::from_secs(5)))).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    stream.write_all(&greeting).ok()?;
    // A server in the clear waits for the end of a line it understands.
    stream.write_all(b"\r\n\r\n").ok()?;
    let mut first = [0];
    stream.read_exact(&mut first).ok()?;
    Some(first[0])
}
