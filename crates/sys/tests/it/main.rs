//! Tests of the crate against the running kernel.

mod root;
