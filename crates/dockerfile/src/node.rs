//! The syntax tree: what was written, before anyone asks what it means.

use std::borrow::Cow;
use std::sync::Arc;

use crate::keyword::Keyword;
use crate::{Location, Span, Text};

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word<T = Text> {
    /// The word; quotes are gone from flags only.
    pub text: T,
    /// Its bytes in the source, comments and line breaks of a continuation included.
    pub span: Span,
}

/// A heredoc as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocNode<T = Text> {
    /// The delimiter without quotes.
    pub name: T,
    /// The body, byte for byte.
    pub content: T,
    /// Whether the delimiter is free of quotes, so that the body is expanded where that applies.
    pub expand: bool,
    /// `<<-`
    pub chomp: bool,
    /// The number before `<<`, 0 without.
    pub file_descriptor: u64,
    /// The bytes of the body in the source.
    pub span: Span,
}

/// One instruction as syntax, each of its texts a `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<T = Text> {
    /// The keyword as written.
    pub keyword: Word<T>,
    /// Leading words with two dashes, quotes removed.
    pub flags: Vec<Word<T>>,
    /// The arguments, split as this instruction wants it. `ENV` and `LABEL` have three each: key, value, and `=` or
    /// nothing for the legacy form.
    pub arguments: Vec<Word<T>>,
    /// Written as a JSON list.
    pub json: bool,
    /// The bodies below the line. Those of a trigger belong to the `ONBUILD`.
    pub heredocs: Vec<HeredocNode<T>>,
    /// The instruction of an `ONBUILD`.
    pub children: Vec<Node<T>>,
    /// The text with continuation lines joined, without heredoc bodies.
    pub text: T,
    /// The comment block above.
    pub comments: Vec<T>,
    /// First and last line, heredoc bodies included.
    pub location: Location,
    /// Blank lines stand inside the continuation.
    pub empty_continuation: bool,
}

/// A word whose text is still that of the file, where it stands there in one piece.
pub(crate) type BorrowedWord<'a> = Word<Cow<'a, str>>;

/// A heredoc likewise.
pub(crate) type BorrowedHeredoc<'a> = HeredocNode<Cow<'a, str>>;

/// A node while its file is read: what is only looked at need not be copied.
pub(crate) type BorrowedNode<'a> = Node<Cow<'a, str>>;

/// A node as it was read, and what its texts are parts of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub(crate) keyword: Option<Keyword>,
    pub(crate) node: &'a BorrowedNode<'a>,
    pub(crate) file: &'a Arc<str>,
    /// Its lines joined, where there are several.
    pub(crate) line: Option<&'a Arc<str>>,
}

impl Parsed<'_> {
    /// A text of the node to be kept.
    pub(crate) fn text(&self, text: &str) -> Text {
        let within = |whole| Text::within(whole, text);
        self.line.and_then(within).or_else(|| within(self.file)).unwrap_or_else(|| text.into())
    }

    pub(crate) fn to_node(self) -> Node {
        self.copy(self.node)
    }

    fn copy(&self, node: &BorrowedNode<'_>) -> Node {
        let word = |word: &BorrowedWord<'_>| Word { text: self.text(&word.text), span: word.span };
        let heredoc = |body: &BorrowedHeredoc<'_>| HeredocNode {
            name: self.text(&body.name),
            content: self.text(&body.content),
            expand: body.expand,
            chomp: body.chomp,
            file_descriptor: body.file_descriptor,
            span: body.span,
        };
        Node {
            keyword: word(&node.keyword),
            flags: node.flags.iter().map(word).collect(),
            arguments: node.arguments.iter().map(word).collect(),
            json: node.json,
            heredocs: node.heredocs.iter().map(heredoc).collect(),
            children: node.children.iter().map(|child| self.copy(child)).collect(),
            text: self.text(&node.text),
            comments: node.comments.iter().map(|comment| self.text(comment)).collect(),
            location: node.location,
            empty_continuation: node.empty_continuation,
        }
    }
}
