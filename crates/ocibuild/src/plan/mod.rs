//! From a parsed Dockerfile to a plan: pure data, no input and no output but the configs of base images.

mod error;
mod model;
mod options;
mod resolver;

use ocibuild_dockerfile::Dockerfile;

pub use error::{PlanError, PlanErrorKind, PlanErrors};
pub use model::{
    CacheSharing, CopyStep, FileSource, ImageOrigin, MountKind, Plan, PlannedHistory, PlannedImage, PlannedStage,
    PlannedStep, RunStep, StageBase, StepKind, StepMount, StepNetwork, WorkdirStep,
};
pub use options::{NamedContext, PlanOptions};
pub use resolver::{BaseRequest, BaseResolver, ResolveError};

/// Plans the build of `dockerfile`.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    resolver: &mut dyn BaseResolver,
) -> Result<Plan, PlanErrors> {
    let _ = (dockerfile, options, resolver);
    Err(PlanErrors::from(PlanError::new(PlanErrorKind::Unsupported, "nothing is planned yet")))
}
