//! Test helpers of the workspace: used from tests, benches and examples, never inside `src` of a room.

mod daemon;
mod git;
mod host_base;
mod image;
mod registry;
mod skip;
mod web;

pub use daemon::Daemon;
pub use git::GitRepository;
pub use host_base::HostBase;
pub use image::{ImageBlobs, TestImage, index_of, write_layout, write_layout_of};
pub use registry::{Fault, LoggedRequest, TestRegistry};
pub use skip::skip;
pub use web::{Reply, WebServer};
