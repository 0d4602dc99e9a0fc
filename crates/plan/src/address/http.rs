//! Addresses of files at URLs (6.70, 6.71).

use std::fmt;

use ocibuild_spec::{Url, UrlError};

use super::percent;
use crate::quote;

/// A URL as it is written in `ADD`, as a build context, a named one or a Dockerfile, and the name that its file gets.
///
/// It is printed without credentials and query.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAddress {
    url: Url,
    /// The URL with its query.
    text: String,
    name: String,
    /// `user:password`, decoded.
    credentials: Option<String>,
    /// Other bytes than those of this digest are refused.
    checksum: Option<String>,
}

/// A text that is not a URL which could be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpAddressError(String);

/// Name of a file whose URL has no last path element.
const UNNAMED: &str = "__unnamed__";

impl HttpAddress {
    /// The address in `text`.
    pub fn parse(text: &str) -> Result<Self, HttpAddressError> {
        let text = text.split('#').next().unwrap_or_default();
        let (plain, user) = split_user(text);
        let unusable = |error: UrlError| HttpAddressError(error.to_string());
        let url: Url = percent::encode_odd(&plain).parse().map_err(unusable)?;
        let broken = || HttpAddressError(format!("{url}: a broken %-escape"));
        let credentials = user.map(|user| percent::decode(&user).ok_or_else(broken)).transpose()?;
        let path = percent::decode(url.path()).ok_or_else(broken)?;
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = if last.is_empty() || last == "." { UNNAMED } else { last };
        // The path may hold anything in escapes; what becomes a name must be one.
        if name == ".." || name.chars().any(char::is_control) || name.len() > 255 {
            let shown = quote(name);
            return Err(HttpAddressError(format!(
                "{url}: the last part of the path, {shown}, is not a file name"
            )));
        }
        let name = name.to_owned();
        Ok(Self { url, text: plain, name, credentials, checksum: None })
    }

    /// The same, whose bytes have to have this digest.
    #[must_use]
    pub fn with_checksum(mut self, checksum: Option<String>) -> Self {
        self.checksum = checksum;
        self
    }

    /// The URL, without user and fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL as text, with its query, which may hold secrets.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name that its file gets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `user:password`, decoded.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    /// The digest that the bytes have to have.
    pub fn checksum(&self) -> Option<&str> {
        self.checksum.as_deref()
    }
}

/// `user:password` between the scheme and the host, and the URL without it.
fn split_user(text: &str) -> (String, Option<String>) {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (user, _) = rest[..end].rsplit_once('@')?;
        Some((format!("{scheme}://{}", &rest[user.len() + 1..]), user.to_owned()))
    });
    match parts {
        Some((plain, user)) => (plain, Some(user)),
        None => (text.to_owned(), None),
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path() {
        for (text, name) in [
            ("http://h/a/b.txt", "b.txt"),
            ("http://h/a/b.txt?q=/x#y", "b.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/a b", "a b"),
            ("http://h/é", "é"),
            ("http://h/a%2Fb", "b"),
            ("http://h/dir/", "dir"),
            ("http://h/", UNNAMED),
            ("http://h", UNNAMED),
            ("http://h/.", UNNAMED),
            ("http://u:p@h/x@y", "x@y"),
        ] {
            assert_eq!(HttpAddress::parse(text).unwrap().name, name, "{text}");
        }
        for bad in [
            "http://h/..",
            "http://h/%2e%2e%2f",
            "http://h/a%00",
            "http://h/a%0Ab",
            "http://h/%zz",
            "http://",
        ] {
            assert!(HttpAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let address = HttpAddress::parse("http://u:canary%21@h/x?token=canary").unwrap();
        assert_eq!(address.credentials.as_deref(), Some("u:canary!"));
        assert!(!format!("{address} {address:?}").contains("canary"));
        let error = HttpAddress::parse("http://u:canary@h:0/").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
