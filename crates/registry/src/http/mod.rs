//! The one confined HTTP agent: no redirects by itself, no environment, addresses checked after name resolution,
//! bodies that end in an error when they stall, and every wait ended by a cancel token.

mod address;
mod certs_d;
mod client;
mod error;
mod form;
mod lookup;
mod proxy;
mod roots;
mod tls;
mod transport;
mod verifier;

pub use address::Reach;
pub use address::is_loopback;
pub use client::{HttpClient, HttpClientBuilder, HttpRequest, HttpResponse, Method, Trust};
pub(crate) use error::PROXY_LOGIN;
pub use error::{HttpError, HttpErrorKind};
pub(crate) use form::Form;
pub use ocibuild_spec::{Scheme, Url, UrlError};
pub use proxy::Proxies;
pub use roots::{read_ca_bundle, system_ca_bundle};
pub use tls::{ClientCertificate, HostTls};
