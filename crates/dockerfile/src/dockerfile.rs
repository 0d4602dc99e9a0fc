//! A whole Dockerfile.

use crate::syntax;
use crate::{Diagnostic, Instruction, Location, Node, ParseErrors, Stage};

/// What the comment lines at the top of the file ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// Value of `syntax`, which has no effect here.
    pub syntax: Option<(String, Location)>,
    /// Value of `check`.
    pub check: Option<(String, Location)>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: None }
    }
}

/// A Dockerfile without errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text, which spans point into; a byte order mark is kept.
    pub source: String,
    /// The directives at the top.
    pub directives: Directives,
    /// The syntax, one node for each instruction.
    pub nodes: Vec<Node>,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages; at least one.
    pub stages: Vec<Stage>,
    /// Findings of the build checks that need the text alone.
    pub warnings: Vec<Diagnostic>,
}

impl Dockerfile {
    /// Parses a file. On errors all of them are returned, not the first alone.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, ParseErrors> {
        let source = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        Err(ParseErrors { source, diagnostics: vec![Diagnostic::error("no-stages", "file with no instructions", None)] })
    }
}

/// The syntax tree alone: nothing is asked that needs to know what an instruction means.
pub fn parse_nodes(bytes: impl AsRef<[u8]>) -> Result<Vec<Node>, ParseErrors> {
    let source = decode_source(bytes.as_ref())?;
    let syntax = syntax::read_file(source);
    if syntax.errors.is_empty() {
        return Ok(syntax.nodes);
    }
    Err(ParseErrors { source: source.to_owned(), diagnostics: syntax.errors })
}

fn decode_source(bytes: &[u8]) -> Result<&str, ParseErrors> {
    syntax::decode(bytes).map_err(|error| ParseErrors {
        source: String::from_utf8_lossy(&bytes[..bytes.len().min(syntax::MAX_FILE_BYTES)]).into_owned(),
        diagnostics: vec![error],
    })
}

/// Parses the text of a trigger as an image stores it: exactly one instruction, escape `\`.
pub fn parse_trigger(text: &str) -> Result<Instruction, ParseErrors> {
    let error = Diagnostic::error("onbuild-expression", "onbuild trigger should be a single expression", None);
    Err(ParseErrors { source: text.to_owned(), diagnostics: vec![error] })
}
