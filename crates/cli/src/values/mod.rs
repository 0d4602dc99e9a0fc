//! Values of flags: from what is typed to what the library takes.

mod annotation;
mod context;
mod csv;
mod image_filter;
mod limits;
mod output;
mod secret;
mod simple;
mod ssh;

pub(crate) use annotation::annotations;
pub(crate) use context::{ImageSpec, NamedSource, named_source};
pub(crate) use image_filter::ImageFilter;
pub(crate) use limits::{capabilities, resources, shm_size, ulimit};
pub(crate) use output::{BuildOutputs, OutputSpec, Target, outputs, push_output};
pub(crate) use secret::secret;
pub(crate) use simple::{
    NetworkChoice, allow, build_arg, env_file, host_entry, key_value, network, platforms, progress,
    reference, size, unused_for, variable, volumes, workdir,
};
pub(crate) use ssh::ssh;

/// Reads a variable of the environment; a parameter, so that tests have one of their own.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;
