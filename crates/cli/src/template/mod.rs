//! Templates of `--format`: as much of Go's `text/template` as docker's users write.
//!
//! A template is text with actions in double braces: fields, `if`, `range`, `with`, variables, pipes, and docker's
//! functions. What values look like when they are printed is Go's, since scripts compare it.

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;
mod value;

use ocibuild::dockerfile::nearest;
use ocibuild::{Error, Place};

use crate::failure::usage;
pub(crate) use functions::Mode;
pub(crate) use value::{Field, Record, Value};

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template; what is wrong with it is told with its place.
    pub(crate) fn parse(source: &str) -> Result<Self, Error> {
        Self::parse_text(source, Text { start: 0, escapes: false })
    }

    /// Reads the template of a row, behind `skipped` bytes: blanks around it do not count, and `\t` and `\n` in its texts
    /// are a tab and a line end.
    pub(crate) fn parse_row(source: &str, skipped: usize) -> Result<Self, Error> {
        let source = source.trim_end_matches(' ');
        let rest = source.get(skipped..).unwrap_or_default();
        let start = source.len() - rest.trim_start_matches(' ').len();
        Self::parse_text(source, Text { start, escapes: true })
    }

    fn parse_text(source: &str, text: Text) -> Result<Self, Error> {
        let nodes = parse::parse(source, text).map_err(|fault| fault.told(source))?;
        Ok(Self { source: source.to_owned(), nodes })
    }

    /// The text for one value.
    pub(crate) fn render(&self, value: &Value, mode: Mode) -> Result<String, Error> {
        eval::render(&self.nodes, value, mode).map_err(|fault| fault.told(&self.source))
    }
}

/// How a text is read as a template.
#[derive(Debug, Clone, Copy)]
struct Text {
    /// Where it begins.
    start: usize,
    /// Whether `\t` and `\n` outside of actions stand for what they do elsewhere.
    escapes: bool,
}

/// What is wrong, at a byte of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    at: usize,
    message: String,
    hints: Vec<String>,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hints: Vec::new() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Names what was probably meant, and all there is.
    fn one_of(self, what: &str, given: &str, known: &[&str]) -> Self {
        let fault = match nearest(given, known.iter().copied()) {
            Some(nearest) => self.hint(format!("did you mean {nearest}?")),
            None => self,
        };
        if known.is_empty() { fault } else { fault.hint(format!("the {what} are {}", known.join(", "))) }
    }

    fn told(self, source: &str) -> Error {
        let before = source.get(..self.at).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let error = usage(format!("template parsing error: {}", self.message))
            .place(Place::Argument(format!("--format, line {line}, column {column}")));
        self.hints.into_iter().fold(error, Error::hint)
    }
}

#[cfg(test)]
mod tests;
