use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ocibuild_plan::address::{GitAddress, HttpAddress, Transport, base64};
use ocibuild_registry::{HttpClient, HttpError, HttpErrorKind, Scheme};

use super::git::GitProgram;
use crate::error::{Error, Failure};
use crate::failure::ContextFailure;
use crate::secret::{Secret, secret_value};

/// How sources that are not on this machine are reached: URLs through the one confined client, repositories through
/// the system's `git`.
///
/// Credentials are secrets of the build, by name: `HTTP_AUTH_TOKEN_HOST` and `HTTP_AUTH_HEADER_HOST` for URLs (6.71),
/// `GIT_AUTH_TOKEN.HOST` and `GIT_AUTH_HEADER.HOST` for repositories. `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER` are for
/// hosts of [repositories that the user named](Self::named_repository): a Dockerfile may name any host, its author's own
/// among them. None is sent in the clear, but to this machine and to [insecure](Self::insecure) hosts.
#[derive(Debug, Clone)]
pub struct Remotes {
    pub(crate) http: HttpClient,
    pub(crate) git: GitProgram,
    pub(crate) size_limit: u64,
    secrets: BTreeMap<String, Secret>,
    /// Hosts of the repositories that the user named.
    named: BTreeSet<String>,
    insecure: BTreeSet<String>,
}

/// The secret that opens a repository or a URL, or why it is kept back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// There is none.
    None,
    /// What the `Authorization` header says.
    Header(String),
    /// The secret of this name is for the hosts that the user named.
    NotNamed(String),
    /// The secret of this name would be sent in the clear.
    InTheClear(String),
}

impl Login {
    pub(crate) fn header(&self) -> Option<&str> {
        match self {
            Self::Header(value) => Some(value),
            _ => None,
        }
    }

    /// What to do about a server that refuses a request without credentials.
    pub(crate) fn advice(&self, wanted: &str, host: &str) -> String {
        match self {
            Self::None => format!("if it is private, give a token as the secret {wanted}"),
            Self::Header(_) => "the server does not accept the credentials that were sent".to_owned(),
            Self::NotNamed(id) => format!(
                "the secret {id} is only sent to hosts of repositories that you named yourself; for {host} give it as \
                 the secret {wanted}"
            ),
            Self::InTheClear(id) => format!(
                "the secret {id} is not sent over http, where everybody on the way reads it: use https, or allow {host} \
                 as an insecure host"
            ),
        }
    }
}

impl Remotes {
    /// With a client and a program as they were set up.
    pub fn new(http: HttpClient, git: GitProgram) -> Self {
        let (named, insecure) = (BTreeSet::new(), BTreeSet::new());
        Self { http, git, size_limit: 64 << 30, secrets: BTreeMap::new(), named, insecure }
    }

    /// With the certificate authorities of this system and its `git`, without proxies.
    pub fn system() -> Result<Self, Error> {
        let http = HttpClient::builder().system_roots().build().map_err(of_http)?;
        Ok(Self::new(http, GitProgram::default()))
    }

    /// A secret; those of a build are added to these.
    #[must_use]
    pub fn secret(mut self, id: impl Into<String>, secret: Secret) -> Self {
        self.secrets.insert(id.into(), secret);
        self
    }

    /// The user named this repository, and so its host: the secrets `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER` are for it.
    /// [`Fetcher::fetch`](super::Fetcher::fetch) does so by itself, and so does a build for its contexts.
    #[must_use]
    pub fn named_repository(mut self, address: &GitAddress) -> Self {
        self.named.insert(address.web_host().to_owned());
        self
    }

