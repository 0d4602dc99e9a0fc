use std::{error::Error, fmt};

use ocibuild_dockerfile::{ExpandError, Location, Span};

use super::fault::{PlanFault, TriggerOrigin, UnsetArg};

/// Why there is no plan: one error or several that do not depend on each other.
#[derive(Debug)]
pub struct PlanErrors(Vec<PlanError>);

/// One thing that stands in the way of a plan.
#[derive(Debug)]
pub struct PlanError {
    /// The instruction; `None` where no line is to blame.
    pub location: Option<Location>,
    /// The very words to blame, within `location`.
    pub label_span: Option<Span>,
    details: Box<Details>,
}

/// What is large, or what few errors have; aside, to keep results small.
#[derive(Debug)]
struct Details {
    fault: PlanFault,
    /// The text to blame, from which `label_span` is found.
    word: Option<String>,
    /// The trigger of a base image that the instruction comes from.
    trigger: Option<TriggerOrigin>,
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
    /// An error whose place is added by who knows it.
    pub(super) fn new(fault: PlanFault) -> Self {
        let details = Box::new(Details { fault, word: None, trigger: None, source: None });
        Self { location: None, label_span: None, details }
    }

    /// What is wrong.
    pub fn fault(&self) -> &PlanFault {
        &self.details.fault
    }

    /// The same about the name of a base image whose variables have no value.
    pub(super) fn with_unset(mut self, names: Vec<UnsetArg>) -> Self {
        self.details.fault.set_unset(names);
        self
    }

    /// Which class it is of.
    pub fn kind(&self) -> PlanErrorKind {
        self.fault().kind()
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

    /// The same about an instruction that comes from a base image.
    #[must_use]
    pub(super) fn of_trigger(mut self, trigger: TriggerOrigin) -> Self {
        self.details.trigger = Some(trigger);
        self
    }

    /// The trigger of a base image that the instruction comes from.
    pub fn trigger(&self) -> Option<&TriggerOrigin> {
        self.details.trigger.as_ref()
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
        write!(f, "{}", self.details.fault)?;
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

impl From<PlanFault> for PlanError {
    fn from(fault: PlanFault) -> Self {
        Self::new(fault)
    }
}

impl From<ExpandError> for PlanError {
    fn from(error: ExpandError) -> Self {
        let word = error.word.clone();
        Self::new(PlanFault::Expansion(error)).word(&word)
    }
}
