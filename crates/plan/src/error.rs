use std::{error::Error, fmt};

use ocibuild_dockerfile::{ExpandError, Location, Span};

/// Why there is no plan: one error or several that do not depend on each other.
#[derive(Debug)]
pub struct PlanErrors(Vec<PlanError>);

/// One thing that stands in the way of a plan.
#[derive(Debug)]
pub struct PlanError {
    /// Which class.
    pub kind: PlanErrorKind,
    /// One line that says what is wrong, in BuildKit's words where it has some.
    pub message: String,
    /// The instruction; `None` where no line is to blame.
    pub location: Option<Location>,
    /// The very words to blame, within `location`.
    pub label_span: Option<Span>,
    /// What could be done about it.
    pub hints: Vec<String>,
    details: Box<Details>,
}

/// What few errors have; aside, to keep results small.
#[derive(Debug, Default)]
struct Details {
    /// The text to blame, from which `label_span` is found.
    word: Option<String>,
    /// The argument of the build to blame, as on a command line.
    argument: Option<String>,
    causes: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// Classes of [`PlanError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The Dockerfile says something that cannot be done.
    Dockerfile,
    /// An argument of the build does: the target, a build-arg.
    Argument,
    /// An image could not be had; the source is what the [`BaseResolver`](super::BaseResolver) returned.
    BaseImage,
    /// A privilege that was not granted (5.104, 5.105).
    Entitlement,
    /// Well-formed, but nothing that this builder does.
    Unsupported,
}

impl PlanErrorKind {
    /// A stable name of the class, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Argument => "invalid-argument",
            Self::BaseImage => "base-image",
            Self::Entitlement => "not-allowed",
            Self::Unsupported => "unsupported",
            Self::Dockerfile => "invalid-instruction",
        }
    }
}

impl PlanErrors {
    /// The errors, the one that BuildKit reports first; `None` when there are none.
    pub(super) fn new(errors: Vec<PlanError>) -> Option<Self> {
        if errors.is_empty() { None } else { Some(Self(errors)) }
    }

    /// The error that BuildKit reports.
    pub fn first(&self) -> &PlanError {
        self.0.first().expect("the list is made with at least one error")
    }

    /// All errors.
    pub fn iter(&self) -> std::slice::Iter<'_, PlanError> {
        self.0.iter()
    }

    /// All errors, by value.
    pub fn into_vec(self) -> Vec<PlanError> {
        self.0
    }
}

impl<'a> IntoIterator for &'a PlanErrors {
    type Item = &'a PlanError;
    type IntoIter = std::slice::Iter<'a, PlanError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<PlanError> for PlanErrors {
    fn from(error: PlanError) -> Self {
        Self(vec![error])
    }
}

impl PlanError {
    pub(super) fn new(kind: PlanErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            location: None,
            label_span: None,
            hints: Vec::new(),
            details: Box::default(),
        }
    }

    /// An error of the file whose place is added by who knows it.
    pub(super) fn file(message: impl Into<String>) -> Self {
        Self::new(PlanErrorKind::Dockerfile, message)
    }

    /// The same at `location`, unless it has one.
    #[must_use]
    pub(super) fn at(mut self, location: Location) -> Self {
        self.location.get_or_insert(location);
        self
    }

    /// The same with the text to blame, unless it has one.
    #[must_use]
    pub(super) fn word(mut self, word: &str) -> Self {
        self.details.word.get_or_insert_with(|| word.to_owned());
        self
    }

    /// Points at the text to blame if the instruction holds it once.
    pub(super) fn label_in(&mut self, source: &str) {
        let Some((word, location)) = self.details.word.as_deref().zip(self.location) else { return };
        self.label_span = location.span_of(word, source);
    }

    /// The same with the argument of the build to blame.
    #[must_use]
    pub(super) fn argument(mut self, argument: String) -> Self {
        self.details.argument = Some(argument);
        self
    }

    /// Why it is so, beyond the message.
    pub fn causes(&self) -> &[String] {
        &self.details.causes
    }

    /// The argument of the build to blame, as on a command line.
    pub fn blamed_argument(&self) -> Option<&str> {
        self.details.argument.as_deref()
    }

    #[must_use]
    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.details.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(super) fn caused_by(mut self, source: Box<dyn Error + Send + Sync>) -> Self {
        self.details.source = Some(source);
        self
    }

    /// What the [`BaseResolver`](super::BaseResolver) returned.
    pub fn into_cause(self) -> Option<Box<dyn Error + Send + Sync>> {
        self.details.source
    }

    /// What the [`BaseResolver`](super::BaseResolver) returned, to be looked at by its type.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.details.source.as_deref()
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.location {
            Some(location) => write!(f, " (line {})", location.start_line),
            None => Ok(()),
        }
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.details.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for PlanErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first().source()
    }
}

impl From<ExpandError> for PlanError {
    fn from(error: ExpandError) -> Self {
        let hint = expansion_hint(&error);
        Self::file(error.to_string()).word(&error.word).hint(hint)
    }
}

/// What to do about a word that cannot be expanded.
fn expansion_hint(error: &ExpandError) -> String {
    let message = &error.message;
    let text = if message.contains("quote") {
        "close the quote, or put a backslash in front of it"
    } else if message.contains("'}'") || message.contains("matching }") {
        "close the substitution with \"}\": ${NAME}"
    } else if message.contains("missing '/'") {
        "write the replacement as ${NAME/pattern/text}"
    } else if message.contains("unsupported modifier") {
        "use one of the modifiers there are: ${NAME:-default}, ${NAME:+text}, ${NAME:?message}, ${NAME#pattern}, \
         ${NAME%pattern}, ${NAME/pattern/text}"
    } else if message.contains("bad substitution") {
        "write a variable as $NAME or ${NAME}; a \"$\" that is meant as such needs a backslash in front"
    } else if message.contains("pattern") {
        "write the pattern with *, ? and plain characters; others need a backslash in front"
    } else if message.contains("nested") || message.contains("larger") || message.contains("too long") {
        "write the value in a simpler way: it grows or nests beyond what any image needs"
    } else {
        "give the variable a value with ARG NAME=value, ENV NAME=value or --build-arg NAME=value"
    };
    text.to_owned()
}

/// The end of a message that names what was probably meant.
pub(super) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}
