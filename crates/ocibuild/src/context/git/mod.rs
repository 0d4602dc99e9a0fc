//! Git repositories: their addresses, the `git` program in a sealed environment, and the files of one commit.

mod address;
mod checkout;
mod program;
mod source;

pub use address::{GitAddress, GitAddressError};
pub(crate) use address::{Transport, without_credentials};
pub(crate) use checkout::{GitFiles, GitJob, Resolved};
pub use program::GitProgram;
