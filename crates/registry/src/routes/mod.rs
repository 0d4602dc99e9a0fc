//! Where an image is looked for: mirrors and other places that the user's configuration names, and its registry.

mod document;
mod hosts_toml;
mod registries_conf;
mod rule;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ocibuild_spec::{Reference, SourceError, SourceErrorKind};

use crate::fault::Fault;
use crate::http::{HostTls, Scheme, Url, UrlError, is_loopback};
use hosts_toml::Host;
pub use rule::MirrorRule;
use rule::{Rule, longest, name_of, rules_of};

/// The registry whose server has another name than those of its images.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// One place where an image is looked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Route {
    /// The image as it is called there. Credentials are looked up for this name's registry.
    pub reference: Reference,
    /// How that registry is spoken to.
    pub speaks: Transport,
    /// What stands in front of the repository in URLs: `/v2`, unless somebody said otherwise.
    pub root: String,
    /// The registry that a mirror is told to stand for (`?ns=`).
    pub namespace: Option<String>,
    /// Whether it may say what a tag stands for.
    pub resolves_tags: bool,
    /// Whether it may be asked for manifests and blobs by digest.
    pub serves_content: bool,
    /// What is trusted of it besides what its folder in `certs.d` says.
    pub tls: Option<Arc<HostTls>>,
    /// Who named it.
    pub origin: Origin,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TLS with a certificate that is verified.
    Tls,
    /// TLS with any certificate.
    AnyTls,
    /// As [`Tls`](Self::Tls), or in the clear when it does not speak TLS: this machine.
    TlsOrPlain,
    /// As [`AnyTls`](Self::AnyTls), or in the clear when it does not speak TLS: the user called it insecure.
    Anything,
    /// In the clear.
    Plain,
}

/// Who named a place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The text of a [`MirrorRule`].
    Mirror(String),
    /// A file of configuration.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// The name of the image.
    Itself,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mirror(text) => write!(f, "the mirror {text}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Itself => f.write_str("the registry itself"),
        }
    }
}

impl Route {
    /// Where its manifest is asked for. A registry that may be spoken to in the clear has `https` here.
    pub fn url(&self) -> Result<Url, UrlError> {
        let name = match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        };
        let path = format!("{}/{}/manifests/{name}", self.root, self.reference.repository());
        let base = self.server()?.with_path(&path)?;
        Ok(match &self.namespace {
            Some(namespace) => base.with_query("ns", namespace),
            None => base,
        })
    }

    /// The root of its server.
    pub(crate) fn server(&self) -> Result<Url, UrlError> {
        let registry = self.reference.registry();
        let host = if registry == DOCKER_HUB { DOCKER_HUB_SERVER } else { registry };
        let scheme = if self.speaks == Transport::Plain { Scheme::Http } else { Scheme::Https };
        Url::new(scheme, host, "/")
    }
}

/// The places of all images, as flags and files say. The files are read when the first image is looked for.
///
/// Of three sources the first that has places for a name decides, and the others do not count: mirrors that were named,
/// `registries.conf`, `hosts.toml`. Without any, an image is looked for where its name says. Pushes and all else but
/// pulls go there always.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    flags: Vec<Rule>,
    insecure: Vec<String>,
    registries_conf: Vec<PathBuf>,
    certs_d: Vec<PathBuf>,
    rules: OnceLock<Result<Vec<Rule>, (SourceErrorKind, String)>>,
}

impl Routes {
    pub(crate) fn new(
        mirrors: &[MirrorRule],
        insecure: Vec<String>,
        registries_conf: Vec<PathBuf>,
        certs_d: Vec<PathBuf>,
    ) -> Self {
        Self { flags: rules_of(mirrors), insecure, registries_conf, certs_d, rules: OnceLock::new() }
    }

    /// Where to look for an image, in order.
    pub(crate) fn of(&self, reference: &Reference) -> Result<Vec<Route>, SourceError> {
        let name = name_of(reference);
        let rule = longest(self.rules()?, &name);
        if let Some(rule) = rule.filter(|rule| rule.is_blocked) {
            let text = format!("{}: {} is blocked by {}", reference.familiar(), name, rule.origin);
            return Err(SourceError::new(SourceErrorKind::Refused, text).hint(
                "use an image from elsewhere; whoever wrote that file does not want this one to be used",
            ));
        }
        let elsewhere = |rule: &&Rule| rule.leads_elsewhere();
        let decisive = longest(&self.flags, &name).or(rule.filter(elsewhere));
        if let Some(rule) = decisive {
            return self.by_rule(rule, reference);
        }
        match hosts_toml::find(&self.certs_d, reference.registry())? {
            Some(hosts) => self.by_hosts(&hosts, reference),
            None => Ok(vec![self.plainly(reference, Origin::Itself)?]),
        }
    }

    /// The registry that a name names, whatever mirrors there are.
    pub(crate) fn own(&self, reference: &Reference) -> Result<Route, SourceError> {
        let mut own = self.plainly(reference, Origin::Itself)?;
        let hosts = hosts_toml::find(&self.certs_d, reference.registry())?.unwrap_or_default();
        // The file may say more about this server than what is to be asked in its place.
        let same = hosts
            .iter()
            .rev()
            .find(|host| host.url.as_ref().is_none_or(|url| registry_of(url) == reference.registry()));
        if let Some(host) = same {
            own.tls = tls_of(host);
            if host.skips_verification && own.speaks == Transport::Tls {
                own.speaks = Transport::AnyTls;
            }
        }
        Ok(own)
    }

