use std::fmt;
use std::time::Duration;

use ocibuild_dockerfile::Finding;
use ocibuild_registry::BlobPush;
use ocibuild_spec::{Descriptor, DiffId};

use crate::failure::KeptStep;
use crate::privilege::BuildSandbox;

/// What happens during a build; one closure receives all of them, on the thread that called
/// [`PlannedBuild::run`](crate::request::PlannedBuild::run).
///
/// Steps of different stages and platforms run at the same time, so their events interleave; those of one step come in
/// order. `step` is the step's number among all of the plan, from 0; the steps of a second platform are counted on from
/// those of the first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The plan is known and is about to be carried out.
    Started {
        /// How many steps it has, cached ones included.
        steps: usize,
    },
    /// A base image was resolved.
    BaseResolved {
        /// Its name.
        name: String,
        /// Its manifest.
        descriptor: Descriptor,
    },
    /// The first `RUN` that has to be executed is about to be: what it and all others run in. It does not come of a build
    /// whose steps are cached, nor of an executor that does not tell what it is
    /// ([`Executor::carrier`](ocibuild_executor::Executor::carrier)).
    Sandbox {
        /// The sandbox.
        sandbox: BuildSandbox,
    },
    /// A step is looked at.
    StepStarted {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
    },
    /// The step's result was found; nothing ran.
    StepCached {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
        /// The layer.
        diff_id: DiffId,
    },
    /// Bytes that the step's command wrote.
    Output {
        /// Number of the step.
        step: usize,
        /// Whether they went to standard error.
        stderr: bool,
        /// The bytes, in pieces of any size.
        bytes: Vec<u8>,
    },
    /// The step is done.
    StepDone {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
        /// Its layer.
        diff_id: DiffId,
        /// Size of the layer's blob.
        size: u64,
        /// How long it took.
        duration: Duration,
    },
    /// The step failed; the build's error says why.
    StepFailed {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
    },
    /// The files of a step that failed are kept, because the build was asked to
    /// ([`Build::keep_failed`](crate::build::Build::keep_failed)).
    StepKept {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
        /// Where, and without what.
        kept: KeptStep,
    },
    /// A step that failed is about to be entered
    /// ([`PlannedBuild::run_attended`](crate::request::PlannedBuild::run_attended)): everything else of the build has ended,
    /// and the next event comes after that.
    StepEntered {
        /// Number of the step.
        step: usize,
        /// `[stage i/n] TEXT`
        title: String,
    },
    /// Something that is not an error but should be known.
    Warning {
        /// The text.
        message: String,
    },
    /// What the build checks found, once, after everything else.
    Findings {
        /// The findings, by line; never empty.
        findings: Vec<Finding>,
    },
    /// The image exists.
    ImageBuilt {
        /// Its manifest.
        descriptor: Descriptor,
    },
    /// An output is about to be written.
    Exporting {
        /// Kind and place.
        what: String,
    },
    /// A registry has a config or a layer of the image.
    BlobPushed {
        /// The blob.
        blob: Descriptor,
        /// How it came by it.
        how: BlobPush,
    },
    /// An output was written.
    Exported {
        /// Kind and place.
        what: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { steps } => write!(f, "{steps} steps"),
            Self::BaseResolved { name, descriptor } => write!(f, "base {name} is {}", descriptor.digest),
            Self::Sandbox { sandbox } => write!(f, "sandbox: {sandbox}"),
            Self::StepStarted { title, .. } => write!(f, "{title}"),
            Self::StepCached { title, .. } => write!(f, "CACHED {title}"),
            Self::Output { bytes, .. } => write!(f, "{}", String::from_utf8_lossy(bytes).trim_end()),
            Self::StepDone { title, duration, .. } => {
                write!(f, "DONE {title} {:.1}s", duration.as_secs_f64())
            }
            Self::StepFailed { title, .. } => write!(f, "FAILED {title}"),
            Self::StepKept { title, kept, .. } => write!(f, "KEPT {title} {}", kept.bundle.display()),
            Self::StepEntered { title, .. } => write!(f, "ENTERED {title}"),
            Self::Findings { findings } => {
                write!(f, "{} found by build checks", findings.len())?;
                findings.iter().try_for_each(|finding| write!(f, "; {finding}"))
            }
            Self::Warning { message } => write!(f, "warning: {message}"),
            Self::ImageBuilt { descriptor } => write!(f, "image {}", descriptor.digest),
            Self::Exporting { what } => write!(f, "exporting to {what}"),
            Self::BlobPushed { blob, how } => write!(f, "{} {how}", blob.digest),
            Self::Exported { what } => write!(f, "exported {what}"),
        }
    }
}
