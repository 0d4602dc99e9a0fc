//! Flags of an instruction.

use std::fmt::Write;

use crate::diagnostic::Failure;
use crate::node::{BorrowedNode, BorrowedWord};
use crate::suggest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`.
    Boolean,
    /// One value.
    Text,
    /// A value, and the flag may be repeated.
    List,
}

/// The flags an instruction knows.
pub(super) type Known = &'static [(&'static str, Takes)];

/// The flags that were given.
#[derive(Debug)]
pub(super) struct Flags<'a> {
    words: &'a [BorrowedWord<'a>],
}

impl<'a> Flags<'a> {
    pub(super) fn parse(node: &'a BorrowedNode<'_>, known: Known) -> Result<Self, Failure> {
        let words = &node.flags[..];
        for (position, word) in words.iter().enumerate() {
            check(word, &words[..position], known)
                .map_err(|error| error.at(node.location).label(word.span))?;
        }
        Ok(Self { words })
    }

    /// The values of a flag, in order; `true` where there is none.
    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let value = move |word: &'a BorrowedWord<'_>| {
            let (flag, value) = split(word);
            (flag_name(flag) == name).then(|| value.unwrap_or("true"))
        };
        self.words.iter().filter_map(value)
    }

    /// The value of a flag, empty ones included.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The value of a flag; an empty one is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// A copy of that.
    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.values(name).map(str::to_owned).collect()
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.given(name).map(|value| value.to_lowercase() == "true")
    }
}

/// A flag with its dashes, and what is behind the equals sign.
fn split<'a>(word: &'a BorrowedWord<'_>) -> (&'a str, Option<&'a str>) {
    match word.text.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (&word.text, None),
    }
}

fn flag_name(flag: &str) -> &str {
    flag.strip_prefix("--").unwrap_or(flag)
}

/// Fails if `word`, a flag behind those `before`, is none of the `known` or has not the value that one takes.
fn check(word: &BorrowedWord<'_>, before: &[BorrowedWord<'_>], known: Known) -> Result<(), Failure> {
    let (flag, value) = split(word);
    let name = flag_name(flag);
    let Some(&(_, takes)) = known.iter().find(|(known, _)| *known == name) else {
        return Err(unknown(flag, name, known));
    };
    if takes != Takes::List && before.iter().any(|word| flag_name(split(word).0) == name) {
        return Err(error("duplicate-flag", format!("duplicate flag specified: {flag}"))
            .hint(format!("keep one {flag} and remove the other")));
    }
    match (takes, value) {
        (Takes::Boolean, None) | (Takes::Text | Takes::List, Some(_)) => Ok(()),
        (Takes::Boolean, Some(value)) if !value.is_empty() => boolean(flag, value),
        _ => Err(error("missing-flag-value", format!("missing a value on flag: {flag}"))
            .hint(format!("write the value behind an equals sign, without blanks: {flag}=VALUE"))),
    }
}

fn boolean(flag: &str, value: &str) -> Result<(), Failure> {
    match &value.to_lowercase()[..] {
        "true" | "false" => Ok(()),
        _ => {
            let message = format!("expecting boolean value for flag {flag}, not: {value}");
            Err(error("not-boolean", message).hint(format!("write {flag}=true or {flag}=false")))
        }
    }
}

fn unknown(flag: &str, name: &str, known: Known) -> Failure {
    let mut message = format!("unknown flag: {flag}");
    let nearest = suggest(name, known.iter().map(|(known, _)| *known));
    if let Some(nearest) = nearest {
        // Writing to a string cannot fail.
        let _ = write!(message, " (did you mean {nearest}?)");
    }
    let error = error("unknown-flag", message);
    let error = match nearest.or_else(|| crate::nearest(name, known.iter().map(|(known, _)| *known))) {
        Some(nearest) => error.hint(format!("write --{nearest} in place of {flag}")),
        None => error,
    };
    if known.is_empty() {
        return error.hint(
            "this instruction takes no flags: remove it; flags of a command belong behind the command",
        );
    }
    let list: Vec<String> = known.iter().map(|(known, _)| format!("--{known}")).collect();
    error.hint(format!("the flags of this instruction are {}", list.join(", ")))
}

fn error(id: &'static str, message: String) -> Failure {
    Failure::new(id, message, None)
}
