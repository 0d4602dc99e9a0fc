//! Where the files of a build come from: a directory, an archive, a URL, a git repository.

mod archive;
mod files;
mod git;
mod http;
mod local;
mod named_file;
mod remotes;

pub(crate) use files::new_place;
pub use files::{BuildContext, Fetcher, RemoteSource};
pub use git::GitProgram;
pub use local::{ContextSource, LocalContext, read_dockerfile, read_dockerfile_of};
pub use ocibuild_plan::address::{GitAddress, GitAddressError, HttpAddress, HttpAddressError};
pub use remotes::Remotes;

pub(crate) use git::{GitFiles, GitJob, Resolved};
pub(crate) use http::{Download, OneFile, download, is_unchanged};
