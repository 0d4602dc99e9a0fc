//! What can fail, as data: variants with fields and sources, their classes and codes. What can be done about them is in
//! the room `advice`.

mod cache;
mod changed;
mod check;
mod code;
mod context;
mod copy;
mod git;
mod host;
mod index;
mod kept;
mod kind;
mod layer;
mod output;
mod run;
mod sandbox;
mod state;
mod step;
mod transfer;

use std::error::Error as StdError;
use std::fmt;

use ocibuild_dockerfile::ParseErrors;
use ocibuild_plan::PlanFault;
use ocibuild_registry::{HttpError, HttpErrorKind};

pub use cache::CacheFailure;
pub use changed::{ChangedPath, PathChange};
pub use check::CheckFailure;
pub use code::Code;
pub use context::ContextFailure;
pub use copy::{
    CopyFailure, CopyProblem, DestinationProblem, EntryProblem, IgnoredBy, MissingSource, Mistake,
    MistakeKind, Siblings, SourcePlace, UnsetVariable, WrongDestination,
};
pub use git::GitFailure;
pub use host::{FileAction, HostFailure, HostOperation};
pub use index::{DocumentProblem, IndexFailure};
pub use kept::{KeptStep, LeftOut};
pub use kind::ErrorKind;
pub use layer::LayerFailure;
pub use output::OutputFailure;
pub use run::RunFailure;
pub use sandbox::SandboxRefusal;
pub use state::{NotAnImage, StateFailure};
pub use step::{SearchedPlace, StepFact, StepFailure, Symptom, UnsetReason, VariableValue};
pub use transfer::TransferFailure;

/// What failed, as it was reported where it did: to be matched on, without reading English.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The Dockerfile cannot be read.
    Dockerfile(ParseErrors),
    /// There is no plan for the Dockerfile.
    Plan(PlanFaults),
    /// The state directory, or an archive of images.
    Store(ocibuild_store::Error),
    /// The root file system of a step.
    Snapshot(ocibuild_snapshot::Error),
    /// A layer that is read or written.
    Layer(ocibuild_layer::Error),
    /// The execution of a `RUN`, not its command.
    Executor(ocibuild_executor::Error),
    /// A call of the system.
    System(ocibuild_sys::Error),
    /// A request for a file or a repository.
    Http(HttpError),
    /// Findings of build checks that are errors.
    Check(CheckFailure),
    /// What the cache was to have.
    Cache(CacheFailure),
    /// A layer of a base image or of a step.
    ImageLayer(LayerFailure),
    /// The command of a `RUN`.
    Step(StepFailure),
    /// A `COPY`, an `ADD` or a `WORKDIR`.
    Copy(CopyFailure),
    /// A `RUN`, but not its command.
    Run(RunFailure),
    /// A build context, a Dockerfile, an ignore file or a download.
    Context(ContextFailure),
    /// A repository.
    Git(GitFailure),
    /// An output of a build.
    Output(OutputFailure),
    /// Images of a state directory.
    State(StateFailure),
    /// An index that is put together.
    Index(IndexFailure),
    /// An image on its way.
    Transfer(TransferFailure),
    /// Something that this host could not do.
    Host(HostFailure),
}

/// Everything that stands in the way of a plan, the first being what BuildKit reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFaults(pub(crate) Vec<PlanFault>);

impl PlanFaults {
    /// The faults; never empty.
    pub fn as_slice(&self) -> &[PlanFault] {
        &self.0
    }
}

impl fmt::Display for PlanFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl StdError for PlanFaults {}

