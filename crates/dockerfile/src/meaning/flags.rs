//! Flags of an instruction.

use std::fmt::Write;

use crate::Code;
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
            check(word, &words[..position], known).map_err(|error| {
                let error = error.at(node.location).label(word.span);
                if error.is(Code::MissingFlagValue) { error.hint(with_value(word, node)) } else { error }
            })?;
        }
        Ok(Self { words })
    }

    /// The values of a flag, in order; `true` where there is none.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let given = self.words.iter().filter_map(move |word| behind_name(word, name));
        given.map(|rest| rest.strip_prefix('=').unwrap_or("true"))
    }

    /// The value of a flag, empty ones included.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The value of a flag; an empty one is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.given(name).map(|value| value.to_lowercase() == "true")
    }
}

/// What follows the name in `word`, if that is the flag `name`: nothing, or an equals sign and the value.
fn behind_name<'a>(word: &'a BorrowedWord<'_>, name: &str) -> Option<&'a str> {
    let rest = word.text.strip_prefix("--")?.strip_prefix(name)?;
    (rest.is_empty() || rest.starts_with('=')).then_some(rest)
}

/// Fails if `word`, a flag behind those `before`, is none of the `known` or has not the value that one takes.
fn check(word: &BorrowedWord<'_>, before: &[BorrowedWord<'_>], known: Known) -> Result<(), Failure> {
    let flag = || word.text.split('=').next().unwrap_or_default();
    let given = known.iter().find_map(|(name, takes)| Some((name, takes, behind_name(word, name)?)));
    let Some((name, takes, rest)) = given else { return Err(unknown(flag(), known)) };
    if *takes != Takes::List && before.iter().any(|word| behind_name(word, name).is_some()) {
        return Err(error(Code::DuplicateFlag, format!("duplicate flag specified: {}", flag()))
            .hint(format!("keep one {0} and remove the other", flag())));
    }
    match (takes, rest) {
        (Takes::Boolean, "") => Ok(()),
        (Takes::Text | Takes::List, rest) if !rest.is_empty() => Ok(()),
        (Takes::Boolean, rest) if rest != "=" => boolean(flag(), &rest[1..]),
        _ => Err(error(Code::MissingFlagValue, format!("missing a value on flag: {}", flag()))),
    }
}

fn boolean(flag: &str, value: &str) -> Result<(), Failure> {
    match &value.to_lowercase()[..] {
        "true" | "false" => Ok(()),
        _ => {
            let message = format!("expecting boolean value for flag {flag}, not: {value}");
            Err(error(Code::NotBoolean, message).hint(format!("write {flag}=true or {flag}=false")))
        }
    }
}

/// How a flag is written with its value, which may be the word behind it.
fn with_value(flag: &BorrowedWord<'_>, node: &BorrowedNode<'_>) -> String {
    let name = flag.text.trim_end_matches('=');
    let is_last = node.flags.last().map(|last| last.span) == Some(flag.span) && !flag.text.contains('=');
    let next = node.arguments.first().and_then(|word| word.text.split_whitespace().next());
    let value = next.filter(|_| is_last).unwrap_or("VALUE");
    format!("write the value after an equals sign, without spaces: {name}={value}")
}

/// The instructions that have a flag which others have not.
const OWNERS: [(&str, &str); 16] = [
    ("from", "COPY"),
    ("parents", "COPY"),
    ("chown", "COPY and ADD"),
    ("chmod", "COPY and ADD"),
    ("link", "COPY and ADD"),
    ("exclude", "COPY and ADD"),
    ("checksum", "ADD"),
    ("keep-git-dir", "ADD"),
    ("unpack", "ADD"),
    ("mount", "RUN"),
    ("network", "RUN"),
    ("security", "RUN"),
    ("platform", "FROM"),
    ("interval", "HEALTHCHECK"),
    ("timeout", "HEALTHCHECK"),
    ("retries", "HEALTHCHECK"),
];

fn unknown(flag: &str, known: Known) -> Failure {
    let name = flag.strip_prefix("--").unwrap_or(flag);
    let mut message = format!("unknown flag: {flag}");
    let nearest = suggest(name, known.iter().map(|(known, _)| *known));
    if let Some(nearest) = nearest {
        // Writing to a string cannot fail.
        let _ = write!(message, " (did you mean {nearest}?)");
    }
    let error = error(Code::UnknownFlag, message);
    let error = match name.split_once(':') {
        Some((before, value)) if known.iter().any(|(known, _)| *known == before) => {
            error.hint(format!("write --{before}={value}, with an equals sign"))
        }
        _ => error,
    };
    let error = match OWNERS.iter().find(|(owned, _)| *owned == name) {
        Some((_, owner)) => error.hint(format!("{flag} is a flag of {owner}")),
        None => error,
    };
    let error = match nearest.or_else(|| crate::nearest(name, known.iter().map(|(known, _)| *known))) {
        Some(nearest) => error.hint(format!("write --{nearest} instead of {flag}")),
        None => error,
    };
    if known.is_empty() {
        return error
            .hint("this instruction takes no flags: remove it; flags of a command go after the command");
    }
    let list: Vec<String> = known.iter().map(|(known, _)| format!("--{known}")).collect();
    error.hint(format!("the flags of this instruction are {}", list.join(", ")))
}

fn error(id: Code, message: String) -> Failure {
    Failure::new(id, message, None)
}
