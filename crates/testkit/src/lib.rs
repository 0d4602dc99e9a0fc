//! Test helpers of the workspace: used from tests, benches and examples, never inside `src` of a room.

mod host_base;
mod skip;

pub use host_base::HostBase;
pub use skip::skip;
