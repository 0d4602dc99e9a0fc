//! Sources of `ADD` that are not files: URLs and git repositories (6.70, 6.80).

use super::error::PlanError;
use super::fault::{ChecksumFault, PlanFault};

/// What a source of `ADD` or `COPY` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A path in the build context or wherever else the files come from.
    Path,
    /// A file at an `http` or `https` URL.
    Http,
    /// A git repository.
    Git,
}

impl SourceKind {
    /// What `source` is, by its text alone.
    pub fn of(source: &str) -> Self {
        if is_git(source) {
            Self::Git
        } else if source.starts_with("http://") || source.starts_with("https://") {
            Self::Http
        } else {
            Self::Path
        }
    }
}

fn is_git(source: &str) -> bool {
    if let Some((scheme, rest)) = source.split_once("://")
        && !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => is_repository(path),
            "ssh" | "git" => true,
            _ => false,
        };
    }
    // user@host:path
    let word = |text: &str, extra: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || extra.contains(&b))
    };
    source
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)))
        .is_some_and(|(user, host)| word(user, b"_") && word(host, b"."))
}

/// Whether `host/path` ends as the address of a repository does; capital letters do not count.
fn is_repository(address: &str) -> bool {
    address.split_once('/').is_some_and(|(_, path)| path.strip_suffix(".git").is_some())
}

/// Checks that a value of `--checksum` is a digest of a URL's content.
pub(super) fn check_digest(checksum: &str) -> Result<(), PlanError> {
    let refuse = |fault| {
        let fault = PlanFault::Checksum { checksum: checksum.to_owned(), fault };
        Err(PlanError::new(fault).word(checksum))
    };
    let Some((algorithm, hex)) = checksum.split_once(':') else {
        return refuse(ChecksumFault::Format);
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return refuse(ChecksumFault::Algorithm),
    };
    if hex.len() != length {
        return refuse(ChecksumFault::Length);
    }
    if hex.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')) {
        Ok(())
    } else {
        refuse(ChecksumFault::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_their_text() {
        for (source, kind) in [
            ("a/b", SourceKind::Path),
            ("./https://x/y.git", SourceKind::Path),
            ("HTTP://x/y", SourceKind::Path),
            ("ftp://x/y", SourceKind::Path),
            ("github.com/x/y", SourceKind::Path),
            ("github.com/x/y.git", SourceKind::Path),
            ("http://x/y", SourceKind::Http),
            ("https://x/y.git/z", SourceKind::Http),
            ("https://x/?r=y.git", SourceKind::Http),
            ("https://x.git", SourceKind::Http),
            ("https://x/y.git", SourceKind::Git),
            ("https://x/y.git#main:sub", SourceKind::Git),
            ("https://x/y.git?tag=v1", SourceKind::Git),
            ("ssh://git@x/y", SourceKind::Git),
            ("git://x/y", SourceKind::Git),
            ("git@x.org:y", SourceKind::Git),
            ("a@b", SourceKind::Path),
            ("a b@c:d", SourceKind::Path),
        ] {
            assert_eq!(SourceKind::of(source), kind, "{source}");
        }
    }
}
