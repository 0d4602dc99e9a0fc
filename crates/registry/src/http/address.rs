use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How near an address is. What a server names (a redirect, a token service) may be no nearer than the server
/// itself, so that nobody outside makes this program call into the network it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Any address of the open network.
    Public,
    /// Addresses of private networks (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine.
    Loopback,
}

/// Whether it is an address that no network routes, or another one at which clouds answer the machine with its
/// credentials. Whoever asks there for somebody else gives them away.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            // Those of EC2, Google and Oracle, which are not link-local by form.
            let is_metadata = segments[..2] == [0xfd00, 0xec2]
                || segments == [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
                || segments[..2] == [0xfd00, 0xc1];
            address.is_unicast_link_local()
                || is_metadata
                || v4_within(segments).is_some_and(is_link_local_v4)
        }
    }
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    // Alibaba's metadata, Oracle's older one, and what configures machines of Azure.
    const METADATA: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];
    address.is_link_local() || METADATA.contains(&address.octets())
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible and translated forms.
fn v4_within(segments: [u16; 8]) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// `None` for addresses that no server may lead to: [link-local](is_link_local), unspecified and multicast ones.
pub(super) fn reach_of(address: IpAddr) -> Option<Reach> {
    if is_link_local(address) {
        return None;
    }
    match address {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => reach_of_v6(address),
    }
}

fn reach_of_v4(address: Ipv4Addr) -> Option<Reach> {
    let octets = address.octets();
    let is_shared = octets[0] == 100 && (octets[1] & 0xc0) == 64;
    if address.is_loopback() {
        Some(Reach::Loopback)
    } else if address.is_private() || is_shared {
        Some(Reach::Private)
    } else if octets[0] == 0 || octets[0] >= 224 {
        None
    } else {
        Some(Reach::Public)
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Option<Reach> {
    let segments = address.segments();
    if address.is_loopback() {
        return Some(Reach::Loopback);
    }
    if address.is_unspecified() || address.is_multicast() {
        return None;
    }
    match v4_within(segments) {
        Some(address) => reach_of_v4(address),
        None if address.is_unique_local() => Some(Reach::Private),
        None => Some(Reach::Public),
    }
}

/// The reach of a host that is an address or `localhost`; `None` for names.
pub(super) fn reach_of_literal(host: &str) -> Option<Reach> {
    if host == "localhost" {
        return Some(Reach::Loopback);
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().and_then(reach_of)
}

/// Exactly `localhost` or an address of this machine: nothing that merely begins or ends like one.
pub fn is_loopback(host: &str) -> bool {
    reach_of_literal(host) == Some(Reach::Loopback)
}

/// How near the hosts are that the user named, as they were last resolved.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownReach {
    hosts: Arc<Mutex<BTreeMap<String, Reach>>>,
}

impl KnownReach {
    fn note(&self, host: &str, reach: Reach) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_ascii_lowercase(), reach);
    }

    /// Behind a proxy names are not resolved here; then only addresses count.
    pub(super) fn of(&self, host: &str) -> Reach {
        let known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        known.or_else(|| reach_of_literal(host)).unwrap_or(Reach::Public)
    }
}

/// Resolves names and drops addresses that are too near.
#[derive(Debug)]
pub(super) struct ConfinedResolver {
    /// `None` where the user named the host: it may be anywhere.
    pub(super) nearest: Option<Reach>,
    /// Whether a host that the user named may be link-local.
    pub(super) link_local: LinkLocal,
    pub(super) known: KnownReach,
    /// The proxy's host, which the user named whatever is asked of it.
    pub(super) proxy: Option<String>,
}

impl Resolver for ConfinedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = super::lookup::resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        if self.proxy.as_deref() == Some(host) {
            return Ok(found);
        }
        let Some(nearest) = self.nearest else {
            let found = self.routed(host, &found)?;
            // The farthest address counts: whoever has one outside is not trusted like a neighbour.
            if let Some(reach) = found.iter().filter_map(|address| reach_of(address.ip())).min() {
                self.known.note(host, reach);
            }
            return Ok(found);
        };
        let mut allowed = self.empty();
        for address in &found {
            if reach_of(address.ip()).is_some_and(|reach| reach <= nearest) {
                allowed.push(*address);
            }
        }
        if allowed.is_empty() { Err(ureq::Error::Other(Box::new(TooNear))) } else { Ok(allowed) }
    }
}

