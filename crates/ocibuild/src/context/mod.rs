//! Where the files of a build come from: a directory, an archive, a URL, a git repository.

mod archive;
mod files;
mod git;
mod http;
mod local;
mod named_file;
mod percent;
mod remotes;

pub(crate) use files::new_place;
pub use files::{BuildContext, Fetcher, RemoteSource};
pub use git::{GitAddress, GitAddressError, GitProgram};
pub use http::{HttpAddress, HttpAddressError};
pub use local::{ContextSource, LocalContext, read_dockerfile, read_dockerfile_of};
pub use remotes::Remotes;

pub(crate) use git::{GitFiles, GitJob, Resolved, without_credentials};
pub(crate) use http::{Download, OneFile, download, is_unchanged};
pub(crate) use percent::base64;
