//! Git repositories: the `git` program in a sealed environment, and the files of one commit.

mod checkout;
mod program;
mod source;

pub(crate) use checkout::{GitFiles, GitJob, Resolved};
pub use program::GitProgram;
