mod changed;
mod errno;
mod find;

use std::fmt;

use ocibuild_dockerfile::{Location, ParseErrors, Span};
use ocibuild_spec::{SourceError, SourceErrorKind};

pub use crate::failure::{Code, ErrorKind, Failure, PlanFaults};

use crate::advice::{
    self, Hint, Setting, limit_hints, plan_causes, plan_hints, source_hints, store_hint, way_around,
};
use crate::failure::{
    CacheFailure, ChangedPath, CheckFailure, ContextFailure, CopyFailure, CopyProblem, FileAction,
    GitFailure, HostFailure, HostOperation, IndexFailure, LayerFailure, OutputFailure, RunFailure,
    StateFailure, StepFact, StepFailure, TransferFailure,
};
use crate::report::Place;
use crate::report::Report;
use ocibuild_plan::{PlanError, PlanErrorKind, PlanErrors, PlanFault};

/// Why a build, or something asked of the library, did not succeed.
///
/// It holds one or more [`Report`]s, the first being the one to show when only one can be shown, and the error below
/// as its source. [`kind`](Self::kind) tells what a program should do about it; a program's exit code follows from it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    reports: Vec<Report>,
    output: Option<String>,
    /// What goes for other errors of the class does not go for the one below.
    is_special: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    failure: Option<Box<Failure>>,
}

impl Error {
    /// The same with the stable name of what is wrong.
    #[must_use]
    pub fn id(mut self, code: Code) -> Self {
        self.reports[0].id = code.as_str();
        self
    }

    /// Whether it is what the code stands for.
    pub fn is(&self, code: Code) -> bool {
        self.reports[0].id == code.as_str()
    }

    /// The stable name of what is wrong: one of [`Code`] or [`dockerfile::Code`](ocibuild_dockerfile::Code), or that of
    /// the [class](ErrorKind::name) where there is none of its own.
    pub fn code(&self) -> &'static str {
        if self.reports[0].id.is_empty() { self.kind.name() } else { self.reports[0].id }
    }

    /// The same with a place that is not an instruction, unless it already has one.
    #[must_use]
    pub fn place(mut self, place: Place) -> Self {
        let first = &mut self.reports[0];
        first.place = first.place.take().or(Some(place));
        self
    }

    /// The same with a reason beyond the headline, in words.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.reports[0].causes.push(cause.into());
        self
    }

    /// The same with the text to blame, which is looked for in the instruction.
    #[must_use]
    pub fn word(mut self, word: impl Into<String>) -> Self {
        let first = &mut self.reports[0];
        first.word = first.word.take().or_else(|| Some(word.into()));
        self
    }

    /// Points at the words to blame in `source`, the text of the Dockerfile.
    #[must_use]
    pub(crate) fn labelled(mut self, source: &str) -> Self {
        for report in &mut self.reports {
            if let (None, Some(location), Some(word)) = (report.label, report.location, &report.word) {
                // Paths of a context are written with and without a slash in front.
                let find = |word| location.span_of(word, source);
                report.label = find(word).or_else(|| find(word.trim_start_matches('/')));
            }
        }
        self
    }
}

