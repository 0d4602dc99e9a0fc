//! TLS of a connection, set up for the host at its other end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::certs_d::CertsD;
use super::roots::{SystemRoots, certificates};
use super::verifier::{NoVerification, Verifier};

/// What is trusted of one host, and shown to it, besides what counts for every host. Files are in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostTls {
    /// Files of certificate authorities.
    pub ca: Vec<PathBuf>,
    /// The certificate to show when the host asks for one.
    pub client: Option<ClientCertificate>,
}

/// Files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority.
    pub chain: PathBuf,
    /// Its key, without a password; it may be in the same file.
    pub key: PathBuf,
}

/// What a client trusts, before it is known which host it talks to.
#[derive(Debug)]
pub(super) struct TlsSettings {
    pub(super) anchors: Vec<CertificateDer<'static>>,
    pub(super) system: SystemRoots,
    pub(super) certs_d: CertsD,
    pub(super) provider: Arc<CryptoProvider>,
}

/// A file about TLS that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct UnusableFile(String);

impl UnusableFile {
    pub(super) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self(format!("{}: {reason}", path.display()))
    }
}

impl TlsSettings {
    /// How to speak to a host; `own` comes from whoever sends there, the rest from the folders about it.
    fn config(
        &self,
        host: &str,
        port: u16,
        own: Option<&HostTls>,
        is_insecure: bool,
    ) -> Result<ClientConfig, UnusableFile> {
        let mut of_host = self.certs_d.of(host, port)?;
        if let Some(own) = own {
            of_host.ca.extend_from_slice(&own.ca);
            of_host.client = own.client.clone().or(of_host.client);
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the protocol versions of its crate")
            .dangerous();
        let builder = if is_insecure {
            builder.with_custom_certificate_verifier(Arc::new(NoVerification::new(&self.provider)))
        } else {
            let mut anchors = self.system.get()?.clone();
            anchors.extend_from_slice(&self.anchors);
            for path in &of_host.ca {
                let bytes = fs_err::read(path).map_err(|error| UnusableFile(error.to_string()))?;
                anchors.extend(certificates(&bytes).map_err(|reason| UnusableFile::new(path, reason))?);
            }
            builder.with_custom_certificate_verifier(Arc::new(Verifier::new(&self.provider, anchors)))
        };
        let Some(client) = of_host.client else { return Ok(builder.with_no_client_auth()) };
        let (chain, key) = client.read()?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| UnusableFile::new(&client.chain, format!("the client certificate: {error}")))
    }
}

impl ClientCertificate {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), UnusableFile> {
        let read = |path| fs_err::read(path).map_err(|error| UnusableFile(error.to_string()));
        let chain =
            certificates(&read(&self.chain)?).map_err(|reason| UnusableFile::new(&self.chain, reason))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_unusable| {
            UnusableFile::new(&self.key, "the file holds no private key in PEM form that has no password")
        })?;
        Ok((chain, key))
    }
}

/// Wraps connections to `https` URLs in TLS.
#[derive(Debug)]
pub(super) struct TlsConnector {
    settings: Arc<TlsSettings>,
    own: Option<Arc<HostTls>>,
    is_insecure: bool,
    /// Host and port of the proxy, which is trusted no more for what is asked through it.
    proxy: Option<(String, u16)>,
    configs: Mutex<BTreeMap<(String, u16), Arc<ClientConfig>>>,
}

impl TlsConnector {
    pub(super) fn new(
        settings: &Arc<TlsSettings>,
        own: Option<Arc<HostTls>>,
        is_insecure: bool,
        proxy: Option<(String, u16)>,
    ) -> Self {
        Self { settings: Arc::clone(settings), own, is_insecure, proxy, configs: Mutex::default() }
    }

    fn config(&self, host: &str, port: u16) -> Result<Arc<ClientConfig>, UnusableFile> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), port);
        if let Some(config) = configs.get(&key) {
            return Ok(Arc::clone(config));
        }
        let is_proxy = self.proxy.as_ref() == Some(&key);
        let own = self.own.as_deref().filter(|_| !is_proxy);
        let config = self.settings.config(host, port, own, self.is_insecure && !is_proxy)?;
        Ok(Arc::clone(configs.entry(key).or_insert(Arc::new(config))))
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let config = self
            .config(host, details.uri.port_u16().unwrap_or(443))
            .map_err(|error| Error::Other(Box::new(error)))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(bare).map_err(|_| Error::Tls("the host's name fits no certificate"))?;
        let mut connection = ClientConnection::new(config, name).map_err(of_tls)?;
        let mut socket = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { stream: StreamOwned::new(connection, socket), buffers })))
    }
}

fn of_tls(error: rustls::Error) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// A connection in TLS.
pub(super) struct TlsTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl TlsTransport {
    /// The alert that ended the connection while something was written to it: a server that wants another client
    /// certificate says so when the client believes the handshake done.
    fn last_alert(&mut self) -> Option<rustls::Error> {
        let StreamOwned { conn, sock } = &mut self.stream;
        while conn.read_tls(sock).is_ok_and(|count| count > 0) {
            if let Err(error) = conn.process_new_packets() {
                return Some(error);
            }
        }
        None
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let written = self.stream.write_all(&self.buffers.output()[..amount]).map_err(Error::from);
        match written {
            Err(Error::Io(error)) => Err(self.last_alert().map_or(Error::Io(error), of_tls)),
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").field("inner", self.stream.sock.inner()).finish_non_exhaustive()
    }
}
