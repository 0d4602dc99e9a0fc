//! Flags of an instruction.

use std::fmt::Write;

use crate::diagnostic::Failure;
use crate::{Node, Word, suggest};

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
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(&'static str, String)>,
}

impl Flags {
    pub(super) fn parse(node: &Node, known: Known) -> Result<Self, Failure> {
        let mut flags = Self::default();
        for word in &node.flags {
            let (name, value) = flags.read(word, known).map_err(|error| {
                let error = error.at(node.location).label(word.span);
                if error.is("missing-flag-value") { error.hint(with_value(word, node)) } else { error }
            })?;
            flags.values.push((name, value));
        }
        Ok(flags)
    }

    fn read(&self, word: &Word, known: Known) -> Result<(&'static str, String), Failure> {
        let (flag, value) = match word.text.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (&word.text[..], None),
        };
        let name = flag.strip_prefix("--").unwrap_or(flag);
        let Some(&(name, takes)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(flag, name, known));
        };
        if takes != Takes::List && self.values.iter().any(|(given, _)| *given == name) {
            return Err(error("duplicate-flag", format!("duplicate flag specified: {flag}"))
                .hint(format!("keep one {flag} and remove the other")));
        }
        match (takes, value) {
            (Takes::Boolean, None) => Ok((name, "true".to_owned())),
            (Takes::Boolean, Some(value)) if !value.is_empty() => {
                boolean(flag, value).map(|value| (name, value))
            }
            (Takes::Text | Takes::List, Some(value)) => Ok((name, value.to_owned())),
            _ => Err(error("missing-flag-value", format!("missing a value on flag: {flag}"))),
        }
    }

    /// The value of a flag, empty ones included.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| &value[..])
    }

    /// The value of a flag; an empty one is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.given(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(given, _)| *given == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.given(name).map(|value| value == "true")
    }
}

fn boolean(flag: &str, value: &str) -> Result<String, Failure> {
    let lower = value.to_lowercase();
    match &lower[..] {
        "true" | "false" => Ok(lower),
        _ => {
            let message = format!("expecting boolean value for flag {flag}, not: {value}");
            Err(error("not-boolean", message).hint(format!("write {flag}=true or {flag}=false")))
        }
    }
}

/// How a flag is written with its value, which may be the word behind it.
fn with_value(flag: &Word, node: &Node) -> String {
    let name = flag.text.trim_end_matches('=');
    let is_last = node.flags.last() == Some(flag) && !flag.text.contains('=');
    let next = node.arguments.first().and_then(|word| word.text.split_whitespace().next());
    let value = next.filter(|_| is_last).unwrap_or("VALUE");
    format!("write the value behind an equals sign, without blanks: {name}={value}")
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

fn unknown(flag: &str, name: &str, known: Known) -> Failure {
    let mut message = format!("unknown flag: {flag}");
    let nearest = suggest(name, known.iter().map(|(known, _)| *known));
    if let Some(nearest) = nearest {
        // Writing to a string cannot fail.
        let _ = write!(message, " (did you mean {nearest}?)");
    }
    let error = error("unknown-flag", message);
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
