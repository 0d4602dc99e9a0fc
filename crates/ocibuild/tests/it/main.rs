//! The library as a whole: real builds of the fixtures.

mod cache;
mod quickstart;
mod support;
