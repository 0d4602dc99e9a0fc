//! The library as a whole: real builds of the fixtures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bases;
mod cache;
mod crash;
mod determinism;
mod errors;
mod interop;
mod outputs;
mod platforms;
mod quickstart;
mod state;
mod support;
