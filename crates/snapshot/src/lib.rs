//! Root file systems of steps, and the merged view of a stack of layers.
//!
//! A [`Snapshotter`] unpacks nothing itself: it hands out the directories that layers are unpacked into, stacks them
//! under something writable ([`ActiveSnapshot`]), and tells what a step changed there. [`Overlay`] lets the kernel do
//! the stacking, [`CopySnapshots`] copies and needs no privilege and no particular file system; [`auto`] tries. Both
//! give the same changeset for the same step. A [`Tree`] is a stack without any file: from the entries of layers to
//! what is where, and ([`changes`]) back.
#![forbid(unsafe_code)]

mod changes;
mod copy;
mod directory;
mod driver;
mod error;
mod fill;
mod known;
mod mount_points;
mod nodes;
mod overlay;
mod place;
mod snapshotter;
mod step;
mod target;
mod tree;
mod walk;

pub use changes::{Changes, changes};
pub use copy::CopySnapshots;
pub use error::{Error, ErrorKind};
pub use overlay::{Overlay, auto};
pub use snapshotter::{ActiveSnapshot, MountPointKind, Snapshotter, Usage, Whiteouts};
pub use target::{Hold, LayerNotes, LayerTarget};
pub use tree::{Node, NodeId, NodeKind, Origin, ResolveError, Resolved, Tree};
