//! containerd's `hosts.toml` (its docs/hosts.md).

use std::path::{Path, PathBuf};

use ocibuild_spec::SourceError;

use super::Origin;
use super::document::{Table, TextFile, Value};
use crate::fault::Fault;
use crate::http::{ClientCertificate, HostTls, Scheme, Url};

/// A server that a file names.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// `None` for the one that the names of images name.
    pub(super) url: Option<Url>,
    /// What stands in front of repositories: the root of the API, without a slash at its end.
    pub(super) root: String,
    /// It may say what a tag stands for.
    pub(super) resolves: bool,
    /// It may be asked for content.
    pub(super) pulls: bool,
    pub(super) skips_verification: bool,
    pub(super) tls: HostTls,
    pub(super) origin: Origin,
}

/// The file about a registry, if there is one: in the first directory that has one, by the registry's name, and where
/// there is no folder of that name, by `_default`.
pub(super) fn find(directories: &[PathBuf], registry: &str) -> Result<Option<Vec<Host>>, SourceError> {
    for directory in directories {
        let names = folders(registry).into_iter().chain(["_default".to_owned()]);
        let folder = names.map(|name| directory.join(name)).find(|folder| folder.is_dir());
        let Some(folder) = folder else { continue };
        if let Some(file) = TextFile::read(&folder.join("hosts.toml"))? {
            return parse(&file).map(Some);
        }
    }
    Ok(None)
}

/// What the folder of a registry may be called: with a port also in the way of systems that have no colons in names.
fn folders(registry: &str) -> Vec<String> {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            vec![format!("{host}_{port}_"), registry.to_owned()]
        }
        _ => vec![registry.to_owned()],
    }
}

/// The servers in the order in which they are asked; the last is the one at the end of all.
pub(super) fn parse(file: &TextFile) -> Result<Vec<Host>, SourceError> {
    file.parse(|document| {
        let mut hosts = Vec::new();
        if let Some(value) = document.get("host") {
            for (name, table) in value.as_table()?.entries()? {
                let url = url_of(name).map_err(|reason| file.error(table.at, reason))?;
                hosts.push(host_of(&table, Some(url), file.origin(table.at))?);
            }
        }
        let server = document.get("server");
        let origin = server.as_ref().map_or(Origin::Itself, Value::origin);
        let url = match server {
            Some(value) if !value.as_str()?.is_empty() => {
                Some(url_of(value.as_str()?).map_err(|reason| value.error(reason))?)
            }
            _ => None,
        };
        hosts.push(host_of(&document, url, origin)?);
        Ok(hosts)
    })
}

fn url_of(text: &str) -> Result<Url, String> {
    let full = if text.starts_with("http") { text.to_owned() } else { format!("https://{text}") };
    full.parse::<Url>().map_err(|error| error.to_string())
}

fn host_of(table: &Table<'_>, url: Option<Url>, origin: Origin) -> Result<Host, SourceError> {
    for key in ["header", "proxy"] {
        if let Some(value) = table.get(key) {
            let fault = Fault::HostsMember { member: key, path: table.file.path.clone() };
            return Err(value.error(fault.to_string()).caused_by(fault));
        }
    }
    let (mut resolves, mut pulls) = (true, true);
    if let Some(value) = table.get("capabilities") {
        let items = value.items()?;
        let mut known = Vec::new();
        for item in &items {
            let name = item.as_str()?.to_ascii_lowercase();
            if !matches!(name.as_str(), "pull" | "resolve" | "push") {
                return Err(item.error(format!("{name:?} is none of pull, resolve, push")));
            }
            known.push(name);
        }
        // An empty list is as good as none there.
        if !known.is_empty() {
            resolves = known.iter().any(|name| name == "resolve");
            pulls = known.iter().any(|name| name == "pull");
        }
    }
    let folder = table.file.path.parent().unwrap_or(Path::new("/"));
    let path = url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
    let is_whole = table.boolean("override_path")?.unwrap_or_default() || path.ends_with("/v2");
    let root = if is_whole { path.to_owned() } else { format!("{path}/v2") };
    Ok(Host {
        url,
        root,
        resolves,
        pulls,
        skips_verification: table.boolean("skip_verify")?.unwrap_or_default(),
        tls: HostTls { ca: authorities(table, folder)?, client: client(table, folder)? },
        origin,
    })
}

/// One path or a list of them.
fn authorities(table: &Table<'_>, folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    match table.get("ca") {
        None => Ok(Vec::new()),
        Some(value) if value.is_list() => {
            value.items()?.iter().map(|item| Ok(folder.join(item.as_str()?))).collect()
        }
        Some(value) => Ok(vec![folder.join(value.as_str()?)]),
    }
}

