use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An absolute `http` or `https` URL without user and fragment.
///
/// It is printed without its query, which in redirects holds signatures that are as good as passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// A text that is no URL this client asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a usable URL: {reason}")]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is not written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Url {
    /// `path` on the server `authority` (`host[:port]`).
    pub fn new(scheme: Scheme, authority: &str, path: &str) -> Result<Self, UrlError> {
        format!("{}://{authority}{path}", scheme.as_str()).parse()
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The same URL spoken to otherwise.
    #[must_use]
    pub fn with_scheme(&self, scheme: Scheme) -> Self {
        Self { scheme, ..self.clone() }
    }

    /// The host in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also when it is not written.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// `host[:port]`, as written.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The path, which begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether scheme, host and port are the same.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port()) == (other.scheme, &other.host, other.port())
    }

    /// The same URL with one more `key=value` in its query, both escaped.
    #[must_use]
    pub fn with_query(&self, key: &str, value: &str) -> Self {
        let pair = format!("{}={}", escape(key), escape(value));
        let query = match &self.query {
            Some(query) if !query.is_empty() => format!("{query}&{pair}"),
            _ => pair,
        };
        Self { query: Some(query), ..self.clone() }
    }

    /// The same server with another path and query. A path that begins with two slashes is one, and no other server.
    pub fn with_path(&self, path: &str) -> Result<Self, UrlError> {
        Self::new(self.scheme, &self.authority(), path)
    }

    /// What a `Location` header means that came from this URL (RFC 3986, 5.2).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.trim();
        let base = format!("{}://{}", self.scheme.as_str(), self.authority());
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.as_str()).parse();
        }
        if location.starts_with('/') {
            return format!("{base}{location}").parse();
        }
        if location.starts_with('?') {
            return format!("{base}{}{location}", self.path).parse();
        }
        let scheme_end = location.find([':', '/', '?', '#']).filter(|at| location.as_bytes()[*at] == b':');
        if scheme_end.is_some() {
            return location.parse();
        }
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut url: Self = format!("{base}{folder}/{location}").parse()?;
        url.path = without_dots(&url.path);
        Ok(url)
    }

    /// With its query, for the request line alone.
    pub fn to_request(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{self}{query}")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let shown = || {
            // The user part is a secret, and so may the query be.
            let rest = text.split(['?', '#']).next().unwrap_or_default();
            let rest = match rest.rsplit_once('@') {
                Some((_, rest)) => rest,
                // A password that is not escaped may hold these characters, too.
                None if text.contains('@') => text.split_once("://").map_or("", |(scheme, _)| scheme),
                None => rest,
            };
            rest.chars().take(160).collect::<String>()
        };
        parse(text).map_err(|reason| UrlError { text: shown(), reason })
    }
}

/// A path without its steps to where it is and to what is above (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err("it has spaces, control characters or letters beyond ASCII");
    }
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("only http and https are spoken"),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let authority = authority.to_ascii_lowercase();
    if authority.contains('@') {
        return Err("it holds a user name");
    }
    let (host, port) = split_port(&authority)?;
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    Ok(Url { scheme, host: host.to_owned(), port, path, query })
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("unclosed '['")?;
            address.parse::<Ipv6Addr>().map_err(|_| "malformed IPv6 address")?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or("malformed port")?) };
            (&authority[..address.len() + 2], port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(fits)) {
        return Err("malformed host");
    }
    // Other readers take `2130706433` or `0x7f.1` for addresses.
    let last = host.rsplit('.').find(|part| !part.is_empty()).unwrap_or_default();
    let is_numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if !host.starts_with('[') && is_numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("the host is neither a name nor an address in plain notation");
    }
    let port = match port {
        None => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port != 0).ok_or("malformed port")?)
        }
        Some(_) => return Err("malformed port"),
    };
    Ok((host, port))
}

/// The text as a value within a query or a form.
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base: Url = "https://Example.org:5000/v2/a/b?x=1".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("//cdn/x", "https://cdn/x"),
            ("/y?z", "https://example.org:5000/y?z"),
            ("c", "https://example.org:5000/v2/a/c"),
            ("?q", "https://example.org:5000/v2/a/b?q"),
            ("sha256/x:y", "https://example.org:5000/v2/a/sha256/x:y"),
            ("./../c/./d?../e", "https://example.org:5000/v2/c/d?../e"),
            ("../../../..", "https://example.org:5000/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_request(), expected, "{location}");
        }
        assert!(base.join("ftp://x/y").is_err());
        assert_eq!(base.join("https://cdn/x?secret").unwrap().to_string(), "https://cdn/x");
    }

    #[test]
    fn odd_hosts_are_refused() {
        for bad in [
            "http://",
            "http://a b/",
            "http://u:p@h/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0X7F000001/",
            "http://127.0.0.0X1/",
            "http://127.1/",
            "http://h:0/",
            "http://h:65536/",
            "http://h:/",
            "http://[::1/",
            "http://[::1]x/",
            "http://h\u{e9}/",
            "http://a%2eb/",
            "file:///etc/passwd",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
        for text in ["http://user:secret@h/", "http://user:secret?x@h/", "http://user:secret#x@h/"] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!("http://[::1]:80/x".parse::<Url>().unwrap().host(), "[::1]");
    }
}
