use std::fmt;
use std::str::FromStr;

/// A port that a container listens on, as the config of an image names it: `8080/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Port {
    number: u16,
    protocol: Protocol,
}

/// What is spoken at a [`Port`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A text that is not a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortError(String);

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a port: use a number from 1 to 65535, optionally followed by /tcp, /udp or /sctp",
            self.0
        )
    }
}

impl std::error::Error for PortError {}

impl Port {
    /// From 1 on.
    pub(crate) fn number(self) -> u16 {
        self.number
    }

    /// The protocol.
    pub(crate) fn protocol(self) -> Protocol {
        self.protocol
    }

    /// Up to 15 lower-case letters, digits and dashes, different for different ports.
    pub(super) fn name(self) -> String {
        // Meshes take a name that begins with a protocol's for a promise, and `EXPOSE 80/tcp` promises no more than TCP.
        let prefix = match self.protocol {
            Protocol::Tcp => "port",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        format!("{prefix}-{}", self.number)
    }
}

impl Protocol {
    /// As Kubernetes spells it.
    pub(super) fn kubernetes(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.kubernetes().to_ascii_lowercase())
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let refuse = || PortError(text.chars().take(80).collect());
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(refuse()),
        };
        let is_number = number.bytes().all(|b| b.is_ascii_digit());
        match number.parse() {
            Ok(number @ 1..) if is_number => Ok(Self { number, protocol }),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_their_names() {
        for (text, name) in
            [("80", "port-80"), ("65535/TCP", "port-65535"), ("53/udp", "udp-53"), ("1/sctp", "sctp-1")]
        {
            assert_eq!(text.parse::<Port>().unwrap().name(), name);
        }
        for bad in ["", "0", "65536", "+80", "80/", "/tcp", "80/icmp", "80-81/tcp", "8080:80", " 80"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }
}
