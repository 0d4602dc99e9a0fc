//! Which build checks are wanted.

use std::collections::BTreeSet;

use crate::quote::quote;
use crate::syntax::comment_directive;

/// At most so many options stand in one value.
const MAX_OPTIONS: usize = 3;

/// The value of a `check` directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Rules that are not reported; `all` for every one that is not experimental.
    pub skip: BTreeSet<String>,
    /// Experimental rules that are reported; `all` for every one.
    pub experimental: BTreeSet<String>,
    /// Findings fail the build.
    pub error: bool,
}

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckOptionError {
    /// Not one of `skip=…`, `experimental=…` and `error=…`.
    #[error("invalid check option {}", quote(.0))]
    Unknown(String),
    /// `error` with something else than a boolean.
    #[error("failed to parse check option {}", quote(.0))]
    NotBoolean(String),
}

impl CheckOptions {
    /// Reads `skip=A,B;experimental=C;error=true`.
    pub fn parse(value: &str) -> Result<Self, CheckOptionError> {
        let mut options = Self::default();
        for option in value.trim().splitn(MAX_OPTIONS, ';') {
            let option = option.trim();
            let parts: Vec<&str> = option.split('=').map(str::trim).collect();
            match parts[..] {
                ["skip", names] => options.skip = names_of(names),
                ["experimental", names] => options.experimental = names_of(names),
                ["error", value] => {
                    options.error =
                        boolean(value).ok_or_else(|| CheckOptionError::NotBoolean(option.to_owned()))?;
                }
                _ => return Err(CheckOptionError::Unknown(option.to_owned())),
            }
        }
        Ok(options)
    }

    /// The options in the comment block above an instruction: the first `check=` counts if it can be read, without
    /// `error`, which is for whole files.
    pub fn of_comments(comments: &[String]) -> Self {
        let first = comments.iter().find_map(|comment| comment_directive(comment, "check"));
        let value = first.and_then(|value| value.split(' ').next());
        let options = value.and_then(|value| Self::parse(value).ok()).unwrap_or_default();
        Self { error: false, ..options }
    }

    /// Whether `rule` is reported.
    pub fn reports(&self, rule: &str, is_experimental: bool) -> bool {
        let named = |names: &BTreeSet<String>| names.contains(rule) || names.contains("all");
        if is_experimental { named(&self.experimental) } else { !named(&self.skip) }
    }

    /// These options and `other`'s together.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        Self {
            skip: self.skip.union(&other.skip).cloned().collect(),
            experimental: self.experimental.union(&other.experimental).cloned().collect(),
            error: self.error || other.error,
        }
    }
}

fn names_of(list: &str) -> BTreeSet<String> {
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::CheckOptions;

    #[test]
    fn values() {
        let options = CheckOptions::parse("skip=A,B;error=true;experimental=all").unwrap();
        assert!(options.error && !options.reports("A", false) && options.reports("C", false));
        assert!(options.reports("X", true), "named by `all`");
        assert!(!CheckOptions::parse("skip=all").unwrap().reports("C", false));
        for bad in ["nonsense", "skip", "x=y", "skip=A;skip=B;skip=C;skip=D"] {
            let error = CheckOptions::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid check option"), "{bad}: {error}");
        }
        let error = CheckOptions::parse("error=maybe").unwrap_err();
        assert_eq!(error.to_string(), "failed to parse check option \"error=maybe\"");
    }

    #[test]
    fn comments() {
        let of = |comments: &[&str]| {
            CheckOptions::of_comments(&comments.iter().map(|&comment| comment.to_owned()).collect::<Vec<_>>())
        };
        assert!(!of(&["other", "check=skip=A"]).reports("A", false));
        assert!(of(&["# check=skip=A"]).reports("A", false), "indented");
        assert!(of(&["check=nonsense", "check=skip=A"]).reports("A", false), "the first counts");
        assert!(!of(&["check=error=true"]).error);
    }
}
