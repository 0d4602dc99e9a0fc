use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::CertificateFiles;

/// A server on 127.0.0.1 that speaks TLS, and hands what it hears to one in the clear. Dropping it ends it.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl TlsFront {
    /// A front of the server `behind` (`127.0.0.1:port`). With `clients`, a file of authorities, it wants a certificate
    /// that one of them vouches for.
    pub fn start(behind: &str, own: &CertificateFiles, clients: Option<&Path>) -> Self {
        let config = Arc::new(config(own, clients));
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let ended = Arc::new(AtomicBool::new(false));
        let (is_ended, behind) = (Arc::clone(&ended), behind.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_ended.load(Ordering::SeqCst) {
                    return;
                }
                let (config, behind) = (Arc::clone(&config), behind.clone());
                thread::spawn(move || pass(client, &behind, config));
            }
        });
        Self { address, ended }
    }

    /// `127.0.0.1:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // The listener waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn config(own: &CertificateFiles, clients: Option<&Path>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the protocol versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("the authorities are usable"))
        }
    };
    let key = PrivateKeyDer::from_pem_file(&own.key).expect("the key is readable");
    builder
        .with_single_cert(certificates(&own.certificate), key)
        .expect("key and certificate belong together")
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let found: Result<_, _> = CertificateDer::pem_file_iter(path).expect("the file is there").collect();
    found.expect("the file holds certificates")
}

/// Passes on what comes from both sides until one has enough.
fn pass(mut client: TcpStream, behind: &str, config: Arc<ServerConfig>) -> io::Result<()> {
    const SLICE: Duration = Duration::from_millis(3);
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut client)?;
    }
    let mut server = TcpStream::connect(behind)?;
    client.set_read_timeout(Some(SLICE))?;
    server.set_read_timeout(Some(SLICE))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match tls.read_tls(&mut client) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
        // Some of it may have come with the end of the handshake.
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let mut heard = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut heard)?;
        server.write_all(&heard)?;
        match server.read(&mut buffer) {
            Ok(0) => {
                tls.send_close_notify();
                tls.complete_io(&mut client)?;
                return Ok(());
            }
            Ok(count) => tls.writer().write_all(&buffer[..count])?,
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
        while tls.wants_write() {
            tls.write_tls(&mut client)?;
        }
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
