//! Root file systems of steps, and the merged view of a stack of layers.
#![forbid(unsafe_code)]

mod changes;
mod tree;

pub use changes::changes;
pub use tree::{Node, NodeId, NodeKind, Origin, ResolveError, Resolved, Tree};
