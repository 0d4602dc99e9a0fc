//! Ports of `EXPOSE`.

use std::net::{IpAddr, Ipv6Addr};

use ocibuild_dockerfile::Rule;
use ocibuild_dockerfile::lint::{EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING};

use super::error::PlanError;
use super::golang::quote;

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
        let (first, last, protocol) = parse(word, report).map_err(|message| {
            let error = PlanError::file(message).word(word);
            let is_port = |text: &str| text.split('/').next().is_some_and(|port| range(port).is_some());
            if word.starts_with('#') {
                return error.hint("a comment needs a line of its own");
            }
            let parts = || word.split([',', ';']).filter(|part| !part.is_empty());
            if word.contains([',', ';']) && parts().all(is_port) {
                let ports: Vec<&str> = parts().collect();
                return error.hint(format!("separate ports by blanks: EXPOSE {}", ports.join(" ")));
            }
            if let Some((first, last)) = word.split_once('-')
                && let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>())
            {
                return error.hint(format!("begin a range with the smaller port: EXPOSE {last}-{first}"));
            }
            if let Some((protocol, port)) = word.split_once('/').filter(|(_, port)| is_port(port)) {
                return error.hint(format!("the protocol stands behind the port: EXPOSE {port}/{protocol}"));
            }
            if let Some((_, container)) = word.rsplit_once(':').filter(|(_, container)| is_port(container)) {
                return error.hint(format!("name the port of the container alone: EXPOSE {container}"));
            }
            error.hint("write a port from 0 to 65535, with /tcp, /udp or /sctp behind it if you like: EXPOSE 8080/tcp")
        })?;
        if ports.len() + usize::from(last - first) >= MAX_PORTS {
            return Err(PlanError::file(format!("more than {MAX_PORTS} ports in one EXPOSE"))
                .word(word)
                .hint("name only the ports that the image listens on"));
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

fn parse(
    word: &str,
    report: &mut dyn FnMut(&'static Rule, String, &str),
) -> Result<(u16, u16, String), String> {
    let parts: Vec<&str> = word.rsplitn(3, ':').collect();
    let (container, host, address) = match parts.as_slice() {
        [container] => (*container, "", ""),
        [container, host] => (*container, *host, ""),
        [container, host, address] => (*container, *host, *address),
        _ => return Err(format!("invalid port: {}", quote(word))),
    };
    let (port, written) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("invalid port: {}: no port specified", quote(word)));
    }
    let protocol = match written.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid port: {}: invalid proto: {written}", quote(word))),
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
    let (first, last) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last != first && last - first != host_last - host_first {
            return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
        }
    }
    Ok((first, last, protocol))
}

fn check_address(address: &str) -> Result<(), String> {
    let bracketed = address.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        None => address.is_empty() || address.parse::<IpAddr>().is_ok(),
        Some(Some(inner)) => inner.parse::<Ipv6Addr>().is_ok() || inner.parse::<IpAddr>().is_ok(),
        Some(None) => false,
    };
    if valid { Ok(()) } else { Err(format!("invalid IP address: {address}")) }
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
        ports(&[word.to_owned()], &mut |_, _, _| {}).map_err(|error| error.message)
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
        assert!(ports(&many, &mut |_, _, _| {}).unwrap_err().message.contains("more than"));
    }
}
