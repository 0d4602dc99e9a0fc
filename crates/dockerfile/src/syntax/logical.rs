//! Lines joined by continuation.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use nom::Offset;

use crate::node::BorrowedWord;
use crate::{Span, Word};

/// The text of an instruction, and where each part of it comes from.
#[derive(Debug)]
pub(super) struct LogicalLine<'a> {
    /// The first piece, a part of the source.
    first: &'a str,
    /// All pieces, if there are more, as long as they are not complete.
    joined: String,
    /// All pieces, if there are more.
    whole: Option<Arc<str>>,
    /// Where the first piece begins in the source.
    start: usize,
    /// Where each further piece begins: in `text` and in the source.
    pieces: Vec<(usize, usize)>,
}

impl<'a> LogicalLine<'a> {
    /// A line whose first piece begins at `start` in the source.
    pub(super) fn new(piece: &'a str, start: usize) -> Self {
        Self { first: piece, joined: String::new(), whole: None, start, pieces: Vec::new() }
    }

    /// Appends `piece`, which begins at `start` in the source.
    pub(super) fn push(&mut self, piece: &str, start: usize) {
        if !piece.is_empty() {
            if self.pieces.is_empty() {
                self.joined.reserve((self.first.len() + piece.len()) * 2);
                self.joined.push_str(self.first);
            }
            self.pieces.push((self.joined.len(), start));
            self.joined.push_str(piece);
        }
    }

    /// Nothing is appended any more.
    pub(super) fn complete(&mut self) {
        if !self.pieces.is_empty() {
            self.whole = Some(std::mem::take(&mut self.joined).into());
        }
    }

    /// What [`Self::text`] is a part of, if that is not the source.
    pub(super) fn whole(&self) -> Option<&Arc<str>> {
        self.whole.as_ref()
    }

    pub(super) fn text(&self) -> &str {
        self.whole.as_deref().unwrap_or(self.first)
    }

    /// Where a part of [`Self::text`] stands in the source.
    pub(super) fn span(&self, part: &str) -> Span {
        let Range { start, end } = self.range(part);
        if self.pieces.is_empty() {
            return Span::new(self.start + start, self.start + end);
        }
        let first = self.source_position(start);
        Span::new(first, if start == end { first } else { self.source_position(end - 1) + 1 })
    }

    /// A part of [`Self::text`] as a word, with `text` for its text.
    pub(super) fn word<'t>(&self, part: &str, text: impl Into<Cow<'t, str>>) -> BorrowedWord<'t> {
        Word { text: text.into(), span: self.span(part) }
    }

    fn range(&self, part: &str) -> Range<usize> {
        let text = self.text();
        let start = text.offset(part).min(text.len());
        start..(start + part.len()).min(text.len())
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
