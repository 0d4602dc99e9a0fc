//! What steps can run in here, found out by trying: which kinds of sandbox work and why the others do not, how root file
//! systems are put together, and what a step gets.
//!
//! ```
//! use ocibuild::sandboxes::{Outcome, SandboxReport};
//!
//! let report = SandboxReport::find(Some("/var/lib/app/images".as_ref()));
//! for rung in &report.rungs {
//!     match &rung.outcome {
//!         Outcome::Works { .. } => println!("{}: works", rung.rung),
//!         Outcome::Refused(refusal) => println!("{}: {refusal}", rung.rung),
//!         _ => println!("{}: not in this version", rung.rung),
//!     }
//! }
//! println!("a build takes {:?}", report.taken());
//! ```

mod find;
mod runtimes;
mod snapshots;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ocibuild_executor::{CgroupError, Limit};

use crate::advice::{Hint, sandbox_hints};
use crate::failure::SandboxRefusal;
pub use crate::privilege::Rung;

/// What this place can do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SandboxReport {
    /// The release of the kernel.
    pub kernel: String,
    /// The effective user of this process.
    pub user: u32,
    /// What became of each kind of sandbox, in order.
    pub rungs: Vec<RungReport>,
    /// The kind of sandbox that a build tries; nothing where it has no namespace to try one in.
    pub tried: Option<Rung>,
    /// How root file systems of steps are put together; nothing where no state directory was named.
    pub snapshots: Option<SnapshotSupport>,
    /// What a step gets; nothing where none can run.
    pub step: Option<StepSupport>,
    /// Runtimes that are installed, the one that is preferred first.
    pub runtimes: Vec<InstalledRuntime>,
}

/// What became of one kind of sandbox.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RungReport {
    /// The kind.
    pub rung: Rung,
    /// What became of it.
    pub outcome: Outcome,
}

/// Whether a kind of sandbox can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It works.
    Works {
        /// The users that there are in it. Groups are as many.
        users: Vec<RangeInclusive<u32>>,
    },
    /// This place refuses it.
    Refused(SandboxRefusal),
    /// This version of the library does not have it.
    Unsupported,
}

/// How the root file systems of steps are put together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SnapshotSupport {
    /// By overlays, whose notes are `trusted` attributes.
    Overlay {
        /// Where it was tried.
        path: PathBuf,
    },
    /// By overlays, whose notes are `user` attributes.
    OverlayUser {
        /// Where it was tried.
        path: PathBuf,
    },
    /// By copies.
    Copy {
        /// Where an overlay was tried.
        path: PathBuf,
        /// Why there is none.
        reason: String,
    },
    /// It could not be tried: the state directory cannot be made or written.
    Unusable {
        /// The directory that cannot be written.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What a step gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepSupport {
    /// Why it has no `/proc` of its own but the one of this process, if so.
    pub no_own_proc: Option<SandboxRefusal>,
    /// Whether it has a `/sys` of its own when it has a network of its own; else it is the one of this process.
    pub own_sys: bool,
    /// Whether it has a host name of its own.
    pub own_hostname: bool,
    /// Why it cannot have a network of its own, if so.
    pub no_own_network: Option<SandboxRefusal>,
    /// The program that connects a private network; nothing where it cannot have one.
    pub private_network: Option<PathBuf>,
    /// Why it cannot have a private network, if so.
    pub no_private_network: Option<SandboxRefusal>,
    /// What keeps it from the devices of the host.
    pub devices: DeviceSupport,
    /// What can be limited, or why not.
    pub limits: Vec<(Limit, Result<(), CgroupError>)>,
}

/// What keeps a step from the devices of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceSupport {
    /// A cgroup that opens the few that every container has.
    Cgroup,
    /// What this process itself is kept from them by: there is nothing more.
    Inherited,
    /// Mounts that have no devices.
    Mounts {
        /// Why there is no cgroup, where there might have been one.
        reason: Option<String>,
    },
}

/// A runtime that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstalledRuntime {
    /// The program.
    pub path: PathBuf,
    /// Its version; nothing if it does not tell.
    pub version: Option<String>,
}

impl SandboxReport {
    /// What a build with the state directory `root` would find here. Everything is tried in throwaway processes, which takes
    /// some tens of milliseconds, most of them for the versions of runtimes.
    ///
    /// `root` need not exist and is not made: an overlay is tried in a temporary directory in it or in the nearest directory
    /// above it that exists. Nothing is left behind, unless this process is killed.
    pub fn find(root: Option<&Path>) -> Self {
        find::find(root)
    }

    /// The kind of sandbox that the steps of a build run in; nothing where they cannot run.
    pub fn taken(&self) -> Option<Rung> {
        self.tried.filter(|rung| self.works(*rung))
    }

    fn works(&self, rung: Rung) -> bool {
        let is_works = |found: &RungReport| matches!(found.outcome, Outcome::Works { .. });
        self.rungs.iter().any(|found| found.rung == rung && is_works(found))
    }
}

impl RungReport {
    /// What would make it work.
    pub fn hints(&self) -> Vec<Hint> {
        match &self.outcome {
            Outcome::Refused(refusal) => sandbox_hints(refusal),
            Outcome::Works { .. } | Outcome::Unsupported => Vec::new(),
        }
    }
}
