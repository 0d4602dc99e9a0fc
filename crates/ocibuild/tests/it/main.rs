//! The library as a whole: real builds of the fixtures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cache;
mod quickstart;
mod support;
