//! Test helpers of the workspace: used from tests, benches and examples, never inside `src` of a room.

mod host_base;
mod image;
mod registry;
mod skip;

pub use host_base::HostBase;
pub use image::{ImageBlobs, TestImage, index_of, write_layout, write_layout_of};
pub use registry::{Fault, LoggedRequest, TestRegistry};
pub use skip::skip;
