//! What can be done about a failure: pure functions from what failed to hints. Nothing here reads a file or decides what
//! a build does, and nothing elsewhere looks into the words of a hint.

mod hint;
mod plan;

pub use hint::{Hint, Setting};
pub(crate) use plan::{causes as plan_causes, hints as plan_hints};
