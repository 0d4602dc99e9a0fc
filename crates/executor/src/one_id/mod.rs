//! Steps in a user namespace with one id.
//!
//! Every file there belongs to that id, and every process is that user: `chown` to anybody else, becoming anybody else and
//! making a device are denied by the kernel. So that packages install and users are made as anywhere, the step's calls about
//! owners, identities and devices are answered here, from a record of what the step meant. The record then says whom the
//! files of the layer belong to.
//!
//! None of this guards anything. What a step may do is up to its namespaces, as on every other rung; a step that gets around
//! the answers sees its files as the kernel has them, and gets a layer in which some of them are root's.
//!
//! What is the kernel's own is not pretended: the permission bits of a file are checked as those of its owner, whoever a
//! process takes itself for, and a device that the step makes is an empty file that only looks like one.

mod answers;
mod filter;
mod identity;
mod record;

use std::path::{Path, PathBuf};

use ocibuild_spec::{CancelToken, Owned};
use ocibuild_sys::{Status, id_map};

use self::answers::Answers;
use self::filter::notifying;
use self::identity::Identity;
use crate::namespaces::{Described, process_of, program_of};
use crate::supervise::supervise;
use crate::{Attached, Bundle, Ending, Error, ExitStatus, Host};

/// Whether there is one id here, and no more.
pub(crate) fn is_here() -> bool {
    id_map().is_single()
}

/// Runs the command of a bundle; the record of owners that it leaves is part of how it ends.
pub(crate) fn run(
    bundle: &Bundle,
    attached: Attached<'_, '_>,
    cancel: &CancelToken,
) -> Result<Ending, Error> {
    let (bundle, meant) = as_root(bundle)?;
    let Described { mut sandbox, confines, network: _network } =
        Described::of(&bundle, &Host::detect(), cancel)?;
    let mut rights = u64::MAX;
    if let Some(confinement) = &mut sandbox.process.confinement {
        confinement.seccomp = Some(notifying(&bundle.spec).compile());
        rights = confinement.capabilities;
    }
    // What keeps a step from namespaces of its own is the profile.
    let may_mount = bundle.spec.linux().as_ref().is_none_or(|linux| linux.seccomp().is_none());
    let mut answers = Answers::new(meant, rights, may_mount)?;
    let mut answer = |listener| answers.answer_all(listener);
    let status = supervise(&sandbox, &program_of(&bundle.spec)?, attached, cancel, Some(&mut answer))?;
    Ok(Ending { record: Some(answers.into_record()), ..confines.ending(status.into())? })
}

/// What a bundle means and the kernel cannot have.
struct Meant {
    /// Whom the command runs as.
    identity: Identity,
    /// Owners and devices of the root file system.
    root: Vec<(PathBuf, Owned)>,
    /// Owners of what is mounted.
    mounted: Vec<(PathBuf, Owned)>,
}

/// The bundle for the one user there is, and what else it means.
fn as_root(bundle: &Bundle) -> Result<(Bundle, Meant), Error> {
    let mut bundle = bundle.clone();
    let mut process = process_of(&bundle.spec)?.clone();
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    let identity = Identity::of(user.uid(), user.gid(), groups);
    let mut root = user.clone();
    root.set_uid(0).set_gid(0).set_additional_gids(None);
    process.set_user(root);
    bundle.spec.set_process(Some(process));
    let mut mounted = std::mem::take(&mut bundle.unkept_mounted);
    for file in &mut bundle.memory_files {
        let owned = Owned::by(file.uid, file.gid);
        (file.uid, file.gid) = (0, 0);
        let mounts = bundle.spec.mounts().iter().flatten();
        let mounts = mounts.filter(|mount| mount.source().as_ref() == Some(&file.path));
        let below_root = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
        mounted.extend(mounts.map(|mount| (below_root(mount.destination()), owned.clone())));
    }
    let meant = Meant { identity, root: std::mem::take(&mut bundle.unkept), mounted };
    Ok((bundle, meant))
}

impl From<Status> for ExitStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Exited(code) => Self::Code(code),
            Status::Signaled(signal) => Self::Signal(signal),
        }
    }
}
