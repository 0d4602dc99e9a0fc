//! The physical lines of a file.

use memchr::memchr;

use crate::{Location, Span};

/// The longest line, its end not counted. Longer lines of continued instructions are fine.
pub(crate) const MAX_LINE_BYTES: usize = 65535;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One line of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: u32,
    /// Where it begins.
    pub(crate) start: usize,
    /// Its text with line end.
    pub(crate) raw: &'a str,
    /// How long it is without.
    length: usize,
}

impl<'a> Line<'a> {
    /// The text without line end.
    pub(crate) fn text(&self) -> &'a str {
        &self.raw[..self.length]
    }

    pub(crate) fn location(&self) -> Location {
        let span = Span::new(self.start, self.start + self.text().len());
        Location { span, start_line: self.number, end_line: self.number }
    }
}

/// Goes through the lines of a text up to its end or to the first that is too long.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    source: &'a str,
    next: usize,
    number: u32,
    /// The line read last.
    pub(crate) last: Option<Line<'a>>,
    /// Set when reading stopped at a line above [`MAX_LINE_BYTES`].
    pub(crate) too_long: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        let next = if source.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        Self { source, next, number: 0, last: None, too_long: false }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.source[self.next..];
        if rest.is_empty() || self.too_long {
            return None;
        }
        let newline = memchr(b'\n', rest.as_bytes());
        if newline.unwrap_or(rest.len()) > MAX_LINE_BYTES {
            self.too_long = true;
            return None;
        }
        let length = newline.map_or(rest.len(), |newline| newline + 1);
        let raw = &rest[..length];
        self.number += 1;
        let ends = raw.bytes().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = Line { number: self.number, start: self.next, raw, length: raw.len() - ends };
        self.next += length;
        self.last = Some(line);
        Some(line)
    }
}

/// The line that holds the byte at `position`.
pub(super) fn line_at(source: &str, position: usize) -> Location {
    let before = &source.as_bytes()[..position];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let length = source.as_bytes()[start..].iter().position(|byte| *byte == b'\n');
    let end = length.map_or(source.len(), |length| start + length);
    let number = source[..position].matches('\n').count() as u32 + 1;
    Location { span: Span::new(start, end), start_line: number, end_line: number }
}