impl Error {
    /// An error with its headline, of what a program finds out itself. What the library finds out is a [`Failure`] first, which
    /// becomes an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            reports: vec![Report::new(message)],
            output: None,
            is_special: false,
            source: None,
            failure: None,
        }
    }

    /// The same at an instruction, unless it already has a place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.reports[0].location.get_or_insert(location);
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        let (hint, hints) = (hint.into(), &mut self.reports[0].hints);
        if !hints.contains(&hint) {
            hints.push(hint);
        }
        self
    }

    /// The same with what to do about it, in front of what else is said.
    #[must_use]
    pub(crate) fn hint_first(mut self, hint: impl Into<Hint>) -> Self {
        self.reports[0].hints.insert(0, hint.into());
        self
    }

    /// The same with the error below it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        self = self.unless_the_host_failed(&*source).advised(&*source);
        self.source = Some(source);
        self
    }

    /// The same, unless it is this host that could not read what is blamed, as the error below tells.
    #[must_use]
    pub(crate) fn unless_the_host_failed(mut self, source: &(dyn std::error::Error + 'static)) -> Self {
        let number = ocibuild_sys::raw_os_error_of(source);
        let is_the_host = match self.kind {
            ErrorKind::Refused => number.map_or_else(|| errno::is_nameless(source), errno::is_of_the_host),
            // What this user may read is a matter of what they asked for.
            ErrorKind::Usage | ErrorKind::Dockerfile => {
                number.map_or_else(|| errno::is_nameless(source), errno::is_failure)
            }
            _ => false,
        };
        if is_the_host {
            self.kind = ErrorKind::Host;
        }
        self
    }

    /// The same with what to do about the kernel's error below it, if that leaves no doubt and nothing better is known.
    fn advised(mut self, source: &(dyn std::error::Error + 'static)) -> Self {
        self.is_special |= errno::is_nameless(source);
        match errno::advice_below(source).filter(|_| self.reports[0].hints.is_empty()) {
            Some(advice) => self.hint(advice),
            None => self,
        }
    }

    /// No thread could be started: nothing is wrong with what was asked for.
    pub fn no_thread(error: std::io::Error) -> Self {
        Self::from(HostFailure::operation(HostOperation::StartThread, error)).hint(errno::PROCESSES)
    }

    /// The same with one more thing that is wrong.
    pub(crate) fn and(mut self, message: String, location: Option<Location>, label: Option<Span>) -> Self {
        self.reports.push(Report { location, label, ..Report::new(message) });
        self
    }

    /// The same with all that is wrong according to another error.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.reports.extend(other.reports);
        self
    }

    /// For a failure whose text is the headline already: the errors below it become the cause.
    fn below(mut self, failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let error = failure.as_error();
        self = self.advised(error);
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        if !causes.is_empty() {
            self.source = Some(causes.join(": ").into());
        }
        self.failure = Some(Box::new(failure));
        self
    }

    /// What failed, as data. `None` for what a program found out itself, for a build that was cancelled, and for an image that
    /// cannot be had, of which [`find::<SourceError>()`](Self::find) knows more.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    /// The first error of this type among what failed and what it was caused by.
    pub fn find<T: std::error::Error + 'static>(&self) -> Option<&T> {
        let failure = self.failure.as_deref().map(Failure::as_error);
        let source = self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static));
        [failure, source].into_iter().flatten().find_map(find::find)
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

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What can be done about it when nothing more is known: what goes for all errors of its class, unless the error
    /// below it speaks of something else.
    pub fn advice(&self) -> Option<&'static str> {
        self.kind.advice().filter(|_| !self.is_special)
    }

    /// What is wrong; never empty.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// The last lines of the failed step's output.
    pub fn output(&self) -> Option<&str> {
        match self.failure() {
            Some(Failure::Step(failure)) => Some(&failure.output),
            _ => self.output.as_deref(),
        }
    }

    /// The same with more that was found out about what failed.
    #[must_use]
    pub(crate) fn refined(mut self, refine: impl FnOnce(&mut Failure)) -> Self {
        let Some(mut failure) = self.failure.take() else { return self };
        refine(&mut failure);
        let mut refined = Self::from(*failure);
        let (own, old) = (&mut refined.reports[0], &self.reports[0]);
        (own.location, own.label) = (old.location, old.label);
        refined
    }

    /// The same with what became of the files of the step that failed, behind what else is said.
    #[must_use]
    pub(crate) fn with_step_fact(mut self, fact: StepFact) -> Self {
        let (causes, hints) = advice::of_step_fact(&fact);
        self.reports[0].causes.extend(causes);
        self = hints.into_iter().fold(self, Self::hint);
        if let Some(Failure::Step(failure)) = self.failure.as_deref_mut() {
            failure.facts.push(fact);
        }
        self
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
        match &self.source {
            Some(source) => Some(&**source as _),
            None => self.failure.as_deref().and_then(|failure| failure.as_error().source()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let mut own = Self::new(failure.kind(), failure.as_error().to_string());
        let (causes, hints) = advice::of(&failure);
        own.reports[0] = Report {
            id: failure.code().map_or("", Code::as_str),
            causes,
            hints,
            word: failure.word(),
            place: place_of(&failure),
            ..Report::new(std::mem::take(&mut own.reports[0].message))
        };
        if let Some(source) = failure.as_error().source() {
            own = own.unless_the_host_failed(source).advised(source);
        }
        own.failure = Some(Box::new(failure));
        own
    }
}

/// The place of a failure that is not an instruction, or not only.
fn place_of(failure: &Failure) -> Option<Place> {
    match failure {
        Failure::Copy(CopyFailure { problem: CopyProblem::SourceNotFound(missing), .. }) => {
            let line = missing.ignored_by.as_ref()?;
            Some(Place::Line { file: line.file.clone(), line: line.line, text: line.pattern.clone() })
        }
        Failure::Context(ContextFailure::IgnorePattern { file, source }) => {
            Some(Place::Line { file: file.clone(), line: source.line, text: source.pattern.clone() })
        }
        Failure::Context(failure) => failure.file().map(|path| Place::File(path.display().to_string())),
        _ => None,
    }
}

macro_rules! own_failures {
    ($($failure:ty,)*) => {
        $(impl From<$failure> for Error {
            fn from(failure: $failure) -> Self {
                Failure::from(failure).into()
            }
        })*
    };
}

own_failures! { StepFailure, CopyFailure, CopyProblem, RunFailure, ContextFailure, GitFailure, OutputFailure, StateFailure, IndexFailure, TransferFailure, HostFailure, LayerFailure, CheckFailure, CacheFailure, }

impl From<ParseErrors> for Error {
    fn from(errors: ParseErrors) -> Self {
        let report = |diagnostic: ocibuild_dockerfile::Diagnostic| Report {
            id: diagnostic.id,
            location: diagnostic.location,
            label: diagnostic.label_span,
            causes: diagnostic.causes,
            hints: diagnostic.hints.into_iter().map(Hint::from).collect(),
            ..Report::new(diagnostic.message)
        };
        let reports = errors.diagnostics.iter().cloned().map(report).collect();
        let failure = Some(Box::new(Failure::Dockerfile(errors)));
        Self { kind: ErrorKind::Dockerfile, reports, output: None, is_special: false, source: None, failure }
    }
}

impl From<PlanErrors> for Error {
    fn from(errors: PlanErrors) -> Self {
        let mut errors = errors.into_vec();
        let report = |error: &PlanError| Report {
            id: plan_code(error.kind()).as_str(),
            location: error.location,
            label: error.label_span,
            place: error.fault().argument().map(Place::from),
            causes: plan_causes(error),
            hints: plan_hints(error),
            ..Report::new(error.fault().to_string())
        };
        let mut reports: Vec<Report> = errors.iter().map(report).collect();
        let faults = errors.iter().map(|error| error.fault().clone()).collect();
        let first = errors.swap_remove(0);
        let kind = match first.kind() {
            PlanErrorKind::Argument => ErrorKind::Usage,
            _ => ErrorKind::Dockerfile,
        };
        // What a context holds is not a name of an image.
        let is_context = matches!(first.fault(), PlanFault::BaseImage { context: Some(_), .. });
        let source = first.into_cause();
        let image_error = source.as_ref().and_then(|error| error.downcast_ref::<SourceError>());
        let kind = image_error.map_or(kind, |error| class_of(error.kind()));
        // What the source knows comes before what may be guessed.
        reports[0].hints.splice(0..0, image_error.map(source_hints).unwrap_or_default());
        if let Some(error) = image_error {
            reports[0].id = source_code(error.kind()).as_str();
            reports[0]
                .hints
                .extend(guess(error).filter(|_| !is_context || error.kind() == SourceErrorKind::NoPlatform));
        }
        let is_special = source.as_deref().is_some_and(|error| errno::is_nameless(error));
        let failure = Some(Box::new(Failure::Plan(PlanFaults(faults))));
        Self { kind, reports, output: None, is_special, source, failure }
    }
}

fn source_code(kind: SourceErrorKind) -> Code {
    match kind {
        SourceErrorKind::NotFound => Code::ImageNotFound,
        SourceErrorKind::NoPlatform => Code::NoPlatform,
        SourceErrorKind::Denied => Code::ImageDenied,
        SourceErrorKind::Network => Code::RegistryUnreachable,
        SourceErrorKind::Corrupt => Code::ImageCorrupt,
        SourceErrorKind::Unsupported => Code::ImageUnsupported,
        SourceErrorKind::Configuration => Code::RegistryConfiguration,
        SourceErrorKind::Refused => Code::RegistryBlocked,
        SourceErrorKind::LinkLocal => Code::LinkLocalAddress,
        SourceErrorKind::Offline => Code::Offline,
        _ => Code::BaseImage,
    }
}

fn plan_code(kind: PlanErrorKind) -> Code {
    match kind {
        PlanErrorKind::Argument => Code::InvalidArgument,
        PlanErrorKind::BaseImage => Code::BaseImage,
        PlanErrorKind::Entitlement => Code::NotAllowed,
        PlanErrorKind::Unsupported => Code::Unsupported,
        _ => Code::InvalidInstruction,
    }
}

/// The usual hint, unless the source knows better: these kinds stand for logins and files with credentials, too.
fn guess(error: &SourceError) -> Option<Hint> {
    use SourceErrorKind::{Denied, Io, Network, Unsupported};

    if error.kind() == Io && (errno::is_nameless(error) || errno::advice_below(error).is_some()) {
        // Whatever is at the path, that is not what failed.
        return errno::advice_below(error).map(Hint::from);
    }
    let is_known =
        !source_hints(error).is_empty() && matches!(error.kind(), Denied | Io | Network | Unsupported);
    source_hint(error.kind()).filter(|_| !is_known)
}

/// What can be done about an image that cannot be had, whatever its source says.
fn source_hint(kind: SourceErrorKind) -> Option<Hint> {
    Some(match kind {
        SourceErrorKind::NotFound => "check the image's name and tag for typos".into(),
        SourceErrorKind::NoPlatform => Hint::from("choose one of the image's platforms with ")
            .setting(Setting::Platform, "")
            .text(" or FROM --platform=, or another image"),
        SourceErrorKind::Denied => {
            "check the image's name, and log in to the registry if the image is private".into()
        }
        SourceErrorKind::Network => {
            Hint::from("check the name of the registry and the network; without one give the image with ")
                .setting(Setting::BuildContext, "NAME=oci-layout://DIR")
        }
        SourceErrorKind::Corrupt => "fetch or save the image again: what is there is damaged".into(),
        SourceErrorKind::Io => "check that the path exists and can be read".into(),
        SourceErrorKind::Unsupported => "use an image in the format of OCI or docker".into(),
        _ => return None,
    })
}

fn class_of(kind: SourceErrorKind) -> ErrorKind {
    match kind {
        SourceErrorKind::Corrupt
        | SourceErrorKind::Unsupported
        | SourceErrorKind::Refused
        | SourceErrorKind::LinkLocal => ErrorKind::Refused,
        SourceErrorKind::Denied | SourceErrorKind::Network | SourceErrorKind::Offline => ErrorKind::Network,
        SourceErrorKind::Io => ErrorKind::Host,
        SourceErrorKind::Configuration => ErrorKind::Usage,
        SourceErrorKind::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Dockerfile,
    }
}

/// What is behind an error about bytes that went from one place to another, when it is not the place that the error is
/// about: the registry that they came from, or the caller who cancelled.
pub(crate) fn class_below(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own.kind);
        }
        let source = error.downcast_ref::<SourceError>().map(SourceError::kind);
        // A source that could not read something may have been handed a reader of another one.
        if let Some(kind) = source.filter(|kind| *kind != SourceErrorKind::Io) {
            return Some(match kind {
                SourceErrorKind::NotFound => ErrorKind::Network,
                kind => class_of(kind),
            });
        }
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if number.is_some_and(errno::is_of_the_host) {
            return Some(ErrorKind::Host);
        }
        let layer = error.downcast_ref::<ocibuild_layer::Error>();
        if let Some(kind) = layer.and_then(|error| not_of_the_layer(error.kind())) {
            return Some(kind);
        }
        // What an error of input or output is made of is not among its sources.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The class of an error that does not lie with the layer that is read: it is this host that cannot have it unpacked.
