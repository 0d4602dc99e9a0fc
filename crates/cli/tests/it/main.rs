//! Drives the program: what it prints, what it ends with, what it leaves.

mod build;
mod formats;
mod images;
mod output;
mod program;
mod usage;
