use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How near an address is. What a server names (a redirect, a token service) may be no nearer than the server
/// itself, so that nobody outside makes this program call into the network it runs in (THREATS 47).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Any address of the open network.
    Public,
    /// Addresses of private networks (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine.
    Loopback,
}

/// `None` for addresses that no server may lead to: link-local ones (where clouds keep credentials), unspecified
/// and multicast ones.
pub(super) fn reach_of(address: IpAddr) -> Option<Reach> {
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
    } else if octets[0] == 0 || octets[0] >= 224 || address.is_link_local() {
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
    if address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local() {
        return None;
    }
    // Mapped, compatible and translated forms of IPv4 addresses are as near as what they stand for.
    let low = || Ipv4Addr::from(((u32::from(segments[6])) << 16) | u32::from(segments[7]));
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => reach_of_v4(low()),
        [0x2002, high, low, ..] => reach_of_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        _ if address.is_unique_local() => Some(Reach::Private),
        _ => Some(Reach::Public),
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

/// Exactly `localhost` or an address of this machine: nothing that merely begins or ends like one (THREATS 60).
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
    pub(super) known: KnownReach,
    /// The proxy's host, which the user named whatever is asked of it.
    pub(super) proxy: Option<String>,
    pub(super) inner: DefaultResolver,
}

impl Resolver for ConfinedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        if self.proxy.as_deref() == Some(host) {
            return Ok(found);
        }
        let Some(nearest) = self.nearest else {
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
    fn loopback_is_exact() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.com", "127.0.0.1.nip.io", "0.0.0.0", "[::]", "localhos", "10.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