    /// The same, but nothing is fetched: every URL and repository is an error.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.http = self.http.offline();
        self
    }

    /// A host, `HOST[:PORT]`, to which secrets may be sent without TLS.
    #[must_use]
    pub fn insecure(mut self, host: impl Into<String>) -> Self {
        let host = host.into().to_ascii_lowercase();
        self.insecure.insert(host.strip_suffix(":80").unwrap_or(&host).to_owned());
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
        let unusable = || Error::from(ContextFailure::SecretNotAHeader { id: id.to_owned() });
        let value = secret_value(secret, id)?;
        let text = std::str::from_utf8(value.bytes()).map_err(|_| unusable())?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.chars().any(char::is_control) {
            return Err(unusable());
        }
        Ok(Some(text.to_owned()))
    }

    /// The credentials of a download.
    pub(crate) fn http_login(&self, address: &HttpAddress) -> Result<Login, Error> {
        let url = address.url();
        let is_safe = url.scheme() == Scheme::Https
            || ocibuild_registry::is_loopback(url.host())
            || self.is_insecure(&url.authority());
        let host = url.host();
        let ids = [(format!("HTTP_AUTH_TOKEN_{host}"), "Bearer "), (format!("HTTP_AUTH_HEADER_{host}"), "")];
        for (id, scheme) in ids {
            match self.secret_text(&id)? {
                Some(_) if !is_safe => return Ok(Login::InTheClear(id)),
                Some(text) => return Ok(Login::Header(format!("{scheme}{text}"))),
                None => {}
            }
        }
        Ok(of_url(address.credentials()))
    }

    /// The credentials of a repository over `http`.
    pub(crate) fn git_login(&self, address: &GitAddress) -> Result<Login, Error> {
        let host = address.web_host();
        let is_safe = address.transport() == Transport::Https
            || ocibuild_registry::is_loopback(address.host_name())
            || self.is_insecure(host);
        for host in [address.host(), host, address.host_name()] {
            if let Some((id, header)) = self.git_secret(&format!(".{host}"))? {
                return Ok(if is_safe { Login::Header(header) } else { Login::InTheClear(id) });
            }
        }
        let withheld = match self.git_secret("")? {
            None => Login::None,
            Some((id, _)) if !self.named.contains(host) => Login::NotNamed(id),
            Some((id, _)) if !is_safe => Login::InTheClear(id),
            Some((_, header)) => return Ok(Login::Header(header)),
        };
        // What the text of the address has was written for this repository.
        Ok(match of_url(address.credentials()) {
            Login::None => withheld,
            own => own,
        })
    }

    /// The secret whose name ends like this, and the header that it makes.
    fn git_secret(&self, suffix: &str) -> Result<Option<(String, String)>, Error> {
        let (header, token) = (format!("{GIT_HEADER}{suffix}"), format!("{GIT_TOKEN}{suffix}"));
        if let Some(text) = self.secret_text(&header)? {
            return Ok(Some((header, text)));
        }
        let text = self.secret_text(&token)?;
        Ok(text.map(|text| (token, basic(&format!("x-access-token:{text}")))))
    }

    fn is_insecure(&self, host: &str) -> bool {
        self.insecure.contains(host.strip_suffix(":80").unwrap_or(host))
    }
}

pub(crate) const GIT_TOKEN: &str = "GIT_AUTH_TOKEN";
const GIT_HEADER: &str = "GIT_AUTH_HEADER";

/// The credentials in the text of an address.
fn of_url(credentials: Option<&str>) -> Login {
    credentials.map_or(Login::None, |credentials| Login::Header(basic(credentials)))
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", base64(credentials.as_bytes()))
}

