//! Test helpers of the workspace: used from tests, benches and examples, never inside `src` of a room.

mod certificates;
mod daemon;
mod docker_registry;
mod git;
mod hang_guard;
mod host_base;
mod image;
mod nodes;
mod registry;
mod shared;
mod skip;
mod terminal;
mod tls_front;
mod tools;
mod trials;
mod web;

/// The system calls, for tests of rooms that do not show them.
pub use ocibuild_sys as sys;

pub use certificates::{CertificateFiles, Certificates};
pub use daemon::Daemon;
pub use docker_registry::DockerRegistry;
pub use git::GitRepository;
pub use hang_guard::HangGuard;
pub use host_base::HostBase;
pub use image::{ImageBlobs, TestImage, index_of, write_layout, write_layout_of};
pub use nodes::{LoopDisk, StandIns};
pub use registry::{Fault, LoggedRequest, TestRegistry};
pub use shared::Shared;
pub use skip::skip;
pub use terminal::TestTerminal;
pub use tls_front::TlsFront;
pub use tools::{has_tool, output_of, podman};
pub use trials::{Trial, TrialOptions, run_trials};
pub use web::{Reply, WebServer};
