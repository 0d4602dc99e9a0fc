//! The two files below `/etc` that a step gets, and what is read from one that the image has.

use std::net::IpAddr;

use crate::Network;
use crate::private_network::FORWARDER;

/// Content of `/etc/hosts`: loopback with the host's own name, then `added` in order, address and name each.
pub fn hosts(hostname: &str, added: &[(IpAddr, String)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (address, name) in added {
        text.extend([&address.to_string(), "\t", name, "\n"]);
    }
    text
}

/// What is asked when nobody else can be: what docker and BuildKit take.
const PUBLIC_SERVERS: [&str; 4] = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

/// Content of `/etc/resolv.conf`, from that of the host.
///
/// A step in the network of the host takes it as it is. Any other cannot reach servers on a loopback address, nor one in a private
/// network those on an address of a link: they are left out. Instead of those of IPv4 the program that connects a private network
/// is asked, which asks the first of the host's. If no server remains, public ones are taken.
pub fn resolv_conf(host: &str, network: Network) -> String {
    if network == Network::Host {
        return host.to_owned();
    }
    let is_private = network == Network::Private;
    let is_reachable = |address: IpAddr| !(address.is_loopback() || is_private && is_link_local(address));
    let is_forwarded = |address: IpAddr| is_private && address.is_ipv4() && !is_reachable(address);
    let mut lines: Vec<String> = Vec::new();
    for line in host.lines() {
        let forwarder = format!("nameserver {FORWARDER}");
        match server(line) {
            Some(address) if is_forwarded(address) && !lines.contains(&forwarder) => lines.push(forwarder),
            Some(address) if !is_reachable(address) => {}
            _ => lines.push(line.to_owned()),
        }
    }
    if !lines.iter().any(|line| server(line).is_some()) {
        lines.extend(PUBLIC_SERVERS.map(|address| format!("nameserver {address}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Whether the only server named is the stub of systemd-resolved, in which case
/// `/run/systemd/resolve/resolv.conf` has the real ones.
pub fn only_local_stub(host: &str) -> bool {
    let mut servers = servers(host);
    let stub = IpAddr::from([127, 0, 0, 53]);
    servers.next() == Some(stub) && servers.next().is_none()
}

pub(crate) fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(server)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    // A zone (`fe80::1%eth0`) is no part of the address.
    words.next()?.split('%').next()?.parse().ok()
}

/// Home directory of `uid` in the text of a passwd file: `/` for whoever is not in it, as runc has it.
pub fn home_of(passwd: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut homes = entry
        .filter(|fields| fields.get(2) == Some(&uid.as_str()))
        .filter_map(|fields| fields.get(5).filter(|home| !home.is_empty()).map(|home| (*home).to_owned()));
    homes.next().unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_loopback_and_what_was_added() {
        let added =
            [("10.1.2.3".parse().unwrap(), "one".to_owned()), ("::2".parse().unwrap(), "two".to_owned())];
        assert_eq!(
            hosts("box", &added),
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tone\n::2\ttwo\n"
        );
    }

    #[test]
    fn servers_that_cannot_be_reached_are_left_out() {
        let host = "search a.b\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 9.9.9.9\noptions edns0\n";
        assert_eq!(resolv_conf(host, Network::Host), host);
        assert_eq!(resolv_conf(host, Network::None), "search a.b\nnameserver 9.9.9.9\noptions edns0\n");
        let alone = resolv_conf("nameserver 127.0.0.1\n", Network::None);
        assert_eq!(alone.lines().count(), 4);
        assert!(alone.starts_with("nameserver 8.8.8.8\n"));
        let host = "nameserver 127.0.0.53\nnameserver 169.254.169.253\nnameserver fe80::1%eth0\nnameserver 9.9.9.9\n";
        assert_eq!(resolv_conf(host, Network::Private), "nameserver 10.0.2.3\nnameserver 9.9.9.9\n");
        assert!(resolv_conf("nameserver 169.254.169.253\n", Network::None).contains("169.254"));
        let host = "nameserver 127.0.0.53\nsearch a.b\n";
        assert_eq!(resolv_conf(host, Network::Private), "nameserver 10.0.2.3\nsearch a.b\n");
        assert!(only_local_stub("# x\nnameserver 127.0.0.53\n"));
        assert!(!only_local_stub("nameserver 9.9.9.9\n"));
    }

    #[test]
    fn homes_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\nbad\nempty:x:7:7:::\n";
        assert_eq!(home_of(passwd, 0), "/root");
        assert_eq!(home_of(passwd, 1000), "/home/app");
        assert_eq!(home_of(passwd, 7), "/");
        assert_eq!(home_of("", 0), "/");
    }
}