/// A request that had no answer, or one whose answer broke off.
pub(crate) fn of_http(error: HttpError) -> Error {
    match error.kind() {
        HttpErrorKind::Cancelled => Error::cancelled(),
        _ => Failure::from(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remotes(secrets: &[&str]) -> Remotes {
        let http = HttpClient::builder().build().unwrap();
        let remotes = Remotes::new(http, GitProgram::default());
        secrets.iter().fold(remotes, |remotes, id| {
            remotes.secret(*id, Secret::Value(format!("canary of {id}\n").into_bytes()))
        })
    }

    fn git(text: &str) -> GitAddress {
        GitAddress::parse(text).unwrap()
    }

    /// What is sent to a repository, with these secrets, by a user who named one repository.
    fn sent(secrets: &[&str], named: &str, text: &str) -> Login {
        remotes(secrets).named_repository(&git(named)).git_login(&git(text)).unwrap()
    }

    #[test]
    fn plain_secrets_of_repositories_are_for_hosts_that_the_user_named() {
        for (named, text) in [
            ("https://git.test/a.git", "https://git.test/b.git"),
            ("https://git.test:443/a.git", "https://GIT.test/b.git"),
            ("https://git.test/a.git", "https://git.test:443/b.git"),
            ("https://git.test:8443/a.git", "https://git.test:8443/b.git"),
            ("http://git.test/a.git", "https://git.test/b.git"),
            ("git@git.test:a.git", "https://git.test/b.git"),
            ("ssh://git@git.test:2222/a.git", "https://git.test/b.git"),
            ("http://127.0.0.1:99/a.git", "http://127.0.0.1:99/b.git"),
            ("http://[::1]:99/a.git", "http://[::1]:99/b.git"),
            ("http://localhost/a.git", "http://localhost:80/b.git"),
        ] {
            for id in ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"] {
                assert!(matches!(sent(&[id], named, text), Login::Header(_)), "{id}: {named} {text}");
            }
        }
        for (named, text) in [
            ("https://git.test/a.git", "https://evil.test/b.git"),
            ("https://git.test/a.git", "https://git.test.evil.test/b.git"),
            ("https://git.test/a.git", "https://evilgit.test/b.git"),
            ("https://git.test/a.git", "https://git.test@evil.test/b.git"),
            ("https://git.test/a.git", "https://git.test:8443/b.git"),
            ("https://git.test:8443/a.git", "https://git.test/b.git"),
            ("https://git.test/a.git", "https://git.test:80/b.git"),
            ("http://127.0.0.1:99/a.git", "http://127.0.0.1:98/b.git"),
        ] {
            let found = sent(&["GIT_AUTH_TOKEN"], named, text);
            let is_of_address = text.contains('@') && matches!(found, Login::Header(_));
            assert!(
                found == Login::NotNamed("GIT_AUTH_TOKEN".to_owned()) || is_of_address,
                "{named} {text}: {found:?}"
            );
            assert!(!format!("{found:?}").contains("canary"));
        }
        let nobody = remotes(&["GIT_AUTH_HEADER"]).git_login(&git("https://git.test/b.git")).unwrap();
        assert_eq!(nobody, Login::NotNamed("GIT_AUTH_HEADER".to_owned()));
    }

    #[test]
    fn secrets_that_name_a_host_are_for_that_host() {
        for (id, text) in [
            ("GIT_AUTH_TOKEN.git.test", "https://git.test/b.git"),
            ("GIT_AUTH_TOKEN.git.test", "https://git.test:443/b.git"),
            ("GIT_AUTH_TOKEN.git.test:443", "https://git.test:443/b.git"),
            ("GIT_AUTH_HEADER.git.test:8443", "https://git.test:8443/b.git"),
            ("GIT_AUTH_HEADER.git.test", "https://git.test:8443/b.git"),
            ("GIT_AUTH_TOKEN.127.0.0.1", "http://127.0.0.1:99/b.git"),
            ("GIT_AUTH_TOKEN.[::1]", "http://[::1]:99/b.git"),
        ] {
            assert!(matches!(sent(&[id], "https://other.test/a.git", text), Login::Header(_)), "{id} {text}");
        }
        for (id, text) in [
            ("GIT_AUTH_TOKEN.git.test", "https://git.test.evil.test/b.git"),
            ("GIT_AUTH_TOKEN.git.test:8443", "https://git.test/b.git"),
            ("GIT_AUTH_TOKEN.test", "https://git.test/b.git"),
        ] {
            assert_eq!(sent(&[id], "https://git.test/a.git", text), Login::None, "{id} {text}");
        }
        let both = ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER.git.test"];
        let expected = Login::Header("canary of GIT_AUTH_HEADER.git.test".to_owned());
        assert_eq!(sent(&both, "https://git.test/a.git", "https://git.test/b.git"), expected);
    }

    #[test]
    fn no_secret_is_sent_in_the_clear() {
        let plain = "http://git.test/b.git";
        for id in ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN.git.test", "GIT_AUTH_HEADER.git.test"]
        {
            assert_eq!(sent(&[id], plain, plain), Login::InTheClear(id.to_owned()));
            for host in ["git.test", "GIT.test:80"] {
                let remotes = remotes(&[id]).named_repository(&git(plain)).insecure(host);
                assert!(matches!(remotes.git_login(&git(plain)).unwrap(), Login::Header(_)), "{id} {host}");
            }
            let other = remotes(&[id]).named_repository(&git(plain)).insecure("other.test");
            assert_eq!(other.git_login(&git(plain)).unwrap(), Login::InTheClear(id.to_owned()));
        }
        for id in ["HTTP_AUTH_TOKEN_web.test", "HTTP_AUTH_HEADER_web.test"] {
            let login = |remotes: Remotes, text: &str| {
                remotes.http_login(&HttpAddress::parse(text).unwrap()).unwrap()
            };
            assert_eq!(login(remotes(&[id]), "http://web.test/f"), Login::InTheClear(id.to_owned()));
            assert!(matches!(login(remotes(&[id]), "https://web.test/f"), Login::Header(_)));
            assert!(matches!(
                login(remotes(&[id]).insecure("web.test"), "http://web.test/f"),
                Login::Header(_)
            ));
            assert_eq!(login(remotes(&[id]), "https://web.test.evil.test/f"), Login::None);
        }
        let own = "http://user:canary@web.test/f";
        let login = remotes(&[]).http_login(&HttpAddress::parse(own).unwrap()).unwrap();
        assert!(matches!(login, Login::Header(_)), "the author of the address gave these");
    }
}