    fn rules(&self) -> Result<&[Rule], SourceError> {
        let rules = self.rules.get_or_init(|| {
            registries_conf::read(&self.registries_conf).map_err(|error| (error.kind(), error.to_string()))
        });
        match rules {
            Ok(rules) => Ok(rules),
            Err((kind, text)) => Err(SourceError::new(*kind, text.clone())),
        }
    }

    fn by_rule(&self, rule: &Rule, reference: &Reference) -> Result<Vec<Route>, SourceError> {
        let mut routes = Vec::new();
        for place in rule.places(reference)? {
            let mut route = match place.image {
                Some(image) => self.plainly(&image, place.origin)?,
                None => self.own(reference)?,
            };
            if place.is_insecure {
                route.speaks = Transport::Anything;
            }
            (route.resolves_tags, route.serves_content) = (place.for_tags, place.for_digests);
            routes.push(route);
        }
        Ok(routes)
    }

    /// A place about which nothing else was said.
    fn plainly(&self, reference: &Reference, origin: Origin) -> Result<Route, SourceError> {
        let is_insecure = self.insecure.iter().any(|name| name == reference.registry())
            || longest(self.rules()?, &name_of(reference)).is_some_and(|rule| rule.is_insecure);
        let host = Url::new(Scheme::Https, reference.registry(), "/").map_err(|error| {
            SourceError::new(SourceErrorKind::Unsupported, format!("{}: {error}", reference.familiar()))
        })?;
        let speaks = if is_insecure {
            Transport::Anything
        } else if is_loopback(host.host()) {
            Transport::TlsOrPlain
        } else {
            Transport::Tls
        };
        Ok(Route {
            reference: reference.clone(),
            speaks,
            root: "/v2".to_owned(),
            namespace: None,
            resolves_tags: true,
            serves_content: true,
            tls: None,
            origin,
        })
    }

    fn by_hosts(&self, hosts: &[Host], reference: &Reference) -> Result<Vec<Route>, SourceError> {
        let mut routes = Vec::new();
        for host in hosts.iter().filter(|host| host.resolves || host.pulls) {
            let mut route = match &host.url {
                None => self.own(reference)?,
                Some(url) => self.by_host(host, url, reference)?,
            };
            (route.resolves_tags, route.serves_content) = (host.resolves, host.pulls);
            routes.push(route);
        }
        Ok(routes)
    }

    fn by_host(&self, host: &Host, url: &Url, reference: &Reference) -> Result<Route, SourceError> {
        let registry = registry_of(url);
        let unusable = |reason: String| {
            SourceError::new(SourceErrorKind::Configuration, format!("{}: {reason}", host.origin))
        };
        let root = host.root.clone();
        // A path below the usual root is the beginning of repositories: tokens are asked for with it.
        let (root, repository) = match root.strip_prefix("/v2/") {
            Some(path) => ("/v2".to_owned(), format!("{path}/{}", reference.repository())),
            None => (root, reference.repository().to_owned()),
        };
        let place = reference.at(&registry, &repository).map_err(|error| unusable(error.to_string()))?;
        let mut route = self.plainly(&place, host.origin.clone())?;
        route.speaks = match route.speaks {
            Transport::Anything | Transport::TlsOrPlain if host.is_plain() => Transport::Plain,
            Transport::Anything => Transport::Anything,
            _ if host.is_plain() => {
                let fault = Fault::PlainHttp { url: url.clone(), registry };
                return Err(unusable(fault.to_string()).caused_by(fault));
            }
            _ if host.skips_verification => Transport::AnyTls,
            _ => Transport::Tls,
        };
        route.root = root;
        route.namespace = (registry != reference.registry()).then(|| reference.registry().to_owned());
        route.tls = tls_of(host);
        Ok(route)
    }
}

fn tls_of(host: &Host) -> Option<Arc<HostTls>> {
    (host.tls != HostTls::default()).then(|| Arc::new(host.tls.clone()))
}

/// What references call the server of a URL.
fn registry_of(url: &Url) -> String {
    let authority = url.authority();
    if authority == DOCKER_HUB_SERVER { DOCKER_HUB.to_owned() } else { authority }
}

/// What the fuzz targets read.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::document::TextFile;
    use super::{OnceLock, Reference, Route, Routes, SourceError, hosts_toml, registries_conf};

    /// What a `registries.conf` makes of these images.
    pub fn registries_conf(
        text: &str,
        references: &[Reference],
    ) -> Result<Vec<Result<Vec<Route>, SourceError>>, SourceError> {
        let rules = registries_conf::parse(&TextFile::new("registries.conf", text))?;
        let routes = Routes { rules: OnceLock::from(Ok(rules)), ..Routes::default() };
        Ok(references.iter().map(|reference| routes.of(reference)).collect())
    }

    /// What a `hosts.toml` makes of them.
    pub fn hosts_toml(
        text: &str,
        references: &[Reference],
    ) -> Result<Vec<Result<Vec<Route>, SourceError>>, SourceError> {
        let hosts = hosts_toml::parse(&TextFile::new("hosts.toml", text))?;
        let routes = Routes::default();
        Ok(references.iter().map(|reference| routes.by_hosts(&hosts, reference)).collect())
    }
}

#[cfg(test)]
mod tests;
