use std::fmt;

use ocibuild_dockerfile::{Location, ParseErrors, Span};
use ocibuild_spec::{SourceError, SourceErrorKind};

use crate::plan::{PlanError, PlanErrorKind, PlanErrors};

/// Why a build, or something asked of the library, did not succeed.
///
/// It holds one or more [`Report`]s, the first being the one to show when only one can be shown, and the error below
/// as its source. [`kind`](Self::kind) tells what a program should do about it; a program's exit code follows from it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    reports: Vec<Report>,
    output: Option<String>,
    /// Whoever adds a place later adds none.
    has_no_place: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A `RUN` ended with this exit code.
    StepFailed(i32),
    /// What was asked for makes no sense: options, names, an unknown target.
    Usage,
    /// The Dockerfile, or a file it names, is wrong.
    Dockerfile,
    /// Hostile or invalid input: an image, an archive, a state directory.
    Refused,
    /// A registry or the network failed.
    Network,
    /// This host cannot: no space, no namespaces, no runtime, an unwritable directory.
    Host,
    /// The caller cancelled.
    Cancelled,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The headline.
    pub message: String,
    /// The instruction it concerns.
    pub location: Option<Location>,
    /// The word in it that is to blame.
    pub label: Option<Span>,
    /// What to do.
    pub hints: Vec<String>,
}

impl Report {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), location: None, label: None, hints: Vec::new() }
    }
}

impl Error {
    /// An error with its headline.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, reports: vec![Report::new(message)], output: None, has_no_place: false, source: None }
    }

    /// The same at an instruction, unless it already has a place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        let first = &mut self.reports[0];
        if !self.has_no_place {
            first.location = first.location.or(Some(location));
        } else if self.kind != ErrorKind::Cancelled {
            let hint = format!("the instruction is in line {}", location.start_line);
            if !first.hints.contains(&hint) {
                first.hints.push(hint);
            }
        }
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.reports[0].hints.push(hint.into());
        self
    }

    /// The same with the error below it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// For an error whose text is the headline already: the errors below it become the cause.
    fn below(mut self, error: impl std::error::Error) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        if !causes.is_empty() {
            self.source = Some(causes.join(": ").into());
        }
        self
    }

    /// The same with what the failed step printed last.
    #[must_use]
    pub fn with_output(mut self, output: String) -> Self {
        self.output = Some(output);
        self
    }

    /// The same with what it is about in front.
    pub(crate) fn prefixed(mut self, what: &str) -> Self {
        if self.kind != ErrorKind::Cancelled {
            let message = &mut self.reports[0].message;
            *message = format!("{what}: {message}");
        }
        self
    }

    /// The same where no instruction is at fault, but what one fetches. BuildKit names no place then; here a hint
    /// tells which one it was.
    pub(crate) fn elsewhere(mut self) -> Self {
        self.has_no_place = self.reports[0].location.is_none();
        self
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What is wrong; never empty.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// The last lines of the failed step's output.
    pub fn output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, report) in self.reports.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{}", report.message)?;
            if let Some(location) = report.location {
                write!(f, " (line {})", location.start_line)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<ParseErrors> for Error {
    fn from(errors: ParseErrors) -> Self {
        let report = |diagnostic: ocibuild_dockerfile::Diagnostic| Report {
            message: diagnostic.message,
            location: diagnostic.location,
            label: diagnostic.label_span,
            hints: diagnostic.hints,
        };
        let reports = errors.diagnostics.into_iter().map(report).collect();
        Self { kind: ErrorKind::Dockerfile, reports, output: None, has_no_place: false, source: None }
    }
}

impl From<PlanErrors> for Error {
    fn from(errors: PlanErrors) -> Self {
        let mut errors = errors.into_vec();
        let report = |error: &PlanError| Report {
            message: error.message.clone(),
            location: error.location,
            label: error.label_span,
            hints: error.hints.clone(),
        };
        let mut reports: Vec<Report> = errors.iter().map(report).collect();
        let first = errors.swap_remove(0);
        let kind = match first.kind {
            PlanErrorKind::Argument => ErrorKind::Usage,
            _ => ErrorKind::Dockerfile,
        };
        let source = first.into_cause();
        let image_error = source.as_ref().and_then(|error| error.downcast_ref::<SourceError>());
        let kind = image_error.map_or(kind, |error| class_of(error.kind()));
        if let Some(hint) = image_error.and_then(SourceError::hint_text) {
            reports[0].hints.push(hint.to_owned());
        }
        Self { kind, reports, output: None, has_no_place: false, source }
    }
}

fn class_of(kind: SourceErrorKind) -> ErrorKind {
    match kind {
        SourceErrorKind::Corrupt | SourceErrorKind::Unsupported => ErrorKind::Refused,
        SourceErrorKind::Denied | SourceErrorKind::Network => ErrorKind::Network,
        SourceErrorKind::Io => ErrorKind::Host,
        SourceErrorKind::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Dockerfile,
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        let mut own = Self::new(class_of(error.kind()), error.to_string());
        if let Some(hint) = error.hint_text() {
            own = own.hint(hint);
        }
        own.caused_by(error)
    }
}

impl From<ocibuild_sys::Error> for Error {
    fn from(error: ocibuild_sys::Error) -> Self {
        Self::new(ErrorKind::Host, error.to_string())
    }
}

impl From<ocibuild_store::Error> for Error {
    fn from(error: ocibuild_store::Error) -> Self {
        use ocibuild_store::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Corrupt | Kind::Unsupported | Kind::NotAStateDirectory | Kind::NewerFormat => {
                ErrorKind::Refused
            }
            Kind::InvalidInput | Kind::NotFound => ErrorKind::Usage,
            _ => ErrorKind::Host,
        };
        let own = Self::new(kind, error.to_string());
        let own = match error.hint() {
            Some(hint) => own.hint(hint),
            None => own,
        };
        own.below(error)
    }
}

impl From<ocibuild_snapshot::Error> for Error {
    fn from(error: ocibuild_snapshot::Error) -> Self {
        use ocibuild_snapshot::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Cancelled => ErrorKind::Cancelled,
            _ => ErrorKind::Host,
        };
        Self::new(kind, error.to_string()).below(error)
    }
}

impl From<ocibuild_layer::Error> for Error {
    fn from(error: ocibuild_layer::Error) -> Self {
        use ocibuild_layer::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::OpenContent { .. }
            | Kind::ReadContent { .. }
            | Kind::ContentShrank { .. }
            | Kind::ContentGrew { .. }
            | Kind::WriteBlob { .. } => ErrorKind::Host,
            Kind::Cancelled => ErrorKind::Cancelled,
            _ => ErrorKind::Refused,
        };
        let own = Self::new(kind, error.to_string());
        let own = match error.hint() {
            Some(hint) => own.hint(hint),
            None => own,
        };
        own.below(error)
    }
}

impl From<ocibuild_executor::Error> for Error {
    fn from(error: ocibuild_executor::Error) -> Self {
        use ocibuild_executor::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Cancelled => ErrorKind::Cancelled,
            Kind::InvalidStep | Kind::Directory => ErrorKind::Dockerfile,
            _ => ErrorKind::Host,
        };
        Self::new(kind, error.to_string()).below(error)
    }
}
