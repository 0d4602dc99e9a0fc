//! From a parsed Dockerfile to a plan: pure data, no input and no output but the configs of base images.

mod model;

pub use model::{
    CacheSharing, CopyStep, FileSource, ImageOrigin, MountKind, Plan, PlannedHistory, PlannedImage, PlannedStage,
    PlannedStep, RunStep, StageBase, StepKind, StepMount, StepNetwork, WorkdirStep,
};
