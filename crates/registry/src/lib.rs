//! Client of the OCI distribution specification.
//!
//! # Model
//! A [`Registry`] is an [`ImageSource`](ocibuild_spec::ImageSource) for any number of registries: a reference is
//! resolved to one image, every byte verified against the digest that was asked for, and its blobs are read as
//! streams that go on by themselves where a connection broke. Below it stands [`HttpClient`], the one agent that
//! speaks to the network: it follows redirects by hand, never to a nearer address or a weaker scheme than the server
//! that sent them, reads no environment, and ends every wait when its token is cancelled.
//!
//! ```no_run
//! use ocibuild_registry::Registry;
//! use ocibuild_spec::{CancelToken, ImageSource as _, Platform};
//!
//! let registry = Registry::builder().system_roots().insecure("registry.test:5000").build()?;
//! let reference = "alpine:3.20".parse()?;
//! let image = registry.resolve(&reference, &Platform::host(), &CancelToken::new())?;
//! println!("{} has {} layers", image.descriptor.digest, image.manifest.layers().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Credentials`] are a list of [`CredentialSource`]s, each asked when a registry wants a login:
//!
//! ```no_run
//! use ocibuild_registry::{ConfigSource, Credential, Credentials, Helpers, KnownCredential, Registry, RegistryKey, Secret};
//!
//! let key = RegistryKey::parse("registry.test:5000/team").ok_or("no registry")?;
//! let robot = Credential::password("robot", Secret::new("…"));
//! let credentials = Credentials::new(vec![
//!     Box::new(KnownCredential::new("settings", "the settings of this program", key, robot)),
//!     Box::new(ConfigSource::file("docker", "/home/me/.docker/config.json", Helpers::new("/usr/bin"))),
//! ]);
//! let registry = Registry::builder().system_roots().credentials(credentials).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who is trusted with what
//! * TLS is the rule. Only registries on this machine (exactly `localhost` or a loopback address) and those the user
//!   named insecure are spoken to in the clear, and only when they answer a TLS greeting with something else. A
//!   certificate that fails is never a reason.
//! * A redirect, or a token service, is asked at no nearer address than the registry that named it, looked at after
//!   name resolution; link-local and unspecified addresses never. A token goes to the registry's own origin alone.
//! * A password goes to the registry that it is for, and to a token service on its host or in its own domain; to
//!   another one only when the user named it ([`RegistryBuilder::allow_realm`]).
//! * A certificate that vouches for itself counts where it is named itself: as an authority of all hosts, or in the
//!   folder about its host in `certs.d`. What stands in such a folder counts for that host alone.
//! * A mirror is a registry of its own: it has its own credentials, and is insecure only when it was named so. Tags are
//!   what the first place says that answers; all content is compared with its digest, whoever sends it.
//! * What the registry says of digests, sizes, types and ranges is compared with what comes.
//!
//! # Limitations
//! * Of `hosts.toml`, `header` and `proxy` are refused; of `registries.conf`, the first version and prefixes with a tag.
//! * Wrong bytes of a layer show when all of it was read, and are then an error that names the mirror; the next try asks
//!   another place.
//! * Behind a proxy the proxy resolves names, so there only hosts written as addresses are checked.
//! * Connecting and resolving a name are not ended by a cancel token but by their time limit.
//! * HTTP/1.1, without SOCKS proxies.
//! * A registry that takes an upload very slowly is not given up as long as it takes something.
#![forbid(unsafe_code)]

mod auth;
mod blob;
mod cloud;
mod credentials;
mod documents;
mod endpoint;
mod exchange;
mod failure;
mod fault;
mod http;
mod listing;
mod login;
mod lookup;
mod manifests;
mod referrers;
mod registry;
mod retry;
mod routes;
mod upload;

/// Private parsers, for the fuzz targets alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::time::Duration;

    pub use crate::auth::fuzzing::{challenges, token};
    pub use crate::credentials::fuzzing::{helper_answer, put, remove};
    pub use crate::routes::fuzzing::{hosts_toml, registries_conf};

    /// The target of the link to the next page.
    pub fn next_link(header: &str) -> Option<&str> {
        crate::listing::next_link(header)
    }

    /// First and last byte and the total of a `Content-Range`.
    pub fn content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
        crate::blob::parse_content_range(header)
    }

    /// The last byte that an upload has, of its `Range`.
    pub fn upload_range(header: &str) -> Option<u64> {
        crate::upload::parse_range(header)
    }

    /// What `Retry-After` asks for.
    pub fn retry_after(header: &str) -> Option<Duration> {
        crate::retry::seconds(header)
    }

    /// What is shown of the body of a refusal.
    pub fn words(body: &[u8]) -> String {
        crate::failure::words_of(body)
    }
}

pub use cloud::{
    AwsEndpoints, AwsIdentity, AzureEndpoints, AzureIdentity, CloudServices, GoogleEndpoints, GoogleIdentity,
    Variables,
};
pub use credentials::{
    ConfigSource, Credential, CredentialSource, CredentialStore, Credentials, Explained, FoundCredential,
    Helpers, KnownCredential, Lookup, Match, RegistryKey, Secret, Stored, Wanted,
};
pub use documents::KnownDocuments;
pub use fault::{CertificateProblem, Fault};
pub use http::{
    ClientCertificate, HostTls, HttpClient, HttpClientBuilder, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, Method, Proxies, Reach, Scheme, Trust, Url, UrlError, is_loopback, read_ca_bundle,
    system_ca_bundle,
};
pub use login::LoginCheck;
pub use manifests::{ManifestPush, TaggedManifest};
pub use registry::{Registry, RegistryBuilder};
pub use retry::Retrying;
pub use routes::{MirrorRule, Origin, Route, Transport};
pub use upload::{BlobPush, BlobUpload, OpenBlob};
