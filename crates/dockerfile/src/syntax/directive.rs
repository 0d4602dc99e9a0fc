//! Comment lines at the top of the file that steer the parser.

use crate::Code;
use nom::bytes::complete::take_while;
use nom::character::complete::{char, satisfy};
use nom::combinator::recognize;
use nom::sequence::pair;
use nom::{IResult, Parser};

use super::lines::{Line, Lines};
use super::words::is_name;
use crate::Directives;
use crate::diagnostic::Failure;

/// The directives there are.
const KNOWN: [&str; 3] = ["check", "escape", "syntax"];

/// The lines at the top that may hold directives. It ends at the first line that holds none.
#[derive(Debug)]
pub(super) struct Zone {
    is_open: bool,
    seen: Vec<&'static str>,
}

impl Zone {
    pub(super) fn new() -> Self {
        Self { is_open: true, seen: Vec::new() }
    }

    /// A zone that is over already.
    pub(super) fn closed() -> Self {
        Self { is_open: false, seen: Vec::new() }
    }

    /// The directive on a line, if it is one and the zone is not over.
    pub(super) fn read<'a>(
        &mut self,
        line: &Line<'a>,
        text: &'a str,
    ) -> Result<Option<(&'static str, &'a str)>, Failure> {
        let directive = if self.is_open { parse(text) } else { None };
        let Some((name, value)) = directive else {
            self.is_open = false;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            self.is_open = false;
            let message = format!("only one {name} parser directive can be used");
            let error = error(Code::DuplicateDirective, message, line);
            return Err(error.hint(format!("remove one of the lines that begin with \"# {name}=\"")));
        }
        self.seen.push(name);
        Ok(Some((name, value)))
    }
}

/// The directive a line consists of.
fn parse(text: &str) -> Option<(&'static str, &str)> {
    text.strip_prefix('#').and_then(parse_behind_sign)
}

fn parse_behind_sign(text: &str) -> Option<(&'static str, &str)> {
    let (value, name) = directive(text).ok()?;
    let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    let trimmed = value.trim_matches(is_blank);
    match (trimmed, value.char_indices().next_back()) {
        ("", None) => None,
        // Where blanks alone follow, the last one is the value.
        ("", Some((last, _))) => Some((known, &value[last..])),
        (value, _) => Some((known, value)),
    }
}

/// Up to the equals sign.
fn directive(input: &str) -> IResult<&str, &str> {
    let blanks = || take_while(is_blank);
    let name = recognize(pair(satisfy(|c| c.is_ascii_alphabetic()), take_while(is_name)));
    // Between the sign and the name other blanks than those of the regular expressions are skipped as well.
    let (rest, (name, _, _)) = (name, blanks(), char('=')).parse(input.trim_start())?;
    Ok((rest, name))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0c')
}

/// The escape character that a directive asks for.
pub(super) fn escape(value: &str, line: &Line<'_>) -> Result<char, Failure> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        other => {
            let message = format!("invalid escape token '{other}' does not match ` or \\");
            Err(error(Code::InvalidEscapeDirective, message, line)
                .hint("write `# escape=\\` or `# escape=``, or remove the line"))
        }
    }
}

/// An error of the directive on `line`.
fn error(id: Code, message: String, line: &Line<'_>) -> Failure {
    Failure::new(id, message, Some(line.location())).label(line.location().span)
}

/// The value of the directive `name`, if a comment without its sign is one.
pub(crate) fn comment_directive<'a>(comment: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = parse_behind_sign(comment)?;
    (found == name).then_some(value)
}

/// `syntax` and `check`. Other than `escape` they count below a `#!` line, and only in the first column.
pub(super) fn frontend(source: &str) -> Directives {
    let mut directives = Directives::default();
    let mut zone = Zone::new();
    for line in Lines::new(source) {
        if line.number == 1 && line.text().starts_with("#!") {
            continue;
        }
        let Ok(Some((name, value))) = zone.read(&line, line.text()) else { break };
        match name {
            "syntax" => directives.syntax = Some((value.to_owned(), line.location())),
            "check" => {
                let value = value.split(' ').next().unwrap_or_default();
                directives.check = Some((value.to_owned(), line.location()));
            }
            _ => {}
        }
    }
    directives
}
