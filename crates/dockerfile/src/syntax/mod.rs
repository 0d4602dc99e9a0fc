//! Syntax: from the text of a file to its nodes.

mod directive;
pub(crate) mod heredoc;
mod json;
mod json_fault;
mod lines;
mod logical;
mod source;
mod tree;
mod words;

use std::borrow::Cow;
use std::sync::Arc;

use crate::Code;
use crate::diagnostic::Failure;
use crate::keyword::Keyword;
use crate::node::{BorrowedHeredoc, BorrowedNode, Parsed};
use crate::{Diagnostic, Directives, HeredocNode, Location, Node, Span};

pub(crate) use directive::comment_directive;
pub use json_fault::json_fault;
use lines::{Line, Lines, MAX_LINE_BYTES};
use logical::LogicalLine;
pub(crate) use source::{MAX_FILE_BYTES, Source};
use tree::Builder;

/// A file as syntax, with all that is wrong with it.
#[derive(Debug)]
pub(crate) struct Syntax {
    pub(crate) directives: Directives,
    pub(crate) nodes: Vec<Node>,
    pub(crate) errors: Vec<Diagnostic>,
}

/// A file without its nodes.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) directives: Directives,
    pub(crate) errors: Vec<Diagnostic>,
}

/// Reads a whole file.
pub(crate) fn read_file(source: &Arc<str>) -> Syntax {
    let mut nodes = Vec::new();
    let Frame { directives, errors } = read_each(source, |node| nodes.push(node.to_node()));
    Syntax { directives, nodes, errors }
}

