//! What stands between a caller and a registry, where the caller can do something about it.

use std::path::PathBuf;

use ocibuild_spec::Url;

/// What is wrong, as data: what can be done about it depends on where the caller sets up a [`Registry`](crate::Registry).
///
/// It is among the sources of a [`SourceError`](ocibuild_spec::SourceError) or of an [`HttpError`](crate::HttpError).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The server's certificate is not accepted.
    #[error("the certificate of {host} {problem}")]
    Certificate {
        /// The server: `host[:port]`.
        host: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The server wants a client certificate, or rejects the one that it got.
    #[error("{host} does not accept this client's certificate, or requires one")]
    ClientCertificate {
        /// The server: `host[:port]`.
        host: String,
    },
    /// What the server answered is not TLS.
    #[error("{host} does not speak TLS")]
    NotTls {
        /// The server: `host[:port]`.
        host: String,
    },
    /// A file of configuration names a server that would be spoken to in the clear.
    #[error("{url} would be spoken to in the clear")]
    PlainHttp {
        /// The server's URL.
        url: Url,
        /// What references call it.
        registry: String,
    },
    /// A member of `hosts.toml` that is not supported, and that cannot be ignored.
    #[error("this is not supported, and without it the host would be asked in another way than intended")]
    HostsMember {
        /// The member.
        member: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// There are no credentials for the registry.
    #[error("there are no credentials for {registry}")]
    NoCredentials {
        /// The registry.
        registry: String,
    },
    /// The registry, or its token service, rejects the credentials.
    #[error("the {credential} was sent ({origin})")]
    CredentialsRejected {
        /// The registry.
        registry: String,
        /// What was sent, without its secret.
        credential: String,
        /// Where it comes from.
        origin: String,
        /// Whether the credentials are what was to be checked, and no image.
        is_login: bool,
    },
    /// The registry refuses, and nothing more is known.
    #[error("answered {status}")]
    Denied {
        /// The server: `host[:port]`.
        host: String,
        /// The status of its answer.
        status: u16,
    },
    /// A registry wants its credentials to be sent to another host.
    #[error(
        "it wants the credentials for {registry} to be sent to {realm}, which is another host; nothing was sent there"
    )]
    TokenRealm {
        /// The registry.
        registry: String,
        /// The other host, with its port.
        realm: String,
        /// The other host.
        host: String,
        /// What would be sent, without its secret.
        credential: String,
        /// Where that comes from.
        origin: String,
    },
    /// A file of credentials is damaged.
    #[error("is malformed")]
    CredentialsFile {
        /// The entry, where it is one alone.
        key: Option<String>,
    },
    /// A cloud does not give credentials to this machine or job.
    #[error("{provider}: {reason}")]
    CloudIdentity {
        /// The service that was asked.
        provider: String,
        /// Its reason.
        reason: String,
    },
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Nobody vouches for it but itself.
    #[error("is self-signed")]
    SelfSigned,
    /// It is signed by an authority that is not trusted.
    #[error("is signed by an unknown authority")]
    UnknownIssuer,
}
