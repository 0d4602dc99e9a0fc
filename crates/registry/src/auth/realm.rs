use crate::credentials::registry_of;

/// Second-level names under which countries register (`co.uk`), where they are longer than three letters.
const SECOND_LEVEL: [&str; 6] = ["info", "asso", "firm", "name", "school", "police"];

/// Domains below which strangers are neighbours: those of hosting and of cloud services.
const SHARED: [&str; 40] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "appspot.com",
    "azure-api.net",
    "azurecr.cn",
    "azurecr.io",
    "azurecr.us",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "cloudapp.net",
    "cloudfront.net",
    "ddns.net",
    "digitaloceanspaces.com",
    "duckdns.org",
    "dyndns.org",
    "firebaseapp.com",
    "fly.dev",
    "gcr.io",
    "github.dev",
    "github.io",
    "githubpreview.dev",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.dev",
    "ngrok.io",
    "nip.io",
    "no-ip.org",
    "onrender.com",
    "pages.dev",
    "pkg.dev",
    "railway.app",
    "run.app",
    "sslip.io",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "workers.dev",
];

/// Which token services may have the credentials of which registries.
///
/// Always the registry's own host, on any port; for docker's registry `auth.docker.io`; for a registry
/// `name.domain` also `domain` itself and its other direct children, when `domain` is somebody's own. Everything
/// else only by the user's word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Realms {
    /// Registry (`host[:port]`), or all of them, and the host of the token service.
    allowed: Vec<(Option<String>, String)>,
}

impl Realms {
    pub(crate) fn allow(&mut self, registry: Option<&str>, host: &str) {
        self.allowed.push((registry.map(registry_of), host.to_ascii_lowercase()));
    }

    /// Whether the user said so.
    pub(super) fn is_named(&self, registry: &str, realm_host: &str) -> bool {
        let registry = registry_of(registry);
        self.allowed
            .iter()
            .any(|(of, host)| host == realm_host && of.as_ref().is_none_or(|of| *of == registry))
    }

    /// `host` is that of the registry's server, without port; both hosts are in lower case.
    pub(super) fn allows(&self, registry: &str, host: &str, realm_host: &str) -> bool {
        let is_docker = registry_of(host) == "docker.io" && realm_host == "auth.docker.io";
        host == realm_host
            || is_docker
            || is_neighbour(host, realm_host)
            || self.is_named(registry, realm_host)
    }
}

/// Whether both are of one domain that belongs to one owner.
fn is_neighbour(host: &str, realm_host: &str) -> bool {
    let Some((_, domain)) = host.split_once('.') else { return false };
    if !is_owned(domain) {
        return false;
    }
    let child = realm_host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    realm_host == domain || child.is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

/// Whether a domain can be taken for that of one owner: two labels at least, none of those that many share, and no
/// address. Too many are refused rather than too few.
fn is_owned(domain: &str) -> bool {
    let labels: Vec<&str> = domain.split('.').collect();
    let Some(([.., owner], top)) = labels.split_last().map(|(top, rest)| (rest, *top)) else { return false };
    let is_address = top.bytes().all(|byte| byte.is_ascii_digit()) || domain.contains([':', '[', ']']);
    let is_country = top.len() == 2 && labels.len() == 2;
    let is_second_level = is_country && (owner.len() <= 3 || SECOND_LEVEL.contains(owner));
    let is_shared = SHARED
        .iter()
        .any(|shared| domain.strip_suffix(shared).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    !is_address && !is_second_level && !is_shared && labels.iter().all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms_are_the_registrys_own() {
        for (host, realm, expected) in [
            ("registry.test", "registry.test", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("localhost", "localhost", true),
            ("ghcr.io", "ghcr.io", true),
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("registry.example.com", "gitlab.example.com", true),
            ("registry.example.com", "example.com", true),
            ("docker.elastic.co", "docker-auth.elastic.co", true),
            ("registry.team.example.co.uk", "auth.team.example.co.uk", true),
            ("registry.example.com", "auth.docker.io", false),
            ("registry.example.com", "attacker.test", false),
            ("registry.example.com", "example.com.attacker.test", false),
            ("registry.example.com", "evilexample.com", false),
            ("registry.example.com", "a.b.example.com", false),
            ("registry.example.com", ".example.com", false),
            ("registry.team.example.com", "example.com", false),
            ("example.com", "auth.example.com", false),
            ("example.com", "com", false),
            ("registry.com", "attacker.com", false),
            ("registry.co.uk", "attacker.co.uk", false),
            ("registry.co.uk", "co.uk", false),
            ("registry.info.pl", "attacker.info.pl", false),
            ("mine.github.io", "yours.github.io", false),
            ("mine.azurecr.io", "yours.azurecr.io", false),
            ("mine.eu.ngrok.io", "yours.eu.ngrok.io", false),
            ("eu.gcr.io", "us.gcr.io", false),
            ("1.ecr.eu.amazonaws.com", "2.ecr.eu.amazonaws.com", false),
            ("registry-1.docker.io", "auth.docker.io.attacker.test", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "0.0.1", false),
            ("[fe80::1]", "[fe80::2]", false),
            ("localhost", "127.0.0.1", false),
            ("registry", "auth", false),
        ] {
            assert_eq!(Realms::default().allows(host, host, realm), expected, "{host} -> {realm}");
        }
    }

    #[test]
    fn users_may_name_others() {
        let mut realms = Realms::default();
        realms.allow(Some("registry.test:5000"), "Auth.Other.test");
        assert!(realms.allows("registry.test:5000", "registry.test", "auth.other.test"));
        assert!(!realms.allows("registry.test", "registry.test", "auth.other.test"));
        assert!(!realms.allows("registry.test:5000", "registry.test", "x.auth.other.test"));
        realms.allow(None, "auth.test");
        assert!(realms.allows("any.host", "any.host", "auth.test"));
    }
}
