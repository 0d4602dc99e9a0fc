use ocibuild_sys::{Blocked, ProcSource, SandboxError, network_can_be_made, sandbox_works};

use crate::devices::Barrier;
use crate::{Error, Executor, Host, NamespaceExecutor, Need, NetworkProgram};

/// What a step gets from a [`NamespaceExecutor`] in this place.
#[derive(Debug)]
pub struct Surroundings {
    /// Whether it has a `/proc` of its own; else that of this process is bound.
    pub own_proc: Result<(), Blocked>,
    /// Whether it has a `/sys` of its own, if it has a network of its own; else that of this process is bound.
    pub own_sys: bool,
    /// Whether it has a host name of its own.
    pub own_hostname: bool,
    /// Whether it can have a network of its own.
    pub own_network: Result<(), SandboxError>,
    /// What connects a private network, if it can have one.
    pub private_network: Result<NetworkProgram, Error>,
    /// What keeps it from the devices of the host.
    pub devices: DeviceBarrier,
    /// Whether its memory and its CPU time can be limited.
    pub limits: bool,
}

/// What keeps a step from the devices of the host.
#[derive(Debug)]
pub enum DeviceBarrier {
    /// A cgroup that opens the few that every container has.
    Cgroup,
    /// Mounts that have no devices.
    Mounts {
        /// Why there is no cgroup, where there might have been one.
        reason: Option<ocibuild_sys::Error>,
    },
}

impl Surroundings {
    /// Found out by trying, in throwaway processes. Takes some milliseconds and leaves nothing behind.
    pub fn detect() -> Self {
        let host = Host::detect();
        let own_proc = if host.own_proc { Ok(()) } else { sandbox_works(ProcSource::New) };
        let devices = match Barrier::best(&host) {
            Barrier::Mounts { reason } => DeviceBarrier::Mounts { reason },
            Barrier::Cgroup(_) | Barrier::None => DeviceBarrier::Cgroup,
        };
        Self {
            own_proc,
            own_sys: host.own_sys,
            own_hostname: host.own_hostname,
            own_network: network_can_be_made(),
            private_network: NetworkProgram::discover().and_then(|program| program.probe().map(|()| program)),
            devices,
            limits: NamespaceExecutor::new().offers().includes(Need::Resources),
        }
    }
}
