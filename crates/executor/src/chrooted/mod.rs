//! Steps where root has neither namespaces nor mounts, as in a container that is started without flags.
//!
//! What there is instead: another root (`chroot`), in which the files of the step are and nothing else; Landlock, which keeps the
//! step from files, processes and sockets outside of it, even should it hold one or come out of its root; what others mount is
//! moved into place ([`place`]); `/proc` and `/sys` are answered for ([`system`]), since they cannot be mounted; and whoever is
//! left when the command ends is adopted and killed by its keeper.
//!
//! The border is the root together with Landlock. No answer guards anything: they hand over what the step may have, opened as the
//! user who asks, and never a directory from outside.
//!
//! What is not there: a network of its own, a name for the command's terminal, `chroot` for the step itself, set-user-ID
//! programs for users other than root (`no_new_privs`, without which neither Landlock nor the filter can be had), and 32-bit programs.

mod answers;
mod filter;
mod place;
mod plain;
mod request;
mod system;

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use ocibuild_spec::CancelToken;
use ocibuild_sys::{Operation, ProcSource, Sandbox, capability};

use self::answers::Answers;
use self::filter::notifying;
use self::place::Placed;
use crate::cgroups::Confines;
use crate::devices::{self, Barrier};
use crate::error::Repr;
use crate::known::PerUserNamespace;
use crate::mount::{kind, path};
use crate::namespaces::{command, directory_operation, process_of, program_of};
use crate::supervise::supervise;
use crate::{Attached, Bundle, Ending, Error, Host, Need, Offers};

/// What there is here of what steps may ask for.
pub(crate) const OFFERS: Offers = Offers::ALL
    .without(Need::OwnNetwork)
    .without(Need::Owners)
    .without(Need::SharedMounts)
    .without(Need::SizedMounts);

/// Whether this is all that can be had here.
pub(crate) fn is_here() -> bool {
    static KNOWN: PerUserNamespace<bool> = PerUserNamespace::new();
    KNOWN.get_or_find(|| {
        let have_namespaces = [ProcSource::New, ProcSource::Existing]
            .into_iter()
            .any(|proc| ocibuild_sys::sandbox_works(proc).is_ok());
        !have_namespaces && ocibuild_sys::chroot_works().is_ok()
    })
}

/// Runs the command of a bundle.
pub(crate) fn run(
    bundle: &Bundle,
    attached: Attached<'_, '_>,
    cancel: &CancelToken,
) -> Result<Ending, Error> {
    OFFERS.check(needs(&bundle.spec))?;
    bundle.write_files()?;
    let mut placed = Placed::new(bundle)?;
    let ending = run_in(&placed, bundle, attached, cancel);
    let taken_back = placed.take_back();
    let ending = ending?;
    taken_back.map(|()| ending)
}

fn run_in(
    placed: &Placed,
    bundle: &Bundle,
    attached: Attached<'_, '_>,
    cancel: &CancelToken,
) -> Result<Ending, Error> {
    let (here, host) = (Host::detect(), bundle.spec.hostname().clone().unwrap_or_default());
    let mut sandbox = sandbox(bundle, placed, &here)?;
    let confines = Confines::with_barrier(bundle, &here)?;
    if !matches!(confines.barrier, Barrier::Cgroup) {
        devices::check_denied(&bundle.state)?;
    }
    sandbox.operations.splice(0..0, confines.operations()?);
    let answers = Answers::new(placed, &host, mounts(&bundle.spec));
    let mut answers = answers.map_err(|errno| Repr::State(errno.into()))?;
    let mut answer = |listener| answers.answer_all(listener);
    let status = supervise(&sandbox, &program_of(&bundle.spec)?, attached, cancel, Some(&mut answer))?;
    confines.ending(status.into())
}

fn needs(spec: &Spec) -> Option<Need> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let has_own = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    has_own.then_some(Need::OwnNetwork)
}

fn sandbox(bundle: &Bundle, placed: &Placed, here: &Host) -> Result<Sandbox, Error> {
    let process = process_of(&bundle.spec)?;
    let mut command = command(&bundle.spec, process, here)?;
    if let Some(confinement) = &mut command.confinement {
        confinement.seccomp =
            Some(notifying(&bundle.spec, !ocibuild_sys::landlock_keeps_signals()).compile());
        confinement.enclosed = true;
        confinement.no_new_privileges = true;
        // With it the step could leave its root.
        let chroot = capability("CAP_SYS_CHROOT").map_or(0, |number| 1 << number);
        confinement.capabilities &= !chroot;
    }
    let root = path(&placed.root)?;
    let operations = vec![Operation::EnterRoot(root), directory_operation(process)?, Operation::Chroot];
    Ok(Sandbox { namespaces: None, operations, process: command, keeper: true })
}

/// What the step is told that is mounted, as `/proc/mounts` has it (fstab(5)).
fn mounts(spec: &Spec) -> String {
    let line = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        let access = if options.iter().any(|option| option == "ro") { "ro" } else { "rw" };
        let kind = match kind(mount) {
            "bind" | "" => "none",
            kind => kind,
        };
        let target = mount.destination().display().to_string().replace(' ', "\\040");
        format!("{kind} {target} {kind} {access},relatime 0 0\n")
    };
    let root = "overlay / overlay rw,relatime 0 0\n".to_owned();
    std::iter::once(root).chain(spec.mounts().iter().flatten().map(line)).collect()
}