fn not_of_the_layer(kind: &ocibuild_layer::ErrorKind) -> Option<ErrorKind> {
    use ocibuild_layer::ErrorKind as Kind;
    match kind {
        Kind::Cancelled => Some(ErrorKind::Cancelled),
        Kind::UnmappedOwner { .. } => Some(ErrorKind::Host),
        // An attribute that the kernel does not take is the layer's fault.
        Kind::UnpackContent { source, .. } => {
            ocibuild_sys::raw_os_error_of(source).is_none_or(errno::is_of_the_host).then_some(ErrorKind::Host)
        }
        Kind::Unpack { source, .. } if errno::is_of_the_host(source.raw_os_error()) => Some(ErrorKind::Host),
        _ => None,
    }
}

impl Error {
    /// What a registry refused or does not have, where no Dockerfile is to blame for having asked.
    pub fn of_registry(error: SourceError) -> Self {
        let kind = match error.kind() {
            SourceErrorKind::NotFound => ErrorKind::Network,
            SourceErrorKind::NoPlatform => ErrorKind::Usage,
            SourceErrorKind::Io => class_below(&error).unwrap_or(ErrorKind::Host),
            kind => class_of(kind),
        };
        if kind == ErrorKind::Cancelled {
            return Self::cancelled();
        }
        let own = Self::new(kind, error.to_string()).id(source_code(error.kind()));
        let hints = source_hints(&error);
        hints.into_iter().fold(own.caused_by(error), Self::hint)
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        let mut own = Self::new(class_of(error.kind()), error.to_string()).id(source_code(error.kind()));
        for hint in source_hints(&error).into_iter().chain(guess(&error)) {
            own = own.hint(hint);
        }
        own.caused_by(error)
    }
}

