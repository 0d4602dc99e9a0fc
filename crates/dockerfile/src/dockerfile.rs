//! A whole Dockerfile.

use std::sync::Arc;

use crate::Code;
use crate::diagnostic::Failure;
use crate::keyword::Keyword;
use crate::lint::{CheckOptionError, CheckOptions};
use crate::meaning;
use crate::node::{BorrowedNode, Parsed};
use crate::syntax::{self, Source};
use crate::syntax_tree::{MAX_ERRORS, decode};
use crate::{Diagnostic, Instruction, InstructionKind, Location, ParseErrors, Span, Stage, Text};

/// What the comment lines at the top of the file ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// Value of `syntax`, which has no effect on how the file is read.
    pub syntax: Option<(String, Location)>,
    /// Value of `check`.
    pub check: Option<(String, Location)>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: None }
    }
}

impl Directives {
    /// Which build checks the file wants. A value that cannot be read is not an error of the file before that is asked: a
    /// build argument may take its place (10.02).
    pub fn check_options(&self) -> Result<CheckOptions, CheckOptionError> {
        match &self.check {
            Some((value, _)) => CheckOptions::parse(value),
            None => Ok(CheckOptions::default()),
        }
    }
}

/// A Dockerfile without errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text, which spans point into; a byte order mark is kept.
    pub source: Text,
    /// The directives at the top.
    pub directives: Directives,
    /// The last lines of the instructions that have blank lines inside of their continuation.
    pub empty_continuations: Vec<Location>,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages; at least one.
    pub stages: Vec<Stage>,
}

impl Dockerfile {
    /// Parses a file. On errors all of them are returned, not the first alone.
    ///
    /// ```
    /// use ocibuild_dockerfile::Dockerfile;
    ///
    /// let file = Dockerfile::parse("FROM alpine AS build\nRUN make\n").unwrap();
    /// assert_eq!(file.stages[0].name.as_deref(), Some("build"));
    ///
    /// let errors = Dockerfile::parse("FROM alpine\nWROKDIR /x\nCOPY a\n").unwrap_err();
    /// assert_eq!(errors.diagnostics.len(), 2);
    /// assert_eq!(errors.diagnostics[0].message, "unknown instruction: WROKDIR (did you mean WORKDIR?)");
    /// ```
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, ParseErrors> {
        let decoded = decode(bytes.as_ref())?;
        let source = &*decoded.text;
        let errors = |diagnostics| ParseErrors { source: source.to_owned(), diagnostics };
        decoded.reject_nul().map_err(|error| errors(vec![error.into()]))?;
        if source.is_empty() {
            return Err(errors(vec![
                Failure::new(Code::EmptyFile, "the Dockerfile cannot be empty", None)
                    .hint("begin with FROM and a base image: FROM alpine:3.20")
                    .hint("name another file with -f FILE")
                    .into(),
            ]));
        }
        decoded.reject_replaced().map_err(|error| errors(vec![error.into()]))?;
        let shared = Arc::<str>::from(source);
        let mut assembly = Assembly::default();
        let mut syntax = syntax::read_each(&shared, |parsed| assembly.add(parsed));
        let is_broken = !syntax.errors.is_empty();
        // Those of the syntax come first.
        syntax.errors.append(&mut assembly.errors);
        assembly.errors = syntax.errors;
        if assembly.stages.is_empty() && !assembly.has_from && !is_broken && !assembly.lacks_stage {
            let error = Failure::new(Code::NoStages, "dockerfile contains no stages to build", None)
                .cause("it contains no FROM")
                .hint("add a FROM with a base image: FROM alpine:3.20");
            assembly.errors.push(error.into());
        }
        if !assembly.errors.is_empty() {
            if let Err(error) = syntax.directives.check_options() {
                let error = Failure::new(Code::InvalidCheckOption, error.to_string(), None).hint(
                    "write `# check=skip=RuleName,OtherRule` or `# check=error=true`, or remove the line",
                );
                assembly.errors.insert(0, error.into());
            }
            assembly.errors.truncate(MAX_ERRORS);
            return Err(errors(assembly.errors));
        }
        Ok(Self {
            source: shared.into(),
            directives: syntax.directives,
            empty_continuations: assembly.empty_continuations,
            global_args: assembly.global_args,
            stages: assembly.stages,
        })
    }
}

/// Stages as they grow.
#[derive(Default)]
struct Assembly {
    global_args: Vec<Instruction>,
    stages: Vec<Stage>,
    empty_continuations: Vec<Location>,
    errors: Vec<Diagnostic>,
    /// The keyword of the instruction above, and where it stands.
    above: Option<(Keyword, Location)>,
    /// A `FROM` was seen, be it wrong.
    has_from: bool,
    /// The first instruction that lacks a stage has been reported; those behind it have the same reason.
    lacks_stage: bool,
}