/// As [`read_file`], with each node as soon as it is read.
pub(crate) fn read_each(source: &Arc<str>, sink: impl FnMut(Parsed<'_>)) -> Frame {
    let directives = directive::frontend(source);
    Reader::new(source, directives, directive::Zone::new(), sink).read()
}

/// As [`read_each`], for the text of a trigger, which has no directives.
pub(crate) fn read_trigger(text: &Arc<str>, sink: impl FnMut(Parsed<'_>)) -> Frame {
    Reader::new(text, Directives::default(), directive::Zone::closed(), sink).read()
}

/// Most words that all instructions of a file have together, keywords included; the text of a shell is one. Each takes some
/// hundred bytes in all that is made of it, and so a file of 16 MiB could take a gigabyte.
pub(crate) const MAX_WORDS: usize = 1 << 19;

struct Reader<'a, S> {
    source: &'a Arc<str>,
    lines: Lines<'a>,
    zone: directive::Zone,
    comments: Vec<Cow<'a, str>>,
    frame: Frame,
    sink: S,
    has_nodes: bool,
    /// Words of the instructions so far.
    words: usize,
}

impl<'a, S: FnMut(Parsed<'_>)> Reader<'a, S> {
    fn new(source: &'a Arc<str>, directives: Directives, zone: directive::Zone, sink: S) -> Self {
        let frame = Frame { directives, errors: Vec::new() };
        let lines = Lines::new(source);
        Self { source, lines, zone, comments: Vec::new(), frame, sink, has_nodes: false, words: 0 }
    }

    fn read(mut self) -> Frame {
        while self.words <= MAX_WORDS
            && let Some(line) = self.lines.next()
        {
            let text = line.text().trim_start();
            let is_directive = self.directive(&line, text).unwrap_or_else(|error| {
                self.frame.errors.push(error.into());
                true
            });
            if is_directive {
                continue;
            }
            if text.starts_with('#') {
                self.comment(line.text());
            } else if !text.is_empty() {
                self.instruction(&line);
            }
        }
        self.finish();
        self.frame
    }

    fn finish(&mut self) {
        if !self.has_nodes {
            if self.frame.errors.is_empty() {
                let error = Failure::new(Code::NoInstructions, "file with no instructions", None)
                    .cause("it contains only comments and blank lines")
                    .hint("begin with FROM and a base image: FROM alpine:3.20");
                self.frame.errors.push(error.into());
            }
        } else if self.lines.too_long {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE_BYTES}");
            let location = self.lines.last.map(|line| line.location());
            let number = self.lines.last.map_or(1, |line| line.number + 1);
            let error = Failure::new(Code::LineTooLong, message, location)
                .cause(format!("line {number} is longer than that"))
                .hint("break the line with a \"\\\" at its end, or put the text into a file and copy that");
            self.frame.errors.push(error.into());
        }
    }

    /// Carries out a directive, which belongs to no instruction's comments; `false` if the line is none.
    fn directive(&mut self, line: &Line<'a>, text: &'a str) -> Result<bool, Failure> {
        let directive = self.zone.read(line, text)?;
        if let Some(("escape", value)) = directive {
            self.frame.directives.escape = directive::escape(value, line)?;
        }
        Ok(directive.is_some())
    }

    /// A comment in the first column loses its sign; one without text ends the block.
    fn comment(&mut self, text: &'a str) {
        let comment = text.strip_prefix('#').unwrap_or(text).trim();
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.into());
        }
    }

    /// The instruction that begins on `first`, with its continuation and its heredocs.
    fn instruction(&mut self, first: &Line<'a>) {
        let comments = std::mem::take(&mut self.comments);
        let (line, empty_continuation) = self.continued(first);
        let location = self.location_from(first);
        // Before they are taken apart: one instruction may have them all.
        if self.words + least_words(line.text()) > MAX_WORDS {
            return self.too_many_words(location);
        }
        let builder = Builder { line: &line, escape: self.frame.directives.escape, location };
        let (keyword, mut node) = match builder.node() {
            Ok(built) => built,
            Err(error) => {
                let diagnostic = Failure::new(error.id, error.message, Some(location));
                self.frame.errors.push(diagnostic.label(error.culprit).hint(error.hint).into());
                return;
            }
        };
        self.words += words_of(&node);
        if self.words > MAX_WORDS {
            return self.too_many_words(location);
        }
        node.comments = comments;
        node.empty_continuation = empty_continuation;
        match self.heredocs(keyword, &node, first) {
            Ok(heredocs) => {
                if !heredocs.is_empty() {
                    node.heredocs = heredocs;
                    node.location = self.location_from(first);
                }
                self.has_nodes = true;
                (self.sink)(Parsed { keyword, node: &node, file: self.source, line: line.whole() });
            }
            Err(error) => self.frame.errors.push(error.into()),
        }
    }

    /// Nothing is read after this.
    fn too_many_words(&mut self, location: Location) {
        self.words = MAX_WORDS + 1;
        let message = format!("the instructions have more than {MAX_WORDS} words up to here");
        let error = Failure::new(Code::TooManyWords, message, Some(location))
            .hint("split the file into images that build on each other, or set generated values from a script in a RUN");
        self.frame.errors.push(error.into());
    }

    /// Joins the lines of an instruction; also says whether blank lines were among them.
    fn continued(&mut self, first: &Line<'a>) -> (LogicalLine<'a>, bool) {
        let escape = self.frame.directives.escape;
        let text = first.text().trim_start();
        let (piece, mut goes_on) = without_continuation(text, escape);
        let mut joined = LogicalLine::new(piece, first.start + (first.text().len() - text.len()));
        let mut has_empty_line = false;
        while goes_on {
            let Some(line) = self.lines.next() else { break };
            let text = line.text();
            if text.trim_start().starts_with('#') {
                continue;
            }
            if text.trim_start().is_empty() {
                has_empty_line = true;
                continue;
            }
            let (piece, more) = without_continuation(text, escape);
            joined.push(piece, line.start);
            goes_on = more;
        }
        joined.complete();
        (joined, has_empty_line)
    }

    /// From the first word on `first` to the end of the line read last.
    fn location_from(&self, first: &Line<'a>) -> Location {
        let text = first.text();
        let start = first.start + (text.len() - text.trim_start().len());
        let last = self.lines.last.unwrap_or(*first);
        let end = (last.start + last.text().len()).max(start);
        Location { span: Span::new(start, end), start_line: first.number, end_line: last.number }
    }

    fn heredocs(
        &mut self,
        keyword: Option<Keyword>,
        node: &BorrowedNode<'_>,
        first: &Line<'a>,
    ) -> Result<Vec<BorrowedHeredoc<'a>>, Failure> {
        if !may_have_heredocs(keyword, node) || !node.text.as_bytes().windows(2).any(|pair| pair == b"<<") {
            return Ok(Vec::new());
        }
        let starts = heredoc::starts(&node.text).map_err(|error| {
            let failure = Failure::new(Code::WordTooComplex, error.fault.to_string(), Some(node.location));
            failure.label(node.keyword.span).hint("write the instruction in a simpler way, with less nesting")
        })?;
        starts.into_iter().map(|start| self.heredoc(start, first)).collect()
    }

    /// Reads the body of a heredoc, up to its end line.
    fn heredoc(
        &mut self,
        start: heredoc::HeredocStart,
        first: &Line<'a>,
    ) -> Result<BorrowedHeredoc<'a>, Failure> {
        let body_start = self.lines.last.map_or(0, |line| line.start + line.raw.len());
        let mut nearly = None;
        for line in self.lines.by_ref() {
            let text = line.text();
            let text = if start.chomp { text.trim_start_matches('\t') } else { text };
            if text == start.name {
                let span = Span::new(body_start, line.start);
                return Ok(HeredocNode {
                    name: start.name.into(),
                    content: self.source[span.range()].into(),
                    expand: start.expand,
                    chomp: start.chomp,
                    file_descriptor: start.file_descriptor,
                    span,
                });
            }
            if nearly.is_none() && text.trim().eq_ignore_ascii_case(&start.name) {
                nearly = Some(line.number);
            }
        }
        let location = self.location_from(first);
        let name = crate::quote::quote(&start.name);
        let hint = match nearly {
            Some(number) => format!(
                "line {number} must be {name} and nothing else: in the same case, without spaces around it"
            ),
            None => format!("the body must end with the line {name}: add it, without spaces around it"),
        };
        let error = Failure::new(Code::UnterminatedHeredoc, "unterminated heredoc", Some(location));
        Err(error.cause(format!("no line below ends what <<{} begins", start.name)).hint(hint))
    }
}

