//! Addresses of what is fetched, as they are written in `ADD`, as build contexts or as named ones: files at URLs and git
//! repositories. They are read here and fetched by others.

mod git;
mod http;
mod percent;

pub use git::{GitAddress, GitAddressError, Transport, check_reference, is_full_commit, without_credentials};
pub use http::{HttpAddress, HttpAddressError};
pub use percent::base64;
