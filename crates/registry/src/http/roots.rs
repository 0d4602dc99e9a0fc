//! Who is trusted to say who is who: where certificate authorities are found, and how they are read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::tls::UnusableFile;

/// Where distributions keep their certificate authorities, in PEM; the first file that exists.
pub fn system_ca_bundle() -> Option<PathBuf> {
    const PLACES: [&str; 6] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
        "/var/lib/ca-certificates/ca-bundle.pem",
    ];
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The certificate authorities in a file, as [`HttpClientBuilder::ca_pem`](super::HttpClientBuilder::ca_pem) takes
/// them. What is in it shows when the client is made.
pub fn read_ca_bundle(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    fs_err::read(path.as_ref())
}

/// What this system trusts, read when it is needed: bundles have hundreds of certificates, and many builds speak to no server
/// but in the clear.
#[derive(Debug)]
pub(super) struct SystemRoots {
    is_trusted: bool,
    certificates: OnceLock<Result<Vec<CertificateDer<'static>>, UnusableFile>>,
}

impl SystemRoots {
    pub(super) fn new(is_trusted: bool) -> Self {
        Self { is_trusted, certificates: OnceLock::new() }
    }

    /// Its certificates; none if they are not trusted, or if there is no bundle that can be read.
    pub(super) fn get(&self) -> Result<&Vec<CertificateDer<'static>>, UnusableFile> {
        let read = || {
            let Some(path) = system_ca_bundle().filter(|_| self.is_trusted) else { return Ok(Vec::new()) };
            let Ok(pem) = read_ca_bundle(&path) else { return Ok(Vec::new()) };
            certificates(&pem).map_err(|reason| UnusableFile::new(&path, reason))
        };
        self.certificates.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

/// The certificates of a bundle; one without any is an error.
pub(super) fn certificates(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle).collect();
    match found {
        Ok(found) if found.is_empty() => Err("the file holds no certificate in PEM form".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}
