use std::{fmt, io};

use ocibuild_spec::Url;

use super::address::{IsLinkLocal, TooNear};
use super::lookup::NoAddress;
use super::tls::UnusableFile;
use super::transport::Cancelled;
use super::verifier::is_self_signed;
use crate::fault::{CertificateProblem, Fault};
use crate::retry::Retry;

/// Why a request had no answer. Answers of any status are no errors here.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    url: String,
    message: String,
    hint: Option<String>,
    fault: Option<Box<Fault>>,
    /// It is what a proxy said, or did not say.
    is_of_proxy: bool,
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
        Self {
            kind,
            url: url.to_string(),
            message: message.into(),
            hint: None,
            fault: None,
            is_of_proxy: false,
            unread: None,
        }
    }

    /// A host at an address that was not allowed.
    pub(super) fn link_local(place: impl std::fmt::Display, address: std::net::IpAddr) -> Self {
        Self::new(HttpErrorKind::LinkLocal, place, IsLinkLocal(address).to_string()).with_hint(LINK_LOCAL)
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
            self.message = if self.is_of_proxy {
                self.message.replacen("the proxy", &format!("the proxy {proxy}"), 1)
            } else {
                format!("{} (through the proxy {proxy})", self.message)
            };
        }
        self
    }

    /// What to do about it, where that is the same for all callers.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What is wrong, where the caller can do something about it.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_deref()
    }

    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, HttpErrorKind::Connection | HttpErrorKind::Timeout)
    }

    pub(super) fn of(url: &Url, error: &ureq::Error) -> Self {
        let plain = |kind, text: &str| Parts::plain(kind, text);
        let parts = match error {
            ureq::Error::HostNotFound => plain(HttpErrorKind::UnknownHost, "the host is not known"),
            ureq::Error::Timeout(which) => {
                plain(HttpErrorKind::Timeout, &format!("no answer in time ({which})"))
            }
            ureq::Error::Tls(text) => plain(HttpErrorKind::Tls, text),
            ureq::Error::Io(error) => of_io(url, error),
            ureq::Error::ConnectionFailed => plain(HttpErrorKind::Connection, "no connection"),
            ureq::Error::ConnectProxyFailed(reason) => of_proxy(reason).of_proxy(),
            ureq::Error::InvalidProxyUrl => {
                plain(HttpErrorKind::Configuration, "the proxy's URL is malformed")
            }
            ureq::Error::Other(inner) if inner.is::<TooNear>() => {
                plain(HttpErrorKind::Refused, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<NoAddress>() => {
                plain(HttpErrorKind::UnknownHost, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<IsLinkLocal>() => {
                plain(HttpErrorKind::LinkLocal, &inner.to_string()).advised(LINK_LOCAL)
            }
            ureq::Error::Other(inner) if inner.is::<UnusableFile>() => {
                plain(HttpErrorKind::Configuration, &inner.to_string())
            }
            ureq::Error::Other(inner) if inner.is::<Cancelled>() => {
                plain(HttpErrorKind::Cancelled, "cancelled")
            }
            other => plain(HttpErrorKind::Protocol, &other.to_string()),
        };
        parts.at(url)
    }

    /// The error of a body that broke while it was read.
    pub fn of_body(url: &Url, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        if let Some(inner) = inner {
            return Self::of(url, inner);
        }
        of_io(url, error).at(url)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.message)
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault().map(|fault| fault as _)
    }
}

/// What to do about a host that is that near.
const LINK_LOCAL: &str = "if this host is what you want, allow it by its name";

/// An error without the place that it is about.
struct Parts {
    kind: HttpErrorKind,
    message: String,
    hint: Option<String>,
    fault: Option<Fault>,
    is_of_proxy: bool,
}

impl Parts {
    fn plain(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, fault: None, is_of_proxy: false }
    }

    fn of_proxy(self) -> Self {
        Self { is_of_proxy: true, ..self }
    }

    fn advised(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn at(self, url: &Url) -> HttpError {
        let Self { kind, message, hint, fault, is_of_proxy } = self;
        HttpError {
            kind,
            url: url.to_string(),
            message,
            hint,
            fault: fault.map(Box::new),
            is_of_proxy,
            unread: None,
        }
    }
}

/// What to do about a proxy that wants to know who asks.
pub(crate) const PROXY_LOGIN: &str = "the proxy wants a login: give it in the variable that names the proxy, as in http://NAME:PASSWORD@HOST:PORT";

/// What a proxy said to `CONNECT`, of which no more than the status comes here.
fn of_proxy(reason: &str) -> Parts {
    let Some(status) = reason.rsplit('/').next().and_then(|status| status.parse::<u16>().ok()) else {
        return Parts::plain(HttpErrorKind::Connection, "the proxy did not answer");
    };
    let message = format!("the proxy answered {status}");
    match status {
        407 => Parts::plain(HttpErrorKind::Refused, message).advised(PROXY_LOGIN),
        400..500 if !Retry::helps(status) => {
            let hint =
                "the proxy does not let this host be asked; no_proxy lists those that are asked directly";
            Parts::plain(HttpErrorKind::Refused, message).advised(hint)
        }
        _ => Parts::plain(HttpErrorKind::Connection, message),
    }
}

fn of_io(url: &Url, error: &io::Error) -> Parts {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            let kind = match error {
                rustls::Error::InvalidMessage(_) => HttpErrorKind::NotTls,
                _ => HttpErrorKind::Tls,
            };
            return Parts {
                kind,
                message: error.to_string(),
                hint: tls_hint(url, error),
                fault: tls_fault(url, error),
                is_of_proxy: false,
            };
        }
        if inner.is::<Cancelled>() {
            return Parts::plain(HttpErrorKind::Cancelled, "cancelled");
        }
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let told = error.get_ref().map(ToString::to_string);
            Parts::plain(HttpErrorKind::Timeout, told.unwrap_or_else(|| "no answer in time".to_owned()))
        }
        io::ErrorKind::UnexpectedEof => {
            Parts::plain(HttpErrorKind::Connection, "the connection ended too early")
        }
        _ => Parts::plain(HttpErrorKind::Connection, error.to_string()),
    }
}

/// What stands in the way of a connection that TLS ended, where it depends on the caller's trust.
fn tls_fault(url: &Url, error: &rustls::Error) -> Option<Fault> {
    use rustls::CertificateError as Certificate;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};

    let host = url.authority();
    Some(match error {
        error if is_self_signed(error) => {
            Fault::Certificate { host, problem: CertificateProblem::SelfSigned }
        }
        InvalidCertificate(Certificate::UnknownIssuer) => {
            Fault::Certificate { host, problem: CertificateProblem::UnknownIssuer }
        }
        AlertReceived(alert) if is_about_client(*alert) => Fault::ClientCertificate { host },
        InvalidMessage(_) => Fault::NotTls { host },
        _ => return None,
    })
}

/// What to do about a certificate that nobody's trust can help.
fn tls_hint(url: &Url, error: &rustls::Error) -> Option<String> {
    use rustls::CertificateError as Certificate;
    use rustls::Error::InvalidCertificate;

    let InvalidCertificate(error) = error else { return None };
    Some(match error {
        Certificate::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("the server needs a certificate whose subjectAltName has {}", url.host())
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            format!(
                "use a name that the certificate has, or give the server one whose subjectAltName has {}",
                url.host()
            )
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "the server needs a new certificate, unless the clock of this machine is wrong".to_owned()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "check the clock of this machine, and the certificate's dates".to_owned()
        }
        _ => return None,
    })
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
