//! Builds OCI images from Dockerfiles: no daemon, no root where the kernel allows it, the same image everywhere.
//!
//! A [`Build`] is a parsed Dockerfile, a [`BuildContext`] and what the caller wants. Planning it resolves every word and
//! every base image into a [`plan::Plan`], which is plain data; running the plan finds or makes one layer per step and
//! puts them together. What it works with is given as [`Backends`]: a [`StateDirectory`], a source of base images
//! ([`BaseImages`], or any other), and an [`executor::Executor`] for `RUN`.
//!
//! ```no_run
//! use ocibuild::dockerfile::Dockerfile;
//! use ocibuild::executor::NamespaceExecutor;
//! use ocibuild::registry::Registry;
//! use ocibuild::{Backends, BaseImages, Build, CancelToken, Event, LocalContext, StateDirectory};
//!
//! let context = LocalContext::open(".")?; // applies .dockerignore
//! let dockerfile = Dockerfile::parse(context.read("Dockerfile")?)?; // all problems of the file at once
//! let state = StateDirectory::open("/var/lib/app/images")?;
//! let images = BaseImages::new(&state, Registry::anonymous()); // or offline
//! let executor = NamespaceExecutor::new();
//! let backends = Backends::new(&state, &images, &executor);
//! let plan = Build::new(dockerfile, context)
//!     .target("release")
//!     .build_arg("VERSION", "1.4.0")
//!     .now(std::time::SystemTime::now()) // the library reads no clock
//!     .tag("app:1.4.0".parse()?)
//!     .plan(&backends)?; // plain data: print it, compare it, test it
//! let image = plan.run(&backends, &CancelToken::new(), |event: Event| println!("{event}"))?;
//! println!("{}", image.descriptor.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the library does not do
//! It prints nothing, reads no clock and no environment, installs no signal handler, and never executes the host program
//! again. Many builds may run in one process, each in its own thread; each call takes a [`CancelToken`] and gives
//! [`Event`]s.
//!
//! # Ordinary users
//! Without root, files of other owners need a user namespace. Work with them is done in a process that shares the memory of
//! this one and is in such a namespace ([`StateDirectory`]); nothing is asked of the program, which may have any number of
//! threads.
//!
//! # Limitations
//! Linux only. Images have no attestations.
#![forbid(unsafe_code)]

mod accounts;
mod advice;
mod annotation;
mod base_images;
mod build;
mod cache;
mod checks;
mod context;
mod copy;
mod drive;
pub mod engine;
mod error;
mod event;
mod exports;
mod failed;
pub mod failure;
mod finished;
mod image;
mod index;
mod keys;
mod layer_writer;
mod layers;
mod listing;
mod output;
mod privilege;
mod report;
mod request;
mod run;
pub mod sandboxes;
mod schedule;
mod secret;
mod single_flight;
mod ssh;
mod stage;
pub mod state;
mod state_directory;
mod threads;
mod transfer;
mod unpacked;

pub use exports::{dockerfile, executor, files, layer, plan, registry, snapshot, spec, store};
pub use ocibuild_spec::CancelToken;

pub use advice::{Hint, Setting};
pub use annotation::{Annotation, AnnotationLevel};
pub use base_images::{BaseImages, NotHere};
pub use build::Build;
pub use checks::CheckReport;
pub use context::{
    BuildContext, ContextSource, Fetcher, GitAddress, GitAddressError, GitProgram, HttpAddress,
    HttpAddressError, LocalContext, RemoteSource, Remotes, read_dockerfile, read_dockerfile_of,
};
pub use error::{Code, Error, ErrorKind, Failure, PlanFaults};
pub use event::Event;
pub use image::{Built, BuiltImage, BuiltIndex, OutputEpoch};
pub use index::{EntrySelector, IndexChange, IndexDraft, IndexEntry, JoinOptions, JoinOutcome};
pub use listing::{ContextEntry, ContextEntryKind, ContextVerdict, DecidingLine};
pub use privilege::{BuildSandbox, PrivilegeLimit};
pub use report::{Place, Report};
pub use request::{Backends, Destination, Output, OutputKind, PlannedBuild, SshAgent};
pub use schedule::FailedStep;
pub use secret::Secret;
pub use state_directory::{SnapshotDriver, StateDirectory};
pub use transfer::{Origin, PullOptions, Pulled, Pushed, Transfer, Watcher};

/// Checks for the fuzz targets alone.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    pub use crate::cache::fuzzing::check_cache_document;
    pub use crate::copy::fuzzing::check_placement;
}

/// The examples of the documents, compiled with the tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/embedding.md")]
    struct Embedding;
}
