//! Tests of both executors with real namespaces and, where they are installed, real runtimes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod capabilities;
mod chrooted;
mod devices;
mod filter;
mod lifecycle;
mod private_network;
mod rootless;
mod sandbox;
mod streams;
mod world;