impl ConfinedResolver {
    /// The addresses of a host that the user named, without those that it takes more than a name to ask.
    fn routed(&self, host: &str, found: &ResolvedSocketAddrs) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut allowed = self.empty();
        for address in found {
            if self.link_local.allows(host) || !is_link_local(address.ip()) {
                allowed.push(*address);
            }
        }
        match found.first() {
            Some(first) if allowed.is_empty() => Err(ureq::Error::Other(Box::new(IsLinkLocal(first.ip())))),
            _ => Ok(allowed),
        }
    }
}

/// The hosts that may be at link-local addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkLocal {
    /// Those of these names.
    Of(Arc<BTreeSet<String>>),
    /// Any.
    Any,
}

impl LinkLocal {
    pub(super) fn allows(&self, host: &str) -> bool {
        match self {
            Self::Of(hosts) => hosts.contains(&bare(host)),
            Self::Any => true,
        }
    }
}

/// A host in lower case, an IPv6 address without its brackets.
pub(super) fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// A host is at an address that takes permission.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host is at {0}, a link-local address or one of a metadata service: machines of clouds are given their \
     credentials there"
)]
pub(super) struct IsLinkLocal(pub(super) IpAddr);

/// A server led to an address that only the user may name.
#[derive(Debug, thiserror::Error)]
#[error("the address is on this machine or in its private network, and a server outside led there")]
pub(super) struct TooNear;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_near_as_they_are() {
        for (text, expected) in [
            ("127.0.0.1", Some(Reach::Loopback)),
            ("127.9.9.9", Some(Reach::Loopback)),
            ("::1", Some(Reach::Loopback)),
            ("::ffff:127.0.0.1", Some(Reach::Loopback)),
            ("64:ff9b::7f00:1", Some(Reach::Loopback)),
            ("2002:7f00:1::", Some(Reach::Loopback)),
            ("10.1.2.3", Some(Reach::Private)),
            ("172.31.0.1", Some(Reach::Private)),
            ("100.64.0.1", Some(Reach::Private)),
            ("fd00::1", Some(Reach::Private)),
            ("169.254.169.254", None),
            ("fd00:ec2::254", None),
            ("64:ff9b::a9fe:a9fe", None),
            ("100.100.100.200", None),
            ("::ffff:169.254.169.254", None),
            ("fe80::1", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("93.184.216.34", Some(Reach::Public)),
            ("2606:2800::1", Some(Reach::Public)),
        ] {
            assert_eq!(reach_of(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn link_local_addresses_have_many_forms() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in
            ["169.253.1.1", "169.255.1.1", "127.0.0.1", "10.0.0.1", "fec0::1", "fd00::1", "::1", "8.8.8.8"]
        {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
    }

    /// A name may have addresses of both kinds.
    #[test]
    fn only_routed_addresses_of_a_name_are_asked() {
        let resolver = |allowed: &[&str]| ConfinedResolver {
            nearest: None,
            link_local: LinkLocal::Of(Arc::new(allowed.iter().map(|host| bare(host)).collect())),
            known: KnownReach::default(),
            proxy: None,
        };
        let mut found = resolver(&[]).empty();
        for address in ["169.254.169.254:80", "192.0.2.1:80", "[fe80::1]:80"] {
            found.push(address.parse().unwrap());
        }
        let routed = resolver(&[]).routed("rebound.test", &found).unwrap();
        assert_eq!(routed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:80"]);
        assert_eq!(resolver(&["Rebound.test"]).routed("rebound.test", &found).unwrap().len(), 3);
        let mut near = resolver(&[]).empty();
        near.push("169.254.169.254:80".parse().unwrap());
        let error = resolver(&["other.test"]).routed("rebound.test", &near).unwrap_err();
        assert!(error.to_string().contains("169.254.169.254"), "{error}");
    }

    #[test]
    fn loopback_is_exact() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.com", "127.0.0.1.nip.io", "0.0.0.0", "[::]", "localhos", "10.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
