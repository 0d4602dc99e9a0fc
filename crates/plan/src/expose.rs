//! Ports of `EXPOSE`.

use std::net::{IpAddr, Ipv6Addr};

use ocibuild_dockerfile::Rule;
use ocibuild_dockerfile::lint::{EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING};

use super::error::PlanError;
use super::fault::{PlanFault, PortFault};

/// A limit that no image comes near to, so that `0-65535` many times over does not fill the memory.
const MAX_PORTS: usize = 1 << 19;

/// The ports of expanded words, `number/protocol` each, ranges one by one (5.308).
///
/// What is well formed and yet not as it should be goes to `report`: the rule, its message, and the word to blame.
pub(super) fn ports(
    words: &[String],
    report: &mut dyn FnMut(&'static Rule, String, &str),
) -> Result<Vec<String>, PlanError> {
    let mut ports = Vec::new();
    for word in words {
        let (first, last, protocol) = parse(word, report)
            .map_err(|fault| PlanError::new(PlanFault::Port { word: word.clone(), fault }).word(word))?;
        if ports.len() + usize::from(last - first) >= MAX_PORTS {
            return Err(PlanError::new(PlanFault::TooManyPorts { limit: MAX_PORTS }).word(word));
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

fn parse(
    word: &str,
    report: &mut dyn FnMut(&'static Rule, String, &str),
) -> Result<(u16, u16, String), PortFault> {
    let parts: Vec<&str> = word.rsplitn(3, ':').collect();
    let (container, host, address) = match parts.as_slice() {
        [container] => (*container, "", ""),
        [container, host] => (*container, *host, ""),
        [container, host, address] => (*container, *host, *address),
        _ => return Err(PortFault::Parts(word.to_owned())),
    };
    let (port, written) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(PortFault::NoPort(word.to_owned()));
    }
    let protocol = match written.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => {
            return Err(PortFault::Protocol { word: word.to_owned(), protocol: written.to_owned() });
        }
    };
    if !written.is_empty() && written != protocol {
        let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        report(&EXPOSE_PROTO_CASING, message, word);
    }
    if !address.is_empty() || !host.is_empty() {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        );
        report(&EXPOSE_INVALID_FORMAT, message, word);
    }
    check_address(address)?;
    let (first, last) = range(port).ok_or_else(|| PortFault::Container(port.to_owned()))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| PortFault::Host(host.to_owned()))?;
        if last != first && last - first != host_last - host_first {
            return Err(PortFault::Ranges { container: port.to_owned(), host: host.to_owned() });
        }
    }
    Ok((first, last, protocol))
}

fn check_address(address: &str) -> Result<(), PortFault> {
    let bracketed = address.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        None => address.is_empty() || address.parse::<IpAddr>().is_ok(),
        Some(Some(inner)) => inner.parse::<Ipv6Addr>().is_ok() || inner.parse::<IpAddr>().is_ok(),
        Some(None) => false,
    };
    if valid { Ok(()) } else { Err(PortFault::Address(address.to_owned())) }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (start, end) = match text.split_once('-') {
        Some((start, end)) if start != end => (start, end),
        Some((start, _)) => (start, start),
        None => (text, text),
    };
    let (first, last) = (start.parse().ok()?, end.parse().ok()?);
    if first <= last { Some((first, last)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expose(word: &str) -> Result<Vec<String>, String> {
        ports(&[word.to_owned()], &mut |_, _, _| {}).map_err(|error| error.fault().to_string())
    }

    #[test]
    fn ports_are_normalised() {
        for (word, result) in [
            ("80", vec!["80/tcp"]),
            ("80/", vec!["80/tcp"]),
            ("0080/UDP", vec!["80/udp"]),
            ("+80", vec!["80/tcp"]),
            ("8000-8002/sctp", vec!["8000/sctp", "8001/sctp", "8002/sctp"]),
            ("127.0.0.1:8080:80", vec!["80/tcp"]),
            ("[::1]:1:2/udp", vec!["2/udp"]),
            ("::1:1:2", vec!["2/tcp"]),
            ("1-9:80", vec!["80/tcp"]),
            (":80", vec!["80/tcp"]),
            ("0-0", vec!["0/tcp"]),
        ] {
            assert_eq!(expose(word).unwrap(), result, "{word}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (word, message) in [
            ("http", "invalid containerPort: http"),
            ("65536", "invalid containerPort: 65536"),
            ("-1", "invalid containerPort: -1"),
            ("9-8", "invalid containerPort: 9-8"),
            ("x:80", "invalid hostPort: x"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("localhost:1:2", "invalid IP address: localhost"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
        ] {
            assert_eq!(expose(word).unwrap_err(), message);
        }
        let many = vec!["0-65535".to_owned(); 20];
        assert!(ports(&many, &mut |_, _, _| {}).unwrap_err().to_string().contains("more than"));
    }
}
