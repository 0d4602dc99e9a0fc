//! Drives the program: what it prints, what it ends with, what it leaves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod archives;
mod at_step;
mod bad_input;
mod build;
#[path = "../cases/files.rs"]
mod case_files;
mod check;
mod context;
mod contexts;
mod counted;
mod deploy;
mod devices;
mod docker;
mod doctor;
mod editors;
mod formats;
mod hostile_files;
mod images;
mod in_containers;
mod index;
mod interop;
mod load_into;
mod login;
mod mistakes;
mod offline;
mod on_error;
mod output;
mod platforms;
mod private_network;
mod program;
mod registry;
mod registry_faults;
mod rules;
mod run;
mod steps;
mod streams;
mod support;
mod surroundings;
mod trust;
mod usage;
mod users;