impl Failure {
    /// The error of the crate.
    pub fn as_error(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Dockerfile(error) => error,
            Self::Plan(faults) => faults,
            Self::Store(error) => error,
            Self::Snapshot(error) => error,
            Self::Layer(error) => error,
            Self::Executor(error) => error,
            Self::System(error) => error,
            Self::Http(error) => error,
            Self::Check(failure) => failure,
            Self::Cache(failure) => failure,
            Self::ImageLayer(failure) => failure,
            Self::Step(failure) => failure,
            Self::Copy(failure) => failure,
            Self::Run(failure) => failure,
            Self::Context(failure) => failure,
            Self::Git(failure) => failure,
            Self::Output(failure) => failure,
            Self::State(failure) => failure,
            Self::Index(failure) => failure,
            Self::Transfer(failure) => failure,
            Self::Host(failure) => failure,
        }
    }

    /// The class, of what this library finds out itself.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Step(failure) => ErrorKind::StepFailed(failure.code),
            Self::Copy(failure) => failure.problem.kind(),
            Self::Run(failure) => failure.kind(),
            Self::Context(failure) => failure.kind(),
            Self::Git(failure) => failure.kind(),
            Self::Output(failure) => failure.kind(),
            Self::State(failure) => failure.kind(),
            Self::Index(failure) => failure.kind(),
            Self::Transfer(failure) => failure.kind(),
            Self::ImageLayer(failure) => failure.kind(),
            Self::Cache(failure) => failure.kind(),
            Self::Http(error) => kind_of_http(error.kind()),
            Self::Dockerfile(_) | Self::Plan(_) | Self::Check(_) => ErrorKind::Dockerfile,
            Self::Host(_)
            | Self::Store(_)
            | Self::Snapshot(_)
            | Self::Layer(_)
            | Self::Executor(_)
            | Self::System(_) => ErrorKind::Host,
        }
    }

    /// The stable name, of what this library finds out itself.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Step(_) => Some(Code::StepFailed),
            Self::Copy(failure) => Some(failure.problem.code()),
            Self::Run(failure) => Some(failure.code()),
            Self::Context(failure) => Some(failure.code()),
            Self::Git(failure) => Some(failure.code()),
            Self::Output(failure) => Some(failure.code()),
            Self::State(failure) => Some(failure.code()),
            Self::Index(failure) => Some(failure.code()),
            Self::Transfer(failure) => Some(failure.code()),
            Self::ImageLayer(failure) => Some(failure.code()),
            Self::Cache(failure) => Some(failure.code()),
            Self::Check(_) => Some(Code::BuildChecks),
            Self::Http(error) => Some(code_of_http(error.kind())),
            Self::Host(_) => Some(Code::FileUnusable),
            _ => None,
        }
    }

    /// The text to blame in the instruction.
    pub(crate) fn word(&self) -> Option<String> {
        match self {
            Self::Copy(failure) => failure.word(),
            Self::Run(failure) => failure.word(),
            _ => None,
        }
    }
}

fn kind_of_http(kind: HttpErrorKind) -> ErrorKind {
    match kind {
        HttpErrorKind::Refused | HttpErrorKind::LinkLocal => ErrorKind::Refused,
        HttpErrorKind::Configuration => ErrorKind::Usage,
        HttpErrorKind::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Network,
    }
}

fn code_of_http(kind: HttpErrorKind) -> Code {
    match kind {
        HttpErrorKind::LinkLocal => Code::LinkLocalAddress,
        HttpErrorKind::Offline => Code::Offline,
        HttpErrorKind::Configuration => Code::RegistryConfiguration,
        _ => Code::DownloadFailed,
    }
}

impl From<CopyProblem> for Failure {
    fn from(problem: CopyProblem) -> Self {
        Self::Copy(problem.into())
    }
}

macro_rules! failures {
    ($($variant:ident: $error:ty,)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

failures! {
    Store: ocibuild_store::Error,
    Snapshot: ocibuild_snapshot::Error,
    Layer: ocibuild_layer::Error,
    Executor: ocibuild_executor::Error,
    System: ocibuild_sys::Error,
    Http: HttpError,
    Check: CheckFailure,
    Cache: CacheFailure,
    ImageLayer: LayerFailure,
    Step: StepFailure,
    Copy: CopyFailure,
    Run: RunFailure,
    Context: ContextFailure,
    Git: GitFailure,
    Output: OutputFailure,
    State: StateFailure,
    Index: IndexFailure,
    Transfer: TransferFailure,
    Host: HostFailure,
}
