//! Which of our own sandboxes a step gets.

use ocibuild_spec::{CancelToken, OwnershipRecord};
use ocibuild_sys::{Blocked, ProcSource};

use crate::executor::{Carrier, Executor, ExitStatus, Output};
use crate::namespaces::{Described, OFFERS, program_of};
use crate::supervise::supervise;
use crate::{Attached, Bundle, Error, Host, Offers, one_id};

/// Carries out bundles in namespaces that this process makes itself.
///
/// Needs root, or to be called in a user namespace
/// (`ocibuild_sys::UserNamespace`). The one cgroup that is made, for root, says which devices a step can open; no
/// resources are limited.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamespaceExecutor {
    _private: (),
}

impl NamespaceExecutor {
    /// An executor; whether it works here shows when it runs something.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a sandbox in a throwaway process, as a step gets one.
    pub fn try_sandbox(&self) -> Result<(), Blocked> {
        ocibuild_sys::sandbox_works(ProcSource::New).or_else(|blocked| {
            // What keeps it from a new one is what there is to tell.
            ocibuild_sys::sandbox_works(ProcSource::Existing).map_err(|_| blocked)
        })
    }
}

impl Executor for NamespaceExecutor {
    fn probe(&self) -> Result<(), Error> {
        self.try_sandbox().map_err(Error::blocked)
    }

    fn carrier(&self) -> Option<Carrier<'_>> {
        Some(Carrier::Namespaces)
    }

    fn offers(&self) -> Offers {
        OFFERS
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
        if one_id::is_here() {
            return one_id::run(bundle, attached, cancel).map(|(status, _)| status);
        }
        let Described { sandbox, barrier: _barrier } = Described::of(bundle, &Host::detect())?;
        Ok(supervise(&sandbox, &program_of(&bundle.spec)?, attached, cancel, None)?.into())
    }

    fn run_recording(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<(ExitStatus, Option<OwnershipRecord>), Error> {
        if one_id::is_here() {
            let (status, record) = one_id::run(bundle, Attached::to(output), cancel)?;
            return Ok((status, Some(record)));
        }
        self.run(bundle, output, cancel).map(|status| (status, None))
    }
}
