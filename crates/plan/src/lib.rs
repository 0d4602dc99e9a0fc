//! From a parsed Dockerfile to a plan: pure data, no input and no output but the configs of base images.
//!
//! [`plan`] expands every word, finds out which stages the target needs and what each of their steps reads, and
//! follows what happens to the image's config. Nothing is carried out; what comes out can be printed
//! ([`render_text`], [`to_json`]) and compared.
//!
//! # Limitations
//! `RUN --device` is refused.
#![forbid(unsafe_code)]

pub mod address;
mod bases;
mod checks;
mod chmod;
mod config;
mod env;
mod epoch;
mod error;
mod expose;
mod fault;
mod frontend;
mod golang;
mod graph;
mod model;
mod mounts;
mod options;
mod outline;
mod paths;
mod planner;
mod print;
mod remote;
mod resolver;
mod run;
mod secrets;
mod settings;
mod stage;
#[cfg(test)]
mod tests;
mod transfer;

use ocibuild_dockerfile::{Dockerfile, Location};

pub use checks::latest;
pub use chmod::{Chmod, ChmodError, SymbolicMode};
pub use config::SIGNALS;
pub use epoch::{EpochSource, epoch_source};
pub use error::{PlanError, PlanErrorKind, PlanErrors};
pub use fault::{
    Argument, ChecksumFault, Entitlement, EpochStageFault, FieldFault, MountFault, PlanFault, PortFault,
    TriggerOrigin, UnsetArg,
};
pub use golang::{parse_bool, printable, quote};
pub use model::{
    CacheSharing, CopyStep, FileSource, ImageOrigin, MountKind, Plan, PlannedHistory, PlannedImage,
    PlannedStage, PlannedStep, RunStep, StageBase, StepKind, StepMount, StepNetwork, WorkdirStep,
};
pub use mounts::KEYS as MOUNT_KEYS;
pub use options::{NamedContext, PlanOptions};
pub use outline::{Outline, OutlineArg, OutlineCache, OutlineMount, Target, Targets};
pub use print::{all_to_json, render_text, to_json};
pub use remote::SourceKind;
pub use resolver::{BaseRequest, BaseResolver, ResolveError};

/// The first `RUN` of the stages that a build needs, as far as the file itself tells; `None` if it has errors.
pub fn first_run(dockerfile: &Dockerfile, options: &PlanOptions) -> Option<Location> {
    planner::first_run(dockerfile, options)
}

/// Plans the build of `dockerfile`.
///
/// Errors come in the order in which BuildKit finds them, so the first is the one it reports. `resolver` is asked for
/// images once the file itself is known to hang together.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    resolver: &mut dyn BaseResolver,
) -> Result<Plan, PlanErrors> {
    planner::plan(dockerfile, options, resolver).map_err(|errors| planner::located(errors, dockerfile))
}
