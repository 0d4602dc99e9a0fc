use super::source::Wanted;

/// Names under which docker's own registry is known.
const DOCKER: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// For whom an entry of a configuration file is: a registry, or some repositories of it.
///
/// Files of docker have URLs of its API or hosts, files of the containers tools have `host/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryKey {
    /// `host[:port]`, in lower case.
    host: String,
    /// Beginning of the repositories' paths; empty for all of them.
    path: String,
}

impl RegistryKey {
    /// Reads a key; `None` if nothing can ever match it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let without = ["https://", "http://"].iter().find_map(|scheme| {
            text.get(..scheme.len())
                .filter(|start| start.eq_ignore_ascii_case(scheme))
                .map(|_| &text[scheme.len()..])
        });
        let rest = without.unwrap_or(text);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = registry_of(host);
        let is_api = without.is_some() || path.ends_with('/') || host == DOCKER[0];
        let path = path.trim_end_matches('/');
        let path = if is_api && matches!(path, "v1" | "v2") { "" } else { path };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        // What ends in a colon is no host but the scheme of a second URL.
        let is_host = !host.is_empty() && !host.ends_with(':') && host.chars().all(fits);
        if !is_host || path.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return None;
        }
        Some(Self { host, path: path.to_owned() })
    }

    /// `host[:port]`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Beginning of the repositories' paths; empty for all of them.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How much of the repository's path it names, if it is for it at all: exactly this host and port, and whole
    /// components of the path. What merely begins with the host is another one.
    pub(crate) fn matches(&self, wanted: Wanted<'_>) -> Option<usize> {
        if self.host != registry_of(wanted.registry) {
            return None;
        }
        let rest = wanted.repository.unwrap_or_default().strip_prefix(self.path.as_str())?;
        let ends = self.path.is_empty() || rest.is_empty() || rest.starts_with('/');
        ends.then_some(self.path.len())
    }

    /// As docker writes it.
    pub(crate) fn stored(&self) -> String {
        match (self.host.as_str(), self.path.as_str()) {
            ("docker.io", "") => DOCKER_KEY.to_owned(),
            (host, "") => host.to_owned(),
            (host, path) => format!("{host}/{path}"),
        }
    }
}

impl std::fmt::Display for RegistryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

/// One name for each registry: in lower case, and docker's under all of its names.
pub(crate) fn registry_of(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DOCKER.contains(&host.as_str()) { DOCKER[0].to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_whole_hosts_and_whole_components() {
        let hub = ["docker.io", "library/alpine"];
        let own = ["registry.io", "team/app"];
        let port = ["registry.io:5000", "team/app"];
        for (key, [registry, repository], expected) in [
            ("https://index.docker.io/v1/", hub, Some(0)),
            ("index.docker.io", hub, Some(0)),
            ("https://registry-1.docker.io/v2/", hub, Some(0)),
            ("docker.io", hub, Some(0)),
            ("docker.io/library", hub, Some(7)),
            ("docker.io/library/alpine", hub, Some(14)),
            ("docker.io/lib", hub, None),
            ("docker.io.evil.com", hub, None),
            ("https://index.docker.io/v1/", own, None),
            ("registry.io", own, Some(0)),
            ("Registry.IO", own, Some(0)),
            ("https://registry.io", own, Some(0)),
            ("http://registry.io/v2/", own, Some(0)),
            ("HTTPS://registry.io/v1/", own, Some(0)),
            ("registry.io/", own, Some(0)),
            ("registry.io/v2/", own, Some(0)),
            ("registry.io/v2", own, None),
            ("registry.io/team", own, Some(4)),
            ("registry.io/team/", own, Some(4)),
            ("registry.io/team/app", own, Some(8)),
            ("registry.io/team/app/more", own, None),
            ("registry.io/tea", own, None),
            ("https://registry.io/team", own, Some(4)),
            ("registry.io", ["registry.io.evil.com", "x"], None),
            ("registry.io.evil.com", own, None),
            ("evil-registry.io", own, None),
            ("io", own, None),
            ("", own, None),
            ("/", own, None),
            ("user@registry.io", own, None),
            ("https://https://registry.io", own, None),
            ("registry.io/team\u{2003}/", ["registry.io", "team\u{2003}"], None),
            ("registry.io", port, None),
            ("registry.io:5000", port, Some(0)),
            ("registry.io:5000", own, None),
            ("registry.io:500", port, None),
            ("[::1]:5000", ["[::1]:5000", "x"], Some(0)),
        ] {
            let wanted = Wanted { registry, repository: Some(repository) };
            let matched = RegistryKey::parse(key).and_then(|key| key.matches(wanted));
            assert_eq!(matched, expected, "{key} for {registry}/{repository}");
        }
        let whole = Wanted { registry: "registry.io", repository: None };
        assert_eq!(RegistryKey::parse("registry.io").and_then(|key| key.matches(whole)), Some(0));
        assert_eq!(RegistryKey::parse("registry.io/team").and_then(|key| key.matches(whole)), None);
    }

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        for (key, stored) in [
            ("docker.io", "https://index.docker.io/v1/"),
            ("registry.io:5000", "registry.io:5000"),
            ("https://registry.io/v2/", "registry.io"),
            ("registry.io/team", "registry.io/team"),
        ] {
            assert_eq!(RegistryKey::parse(key).unwrap().stored(), stored);
        }
    }
}
