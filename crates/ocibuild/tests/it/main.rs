//! The library as a whole: real builds of the fixtures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod archives;
mod bases;
mod cache;
mod checks;
mod crash;
mod determinism;
mod errors;
mod interop;
mod outputs;
mod platforms;
mod quickstart;
mod repositories;
mod state;
mod support;
mod urls;