impl Assembly {
    fn add(&mut self, parsed: Parsed<'_>) {
        // What is known to be left out of the report need not be found.
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let Parsed { keyword, node, .. } = parsed;
        let is_from = keyword == Some(Keyword::From);
        self.has_from |= is_from;
        let added = if is_from {
            meaning::stage(parsed).map(|stage| self.stages.push(stage))
        } else {
            meaning::instruction(parsed)
                .map(|instruction| self.add_instruction(instruction, node.keyword.span))
        };
        if let Err(error) = added {
            self.errors.push(self.explained(error.into(), node, parsed.file));
        }
        if node.empty_continuation {
            self.empty_continuations.push(last_line(node, parsed.file));
        }
        self.above = keyword.map(|keyword| (keyword, node.location));
    }

    /// An unknown instruction may be the rest of the one above.
    fn explained(&self, mut error: Diagnostic, node: &BorrowedNode<'_>, source: &str) -> Diagnostic {
        let Some((keyword, above)) = &self.above else { return error };
        let goes_on = above.end_line + 1 == node.location.start_line;
        let word: &str = &node.keyword.text;
        let is_known_word = meaning::is_near_a_keyword(word) && !word.contains('=');
        let is_indented = source[..node.keyword.span.start].ends_with([' ', '\t']);
        let may_belong = is_indented
            || !matches!(keyword, Keyword::From | Keyword::User | Keyword::Workdir | Keyword::Stopsignal);
        if error.id != Code::UnknownInstruction.as_str()
            || !goes_on
            || is_known_word
            || !may_belong
            || meaning::is_no_word(word)
        {
            return error;
        }
        let text = source.get(above.span.range()).unwrap_or_default().trim_end();
        let line = text.lines().next_back().unwrap_or_default().trim_end();
        let number = above.end_line;
        let belongs = format!("if this belongs to the {} above", keyword.upper());
        let hint = match line.rsplit_once('\\') {
            Some((_, comment)) if comment.trim_start().starts_with('#') => format!(
                "{belongs}, put the comment of line {number} on a line of its own: nothing may follow the backslash (\\)"
            ),
            _ if line.ends_with(" /") => {
                format!("{belongs}, end line {number} with a backslash (\\) instead of the slash (/)")
            }
            _ => format!("{belongs}, end line {number} with a backslash (\\)"),
        };
        error.hints.insert(0, hint);
        error
    }

    fn add_instruction(&mut self, instruction: Instruction, keyword: Span) {
        if let Some(stage) = self.stages.last_mut() {
            stage.instructions.push(instruction);
        } else if self.has_from {
            // Its stage is among the errors.
        } else if matches!(instruction.kind, InstructionKind::Arg(_)) {
            self.global_args.push(instruction);
        } else if !std::mem::replace(&mut self.lacks_stage, true) {
            let message = "no build stage in current context";
            let error = Failure::new(Code::NoStage, message, Some(instruction.location));
            let name = instruction.keyword.to_uppercase();
            let error = error.cause(format!("{name} comes before the first FROM"));
            let hint =
                "only ARG may come before the first FROM: begin with FROM and a base image, FROM alpine:3.20";
            self.errors.push(error.label(keyword).hint(hint).into());
        }
    }
}

/// The last line of a node as its location.
fn last_line(node: &BorrowedNode<'_>, source: &str) -> Location {
    let mut location = node.location;
    let text = source.get(location.span.range()).unwrap_or_default();
    location.span.start += text.rfind('\n').map_or(0, |newline| newline + 1);
    location.start_line = location.end_line;
    location
}

/// Parses the text of a trigger as an image stores it: exactly one instruction, with `\` as escape character.
///
/// Spans and lines are those within `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, ParseErrors> {
    let errors = |diagnostics| ParseErrors { source: text.to_owned(), diagnostics };
    let checked = Source::decode(text.as_bytes()).and_then(|source| source.reject_nul());
    checked.map_err(|error| errors(vec![error.into()]))?;
    let mut nodes = 0;
    let mut first = None;
    let syntax = syntax::read_trigger(&text.into(), |parsed| {
        nodes += 1;
        first.get_or_insert_with(|| trigger(parsed));
    });
    if !syntax.errors.is_empty() {
        return Err(errors(syntax.errors));
    }
    let (Some(instruction), 1) = (first, nodes) else {
        let message = "onbuild trigger should be a single expression";
        let error = Failure::new(Code::TriggerCount, message, None);
        return Err(errors(vec![error.hint("split it into several ONBUILD instructions").into()]));
    };
    instruction.map_err(|error| errors(vec![error.into()]))
}

/// The instruction of a trigger.
fn trigger(parsed: Parsed<'_>) -> Result<Instruction, Failure> {
    if parsed.keyword != Some(Keyword::From) {
        return meaning::instruction(parsed);
    }
    meaning::stage(parsed)?;
    let message = "FROM isn't allowed as an ONBUILD trigger";
    let error = Failure::new(Code::ForbiddenTrigger, message, Some(parsed.node.location));
    Err(error.hint("build on another base image, or rebuild it without the trigger"))
}
