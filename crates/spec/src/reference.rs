use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The name of an image, normalised: registry, repository, tag and digest (4.03).
///
/// [`Display`](fmt::Display) writes all of it; [`familiar`](Self::familiar) leaves out what everybody assumes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: {text:?}: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl ReferenceError {
    /// What to write instead of the text.
    ///
    /// ```
    /// use ocibuild_spec::Reference;
    ///
    /// let error = "App:1.0".parse::<Reference>().unwrap_err();
    /// assert_eq!(error.advice(), "names of images are lower case: write app:1.0");
    /// ```
    pub fn advice(&self) -> String {
        let text = &self.text;
        let lower = text.to_lowercase();
        if lower != *text && lower.parse::<Reference>().is_ok() {
            return format!("names of images are lower case: write {lower}");
        }
        if let Some((_, rest)) = text.split_once("://") {
            return format!("leave the scheme out: {}", rest.trim_end_matches('/'));
        }
        if let Some((_, rest)) = text.split_once('@').filter(|(_, rest)| rest.contains('/')) {
            return format!("leave out what stands in front of the \"@\": {rest}");
        }
        if let Some(rest) = text.strip_prefix("./") {
            return format!("a name is no path: leave ./ out, {rest}");
        }
        if let Some((image, _)) = text.split_once('@') {
            return format!("a digest is sha256: and 64 hexadecimal digits: {image}@sha256:…");
        }
        if let Some(name) = text.strip_suffix(':') {
            return format!("put a tag behind the colon: {name}:latest");
        }
        let (path, last) = text.rsplit_once('/').map_or(("", &text[..]), |(path, last)| (path, last));
        if last.is_empty() && !path.is_empty() {
            return format!("leave the slash at the end out: {path}");
        }
        if last.starts_with(['_', '-', '.']) {
            return format!(
                "a name begins with a letter or a digit: {}",
                last.trim_start_matches(['_', '-', '.'])
            );
        }
        if last.matches(':').count() > 1 {
            return "a name has one tag: name:tag".to_owned();
        }
        if let Some((_, tag)) = last.split_once(':') {
            if tag.len() > 128 {
                return "a tag has up to 128 characters: choose a shorter one".to_owned();
            }
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if tag.chars().any(|c| !fits(c)) {
                let tag: String = tag.chars().map(|c| if fits(c) { c } else { '-' }).collect();
                return format!("a tag holds letters, digits, '_', '.' and '-' only, as in {tag}");
            }
        }
        "write a name as [registry/]name[:tag][@digest], in lower case without blanks: alpine:3.20".to_owned()
    }
}

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_REPOSITORY: usize = 255;

impl Reference {
    /// `host[:port]` of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository, `library/` included where it is implied.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` when neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which decides when there is a tag as well.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name with this digest instead of tag and digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same name with this tag instead of tag and digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag).map_err(|reason| ReferenceError { text: tag.chars().take(160).collect(), reason })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same tag and digest in another repository, of another registry: a mirror's name for the image.
    pub fn at(&self, registry: &str, repository: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError { text: format!("{registry}/{repository}"), reason };
        check_registry(registry).map_err(refuse)?;
        check_repository(repository).map_err(refuse)?;
        if repository.len() + registry.len() > MAX_REPOSITORY {
            return Err(refuse("repository name longer than 255 characters"));
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), ..self.clone() })
    }

    /// The short form that users write: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let name = if self.registry == DEFAULT_REGISTRY {
            self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        };
        name + &self.suffix()
    }

    /// Registry and repository in the short form, without tag and digest.
    pub fn familiar_name(&self) -> String {
        Self { tag: None, digest: None, ..self.clone() }.familiar()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError { text: text.chars().take(160).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|_| refuse("malformed digest after '@'"))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(refuse)?;
        }
        let (registry, repository) = split_registry(name);
        check_registry(registry).map_err(refuse)?;
        check_repository(repository).map_err(refuse)?;
        let is_default = matches!(registry, DEFAULT_REGISTRY | "index.docker.io");
        let registry = if is_default { DEFAULT_REGISTRY } else { registry };
        let repository = if is_default && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        if repository.len() + registry.len() > MAX_REPOSITORY {
            return Err(refuse("repository name longer than 255 characters"));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// The first part is a registry only when nothing else can look like it.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("unclosed '[' in the registry's address")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("malformed address of the registry");
            }
            (None, port.strip_prefix(':'))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let label_fits = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.is_none_or(|host| host.split('.').all(label_fits)) {
        return Err("malformed registry host");
    }
    match port {
        Some(port)
            if port.parse::<u16>().is_ok_and(|port| port != 0)
                && port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok(())
        }
        Some(_) => Err("malformed port of the registry"),
        None => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("empty name");
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    if repository.split('/').all(component_fits) { Ok(()) } else { Err("malformed repository name") }
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn component_fits(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| plain(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let joint = rest.iter().take_while(|b| !plain(**b)).count();
        match &rest[..joint] {
            [] => return rest.is_empty(),
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
        rest = &rest[joint..];
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let well_formed = tag.len() <= 128
        && tag.bytes().next().is_some_and(fits)
        && tag.bytes().all(|b| fits(b) || matches!(b, b'.' | b'-'));
    if well_formed { Ok(()) } else { Err("malformed tag") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_shortened() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("docker.io/library/x", "docker.io/library/x:latest", "x:latest"),
            ("index.docker.io/x", "docker.io/library/x:latest", "x:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("ghcr.io/a/b__c/d-e.f:V1", "ghcr.io/a/b__c/d-e.f:V1", "ghcr.io/a/b__c/d-e.f:V1"),
            (&format!("x@{digest}"), &format!("docker.io/library/x@{digest}"), &format!("x@{digest}")),
            (&format!("x:1@{digest}"), &format!("docker.io/library/x:1@{digest}"), &format!("x:1@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in [
            "",
            ":",
            "Upper",
            "a//b",
            "a/",
            "/a",
            "a:",
            "a:-x",
            "a b",
            "a-",
            "-a",
            "a..b",
            "a___b",
            "a@sha256:x",
            "host:0/x",
            "host:x/x",
            "http://a/b",
            "é",
            "a\0",
            "[::1/x",
            "a@b:c",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
