use std::collections::BTreeMap;
use std::path::PathBuf;

use ocibuild_registry::{HttpClient, HttpError, HttpErrorKind};

use super::git::{GitAddress, GitProgram};
use super::http::HttpAddress;
use super::percent::base64;
use crate::build::Secret;
use crate::run::secret_value;
use crate::{Error, ErrorKind};

/// How sources that are not on this machine are reached: URLs through the one confined client, repositories through
/// the system's `git`.
///
/// Credentials are secrets of the build, by name: `HTTP_AUTH_TOKEN_HOST` and `HTTP_AUTH_HEADER_HOST` for URLs (6.71),
/// `GIT_AUTH_TOKEN[.HOST]` and `GIT_AUTH_HEADER[.HOST]` for repositories over `http`.
#[derive(Debug, Clone)]
pub struct Remotes {
    pub(crate) http: HttpClient,
    pub(crate) git: GitProgram,
    pub(crate) size_limit: u64,
    secrets: BTreeMap<String, Secret>,
}

impl Remotes {
    /// With a client and a program as they were set up.
    pub fn new(http: HttpClient, git: GitProgram) -> Self {
        Self { http, git, size_limit: 64 << 30, secrets: BTreeMap::new() }
    }

    /// With the certificate authorities of this system and its `git`, without proxies.
    pub fn system() -> Result<Self, Error> {
        let http = HttpClient::builder().system_roots().build().map_err(|error| of_http(&error))?;
        Ok(Self::new(http, GitProgram::default()))
    }

    /// A secret; those of a build are added to these.
    #[must_use]
    pub fn secret(mut self, id: impl Into<String>, secret: Secret) -> Self {
        self.secrets.insert(id.into(), secret);
        self
    }

    /// The most bytes that one URL may bring; 64 GiB unless told otherwise.
    #[must_use]
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    /// The socket of the agent whose keys open repositories.
    pub(crate) fn ssh_agent(mut self, socket: PathBuf) -> Self {
        self.git = self.git.ssh_agent(socket);
        self
    }

    fn secret_text(&self, id: &str) -> Result<Option<String>, Error> {
        let Some(secret) = self.secrets.get(id) else { return Ok(None) };
        let unusable =
            || Error::new(ErrorKind::Usage, format!("secret {id}: its value cannot be in a header"));
        let value = secret_value(secret, id)?;
        let text = std::str::from_utf8(value.bytes()).map_err(|_| unusable())?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.chars().any(char::is_control) {
            return Err(unusable());
        }
        Ok(Some(text.to_owned()))
    }

    /// What the `Authorization` header of a download says.
    pub(crate) fn http_authorization(&self, address: &HttpAddress) -> Result<Option<String>, Error> {
        let host = address.url.host();
        if let Some(token) = self.secret_text(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            return Ok(Some(format!("Bearer {token}")));
        }
        if let Some(header) = self.secret_text(&format!("HTTP_AUTH_HEADER_{host}"))? {
            return Ok(Some(header));
        }
        Ok(address.credentials.as_deref().map(basic))
    }

    /// The same for a repository.
    pub(crate) fn git_authorization(&self, address: &GitAddress) -> Result<Option<String>, Error> {
        for suffix in [format!(".{}", address.host), String::new()] {
            if let Some(header) = self.secret_text(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(header));
            }
            if let Some(token) = self.secret_text(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                return Ok(Some(basic(&format!("x-access-token:{token}"))));
            }
        }
        Ok(address.credentials.as_deref().map(basic))
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", base64(credentials.as_bytes()))
}

/// A request that had no answer, or one whose answer broke off.
pub(crate) fn of_http(error: &HttpError) -> Error {
    let kind = match error.kind() {
        HttpErrorKind::Cancelled => return Error::cancelled(),
        HttpErrorKind::Refused => ErrorKind::Refused,
        HttpErrorKind::Configuration => ErrorKind::Usage,
        _ => ErrorKind::Network,
    };
    let own = Error::new(kind, error.to_string());
    match error.hint() {
        Some(hint) => own.hint(hint),
        None => own,
    }
}
