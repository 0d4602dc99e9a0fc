//! Carries out one RUN step: an OCI bundle, then a runtime or namespaces of our own.
//!
//! A [`Step`] says what the Dockerfile wants; [`bundle`] makes an OCI runtime bundle of it, which is a list of
//! mounts, limits and permissions and nothing but data; an [`Executor`] carries that out. There are two:
//! [`RuntimeExecutor`] drives runc, crun or another program with their command line, [`NamespaceExecutor`] does
//! the same within this process, a few milliseconds faster, and needs no program.
//!
//! ```no_run
//! use ocibuild_executor::{Executor, Host, NamespaceExecutor, Rootfs, Step, Stream, bundle};
//! use ocibuild_spec::CancelToken;
//!
//! let mut step = Step::new(Rootfs::at("/tmp/rootfs"), "/tmp/step");
//! step.args = ["/bin/sh", "-c", "id"].map(str::to_owned).to_vec();
//! let bundle = bundle(&step, &Host::detect());
//! let mut print = |_: Stream, text: &[u8]| print!("{}", String::from_utf8_lossy(text));
//! let status = NamespaceExecutor::new().run(&bundle, &mut print, &CancelToken::new())?;
//! assert!(status.success());
//! # Ok::<(), ocibuild_executor::Error>(())
//! ```
//!
//! # Limitations
//!
//! Arguments, environment and paths of a step are UTF-8, because the bundle is JSON. crun adds a link `/dev/core` that BuildKit's steps do not have. A runtime that makes cgroups may leave empty ones behind when this process is killed.
#![forbid(unsafe_code)]

mod attached;
mod bundle;
mod calls;
mod cgroups;
mod chrooted;
mod devices;
mod emulation;
mod error;
mod etc;
mod executor;
mod host;
mod kept;
mod known;
mod ladder;
mod mount;
mod namespaces;
mod offers;
mod one_id;
mod permissions;
mod private_network;
mod runtime;
mod step;
mod supervise;
mod surroundings;

pub use attached::{Attached, Control};
pub use bundle::{Bundle, StateFile, bundle};
pub use emulation::Emulation;
pub use error::{Error, ErrorKind};
pub use etc::{home_of, hosts, only_local_stub, resolv_conf};
pub use executor::{Carrier, Ending, Exceeded, Executor, ExitStatus, Output, Stream};
pub use host::{Cgroups, Host};
pub use kept::{open_bundle, write_bundle};
pub use ladder::{NamespaceExecutor, OwnSandbox};
pub use oci_spec::runtime::{PosixRlimitType, Spec};
pub use ocibuild_spec::Mount;
pub use ocibuild_sys::{Capabilities, CgroupError, Obstacle, Private, UnknownCapability, WindowSize};
pub use offers::{Need, Offers};
pub use private_network::{NetworkProgram, PrivateNetwork};
pub use runtime::RuntimeExecutor;
pub use step::{MemoryFile, Network, Outside, Resources, Rlimit, Rootfs, Step, User, View, memory_directory};
pub use surroundings::{DeviceBarrier, Limit, Surroundings};
