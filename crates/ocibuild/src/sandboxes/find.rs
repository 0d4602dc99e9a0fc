//! Each kind of sandbox, tried for itself.

use std::ops::RangeInclusive;
use std::path::Path;

use ocibuild_executor::{DeviceBarrier, NamespaceExecutor, Obstacle, Surroundings};
use ocibuild_sys::{
    Blocked, IdsError, SandboxError, UserNamespace, UserNamespaceError, may_administer, notification_works,
};

use super::{DeviceSupport, Outcome, Rung, RungReport, SandboxReport, StepSupport, runtimes, snapshots};
use crate::failure::SandboxRefusal;
use crate::privilege::{Privilege, has_one_id, users_here};

pub(super) fn find(root: Option<&Path>) -> SandboxReport {
    let privilege = Privilege::find();
    let report = |rung: Rung| RungReport { rung, outcome: outcome(rung) };
    let mut found = SandboxReport {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        user: rustix::process::geteuid().as_raw(),
        rungs: Rung::ALL.into_iter().map(report).collect(),
        tried: privilege.rung(),
        snapshots: root.map(|root| snapshots::snapshots(root, &privilege)),
        step: None,
        runtimes: runtimes::runtimes(),
    };
    if found.taken().is_none() && matches!(privilege, Privilege::Own) {
        // What root takes where it has no namespaces.
        found.tried = found.works(Rung::Chroot).then_some(Rung::Chroot).or(found.tried);
    }
    if found.taken() == Some(Rung::Chroot) {
        found.step = Some(step_in_chroot());
    } else if found.taken().is_some() {
        // What could fail here is the entering of a namespace that was entered a moment ago.
        found.step = privilege.run(|| Ok(step(Surroundings::detect()))).ok();
    }
    found
}

fn outcome(rung: Rung) -> Outcome {
    let tried = match rung {
        Rung::Root => root(),
        Rung::UserNamespace => all_ids(),
        Rung::OneId => one_id(),
        Rung::Chroot => chroot(),
        Rung::Unprivileged => return Outcome::Unsupported,
    };
    match tried {
        Ok(users) => Outcome::Works { users },
        Err(refusal) => Outcome::Refused(refusal),
    }
}

type Tried = Result<Vec<RangeInclusive<u32>>, SandboxRefusal>;

fn root() -> Tried {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 {
        return Err(SandboxRefusal::NotRoot { user });
    }
    if has_one_id() {
        return Err(SandboxRefusal::OneId);
    }
    sandbox().map_err(|refusal| match refusal {
        // What else root might need is told of the other kinds.
        SandboxRefusal::Kernel { operation, errno, .. } if !may_administer() => {
            SandboxRefusal::Kernel { operation, errno, obstacles: vec![Obstacle::NoCapability] }
        }
        other => other,
    })
}

fn all_ids() -> Tried {
    // A namespace below one with a single id has no more.
    if has_one_id() {
        return Err(SandboxRefusal::OneId);
    }
    UserNamespace::with_all_ids()??.run(sandbox)?
}

fn one_id() -> Tried {
    let pretending = || {
        let users = sandbox()?;
        notification_works()?;
        Ok(users)
    };
    // Where there is one already, nothing else is made.
    if has_one_id() && may_administer() {
        return pretending();
    }
    UserNamespace::with_one_id()?.run(pretending)?
}

fn chroot() -> Tried {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 {
        return Err(SandboxRefusal::NotRoot { user });
    }
    NamespaceExecutor::new().try_chroot()?;
    Ok(users_here())
}

/// A sandbox as the executor makes it, where this is called.
fn sandbox() -> Tried {
    NamespaceExecutor::new().try_sandbox()?;
    Ok(users_here())
}

fn step(found: Surroundings) -> StepSupport {
    let (private_network, no_private_network) = match found.private_network {
        Ok(program) => (Some(program.path().to_owned()), None),
        Err(error) => (None, Some(no_private_network(&error))),
    };
    StepSupport {
        no_own_proc: found.own_proc.err().map(SandboxRefusal::from),
        own_sys: found.own_sys,
        own_hostname: found.own_hostname,
        no_own_network: found.own_network.err().map(SandboxRefusal::from),
        private_network,
        no_private_network,
        devices: match found.devices {
            DeviceBarrier::Mounts { reason } => {
                DeviceSupport::Mounts { reason: reason.map(|error| error.to_string()) }
            }
            DeviceBarrier::Cgroup => DeviceSupport::Cgroup,
        },
        limits: found.limits,
    }
}

fn no_private_network(error: &ocibuild_executor::Error) -> SandboxRefusal {
    if error.kind() == ocibuild_executor::ErrorKind::NetworkProgramMissing {
        return SandboxRefusal::ProgramMissing { name: "pasta or slirp4netns".to_owned() };
    }
    match error.network_program() {
        Some((path, message)) => SandboxRefusal::Program { path: path.to_owned(), message },
        None => SandboxRefusal::Kernel {
            operation: error.to_string(),
            errno: error.raw_os_error().unwrap_or_default(),
            obstacles: error.obstacles().to_vec(),
        },
    }
}

/// What is known without trying: `/proc` and the host name are answered for, and nothing else is made for it.
fn step_in_chroot() -> StepSupport {
    StepSupport {
        no_own_proc: None,
        own_sys: false,
        own_hostname: true,
        no_own_network: Some(SandboxRefusal::NoNamespaces),
        private_network: None,
        no_private_network: Some(SandboxRefusal::NoNamespaces),
        devices: DeviceSupport::Inherited,
        limits: Surroundings::limits(),
    }
}

impl From<Blocked> for SandboxRefusal {
    fn from(blocked: Blocked) -> Self {
        Self::Kernel {
            operation: blocked.error.what().to_owned(),
            errno: blocked.error.raw_os_error(),
            obstacles: blocked.obstacles,
        }
    }
}

impl From<SandboxError> for SandboxRefusal {
    fn from(error: SandboxError) -> Self {
        Self::from(Blocked { error, obstacles: Vec::new() })
    }
}

impl From<UserNamespaceError> for SandboxRefusal {
    fn from(error: UserNamespaceError) -> Self {
        Self::Kernel {
            operation: error.operation().to_owned(),
            errno: error.raw_os_error(),
            obstacles: error.obstacle().into_iter().collect(),
        }
    }
}

impl From<IdsError> for SandboxRefusal {
    fn from(error: IdsError) -> Self {
        match error {
            IdsError::NoRange { path } => Self::NoRange { path: path.into() },
            IdsError::ProgramMissing { name } => Self::ProgramMissing { name: name.to_owned() },
            IdsError::Program { path, message } => Self::Program { path, message },
            IdsError::Kernel(error) => error.into(),
        }
    }
}
