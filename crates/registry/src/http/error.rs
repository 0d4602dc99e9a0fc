use std::io;

use ocibuild_spec::Url;

use super::address::{IsLinkLocal, TooNear};
use super::lookup::NoAddress;
use super::tls::UnusableFile;
use super::transport::Cancelled;
use super::verifier::is_self_signed;
use crate::retry::Retry;

/// Why a request had no answer. Answers of any status are no errors here.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {message}")]
pub struct HttpError {
    kind: HttpErrorKind,
    url: String,
    message: String,
    hint: Option<String>,
    /// Why what was to be sent could not be read.
    unread: Option<io::Error>,
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
    /// The other side says something now and then, but all of it would take too long.
    Slow,
    /// There is no trust in the other side's certificate, or TLS failed otherwise.
    Tls,
    /// What came in answer to TLS is something else.
    NotTls,
    /// Going there is not allowed: a redirect to a nearer address, to an insecure scheme, or one too many.
    Refused,
    /// The host is at a link-local address, which takes the user's permission.
    LinkLocal,
    /// Nothing goes to a network.
    Offline,
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
        Self { kind, url: url.to_string(), message: message.into(), hint: None, unread: None }
    }

    /// A host at an address that was not allowed.
    pub(super) fn link_local(place: impl std::fmt::Display, address: std::net::IpAddr) -> Self {
        Self::new(HttpErrorKind::LinkLocal, place, IsLinkLocal(address).to_string())
            .with_hint("if this host is what you want, allow it by its name")
    }

    /// A request that is not made.
    pub(super) fn offline(place: impl std::fmt::Display) -> Self {
        Self::new(HttpErrorKind::Offline, place, "this is offline: nothing is fetched or sent")
            .with_hint("what is needed has to be here before: fetch it once while a network may be used")
    }

    fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// The class.
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// The error of a body that could not be read while it was sent.
    pub(super) fn of_sent(url: &Url, error: io::Error) -> Self {
        Self { unread: Some(error), ..Self::new(HttpErrorKind::Body, url, "cannot read what is to be sent") }
    }

    /// Why what was to be sent could not be read; any other error comes back.
    pub(crate) fn into_unread(mut self) -> Result<io::Error, Self> {
        self.unread.take().ok_or(self)
    }

    /// The same of a request that went through a proxy (`host:port`), which may be what failed.
    pub(super) fn through(mut self, proxy: &str) -> Self {
        use HttpErrorKind::{Body, Cancelled, Configuration};

        if !matches!(self.kind, Body | Cancelled | Configuration) {
            self.message = match self.message.strip_prefix("the proxy ") {
                Some(rest) => format!("the proxy {proxy} {rest}"),
                None => format!("{} (through the proxy {proxy})", self.message),
            };
        }
        self
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, HttpErrorKind::Connection | HttpErrorKind::Timeout)
    }

    pub(super) fn of(url: &Url, error: &ureq::Error) -> Self {
        let plain = |kind, text: &str| (kind, text.to_owned(), None);
        let (kind, message, hint) = match error {
            ureq::Error::HostNotFound => plain(HttpErrorKind::UnknownHost, "the host is not known"),
            ureq::Error::Timeout(which) => {
                plain(HttpErrorKind::Timeout, &format!("no answer in time ({which})"))
            }
            ureq::Error::Tls(text) => plain(HttpErrorKind::Tls, text),
            ureq::Error::Io(error) => of_io(url, error),
            ureq::Error::ConnectionFailed => plain(HttpErrorKind::Connection, "no connection"),
            ureq::Error::ConnectProxyFailed(reason) => of_proxy(reason),
            ureq::Error::InvalidProxyUrl => {
                plain(HttpErrorKind::Configuration, "the proxy's URL is malformed")
            }
            ureq::Error::Other(inner) if inner.is::<TooNear>() => {
                plain(HttpErrorKind::Refused, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<NoAddress>() => {
                plain(HttpErrorKind::UnknownHost, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<IsLinkLocal>() => (
                HttpErrorKind::LinkLocal,
                inner.to_string(),
                Some("if this host is what you want, allow it by its name".to_owned()),
            ),
            ureq::Error::Other(inner) if inner.is::<UnusableFile>() => {
                plain(HttpErrorKind::Configuration, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<Cancelled>() => {
                plain(HttpErrorKind::Cancelled, "cancelled")
            }
            other => plain(HttpErrorKind::Protocol, &other.to_string()),
        };
        Self { kind, url: url.to_string(), message, hint, unread: None }
    }

    /// The error of a body that broke while it was read.
    pub fn of_body(url: &Url, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        if let Some(inner) = inner {
            return Self::of(url, inner);
        }
        let (kind, message, hint) = of_io(url, error);
        Self { kind, url: url.to_string(), message, hint, unread: None }
    }
}

type Parts = (HttpErrorKind, String, Option<String>);

/// What to do about a proxy that wants to know who asks.
pub(crate) const PROXY_LOGIN: &str = "the proxy wants a login: give it in the variable that names the proxy, as in http://NAME:PASSWORD@HOST:PORT";

/// What a proxy said to `CONNECT`, of which no more than the status comes here.
fn of_proxy(reason: &str) -> Parts {
    let Some(status) = reason.rsplit('/').next().and_then(|status| status.parse::<u16>().ok()) else {
        return (HttpErrorKind::Connection, "the proxy did not answer".to_owned(), None);
    };
    let message = format!("the proxy answered {status}");
    match status {
        407 => (HttpErrorKind::Refused, message, Some(PROXY_LOGIN.to_owned())),
        400..500 if !Retry::helps(status) => {
            let hint =
                "the proxy does not let this host be asked; no_proxy lists those that are asked directly";
            (HttpErrorKind::Refused, message, Some(hint.to_owned()))
        }
        _ => (HttpErrorKind::Connection, message, None),
    }
}

fn of_io(url: &Url, error: &io::Error) -> Parts {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            let kind = match error {
                rustls::Error::InvalidMessage(_) => HttpErrorKind::NotTls,
                _ => HttpErrorKind::Tls,
            };
            return (kind, error.to_string(), tls_hint(url, error));
        }
        if inner.is::<Cancelled>() {
            return (HttpErrorKind::Cancelled, "cancelled".to_owned(), None);
        }
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let told = error.get_ref().map(ToString::to_string);
            (HttpErrorKind::Timeout, told.unwrap_or_else(|| "no answer in time".to_owned()), None)
        }
        io::ErrorKind::UnexpectedEof => {
            (HttpErrorKind::Connection, "the connection ended too early".to_owned(), None)
        }
        _ => (HttpErrorKind::Connection, error.to_string(), None),
    }
}

/// What to do about a connection that TLS ended.
fn tls_hint(url: &Url, error: &rustls::Error) -> Option<String> {
    use rustls::CertificateError as Certificate;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};

    let host = url.authority();
    let ca = format!("with `--cacert FILE`, or for a registry as certs.d/{host}/ca.crt");
    let hint = match error {
        error if is_self_signed(error) => format!(
            "this certificate vouches for itself; if it is the server's own, give it {ca}, which is as good as trust in \
             it"
        ),
        InvalidCertificate(Certificate::UnknownIssuer) => {
            format!("if this server has a certificate authority of its own, give it {ca}")
        }
        InvalidCertificate(Certificate::NotValidForNameContext { presented, .. }) if presented.is_empty() => {
            format!("the server needs a certificate whose subjectAltName has {}", url.host())
        }
        InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            format!(
                "use a name that the certificate has, or give the server one whose subjectAltName has {}",
                url.host()
            )
        }
        InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the server needs a new certificate, unless the clock of this machine is wrong".to_owned()
        }
        InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "check the clock of this machine, and the certificate's dates".to_owned()
        }
        AlertReceived(alert) if is_about_client(*alert) => format!(
            "the server does not take this client's certificate, or wants one: put it as client.cert and client.key \
             into the folder certs.d/{host}"
        ),
        InvalidMessage(_) => {
            format!(
                "what came is no TLS; for a registry that does not speak it: `--insecure-registry {host}`"
            )
        }
        _ => return None,
    };
    Some(hint)
}

/// What servers say about client certificates; older ones have no word for a missing one and say that the handshake
/// failed.
fn is_about_client(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;

    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    )
}
