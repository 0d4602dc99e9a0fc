//! Drives the program: what it prints, what it ends with, what it leaves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod build;
mod cases;
mod counted;
mod formats;
mod images;
mod output;
mod platforms;
mod program;
mod support;
mod usage;
