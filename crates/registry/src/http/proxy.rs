use std::net::IpAddr;

use ocibuild_spec::{Scheme, Url};

use super::address::is_loopback;

/// Proxies as the usual variables of the environment spell them; the program reads those and passes them on.
///
/// Loopback hosts are never asked through a proxy. Entries of `no_proxy` are `*`, a host, a domain with everything
/// below it (with or without a leading dot), each optionally with a port; and a range of addresses (`10.0.0.0/8`), for
/// hosts that are written as addresses.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` URLs: `HTTP_PROXY`.
    pub http: Option<String>,
    /// For `https` URLs: `HTTPS_PROXY`.
    pub https: Option<String>,
    /// Comma-separated hosts to ask directly: `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl Proxies {
    pub(super) fn of(&self, url: &Url) -> Option<&str> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_deref(),
            Scheme::Https => self.https.as_deref(),
        };
        let proxy = proxy.filter(|proxy| !proxy.is_empty())?;
        let is_direct =
            is_loopback(url.host()) || self.no_proxy.as_deref().is_some_and(|list| lists(list, url));
        (!is_direct).then_some(proxy)
    }
}

/// Proxy URLs hold passwords.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_ref().map(|_| "set");
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

fn lists(list: &str, url: &Url) -> bool {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if let Some((network, bits)) = entry.split_once('/') {
            return is_in_range(url.host(), network, bits);
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
                (name, port.parse().ok())
            }
            _ => (entry.as_str(), None),
        };
        let domain = name.trim_start_matches('*').trim_start_matches('.');
        let host = url.host();
        let is_host = entry == "*"
            || !domain.is_empty()
                && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
        is_host && port.is_none_or(|port: u16| port == url.port())
    })
}

/// Whether a host is an address whose first bits are those of the network.
fn is_in_range(host: &str, network: &str, bits: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let (Ok(host), Ok(network), Ok(bits)) =
        (bare.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<u32>())
    else {
        return false;
    };
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) if bits <= 32 => {
            (host.to_bits() ^ network.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(host), IpAddr::V6(network)) if bits <= 128 => {
            (host.to_bits() ^ network.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_and_local_hosts_are_asked_directly() {
        let proxies = Proxies {
            http: None,
            https: Some("http://user:secret@proxy:3128".to_owned()),
            no_proxy: Some(
                "corp.example, .inner.example,only:5000,10.1.0.0/16,fd00::/8,192.0.2.7/32,x/y,1.2.3.4/99"
                    .to_owned(),
            ),
        };
        for (url, proxied) in [
            ("https://ghcr.io/", true),
            ("http://ghcr.io/", false),
            ("https://corp.example/", false),
            ("https://a.corp.example/", false),
            ("https://notcorp.example/", true),
            ("https://x.inner.example/", false),
            ("https://only:5000/", false),
            ("https://only/", true),
            ("https://localhost:5000/", false),
            ("https://10.1.200.3:5000/", false),
            ("https://10.2.0.1/", true),
            ("https://[fd12::1]/", false),
            ("https://[fe12::1]/", true),
            ("https://192.0.2.7/", false),
            ("https://192.0.2.8/", true),
            ("https://1.2.3.4/", true),
        ] {
            assert_eq!(proxies.of(&url.parse().unwrap()).is_some(), proxied, "{url}");
        }
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
