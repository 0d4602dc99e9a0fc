use ocibuild_sys::{
    Blocked, Cgroup, CgroupError, CgroupLimits, CgroupRequest, ProcSource, SandboxError, network_can_be_made,
    sandbox_works,
};

use crate::{Error, Host, NetworkProgram, devices};

/// What a step gets from a [`NamespaceExecutor`](crate::NamespaceExecutor) in this place.
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
    /// What can be limited, or why not.
    pub limits: Vec<(Limit, Result<(), CgroupError>)>,
}

/// What keeps a step from the devices of the host.
#[derive(Debug)]
pub enum DeviceBarrier {
    /// A cgroup that opens the few that every container has.
    Cgroup,
    /// Mounts that have no devices.
    Mounts {
        /// Why there is no cgroup, where there might have been one.
        reason: Option<CgroupError>,
    },
}

/// What a step can have a limit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Memory and swap.
    Memory,
    /// Processes and threads.
    Processes,
    /// CPU time.
    CpuTime,
    /// Which CPUs and which memory nodes.
    Cpus,
}

impl Limit {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Processes, Self::CpuTime, Self::Cpus];

    /// Makes a cgroup that limits it, to what limits nothing.
    fn try_here(self) -> Result<(), CgroupError> {
        const MUCH: u64 = 1 << 50;
        let none = CgroupLimits::default();
        let limits = match self {
            Self::Memory => CgroupLimits { memory: Some(MUCH), memory_and_swap: Some(u64::MAX), ..none },
            Self::Processes => CgroupLimits { processes: Some(1 << 20), ..none },
            Self::CpuTime => CgroupLimits { cpu_shares: Some(1024), ..none },
            Self::Cpus => CgroupLimits { cpus: allowed_cpus(), ..none },
        };
        Cgroup::new(&CgroupRequest { limits, ..CgroupRequest::default() }).map(drop)
    }
}

/// The CPUs of this process.
fn allowed_cpus() -> Option<String> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_owned())
}

impl Surroundings {
    /// Found out by trying, in throwaway processes. Takes some milliseconds and leaves nothing behind.
    pub fn detect() -> Self {
        let host = Host::detect();
        let own_proc = if host.own_proc { Ok(()) } else { sandbox_works(ProcSource::New) };
        let allowed = devices::allowed();
        let request = CgroupRequest { devices: Some(&allowed), ..CgroupRequest::default() };
        let devices = match host.privileged.then(|| Cgroup::new(&request)) {
            Some(Ok(_)) => DeviceBarrier::Cgroup,
            Some(Err(reason)) => DeviceBarrier::Mounts { reason: Some(reason) },
            None => DeviceBarrier::Mounts { reason: None },
        };
        Self {
            own_proc,
            own_sys: host.own_sys,
            own_hostname: host.own_hostname,
            own_network: network_can_be_made(),
            private_network: NetworkProgram::discover().and_then(|program| program.probe().map(|()| program)),
            devices,
            limits: Self::limits(),
        }
    }

    /// What can be limited in any sandbox of this process, or why not; found out by trying.
    pub fn limits() -> Vec<(Limit, Result<(), CgroupError>)> {
        Limit::ALL.map(|limit| (limit, limit.try_here())).into()
    }
}
