//! Who is trusted to say who is who: where certificate authorities are found, and how they are read.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

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

/// The certificates of a bundle; one without any is an error.
pub(super) fn certificates(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle).collect();
    match found {
        Ok(found) if found.is_empty() => Err("the file holds no certificate in PEM form".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}
