//! Lines joined by continuation.

use std::borrow::Cow;
use std::ops::Range;

use nom::Offset;

use crate::node::BorrowedWord;
use crate::{Span, Word};

/// The text of an instruction, and where each part of it comes from.
#[derive(Debug)]
pub(super) struct LogicalLine<'a> {
    /// That of the source as long as there is but one piece.
    text: Cow<'a, str>,
    /// Where the first piece begins in the source.
    start: usize,
    /// Where each further piece begins: in `text` and in the source.
    pieces: Vec<(usize, usize)>,
}

impl<'a> LogicalLine<'a> {
    /// A line whose first piece begins at `start` in the source.
    pub(super) fn new(piece: &'a str, start: usize) -> Self {
        Self { text: piece.into(), start, pieces: Vec::new() }
    }

    /// Appends `piece`, which begins at `start` in the source.
    pub(super) fn push(&mut self, piece: &str, start: usize) {
        if !piece.is_empty() {
            self.pieces.push((self.text.len(), start));
            if let Cow::Borrowed(first) = self.text {
                let mut joined = String::with_capacity((first.len() + piece.len()) * 2);
                joined.push_str(first);
                self.text = joined.into();
            }
            self.text.to_mut().push_str(piece);
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of [`Self::text`] stands in the source.
    pub(super) fn span(&self, part: &str) -> Span {
        let Range { start, end } = self.range(part);
        let first = self.source_position(start);
        Span::new(first, if start == end { first } else { self.source_position(end - 1) + 1 })
    }

    /// A part of [`Self::text`] as a word, with `text` for its text.
    pub(super) fn word<'t>(&self, part: &str, text: impl Into<Cow<'t, str>>) -> BorrowedWord<'t> {
        Word { text: text.into(), span: self.span(part) }
    }

    fn range(&self, part: &str) -> Range<usize> {
        let start = self.text.offset(part).min(self.text.len());
        start..(start + part.len()).min(self.text.len())
    }

    fn source_position(&self, position: usize) -> usize {
        match self.pieces.partition_point(|(start, _)| *start <= position) {
            0 => self.start + position,
            behind => {
                let (start, source) = self.pieces[behind - 1];
                source + (position - start)
            }
        }
    }
}
