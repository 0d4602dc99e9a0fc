//! Builds OCI images from Dockerfiles.
#![forbid(unsafe_code)]

pub mod plan;