impl From<ocibuild_sys::Error> for Error {
    fn from(error: ocibuild_sys::Error) -> Self {
        let mut own = Self::new(ErrorKind::Host, error.to_string()).advised(&error);
        own.failure = Some(Box::new(error.into()));
        own
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
            Kind::Cancelled => ErrorKind::Cancelled,
            _ => class_below(&error).unwrap_or(ErrorKind::Host),
        };
        if kind == ErrorKind::Cancelled {
            return Self::cancelled();
        }
        let own = Self::new(kind, error.to_string());
        store_hint(&error).into_iter().fold(own, Self::hint).below(error)
    }
}

impl From<ocibuild_snapshot::Error> for Error {
    fn from(error: ocibuild_snapshot::Error) -> Self {
        use ocibuild_snapshot::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Cancelled => ErrorKind::Cancelled,
            // What an image has, or a step left, at a path.
            Kind::Resolve { .. } | Kind::WrongKind { .. } | Kind::ReservedName { .. } => ErrorKind::Refused,
            _ => ErrorKind::Host,
        };
        let own = Self::new(kind, error.to_string());
        let own = match error.kind() {
            Kind::ReservedName { .. } => own.hint("give it another name, or remove it in the same RUN"),
            _ => own,
        };
        own.below(error)
    }
}

