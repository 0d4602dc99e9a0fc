use std::fmt;

use super::percent;
use crate::quote;

/// A git repository as it is written in `ADD`, as a build context or as a named one (6.80): where it is, and what of it
/// is wanted.
///
/// It is printed without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct GitAddress {
    transport: Transport,
    /// What the `git` program is given: no query, no fragment, for `http` no user.
    remote: String,
    /// `user:password` of an `http` address, decoded.
    credentials: Option<String>,
    host: String,
    reference: Option<String>,
    checksum: Option<String>,
    subdirectory: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: bool,
    /// Files have the time of the commit, not that of the checkout.
    commit_times: bool,
    /// The checksum is the commit; the server need not name it.
    fetch_by_commit: bool,
}

/// How a repository is reached; nothing else is ever spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `ssh://` and `USER@HOST:PATH`
    Ssh,
    /// `git://`
    Git,
}

/// A text that names no repository that could be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GitAddressError(String);

impl GitAddress {
    /// The address in `text`, which is known to be one of git ([`SourceKind::of`](crate::SourceKind::of)).
    pub fn parse(text: &str) -> Result<Self, GitAddressError> {
        let (rest, fragment) = text.split_once('#').map_or((text, ""), |(rest, after)| (rest, after));
        let (base, query) = rest.split_once('?').map_or((rest, ""), |(base, query)| (base, query));
        if base.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid(text, "it contains spaces or control characters"));
        }
        let mut address = match base.split_once("://") {
            Some((scheme, rest)) => from_url(text, scheme, rest)?,
            None => from_scp(text, base)?,
        };
        address.fragment(text, fragment)?;
        address.query(text, query)?;
        if let Some(reference) = &address.reference {
            check_reference(reference)?;
        }
        if let Some(checksum) = &address.checksum {
            check_commit(checksum)?;
        }
        if address.fetch_by_commit && !address.checksum.as_deref().is_some_and(is_full_commit) {
            let message = "fetch-by-commit requires a checksum that is a full commit hash".to_owned();
            return Err(GitAddressError(message));
        }
        Ok(address)
    }

    /// `reference:subdirectory` behind `#`.
    fn fragment(&mut self, text: &str, fragment: &str) -> Result<(), GitAddressError> {
        let fragment = percent::decode(fragment).ok_or_else(|| invalid(text, "a broken %-escape"))?;
        let (reference, subdirectory) =
            fragment.split_once(':').map_or((fragment.as_str(), ""), |(reference, rest)| (reference, rest));
        self.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        self.subdirectory = cleaned(subdirectory);
        Ok(())
    }

    fn query(&mut self, text: &str, query: &str) -> Result<(), GitAddressError> {
        let mut seen: Vec<String> = Vec::new();
        let (mut tag, mut branch) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent::decode(&text.replace('+', " "));
            let (Some(key), Some(value)) = (decode(key), decode(value)) else {
                return Err(invalid(text, "a broken %-escape"));
            };
            if seen.contains(&key) {
                return Err(GitAddressError(format!("query {} has multiple values", quote(&key))));
            }
            match key.as_str() {
                "keep-git-dir" => self.keep_git_dir = Some(flag(&key, &value)?),
                "submodules" => self.submodules = flag(&key, &value)?,
                "fetch-by-commit" => self.fetch_by_commit = flag(&key, &value)?,
                _ if value.is_empty() => {
                    return Err(GitAddressError(format!("query {} has no value", quote(&key))));
                }
                "ref" => set("ref", &mut self.reference, value)?,
                "tag" => tag = Some(prefixed("refs/tags/", value)),
                "branch" => branch = Some(prefixed("refs/heads/", value)),
                "subdir" => set("subdir", &mut self.subdirectory, value)?,
                "checksum" | "commit" => set("checksum", &mut self.checksum, value)?,
                "mtime" if value == "commit" || value == "checkout" => self.commit_times = value == "commit",
                "mtime" => {
                    let message = format!(
                        "invalid mtime value: {} (must be \"checkout\" or \"commit\")",
                        quote(&value)
                    );
                    return Err(GitAddressError(message));
                }
                _ => return Err(GitAddressError(format!("unexpected query {}", quote(&key)))),
            }
            seen.push(key);
        }
        if branch.is_some() && tag.is_some() {
            return Err(GitAddressError("branch conflicts with tag".to_owned()));
        }
        if let Some(reference) = tag.or(branch) {
            set("ref", &mut self.reference, reference)?;
        }
        self.subdirectory = self.subdirectory.take().and_then(|subdirectory| cleaned(&subdirectory));
        Ok(())
    }

    /// The same for `ADD`, whose flags say something too (5.209, 5.210).
    pub fn with_flags(
        mut self,
        keep_git_dir: Option<bool>,
        checksum: Option<&str>,
    ) -> Result<Self, GitAddressError> {
        if let (Some(flag), Some(own)) = (keep_git_dir, self.keep_git_dir)
            && flag != own
        {
            return Err(GitAddressError("inconsistent keep-git-dir configuration".to_owned()));
        }
        self.keep_git_dir = self.keep_git_dir.or(keep_git_dir);
        if let Some(checksum) = checksum {
            check_commit(checksum)?;
            if let Some(own) = self.checksum.as_ref().filter(|own| *own != checksum) {
                let message = format!("checksum mismatch {} != {}", quote(checksum), quote(own));
                return Err(GitAddressError(message));
            }
            self.checksum = Some(checksum.to_owned());
        }
        Ok(self)
    }

    /// The commit, where the address alone says which.
    pub fn pinned(&self) -> Option<&str> {
        let by_checksum = self.checksum.as_deref().filter(|_| self.fetch_by_commit);
        by_checksum.or_else(|| self.reference.as_deref().filter(|reference| is_full_commit(reference)))
    }
}

