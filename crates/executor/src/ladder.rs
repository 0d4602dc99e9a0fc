//! Which of our own sandboxes a step gets.

use ocibuild_spec::CancelToken;
use ocibuild_sys::{Blocked, Obstacle, ProcSource};

use crate::cgroups::try_limits;
use crate::executor::{Carrier, Ending, Executor, ExitStatus, Output};
use crate::namespaces::{Described, program_of};
use crate::private_network::offers;
use crate::supervise::supervise;
use crate::{Attached, Bundle, Error, Host, Offers, Resources, chrooted, one_id};

/// Carries out bundles in namespaces that this process makes itself, and where it is root and there are none, in a root directory
/// without them.
///
/// Needs root, or to be called in a user namespace
/// (`ocibuild_sys::UserNamespace`). A cgroup is made for root, which says which devices a step can open, and for steps with limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamespaceExecutor {
    sandbox: OwnSandbox,
}

/// Which of our own sandboxes steps get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnSandbox {
    /// Namespaces, and where root has none another root.
    #[default]
    Best,
    /// Namespaces.
    Namespaces,
    /// Another root without namespaces, which only root can have. Root file systems have to be copies.
    Chroot,
}

impl NamespaceExecutor {
    /// An executor; whether it works here shows when it runs something.
    pub fn new() -> Self {
        Self::default()
    }

    /// An executor that gives steps this sandbox and no other.
    pub fn with(sandbox: OwnSandbox) -> Self {
        Self { sandbox }
    }

    fn is_chroot(self) -> bool {
        match self.sandbox {
            OwnSandbox::Best => chrooted::is_here(),
            OwnSandbox::Namespaces => false,
            OwnSandbox::Chroot => true,
        }
    }

    /// Makes namespaces in a throwaway process, as a step gets them.
    pub fn try_sandbox(&self) -> Result<(), Blocked> {
        ocibuild_sys::sandbox_works(ProcSource::New).or_else(|blocked| {
            // What keeps it from a new one is what there is to tell.
            ocibuild_sys::sandbox_works(ProcSource::Existing).map_err(|_| blocked)
        })
    }

    /// Makes a sandbox without namespaces in a throwaway process, as a step gets one where there are none.
    pub fn try_chroot(&self) -> Result<(), Blocked> {
        ocibuild_sys::chroot_works()
    }
}

impl NamespaceExecutor {
    fn end(self, bundle: &Bundle, attached: Attached<'_, '_>, cancel: &CancelToken) -> Result<Ending, Error> {
        if self.is_chroot() {
            return chrooted::run(bundle, attached, cancel);
        }
        if one_id::is_here() {
            return one_id::run(bundle, attached, cancel);
        }
        let Described { sandbox, confines, network: _network } =
            Described::of(bundle, &Host::detect(), cancel)?;
        let status = supervise(&sandbox, &program_of(&bundle.spec)?, attached, cancel, None)?.into();
        confines.ending(status)
    }
}

impl Executor for NamespaceExecutor {
    fn probe(&self) -> Result<(), Error> {
        if self.is_chroot() {
            return self.try_chroot().map_err(Error::blocked);
        }
        self.try_sandbox().map_err(|mut blocked| {
            // What suffices by itself is a way of its own.
            if self.sandbox == OwnSandbox::Best
                && rustix::process::geteuid().is_root()
                && let Err(chroot) = self.try_chroot()
                && chroot.obstacles.len() == 1
            {
                blocked
                    .obstacles
                    .extend(chroot.obstacles.iter().filter(|other| **other != Obstacle::SystemCallFilter));
            }
            Error::blocked(blocked)
        })
    }

    fn carrier(&self) -> Option<Carrier<'_>> {
        Some(if self.is_chroot() { Carrier::Chroot } else { Carrier::Namespaces })
    }

    fn offers(&self) -> Offers {
        if self.is_chroot() { chrooted::OFFERS } else { offers(Offers::ALL) }
    }

    fn run(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        self.attach(bundle, Attached::to(output), cancel)
    }

    fn attach(
        &self,
        bundle: &Bundle,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        self.end(bundle, attached, cancel).map(|ending| ending.status)
    }

    fn run_recording(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<Ending, Error> {
        self.end(bundle, Attached::to(output), cancel)
    }

    fn try_limits(&self, wanted: &Resources) -> Result<(), Error> {
        try_limits(wanted)
    }
}