impl From<ocibuild_layer::Error> for Error {
    fn from(error: ocibuild_layer::Error) -> Self {
        use ocibuild_layer::ErrorKind as Kind;
        if let Some(changed) = ChangedPath::below(&error) {
            return changed.into();
        }
        let kind = match error.kind() {
            Kind::OpenContent { .. }
            | Kind::ReadContent { .. }
            | Kind::ContentShrank { .. }
            | Kind::ContentGrew { .. }
            | Kind::WriteBlob { .. } => ErrorKind::Host,
            kind => not_of_the_layer(kind)
                .or_else(|| class_below(&error).filter(|kind| *kind == ErrorKind::Host))
                .unwrap_or(ErrorKind::Refused),
        };
        let own = Self::new(kind, error.to_string());
        let own = match error.hint() {
            Some(hint) => own.hint(hint),
            None => own,
        };
        own.below(error)
    }
}

/// A path of this host, the state directory's above all, that something could not be done with.
pub(crate) fn unusable(path: &std::path::Path, error: std::io::Error) -> Error {
    HostFailure::file(FileAction::Use, path, error).into()
}

const NETWORK_PROGRAMS: &str = "install pasta, which is in the package passt, or slirp4netns";

impl From<ocibuild_executor::Error> for Error {
    fn from(error: ocibuild_executor::Error) -> Self {
        use ocibuild_executor::{ErrorKind as Kind, Need};
        let kind = match error.kind() {
            Kind::Cancelled => ErrorKind::Cancelled,
            Kind::InvalidStep | Kind::Directory => ErrorKind::Dockerfile,
            _ => ErrorKind::Host,
        };
        let known = error.raw_os_error().and_then(errno::advice);
        let hint: Option<Hint> = match error.kind() {
            Kind::NoSandbox => {
                let own = Self::new(kind, error.to_string()).id(Code::NoSandbox);
                let own = error.obstacles().iter().fold(own, |own, obstacle| own.hint(way_around(*obstacle)));
                return own.hint("a Dockerfile without RUN needs no sandbox").below(error);
            }
            Kind::Limits => {
                let hints = error.limits_refused().map(limit_hints).unwrap_or_default();
                let own = Self::new(kind, error.to_string()).id(Code::NoLimits);
                return hints.into_iter().fold(own, Self::hint).below(error);
            }
            Kind::Identity => {
                Some("give this user ids in /etc/subuid and /etc/subgid, or build as root".into())
            }
            Kind::Directory => Some(
                "make the directory with WORKDIR, or remove what is at its path in an earlier RUN".into(),
            ),
            Kind::RuntimeMissing => Some(
                Hint::from("install the runtime, or omit ")
                    .setting(Setting::Runtime, "")
                    .text(": steps then run without one"),
            ),
            Kind::NetworkProgramMissing => Some(NETWORK_PROGRAMS.into()),
            Kind::NetworkProgram => {
                Some(Hint::from("see what the program says, or choose ").setting(Setting::Network, "host"))
            }
            Kind::Runtime => Some(Hint::from("try another runtime, or omit ").setting(Setting::Runtime, "")),
            Kind::InvalidStep => Some("give RUN a command, without NUL characters".into()),
            Kind::Unsupported => error.need().and_then(|need| match need {
                Need::PrivateNetwork => Some(NETWORK_PROGRAMS.into()),
                Need::OwnNetwork | Need::SharedMounts | Need::SizedMounts => {
                    Some("build where steps can have namespaces of their own".into())
                }
                // The need itself says what it takes.
                _ => None,
            }),
            Kind::Exhausted => known.or(Some(errno::PROCESSES)).map(Hint::from),
            // What is unsupported says itself what it takes, and what was denied may be denied to root.
            _ => known.map(Hint::from),
        };
        let is_private = error.need() == Some(Need::PrivateNetwork)
            || matches!(error.kind(), Kind::NetworkProgramMissing | Kind::NetworkProgram);
        let own = Self::new(kind, error.to_string());
        let own = if is_private { own.id(Code::PrivateNetwork) } else { own };
        match hint {
            Some(hint) => own.hint(hint).below(error),
            None => own.below(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_this_host_cannot_is_not_the_layers_fault() {
        use ocibuild_layer::ErrorKind as Kind;
        let entry = || "bin/sh".into();
        let number = io::Error::from_raw_os_error;
        let source = || number(28);
        for (kind, class) in [
            (Kind::UnmappedOwner { entry: entry(), uid: 0, gid: 0, source: source() }, ErrorKind::Host),
            (Kind::UnpackContent { entry: entry(), source: source() }, ErrorKind::Host),
            (Kind::Cancelled, ErrorKind::Cancelled),
            (Kind::ReadTar { offset: 0, entry: entry(), source: number(5) }, ErrorKind::Host),
            (
                Kind::ReadTar { offset: 0, entry: entry(), source: io::ErrorKind::InvalidData.into() },
                ErrorKind::Refused,
            ),
            (Kind::Decompress { format: ocibuild_layer::Format::Gzip, source: number(24) }, ErrorKind::Host),
            // Attributes that the kernel does not take: EINVAL, E2BIG.
            (Kind::UnpackContent { entry: entry(), source: number(22) }, ErrorKind::Refused),
            (Kind::UnpackContent { entry: entry(), source: number(7) }, ErrorKind::Refused),
            (Kind::MalformedIndex { offset: 0, reason: "" }, ErrorKind::Refused),
        ] {
            let error = ocibuild_layer::Error::from(kind);
            let text = error.to_string();
            // As it is found below an error of reading.
            let below = class_below(&io::Error::other(error)).unwrap_or(ErrorKind::Refused);
            assert_eq!(below, class, "{text}");
        }
        let direct = Error::from(ocibuild_layer::Error::from(Kind::ReadTar {
            offset: 0,
            entry: entry(),
            source: number(5),
        }));
        assert_eq!(direct.kind(), ErrorKind::Host);
    }

    #[test]
    fn what_is_blamed_and_advised_follows_from_the_number() {
        let error = |kind, number| Error::new(kind, "x").caused_by(io::Error::from_raw_os_error(number));
        for (kind, number, expected) in [
            (ErrorKind::Refused, 5, ErrorKind::Host),
            (ErrorKind::Refused, 13, ErrorKind::Host),
            (ErrorKind::Usage, 24, ErrorKind::Host),
            (ErrorKind::Usage, 13, ErrorKind::Usage),
            (ErrorKind::Dockerfile, 2, ErrorKind::Dockerfile),
            (ErrorKind::Network, 5, ErrorKind::Network),
        ] {
            assert_eq!(error(kind, number).kind(), expected, "{kind:?} {number}");
        }
        let hints = |error: &Error| error.reports()[0].hint_texts();
        assert!(hints(&error(ErrorKind::Host, 24))[0].contains("ulimit -n"));
        assert!(hints(&error(ErrorKind::Host, 27))[0].contains("ulimit -f"));
        // What hides the number, and has no advice that goes for all.
        let hidden = io::Error::new(io::Error::from_raw_os_error(24).kind(), "open x: too many");
        let hidden = Error::new(ErrorKind::Host, "x").caused_by(hidden);
        assert_eq!((hints(&hidden), hidden.advice()), (Vec::new(), None));
        assert!(error(ErrorKind::Host, 2).advice().is_some());
    }
}
