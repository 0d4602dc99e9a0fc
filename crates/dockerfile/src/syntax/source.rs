//! The bytes of a file as text.

use std::borrow::Cow;

use super::lines::line_at;
use crate::Code;
use crate::Span;
use crate::diagnostic::Failure;

/// The largest Dockerfile, 16 MiB.
pub(crate) const MAX_FILE_BYTES: usize = 16 << 20;

/// A file as text.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The text; each byte that is not part of UTF-8 is a replacement character, as with Go.
    pub(crate) text: Cow<'a, str>,
    /// Where in the text these are.
    replaced: Vec<usize>,
    guess: Guess,
}

/// What a file seems to be instead of text in UTF-8.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Utf16,
    NoText,
    Unknown,
}

impl Guess {
    fn of(bytes: &[u8]) -> Self {
        let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        // Text in UTF-16 without a mark has a zero beside every letter.
        let looks_wide =
            bytes.len() >= 4 && (bytes[1] == 0 && bytes[3] == 0 || bytes[0] == 0 && bytes[2] == 0);
        if is_wide || looks_wide {
            return Self::Utf16;
        }
        let of_programs: [&[u8]; 3] = [b"\x7fELF", b"\x1f\x8b", b"PK\x03\x04"];
        if of_programs.iter().any(|start| bytes.starts_with(start)) { Self::NoText } else { Self::Unknown }
    }

    fn explain(self, error: Failure) -> Failure {
        match self {
            Self::Utf16 => error
                .cause("it looks like UTF-16, which some editors and PowerShell write")
                .hint("save the file as UTF-8: iconv -f UTF-16 -t UTF-8 Dockerfile > Dockerfile.utf8"),
            Self::NoText => {
                error.cause("it looks like a program or an archive").hint("name the Dockerfile with -f FILE")
            }
            Self::Unknown => error
                .hint("save the file as UTF-8 text, and remove the byte")
                .hint("name another file with -f FILE"),
        }
    }
}

impl<'a> Source<'a> {
    /// The text of a file, if it is not too large.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Failure> {
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("the Dockerfile is larger than {MAX_FILE_BYTES} bytes");
            let hint = "is this the Dockerfile? Name it with -f FILE; data belongs in files that COPY copies";
            return Err(Failure::new(Code::FileTooLarge, message, None).hint(hint));
        }
        if let Ok(text) = str::from_utf8(bytes) {
            return Ok(Self { text: Cow::Borrowed(text), replaced: Vec::new(), guess: Guess::of(bytes) });
        }
        let mut text = String::with_capacity(bytes.len());
        let mut replaced = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for _ in chunk.invalid() {
                replaced.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Ok(Self { text: Cow::Owned(text), replaced, guess: Guess::of(bytes) })
    }

    /// Fails if the file holds a NUL byte, which no argument of a program can hold.
    pub(crate) fn reject_nul(&self) -> Result<(), Failure> {
        match self.text.find('\0') {
            Some(position) => Err(self.bad_byte(Code::NulByte, "the Dockerfile holds a NUL byte", position)),
            None => Ok(()),
        }
    }

    /// Fails if bytes that are not text stand anywhere but in comments.
    pub(crate) fn reject_replaced(&self) -> Result<(), Failure> {
        if self.replaced.is_empty() {
            return Ok(());
        }
        let nodes = super::read_file(&self.text[..].into()).nodes;
        let mut nodes = nodes.iter().peekable();
        for &position in &self.replaced {
            while nodes.next_if(|node| node.location.span.end <= position).is_some() {}
            let in_body = nodes
                .peek()
                .is_some_and(|node| node.heredocs.iter().any(|body| body.span.range().contains(&position)));
            let line_start = self.text[..position].rfind('\n').map_or(0, |newline| newline + 1);
            if in_body || !self.text[line_start..].trim_start().starts_with('#') {
                let message = "the Dockerfile is not valid UTF-8";
                return Err(self.bad_byte(Code::InvalidUtf8, message, position));
            }
        }
        Ok(())
    }

    fn bad_byte(&self, id: Code, message: &str, position: usize) -> Failure {
        let place = line_at(&self.text, position);
        self.guess.explain(Failure::new(id, message, Some(place)).label(Span::new(position, position)))
    }
}
