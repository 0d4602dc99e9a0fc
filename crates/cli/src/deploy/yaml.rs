//! Block YAML, written so that YAML 1.1 and 1.2 read it alike.

use std::fmt::{self, Write as _};

/// What a document is made of. Maps keep the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<(&'static str, Yaml)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn list<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }
}

impl fmt::Display for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self, 0)
    }
}

/// Writes a value whose first line begins where the cursor is, the other lines at `indent`.
fn write(f: &mut fmt::Formatter<'_>, value: &Yaml, indent: usize) -> fmt::Result {
    let next_line = |f: &mut fmt::Formatter<'_>, number| match number {
        0 => Ok(()),
        _ => write!(f, "{:indent$}", ""),
    };
    match value {
        Yaml::Bool(value) => writeln!(f, "{value}"),
        Yaml::Number(value) => writeln!(f, "{value}"),
        Yaml::Text(text) => writeln!(f, "{}", scalar(text)),
        Yaml::List(items) if items.is_empty() => writeln!(f, "[]"),
        Yaml::List(items) => items.iter().enumerate().try_for_each(|(number, item)| {
            next_line(f, number)?;
            f.write_str("- ")?;
            write(f, item, indent + 2)
        }),
        Yaml::Map(members) if members.is_empty() => writeln!(f, "{{}}"),
        Yaml::Map(members) => members.iter().enumerate().try_for_each(|(number, (key, value))| {
            next_line(f, number)?;
            write!(f, "{}:", scalar(key))?;
            if is_block(value) {
                write!(f, "\n{:1$}", "", indent + 2)?;
            } else {
                f.write_char(' ')?;
            }
            write(f, value, indent + 2)
        }),
    }
}

/// Whether a value takes lines of its own.
fn is_block(value: &Yaml) -> bool {
    match value {
        Yaml::List(items) => !items.is_empty(),
        Yaml::Map(members) => !members.is_empty(),
        _ => false,
    }
}

/// A text as it is where every reader takes it for one, else between quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Numbers and times begin with a digit, a sign or a point, whatever the version; the other words that are not texts
/// are known by name.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ':' | '@');
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(fits)
        && !text.ends_with(':')
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            // Of the others, letters and digits alone never reorder or hide what stands around them.
            c if c.is_alphanumeric() => out.push(c),
            c => push_escaped(&mut out, u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, code: u32) {
    // Writing to a string cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_something_else_are_quoted() {
        for plain in ["app", "/bin/sh", "a:b", "r.io/a/b:1@sha256:0", "https://x", "e3", "nope", "a-b_c.d"] {
            assert_eq!(scalar(plain), plain);
        }
        let quoted = [
            "",
            "on",
            "Off",
            "YES",
            "n",
            "null",
            "~",
            "true",
            "1",
            "1.0",
            "0x1",
            "1e3",
            "12:30",
            "-1",
            ".5",
            ".inf",
            "2001-01-01",
            "=",
            "<<",
            "a:",
            "a: b",
            "a #b",
            "- a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "[a",
            "{a",
            " a",
            "a ",
            "a,b",
            "127.0.0.1:5000/app",
            "_1",
            "-",
            "---",
            "...",
            "'",
            "?",
        ];
        for text in quoted {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
        assert_eq!(scalar("a\"\\\n\tb\r"), r#""a\"\\\n\tb\x0d""#);
        assert_eq!(scalar("\u{85}\u{2028}\u{1f600}\u{202e}ä日"), r#""\x85\u2028\U0001f600\u202eä日""#);
    }

    #[test]
    fn lists_and_maps_nest() {
        let inner = Yaml::Map(vec![("a", Yaml::Number(1)), ("b", Yaml::list(["x", "1"]))]);
        let list = Yaml::List(vec![inner, Yaml::List(vec![Yaml::text("z"), Yaml::Bool(true)])]);
        let empty = Yaml::Map(vec![("l", Yaml::List(vec![])), ("m", Yaml::Map(vec![]))]);
        let document = Yaml::Map(vec![("list", list), ("no", empty)]);
        let expected = "list:\n  - a: 1\n    b:\n      - x\n      - \"1\"\n  - - z\n    - true\n\"no\":\n  l: []\n  m: {}\n";
        assert_eq!(document.to_string(), expected);
    }
}
