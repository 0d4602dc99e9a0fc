//! Git repositories: their addresses, the `git` program in a sealed environment, and the files of one commit.

mod address;
mod checkout;
mod program;
mod source;

pub(crate) use address::without_credentials;
pub use address::{GitAddress, GitAddressError};
pub(crate) use checkout::{GitFiles, GitJob, Resolved};
pub use program::GitProgram;
