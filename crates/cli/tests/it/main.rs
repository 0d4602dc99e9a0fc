//! The program, driven as a user drives it.

mod bad_input;
mod counted;
mod support;
