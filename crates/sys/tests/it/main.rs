//! Tests of the crate against the running kernel.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cgroup;
mod reaper;
mod root;
mod sandbox;
mod userns;