fn from_url(text: &str, scheme: &str, rest: &str) -> Result<GitAddress, GitAddressError> {
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "http" => Transport::Http,
        "https" => Transport::Https,
        "ssh" => Transport::Ssh,
        "git" => Transport::Git,
        _ => return Err(invalid(text, "only http, https, ssh and git are supported")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    check_host(text, host)?;
    check_user(text, user)?;
    if path.is_empty() {
        return Err(invalid(text, "it has no path"));
    }
    percent::decode(path).ok_or_else(|| invalid(text, "a broken %-escape"))?;
    let is_http = matches!(transport, Transport::Http | Transport::Https);
    let scheme = scheme.to_ascii_lowercase();
    let (remote, credentials) = match user {
        Some(user) if is_http => {
            let user = percent::decode(user).ok_or_else(|| invalid(text, "a broken %-escape"))?;
            (format!("{scheme}://{host}/{path}"), Some(user))
        }
        Some(user) if user.contains(':') => {
            return Err(invalid(text, "ssh does not take a password"));
        }
        Some(user) => (format!("{scheme}://{user}@{host}/{path}"), None),
        None => (format!("{scheme}://{host}/{path}"), None),
    };
    Ok(GitAddress::of(transport, remote, credentials, host))
}

/// `user@host:path`
fn from_scp(text: &str, base: &str) -> Result<GitAddress, GitAddressError> {
    let parts = base.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    let Some((user, (host, path))) = parts else {
        return Err(invalid(text, "it is neither a URL nor of the form USER@HOST:PATH"));
    };
    check_host(text, host)?;
    check_user(text, Some(user))?;
    if path.is_empty() || path.starts_with('-') {
        return Err(invalid(text, "it has no usable path"));
    }
    Ok(GitAddress::of(Transport::Ssh, base.to_owned(), None, host))
}

impl GitAddress {
    /// How it is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// What the `git` program is given: no query, no fragment, for `http` no user.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// `user:password` of an `http` address, decoded.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    /// `host[:port]` in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The branch, the tag or the commit; `None` is what the server calls `HEAD`.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// The commit, or its beginning, that the reference has to stand for.
    pub fn checksum(&self) -> Option<&str> {
        self.checksum.as_deref()
    }

    /// The directory of the repository that counts as its root.
    pub fn subdirectory(&self) -> Option<&str> {
        self.subdirectory.as_deref()
    }

    /// Whether `.git` is wanted, if the address says.
    pub fn keep_git_dir(&self) -> Option<bool> {
        self.keep_git_dir
    }

    /// Whether `.git` comes along: only with the whole tree (6.81).
    pub fn keeps_git_dir(&self) -> bool {
        self.keep_git_dir == Some(true) && self.subdirectory.is_none()
    }

    /// The same with `.git`, whatever the text says.
    #[must_use]
    pub fn with_git_dir(mut self) -> Self {
        self.keep_git_dir = Some(true);
        self
    }

    /// The same whose files have the time of the commit, whatever the text says.
    #[must_use]
    pub fn with_commit_times(mut self) -> Self {
        self.commit_times = true;
        self
    }

    /// Whether submodules are fetched.
    pub fn submodules(&self) -> bool {
        self.submodules
    }

    /// Whether files have the time of the commit rather than that of the checkout.
    pub fn commit_times(&self) -> bool {
        self.commit_times
    }

    /// Whether it is reached by ssh.
    pub fn is_ssh(&self) -> bool {
        self.transport == Transport::Ssh
    }

    /// The host as secrets name it: without the port that is the usual one of the scheme. The ports of `ssh` and `git`
    /// say nothing about those of web servers.
    pub fn web_host(&self) -> &str {
        let usual = match self.transport {
            Transport::Https => ":443",
            Transport::Http => ":80",
            Transport::Ssh | Transport::Git => return self.host_name(),
        };
        self.host.strip_suffix(usual).unwrap_or(&self.host)
    }

    /// The host without its port.
    pub fn host_name(&self) -> &str {
        match self.host.rsplit_once(':') {
            // The last colon of a bare IPv6 address is within brackets.
            Some((name, port)) if !port.contains(']') => name,
            _ => &self.host,
        }
    }

    fn of(transport: Transport, remote: String, credentials: Option<String>, host: &str) -> Self {
        Self {
            transport,
            remote,
            credentials,
            host: host.to_ascii_lowercase(),
            reference: None,
            checksum: None,
            subdirectory: None,
            keep_git_dir: None,
            submodules: true,
            commit_times: false,
            fetch_by_commit: false,
        }
    }
}

/// `host[:port]`. What begins with a dash would be an option of `ssh`.
fn check_host(text: &str, host: &str) -> Result<(), GitAddressError> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", port),
        Some(_) => ("", ""),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_name = !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name && is_port { Ok(()) } else { Err(invalid(text, "malformed host")) }
}

