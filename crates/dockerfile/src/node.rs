//! The syntax tree: what was written, before anyone asks what it means.

use crate::{Location, Span};

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The word; quotes are gone from flags only.
    pub text: String,
    /// Its bytes in the source, comments and line breaks of a continuation included.
    pub span: Span,
}

/// A heredoc as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocNode {
    /// The delimiter without quotes.
    pub name: String,
    /// The body, byte for byte.
    pub content: String,
    /// Whether the delimiter is free of quotes, so that the body is expanded where that applies.
    pub expand: bool,
    /// `<<-`
    pub chomp: bool,
    /// The number before `<<`, 0 without.
    pub file_descriptor: u64,
    /// The bytes of the body in the source.
    pub span: Span,
}

/// One instruction as syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written.
    pub keyword: Word,
    /// Leading words with two dashes, quotes removed.
    pub flags: Vec<Word>,
    /// The arguments, split as this instruction wants it. `ENV` and `LABEL` have three each: key, value, and `=` or
    /// nothing for the legacy form.
    pub arguments: Vec<Word>,
    /// Written as a JSON list.
    pub json: bool,
    /// The bodies below the line. Those of a trigger belong to the `ONBUILD`.
    pub heredocs: Vec<HeredocNode>,
    /// The instruction of an `ONBUILD`.
    pub children: Vec<Node>,
    /// The text with continuation lines joined, without heredoc bodies.
    pub text: String,
    /// The comment block above.
    pub comments: Vec<String>,
    /// First and last line, heredoc bodies included.
    pub location: Location,
    /// Blank lines stand inside the continuation.
    pub empty_continuation: bool,
}
