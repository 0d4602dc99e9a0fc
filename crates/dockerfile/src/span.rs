//! Places in the text of a Dockerfile.

use std::ops::Range;

/// A range of bytes of the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// As a range to slice the source with.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// Where an instruction stands: its bytes, and its first and last line counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Location {
    /// From the first byte of the first line to the last byte of the last, line end excluded.
    pub span: Span,
    /// The first line.
    pub start_line: u32,
    /// The last line; a heredoc's end line when there is one.
    pub end_line: u32,
}

impl Location {
    /// The column of a byte that stands on the first of these lines of `source`, in characters and counted from 1.
    pub fn column(&self, byte: usize, source: &str) -> Option<usize> {
        let start = source.get(..self.span.start)?.rfind('\n').map_or(0, |newline| newline + 1);
        let before = source.get(start..byte).filter(|before| !before.contains('\n'))?;
        Some(before.chars().count() + 1)
    }

    /// Where `word` stands in these lines of `source`: its only place, or the first where it is not part of a longer word.
    pub fn span_of(&self, word: &str, source: &str) -> Option<Span> {
        let text = source.get(self.span.range())?;
        let first = text.find(word).filter(|_| !word.is_empty())?;
        let ends_word = |c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '/');
        let stands_alone = |at: &usize| {
            let is_start = text[..*at].chars().next_back().is_none_or(ends_word);
            is_start && text[*at + word.len()..].chars().next().is_none_or(ends_word)
        };
        let at = if text.rfind(word) == Some(first) {
            first
        } else {
            text.match_indices(word).map(|(at, _)| at).find(stands_alone)?
        };
        let start = self.span.start + at;
        Some(Span::new(start, start + word.len()))
    }
}

/// Line and column of a byte of `text`, both counted from 1, the column in characters.
///
/// A byte behind the end stands for the end, one inside a character for that character.
pub fn line_column(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &text[..byte];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::{Location, Span, line_column};

    #[test]
    fn columns_are_those_of_the_first_line() {
        let text = "FROM a\n é RUN é \\\n  x\n";
        let location = Location { span: Span::new(10, text.len() - 1), start_line: 2, end_line: 3 };
        let column = |word: &str| location.column(text.find(word).unwrap(), text);
        assert_eq!((column("RUN"), column("\\"), column("x")), (Some(4), Some(10), None));
        assert_eq!(location.column(999, text), None);
        assert_eq!(location.column(0, ""), None);
    }

    #[test]
    fn columns_count_characters() {
        let text = "FROM a\nRUN é x\n";
        assert_eq!(line_column(text, 0), (1, 1));
        assert_eq!(line_column(text, 7), (2, 1));
        assert_eq!(line_column(text, 14), (2, 7));
        assert_eq!(line_column(text, 12), (2, 5), "inside of é");
        assert_eq!(line_column(text, 999), (3, 1));
    }
}
