//! Client of the OCI distribution specification.
#![forbid(unsafe_code)]

mod auth;
mod blob;
mod endpoint;
mod failure;
mod http;
mod registry;
mod retry;

pub use http::{
    HttpClient, HttpClientBuilder, HttpError, HttpErrorKind, HttpRequest, HttpResponse, Proxies, Reach,
    Scheme, Trust, Url, UrlError, system_ca_bundle,
};
pub use registry::{Registry, RegistryBuilder};
