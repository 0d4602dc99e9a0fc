use std::path::Path;

use ocibuild_spec::{CancelToken, OwnershipRecord};

use crate::{Attached, Bundle, Error, ErrorKind, Need, Offers, Resources};

/// Where a piece of output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the output of a step piece by piece, as it comes: raw bytes, cut anywhere. While it works, the command
/// waits: nothing is kept here.
pub type Output<'o> = dyn FnMut(Stream, &[u8]) + Send + 'o;

/// What carries out commands on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carrier<'a> {
    /// This process, in namespaces that it makes.
    Namespaces,
    /// This process, in a root directory without namespaces.
    Chroot,
    /// A runtime.
    Runtime(&'a Path),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code. Runtimes also say 128 plus the number of a signal so.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// The exit code as shells count: 128 and the number of the signal for what was killed.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// Whether the command succeeded.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// All that is known of how a command ended.
#[derive(Debug)]
pub struct Ending {
    /// How.
    pub status: ExitStatus,
    /// Limits that were met, if it failed: likely, but not surely, that is why.
    pub exceeded: Vec<Exceeded>,
    /// The owners and devices that the step meant and its file system could not take; `None` if they are what the file system
    /// says.
    pub record: Option<OwnershipRecord>,
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        Self { status, exceeded: Vec::new(), record: None }
    }
}

/// A limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exceeded {
    /// The step's own limit of memory: a process of it was killed.
    Memory {
        /// The limit.
        bytes: u64,
    },
    /// A limit of memory around the step, or the memory of the machine: a process of those that share it with the step, most
    /// likely of the step itself, was killed while it ran.
    MemoryAround {
        /// The smallest limit that can be seen here. Without one it is the memory of the machine, or a limit further up.
        bytes: Option<u64>,
    },
    /// The step's own limit of processes and threads: it could make no more.
    Processes {
        /// The limit.
        limit: u64,
    },
}

/// Carries out bundles, one at a time or many at once.
///
/// # Vocabulary
/// The *bundle* is one RUN, described; the *command* is its process 1; *leftovers* are processes the command
/// started and did not wait for.
///
/// # Lifecycle
/// [`run`](Executor::run) makes namespaces, mounts the root file system and all else in them, executes the
/// command, passes its output on, and returns when the command has ended. By then its leftovers are killed and
/// all mounts are gone. The same holds when it returns an error, when `cancel` is cancelled (within some tens
/// of milliseconds: everything is killed with SIGKILL), and when this process is killed, however it is: the
/// kernel then kills what was started. Nothing outside the bundle's state directory and the writable parts of
/// its root file system is touched, but for a cgroup that is made beside it and removed; after a SIGKILL the next call
/// removes it.
///
/// A command that ends with a code other than 0 is not an error. One that could not be executed is
/// ([`ErrorKind::ProgramNotFound`](crate::ErrorKind::ProgramNotFound)).
///
/// # Concurrency
/// An executor has no state: `run` may be called from any number of threads, each with a bundle of its own
/// state directory. The calling thread must not end before `run` returns; it does not return before.
///
/// # Example
/// See the [crate documentation](crate).
pub trait Executor: Send + Sync {
    /// Runs the command of `bundle` to its end.
    fn run(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error>;

    /// The same, with all that is known of the end. An executor that leaves owners to the kernel and limits nothing need not
    /// have it.
    fn run_recording(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<Ending, Error> {
        self.run(bundle, output, cancel).map(Ending::from)
    }

    /// Whether steps can have limits of these values here, found out before anything is fetched for them.
    fn try_limits(&self, wanted: &Resources) -> Result<(), Error> {
        let _ = wanted;
        Ok(())
    }

    /// Whether commands can be carried out here at all, found out before anything is fetched for them. It is asked when a
    /// step is about to run, and so has to be quick. An executor that cannot tell says yes.
    fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What carries commands out on this host, for whoever is told of it; `None` if that is not on this host, or nobody's
    /// business.
    fn carrier(&self) -> Option<Carrier<'_>> {
        None
    }

    /// What a step can have.
    fn offers(&self) -> Offers {
        Offers::ALL.without(Need::Owners)
    }

    /// The same for a command that reads, that has a terminal if the bundle says so, and that gets signals. An executor that
    /// only runs build steps need not have it.
    fn attach(
        &self,
        bundle: &Bundle,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let _ = (bundle, attached, cancel);
        Err(Error::new(ErrorKind::Unsupported, "this executor gives commands neither input nor a terminal"))
    }
}
