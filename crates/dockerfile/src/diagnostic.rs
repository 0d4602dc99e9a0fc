//! What is wrong with a Dockerfile, as data.

use std::fmt;

use crate::{Code, Location, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file can be built; a build check found something.
    Warning,
    /// The file cannot be built.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable name: `unknown-instruction` and the like for errors, the rule's name for build checks.
    pub id: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One line that says what is wrong.
    pub message: String,
    /// The lines to report; `None` when the file as a whole is meant.
    pub location: Option<Location>,
    /// The very words to blame, within `location`.
    pub label_span: Option<Span>,
    /// Why it is so, beyond the message.
    pub causes: Vec<String>,
    /// What could be done about it.
    pub hints: Vec<String>,
}

/// An error on its way up: boxed, since it is large and rare.
#[derive(Debug)]
pub(crate) struct Failure(Box<Diagnostic>);

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>, location: Option<Location>) -> Self {
        let message = message.into();
        let (severity, label_span) = (Severity::Error, None);
        let (causes, hints) = (Vec::new(), Vec::new());
        Self(Box::new(Diagnostic {
            id: code.as_str(),
            severity,
            message,
            location,
            label_span,
            causes,
            hints,
        }))
    }

    /// Where it is, if that was not known when it arose.
    pub(crate) fn at(mut self, location: Location) -> Self {
        self.0.location = Some(location);
        self
    }

    /// The words to blame.
    pub(crate) fn label(mut self, span: Span) -> Self {
        self.0.label_span = Some(span);
        self
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.0.id == code.as_str()
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        *failure.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.location {
            Some(location) => write!(f, " (line {})", location.start_line),
            None => Ok(()),
        }
    }
}

/// All errors of a Dockerfile, the one that other builders stop at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseErrors {
    /// The text that spans point into; empty if it could not be decoded.
    pub source: String,
    /// Never empty: errors of the syntax first, then those of instructions, both in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, diagnostic) in self.diagnostics.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseErrors {}
