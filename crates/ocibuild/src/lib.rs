//! Builds OCI images from Dockerfiles.
#![forbid(unsafe_code)]

mod accounts;
mod build;
mod cache;
mod context;
mod copy;
mod error;
mod event;
mod image;
mod keys;
mod layers;
mod output;
pub mod plan;
mod run;
mod schedule;
mod stage;
pub mod state;
mod unpacked;

pub use ocibuild_dockerfile as dockerfile;
pub use ocibuild_executor as executor;
pub use ocibuild_layer as layer;
pub use ocibuild_registry as registry;
pub use ocibuild_snapshot as snapshot;
pub use ocibuild_spec as spec;
pub use ocibuild_spec::CancelToken;
pub use ocibuild_store as store;
pub use ocibuild_sys as sys;

pub use build::{Backends, Build, PlannedBuild, Secret};
pub use cache::Cache;
pub use context::{ContextSource, LocalContext, read_dockerfile};
pub use error::{Error, ErrorKind, Report};
pub use event::Event;
pub use image::BuiltImage;
pub use output::{Destination, Output, OutputKind};