fn check_user(text: &str, user: Option<&str>) -> Result<(), GitAddressError> {
    if user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
        return Err(invalid(text, "malformed user"));
    }
    Ok(())
}

/// Names of references come from users and from servers; git takes those that begin with a dash for options.
pub fn check_reference(reference: &str) -> Result<(), GitAddressError> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with('.')
            && part.strip_suffix(".lock").is_none()
    };
    let is_odd = |c: char| c <= ' ' || c == '\u{7f}' || "~^:?*[\\".contains(c);
    let is_sound = reference.len() <= 1024
        && !reference.contains(is_odd)
        && !reference.contains("..")
        && !reference.contains("@{")
        && reference != "@"
        && reference.split('/').all(is_part);
    if is_sound { Ok(()) } else { Err(GitAddressError(format!("invalid git ref {}", quote(reference)))) }
}

fn check_commit(text: &str) -> Result<(), GitAddressError> {
    let is_hash = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        return Ok(());
    }
    let message = format!("invalid checksum {} for Git URL, expected hex commit hash", quote(text));
    Err(GitAddressError(message))
}

/// A whole SHA-1 or SHA-256.
pub fn is_full_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn set(what: &str, field: &mut Option<String>, value: String) -> Result<(), GitAddressError> {
    if let Some(old) = field.as_ref().filter(|old| **old != value) {
        return Err(GitAddressError(format!("{what} conflicts: {} vs {}", quote(old), quote(&value))));
    }
    *field = Some(value);
    Ok(())
}

fn prefixed(prefix: &str, value: String) -> String {
    if value.starts_with(prefix) { value } else { format!("{prefix}{value}") }
}

fn flag(key: &str, value: &str) -> Result<bool, GitAddressError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitAddressError(format!("invalid {key} value: {}", quote(value)))),
    }
}

/// A path below the root of the repository as text without `.` and `..`; `None` for the root itself.
fn cleaned(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn invalid(text: &str, why: &str) -> GitAddressError {
    GitAddressError(format!("invalid git address {}: {why}", quote(&without_credentials(text))))
}

/// The text of an address without what stands between `://` and `@`, if that may be a password.
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, _)) if user.contains(':') || scheme.starts_with("http") => {
            format!("{scheme}://xxxxx@{}", &rest[user.len() + 1..])
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)?;
        let subdirectory = self.subdirectory.as_ref().map(|path| format!(":{path}")).unwrap_or_default();
        match &self.reference {
            Some(reference) => write!(f, "#{reference}{subdirectory}"),
            None if subdirectory.is_empty() => Ok(()),
            None => write!(f, "#{subdirectory}"),
        }
    }
}

