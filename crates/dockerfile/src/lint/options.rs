//! Which build checks are wanted.

use std::collections::BTreeSet;

use super::{Rule, RuleKind};
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
    /// Reads `skip=A,B;experimental=C;error=true`. Nothing at all asks for nothing.
    pub fn parse(value: &str) -> Result<Self, CheckOptionError> {
        let mut options = Self::default();
        if value.trim().is_empty() {
            return Ok(options);
        }
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
    pub fn of_comments(comments: &[impl AsRef<str>]) -> Self {
        let first = comments.iter().find_map(|comment| comment_directive(comment.as_ref(), "check"));
        let value = first.and_then(|value| value.split(' ').next());
        let options = value.and_then(|value| Self::parse(value).ok()).unwrap_or_default();
        Self { error: false, ..options }
    }

    /// Whether findings of `rule` are reported.
    pub fn reports(&self, rule: &Rule) -> bool {
        let named = |names: &BTreeSet<String>| names.contains(rule.name);
        let all = |names: &BTreeSet<String>| names.contains("all");
        match rule.kind {
            RuleKind::Ordinary => !named(&self.skip) && !all(&self.skip),
            RuleKind::Experimental => named(&self.experimental) || all(&self.experimental),
            RuleKind::Additional => named(&self.experimental) && !named(&self.skip),
        }
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
    use super::super::{
        FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, LATEST_TAG, STAGE_NAME_CASING, UNDEFINED_VAR,
    };
    use super::CheckOptions;

    #[test]
    fn values() {
        let options =
            CheckOptions::parse("skip=FromAsCasing, UndefinedVar ;error=T;experimental=all").unwrap();
        assert!(options.error && options.reports(&STAGE_NAME_CASING));
        assert_eq!(CheckOptions::parse(" "), Ok(CheckOptions::default()));
        assert!(!options.reports(&FROM_AS_CASING) && !options.reports(&UNDEFINED_VAR));
        for bad in ["nonsense", "skip", "x=y", "skip=A;skip=B;skip=C;skip=D", "skip=A;", "Skip=A"] {
            let error = CheckOptions::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid check option"), "{bad}: {error}");
        }
        let error = CheckOptions::parse("error=maybe").unwrap_err();
        assert_eq!(error.to_string(), "failed to parse check option \"error=maybe\"");
    }

    /// Which of an ordinary, an experimental and an additional rule are reported.
    #[test]
    fn kinds_of_rules() {
        for (value, expected) in [
            ("error=false", [true, false, false]),
            ("skip=all", [false, false, false]),
            ("experimental=all", [true, true, false]),
            ("skip=all;experimental=all", [false, true, false]),
            (
                "skip=InvalidDefinitionDescription;experimental=InvalidDefinitionDescription",
                [true, true, false],
            ),
            ("experimental=LatestTag", [true, false, true]),
            ("skip=all;experimental=LatestTag,UndefinedVar", [false, false, true]),
            ("skip=LatestTag;experimental=LatestTag", [true, false, false]),
            ("skip=undefinedvar", [true, false, false]),
            ("skip=UndefinedVar", [false, false, false]),
        ] {
            let options = CheckOptions::parse(value).unwrap();
            let rules = [&UNDEFINED_VAR, &INVALID_DEFINITION_DESCRIPTION, &LATEST_TAG];
            assert_eq!(rules.map(|rule| options.reports(rule)), expected, "{value}");
        }
    }

    #[test]
    fn comments() {
        let of = |comments: &[&str]| {
            CheckOptions::of_comments(&comments.iter().map(|&comment| comment.to_owned()).collect::<Vec<_>>())
        };
        assert!(!of(&["other", "check=skip=UndefinedVar"]).reports(&UNDEFINED_VAR));
        assert!(of(&["# check=skip=UndefinedVar"]).reports(&UNDEFINED_VAR), "indented");
        assert!(
            of(&["check=nonsense", "check=skip=UndefinedVar"]).reports(&UNDEFINED_VAR),
            "the first counts"
        );
        assert!(!of(&["check=error=true"]).error);
    }
}
