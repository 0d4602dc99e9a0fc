//! Tests of what holds the workspace together.

mod crate_graph;