/// A path of both, a list with one of these, or a list with one pair.
fn client(table: &Table<'_>, folder: &Path) -> Result<Option<ClientCertificate>, SourceError> {
    let Some(value) = table.get("client") else { return Ok(None) };
    let both = |value: &Value<'_>| -> Result<ClientCertificate, SourceError> {
        let path = folder.join(value.as_str()?);
        Ok(ClientCertificate { chain: path.clone(), key: path })
    };
    if !value.is_list() {
        return both(&value).map(Some);
    }
    let items = value.items()?;
    let [item] = items.as_slice() else {
        return match items.as_slice() {
            [] => Ok(None),
            _ => Err(value.error("one client certificate is shown to a host; keep one")),
        };
    };
    if !item.is_list() {
        return both(item).map(Some);
    }
    match item.items()?.as_slice() {
        [chain, key] if key.as_str()?.is_empty() => both(chain).map(Some),
        [chain, key] => Ok(Some(ClientCertificate {
            chain: folder.join(chain.as_str()?),
            key: folder.join(key.as_str()?),
        })),
        _ => Err(item.error("a pair has a certificate and a key")),
    }
}

impl Host {
    /// Whether it is spoken to in the clear.
    pub(super) fn is_plain(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == Scheme::Http)
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::SourceErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn hosts(text: &str) -> Result<Vec<Host>, SourceError> {
        parse(&TextFile::new("/c/docker.io/hosts.toml", text))
    }

    #[test]
    fn hosts_keep_their_order_and_the_server_is_last() {
        let text = r#"
server = "https://registry-1.docker.io"
capabilities = ["pull"]
[host."https://z.example"]
capabilities = ["pull", "resolve"]
dial_timeout = "1s"
[host."http://10.0.0.1:5000/v2/hub"]
override_path = true
skip_verify = true
ca = ["ca.crt", "/abs.crt"]
client = [["c.cert", "c.key"]]
[host."a.example/sub"]
client = "both.pem"
"#;
        let hosts = hosts(text).unwrap();
        let shown: Vec<String> = hosts
            .iter()
            .map(|host| {
                let url = host.url.as_ref().map(Url::authority).unwrap_or_default();
                let (resolves, pulls) = (host.resolves, host.pulls);
                format!("{url} {} {resolves} {pulls} {}", host.root, host.origin)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "z.example /v2 true true /c/docker.io/hosts.toml:4",
                "10.0.0.1:5000 /v2/hub true true /c/docker.io/hosts.toml:7",
                "a.example /sub/v2 true true /c/docker.io/hosts.toml:12",
                "registry-1.docker.io /v2 false true /c/docker.io/hosts.toml:2",
            ]
        );
        let second = &hosts[1];
        assert!(second.is_plain() && second.skips_verification);
        assert_eq!(second.tls.ca, [PathBuf::from("/c/docker.io/ca.crt"), PathBuf::from("/abs.crt")]);
        let client = second.tls.client.clone().unwrap();
        assert_eq!(client.key, Path::new("/c/docker.io/c.key"));
        let both = hosts[2].tls.client.clone().unwrap();
        assert_eq!((both.chain.clone(), both.chain), (both.key, PathBuf::from("/c/docker.io/both.pem")));
    }

    #[test]
    fn an_empty_file_names_the_registry_itself() {
        let hosts = hosts("").unwrap();
        assert!(matches!(hosts.as_slice(), [Host { url: None, resolves: true, pulls: true, .. }]));
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, expected) in [
            ("server = 1", "hosts.toml:1: server: it has to be a text"),
            ("\nserver = 'ftp://x'", "hosts.toml:2: server: \"https://ftp://x\" is not a usable URL"),
            ("server = 'https://u:p@x'", "holds a user name"),
            (
                "[host.'https://x']\ncapabilities = ['fetch']",
                "hosts.toml:2: capabilities: \"fetch\" is none of",
            ),
            ("[host.'https://x']\ncapabilities = 'pull'", "hosts.toml:2: capabilities: it has to be a list"),
            ("[host.'https://x']\nskip_verify = 1", "hosts.toml:2: skip_verify: it has to be true or false"),
            ("[host.'https://x'.header]\nauthorization = 'x'", "header: this is not supported"),
            ("[host.'https://x']\nproxy = 'http://u:secret@p'", "hosts.toml:2: proxy: this is not supported"),
            ("[host.'https://x']\nclient = ['a', 'b']", "hosts.toml:2: client: one client certificate"),
            ("[host.'https://x']\nclient = [['a']]", "hosts.toml:2: client: a pair"),
            ("host = 1", "hosts.toml:1: host: it has to be a table"),
            ("[host]\n'https://x' = 1", "hosts.toml:2: https://x: it has to be a table"),
        ] {
            let error = hosts(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.kind(), SourceErrorKind::Configuration);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(lines in proptest::collection::vec(line(), 0..12)) {
            for host in hosts(&lines.join("\n")).unwrap_or_default() {
                prop_assert!(!host.root.ends_with('/'));
            }
        }
    }

    /// Lines that nearly mean something.
    fn line() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("server"),
            Just("capabilities"),
            Just("ca"),
            Just("client"),
            Just("override_path"),
            Just("host"),
        ];
        let value = prop_oneof![
            Just("'https://x.io/v2/a'".to_owned()),
            Just("['pull']".to_owned()),
            Just("[['a', '']]".to_owned()),
            Just("true".to_owned()),
            "[ -~]{0,20}",
            "\\PC{0,10}",
        ];
        prop_oneof![
            "\\PC{0,12}".prop_map(|name| format!("[host.\"{name}\"]")),
            (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
            "\\PC{0,30}",
        ]
    }
}
