//! The library as a whole: real builds of the fixtures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod archives;
mod bases;
mod cache;
mod checks;
mod contexts;
mod crash;
mod damage;
mod deep;
mod determinism;
mod embedding;
mod environment;
mod equal_files;
mod errors;
mod failed_steps;
mod interop;
mod mounts;
mod offline;
mod outputs;
mod parallel;
mod platforms;
mod prefetch;
mod quickstart;
mod races;
mod repositories;
mod rooms;
mod sandbox;
mod sandboxes;
mod secrets;
mod ssh_repositories;
mod state;
mod steps;
mod support;
mod urls;
