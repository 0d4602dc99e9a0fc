use std::io;

use super::address::TooNear;
use super::transport::Cancelled;
use super::url::Url;

/// Why a request had no answer. Answers of any status are no errors here.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {message}")]
pub struct HttpError {
    kind: HttpErrorKind,
    url: String,
    message: String,
    hint: Option<&'static str>,
}

/// Classes of [`HttpError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// The host's name has no address.
    UnknownHost,
    /// No connection came about, or it broke.
    Connection,
    /// The other side was silent for too long.
    Timeout,
    /// There is no trust in the other side's certificate, or TLS failed otherwise.
    Tls,
    /// Going there is not allowed: a redirect to a nearer address, to an insecure scheme, or one too many.
    Refused,
    /// What came is no HTTP.
    Protocol,
    /// What was to be sent could not be read.
    Body,
    /// The client was configured with something unusable.
    Configuration,
    /// The caller cancelled.
    Cancelled,
}

impl HttpError {
    pub(crate) fn new(kind: HttpErrorKind, url: impl std::fmt::Display, message: impl Into<String>) -> Self {
        Self { kind, url: url.to_string(), message: message.into(), hint: None }
    }

    /// The class.
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, HttpErrorKind::Connection | HttpErrorKind::Timeout)
    }

    pub(super) fn of(url: &Url, error: &ureq::Error) -> Self {
        let (kind, message, hint) = match error {
            ureq::Error::HostNotFound => {
                (HttpErrorKind::UnknownHost, "the host is not known".to_owned(), None)
            }
            ureq::Error::Timeout(which) => {
                (HttpErrorKind::Timeout, format!("no answer in time ({which})"), None)
            }
            ureq::Error::Rustls(error) => tls(error),
            ureq::Error::Tls(text) => (HttpErrorKind::Tls, (*text).to_owned(), None),
            ureq::Error::Io(error) => of_io(error),
            ureq::Error::ConnectionFailed => (HttpErrorKind::Connection, "no connection".to_owned(), None),
            ureq::Error::ConnectProxyFailed(_) => {
                (HttpErrorKind::Connection, "the proxy refused the connection".to_owned(), None)
            }
            ureq::Error::InvalidProxyUrl => {
                (HttpErrorKind::Configuration, "the proxy's URL is malformed".to_owned(), None)
            }
            ureq::Error::Other(inner) if inner.is::<TooNear>() => {
                (HttpErrorKind::Refused, inner.to_string(), None)
            }
            ureq::Error::Other(inner) if inner.is::<Cancelled>() => {
                (HttpErrorKind::Cancelled, "cancelled".to_owned(), None)
            }
            other => (HttpErrorKind::Protocol, other.to_string(), None),
        };
        Self { kind, url: url.to_string(), message, hint }
    }

    /// The error of a body that broke while it was read.
    pub fn of_body(url: &Url, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        if let Some(inner) = inner {
            return Self::of(url, inner);
        }
        let (kind, message, hint) = of_io(error);
        Self { kind, url: url.to_string(), message, hint }
    }
}

type Parts = (HttpErrorKind, String, Option<&'static str>);

fn of_io(error: &io::Error) -> Parts {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            return tls(error);
        }
        if inner.is::<Cancelled>() {
            return (HttpErrorKind::Cancelled, "cancelled".to_owned(), None);
        }
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            (HttpErrorKind::Timeout, "no answer in time".to_owned(), None)
        }
        _ => {
            let text = error.to_string();
            // What the system says when a name has no address has no kind of its own.
            let kind = if text.contains("failed to lookup address") {
                HttpErrorKind::UnknownHost
            } else {
                HttpErrorKind::Connection
            };
            (kind, text, None)
        }
    }
}

fn tls(error: &rustls::Error) -> Parts {
    const UNKNOWN: &str =
        "if this server has a certificate authority of its own, give it with `--cacert FILE`";
    let hint = match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => Some(UNKNOWN),
        _ => None,
    };
    (HttpErrorKind::Tls, error.to_string(), hint)
}
