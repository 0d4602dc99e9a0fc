//! Who is trusted to say who is who: where certificate authorities are found, and how they are read.

use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, PemItem};

use super::error::{HttpError, HttpErrorKind};

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

/// The certificates of all bundles; one without any is an error.
pub(super) fn certificates(bundles: &[Vec<u8>]) -> Result<Vec<Certificate<'static>>, HttpError> {
    let malformed = |text| HttpError::new(HttpErrorKind::Configuration, "certificate authorities", text);
    let mut roots = Vec::new();
    for bundle in bundles {
        let before = roots.len();
        for item in ureq::tls::parse_pem(bundle) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| malformed(error.to_string()))? {
                roots.push(certificate);
            }
        }
        if roots.len() == before {
            return Err(malformed("the file holds no certificate in PEM form".to_owned()));
        }
    }
    Ok(roots)
}