fn words_of(node: &BorrowedNode<'_>) -> usize {
    // A trigger has no triggers of its own that are not counted as its arguments.
    let own = |node: &BorrowedNode<'_>| 1 + node.flags.len() + node.arguments.len();
    own(node) + node.children.iter().map(own).sum::<usize>()
}

/// About as many words as the text of an instruction will have. Of a shell's, which is one word, nothing is known to be more.
fn least_words(text: &str) -> usize {
    let mut parts = text.split_ascii_whitespace();
    let is_shell = |keyword: &str| {
        let keyword = keyword.to_ascii_uppercase();
        ["RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD", "SHELL"].contains(&&*keyword)
    };
    match parts.next() {
        Some(keyword) if is_shell(keyword) => match parts.next() {
            Some(list) if list.starts_with('[') => text.bytes().filter(|byte| *byte == b',').count(),
            _ => 1,
        },
        _ => 1 + parts.count(),
    }
}

/// The text without the escape character that continues it, if there is one.
pub(crate) fn without_continuation(text: &str, escape: char) -> (&str, bool) {
    match text.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (text, false),
    }
}

/// `RUN`, `COPY` and `ADD`, alone or as a trigger, but not in the JSON form.
fn may_have_heredocs(keyword: Option<Keyword>, node: &BorrowedNode<'_>) -> bool {
    let (keyword, node) = match node.children.first() {
        Some(trigger) => (Keyword::of(&trigger.keyword.text), trigger),
        None => (keyword, node),
    };
    !node.json && matches!(keyword, Some(Keyword::Run | Keyword::Copy | Keyword::Add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<(String, u32)> {
        let errors = read_file(&text.into()).errors;
        errors.iter().map(|error| (error.message.clone(), error.location.unwrap().start_line)).collect()
    }

    #[test]
    fn words_have_a_greatest_number() {
        let message = format!("the instructions have more than {MAX_WORDS} words up to here");
        let pairs = |count: usize| "LABEL".to_owned() + &" \\\n a=b".repeat(count) + "\n";
        // Each has a key, a value and the sign between them.
        assert_eq!(errors(&format!("FROM a\n{}", pairs(40_000))), []);
        for lines in [
            pairs(176_000),
            pairs(2_000_000),
            "LABEL a=b\n".repeat(160_000),
            "EXPOSE 1 2 3\n".repeat(160_000),
        ] {
            let found = errors(&format!("FROM a\n{lines}FROM b\nBOGUS\n"));
            assert!(matches!(&found[..], [(text, line)] if *text == message && *line >= 2), "{found:?}");
        }
        let list = |count: usize| format!("FROM a\nCMD [{}]\n", vec!["\"a\""; count].join(", \\\n"));
        assert_eq!(errors(&list(500_000)), []);
        assert_eq!(errors(&list(560_000)), [(message, 2)]);
        // A script is one word, however long.
        let script = format!("FROM a\nRUN {}\n", "a b c d e f g h \\\n".repeat(30_000));
        assert_eq!(errors(&script), []);
    }
}
