//! The physical lines of a file.

use crate::diagnostic::Failure;
use crate::{Location, Span};

/// The largest Dockerfile, 16 MiB.
pub(crate) const MAX_FILE_BYTES: usize = 16 << 20;

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
}

impl<'a> Line<'a> {
    /// The text without line end.
    pub(crate) fn text(&self) -> &'a str {
        self.raw.trim_end_matches(['\r', '\n'])
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
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let raw = &rest[..length];
        if raw.strip_suffix('\n').unwrap_or(raw).len() > MAX_LINE_BYTES {
            self.too_long = true;
            return None;
        }
        self.number += 1;
        let line = Line { number: self.number, start: self.next, raw };
        self.next += length;
        self.last = Some(line);
        Some(line)
    }
}

/// The text of a file, if it is text and not too large.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Failure> {
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!("the Dockerfile is larger than {MAX_FILE_BYTES} bytes");
        let hint = "is this the Dockerfile? Name it with -f FILE; data belongs into files that COPY takes";
        return Err(Failure::new("file-too-large", message, None).hint(hint));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let message = "the Dockerfile is not valid UTF-8";
        encoding_hint(bytes, bad_byte("invalid-utf8", message, bytes, error.valid_up_to()))
    })?;
    match text.find('\0') {
        Some(position) => {
            let message = "the Dockerfile holds a NUL byte";
            Err(encoding_hint(bytes, bad_byte("nul-byte", message, bytes, position)))
        }
        None => Ok(text),
    }
}

/// Says what the file is instead of UTF-8, as far as its first bytes tell.
fn encoding_hint(bytes: &[u8], error: Failure) -> Failure {
    let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    // Text in UTF-16 without a mark has a zero beside every letter.
    let looks_wide = bytes.len() >= 4 && (bytes[1] == 0 && bytes[3] == 0 || bytes[0] == 0 && bytes[2] == 0);
    if is_wide || looks_wide {
        return error
            .cause("it looks like UTF-16, which some editors and PowerShell write")
            .hint("save the file as UTF-8: iconv -f UTF-16 -t UTF-8 Dockerfile > Dockerfile.utf8");
    }
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK\x03\x04") {
        return error.cause("it looks like a program or an archive").hint("name the Dockerfile with -f FILE");
    }
    error.hint("save the file as UTF-8 text, and remove the byte").hint("another file is named with -f FILE")
}

/// An error at a byte in front of which all is text.
fn bad_byte(id: &'static str, message: &str, bytes: &[u8], position: usize) -> Failure {
    let before = &bytes[..position];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let number = before.split(|byte| *byte == b'\n').count() as u32;
    let span = Span::new(start, position);
    Failure::new(id, message, Some(Location { span, start_line: number, end_line: number }))
        .label(Span::new(position, position))
}