impl fmt::Debug for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_remote_and_options() {
        for (text, remote, reference, subdirectory) in [
            ("https://h/r.git", "https://h/r.git", None, None),
            ("HTTPS://H/r.git", "https://H/r.git", None, None),
            ("https://h/r.git#v1", "https://h/r.git", Some("v1"), None),
            ("https://h/r.git#v1:a/b", "https://h/r.git", Some("v1"), Some("a/b")),
            ("https://h/r.git#:a", "https://h/r.git", None, Some("a")),
            ("https://h/r.git#main:../../etc", "https://h/r.git", Some("main"), Some("etc")),
            ("https://h/r.git#main:..", "https://h/r.git", Some("main"), None),
            ("https://h/r.git?ref=v1&subdir=/a/", "https://h/r.git", Some("v1"), Some("a")),
            ("https://h/r.git?ref=v1#v1", "https://h/r.git", Some("v1"), None),
            ("https://h/r.git?tag=v1", "https://h/r.git", Some("refs/tags/v1"), None),
            ("https://h/r.git?branch=a%2Fb", "https://h/r.git", Some("refs/heads/a/b"), None),
            ("git@h:a/r.git#x", "git@h:a/r.git", Some("x"), None),
            ("git@h:r", "git@h:r", None, None),
            ("ssh://git@h:22/r", "ssh://git@h:22/r", None, None),
            ("git://h/r", "git://h/r", None, None),
            ("https://u:p@h/r.git", "https://h/r.git", None, None),
        ] {
            let address = GitAddress::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.remote, remote, "{text}");
            assert_eq!(address.reference.as_deref(), reference, "{text}");
            assert_eq!(address.subdirectory.as_deref(), subdirectory, "{text}");
        }
        let address = GitAddress::parse("https://h/r.git?submodules=0&keep-git-dir&commit=ab12").unwrap();
        assert_eq!((address.submodules, address.keep_git_dir), (false, Some(true)));
        assert_eq!(address.checksum.as_deref(), Some("ab12"));
    }

    #[test]
    fn what_git_could_misread_is_refused() {
        for (text, message) in [
            ("https://h/r.git#--upload-pack=/tmp/x", "invalid git ref"),
            ("https://h/r.git?ref=--upload-pack%3Dx", "invalid git ref"),
            ("https://h/r.git?branch=-x", "invalid git ref"),
            ("https://h/r.git#a..b", "invalid git ref"),
            ("https://h/r.git#a%0Ab", "invalid git ref"),
            ("https://h/r.git#a:b%zz", "broken %-escape"),
            ("https://h/r\n.git", "control characters"),
            ("ext://sh -c id", "control characters"),
            ("ext://sh", "only http, https, ssh and git"),
            ("file:///etc/r.git", "only http, https, ssh and git"),
            ("ssh://-oProxyCommand=id/r", "malformed host"),
            ("ssh://-l@h/r", "malformed user"),
            ("git@-oProxyCommand=id:r", "malformed host"),
            ("git@h:-r", "no usable path"),
            ("ssh://u:secret@h/r", "ssh does not take a password"),
            ("https://h:0/r.git", "malformed host"),
            ("https:///r.git", "malformed host"),
            ("https://h/r.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://h/r.git?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
            ("https://h/r.git?tag=a&branch=b", "branch conflicts with tag"),
            ("https://h/r.git?tag=a#b", "ref conflicts: \"b\" vs \"refs/tags/a\""),
            ("https://h/r.git?x=1", "unexpected query \"x\""),
            ("https://h/r.git?ref=", "query \"ref\" has no value"),
            ("https://h/r.git?ref=a&ref=a", "query \"ref\" has multiple values"),
            ("https://h/r.git?keep-git-dir=maybe", "invalid keep-git-dir value: \"maybe\""),
            ("https://h/r.git?submodules=x", "invalid submodules value: \"x\""),
            ("https://h/r.git?commit=zz", "expected hex commit hash"),
        ] {
            let error = GitAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn flags_and_address_agree() {
        let of = |text: &str| GitAddress::parse(text).unwrap();
        let pinned = of("https://h/r.git?commit=ab");
        assert!(pinned.clone().with_flags(None, Some("ab")).is_ok());
        assert!(pinned.clone().with_flags(None, Some("cd")).is_err());
        assert!(pinned.with_flags(None, Some("sha256:ab")).is_err());
        assert!(of("https://h/r.git?keep-git-dir=0").with_flags(Some(true), None).is_err());
        let kept = of("https://h/r.git").with_flags(Some(true), None).unwrap();
        assert_eq!(kept.keep_git_dir, Some(true));
        let full = "a".repeat(40);
        assert_eq!(of(&format!("https://h/r.git#{full}")).pinned(), Some(full.as_str()));
        assert_eq!(of("https://h/r.git#aaaa").pinned(), None);
    }

    #[test]
    fn credentials_are_not_shown() {
        let address = GitAddress::parse("https://u:canary@h/r.git#x").unwrap();
        assert_eq!(address.credentials.as_deref(), Some("u:canary"));
        assert!(!format!("{address} {address:?}").contains("canary"));
        assert_eq!(without_credentials("https://u:p@h/r.git"), "https://xxxxx@h/r.git");
        assert_eq!(without_credentials("ssh://git@h/r"), "ssh://git@h/r");
    }
}
