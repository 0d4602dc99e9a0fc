//! A file as syntax, and syntax as a file.

use std::fmt;

use crate::syntax::{self, Source};
use crate::{Directives, Node, ParseErrors};

/// How many errors of a file are reported: nobody reads more.
pub(crate) const MAX_ERRORS: usize = 1000;

/// The syntax of a Dockerfile alone: nothing is asked that needs to know what an instruction means.
///
/// Printed, it is a Dockerfile with the same syntax: one line an instruction, with its comments above and its heredocs
/// below. Quoting, blanks inside a line, delimiters and order are those that were read.
///
/// ```
/// use ocibuild_dockerfile::SyntaxTree;
///
/// let tree = SyntaxTree::parse("# escape=`\nFROM a\n\nRUN  one `\n  two\n")?;
/// assert_eq!(tree.nodes[1].arguments[0].text, "one   two");
/// assert_eq!(tree.to_string(), "# escape=`\n\nFROM a\nRUN  one   two\n");
/// # Ok::<(), ocibuild_dockerfile::ParseErrors>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxTree {
    /// The directives at the top.
    pub directives: Directives,
    /// One node for each instruction.
    pub nodes: Vec<Node>,
}

impl SyntaxTree {
    /// Parses a file. On errors all of them are returned.
    ///
    /// Here a NUL byte is a character as any other, and a byte that is not part of UTF-8 the replacement character.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, ParseErrors> {
        let decoded = decode(bytes.as_ref())?;
        let mut syntax = syntax::read_file(&decoded.text[..].into());
        if syntax.errors.is_empty() {
            return Ok(Self { directives: syntax.directives, nodes: syntax.nodes });
        }
        syntax.errors.truncate(MAX_ERRORS);
        Err(ParseErrors { source: decoded.text.into_owned(), diagnostics: syntax.errors })
    }
}

/// The syntax tree of a file without its directives.
pub fn parse_nodes(bytes: impl AsRef<[u8]>) -> Result<Vec<Node>, ParseErrors> {
    SyntaxTree::parse(bytes).map(|tree| tree.nodes)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Source<'_>, ParseErrors> {
    Source::decode(bytes).map_err(|error| ParseErrors {
        source: String::from_utf8_lossy(&bytes[..bytes.len().min(syntax::MAX_FILE_BYTES)]).into_owned(),
        diagnostics: vec![error.into()],
    })
}

impl fmt::Display for SyntaxTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Directives { escape, syntax, check } = &self.directives;
        for (name, value) in [("syntax", syntax), ("check", check)] {
            if let Some((value, _)) = value {
                // Without any value it would be a comment.
                let value = if value.is_empty() { " " } else { value };
                writeln!(f, "# {name}={value}")?;
            }
        }
        if *escape != '\\' {
            writeln!(f, "# escape={escape}")?;
        }
        // So that no comment below is taken for a directive.
        writeln!(f)?;
        self.nodes.iter().try_for_each(|node| write_node(f, node, *escape))
    }
}

fn write_node(f: &mut fmt::Formatter<'_>, node: &Node, escape: char) -> fmt::Result {
    for comment in &node.comments {
        writeln!(f, "# {comment}")?;
    }
    // The file ends in the midst of an instruction, of which nothing or something is there.
    if node.text.trim().is_empty() {
        return writeln!(f, "{escape}");
    }
    if syntax::without_continuation(&node.text, escape).1 {
        return writeln!(f, "{}{escape}", node.text);
    }
    writeln!(f, "{}", node.text)?;
    node.heredocs.iter().try_for_each(|body| writeln!(f, "{}{}", body.content, body.name))
}
