//! The cgroup of a step: what keeps it from devices, and what it may use.

use std::borrow::Cow;
use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, Spec};
use ocibuild_sys::{Cgroup, CgroupLimits, CgroupRequest, Operation};

use crate::bundle::cgroup_parent;
use crate::devices::{self, Barrier};
use crate::error::Repr;
use crate::mount::path;
use crate::{Bundle, Ending, Error, Exceeded, ExitStatus, Host, Resources};

/// What a step is in, held until it has ended.
#[derive(Debug)]
pub(crate) struct Confines {
    pub(crate) barrier: Barrier,
    cgroup: Option<Cgroup>,
    limits: CgroupLimits,
    /// Processes that had been killed for memory before the step, around it.
    killed: Option<u64>,
}

impl Confines {
    /// Those of a bundle: its limits, and the best barrier before devices that there is here.
    pub(crate) fn of(bundle: &Bundle, host: &Host) -> Result<Self, Error> {
        if devices::has_all(&bundle.spec) {
            return Self::without_barrier(bundle);
        }
        Self::with_barrier(bundle, host)
    }

    /// The same, also if the bundle asks for all devices.
    pub(crate) fn with_barrier(bundle: &Bundle, host: &Host) -> Result<Self, Error> {
        let limits = limits(&bundle.spec);
        if !host.privileged {
            return Self::limited(Barrier::Mounts { reason: None }, bundle, limits);
        }
        let devices = devices::allowed();
        let parent = parent(&bundle.spec);
        match Cgroup::new(&CgroupRequest { parent, devices: Some(&devices), limits: limits.clone() }) {
            Ok(cgroup) => Ok(Self::with(Barrier::Cgroup, Some(cgroup), limits)),
            Err(reason) => Self::limited(Barrier::Mounts { reason: Some(reason) }, bundle, limits),
        }
    }

    /// The limits alone.
    pub(crate) fn without_barrier(bundle: &Bundle) -> Result<Self, Error> {
        Self::limited(Barrier::None, bundle, limits(&bundle.spec))
    }

    fn limited(barrier: Barrier, bundle: &Bundle, limits: CgroupLimits) -> Result<Self, Error> {
        let parent = parent(&bundle.spec);
        if limits.is_empty() && parent.is_none() {
            return Ok(Self::with(barrier, None, limits));
        }
        let request = CgroupRequest { parent, devices: None, limits };
        let cgroup = Cgroup::new(&request).map_err(Repr::Limits)?;
        Ok(Self::with(barrier, Some(cgroup), request.limits))
    }

    fn with(barrier: Barrier, cgroup: Option<Cgroup>, limits: CgroupLimits) -> Self {
        let killed = if limits.memory.is_none() { ocibuild_sys::killed_for_memory() } else { None };
        Self { barrier, cgroup, limits, killed }
    }

    /// Joins what there is.
    pub(crate) fn operations(&self) -> Result<Vec<Operation>, Error> {
        let processes = self.cgroup.iter().flat_map(Cgroup::processes);
        processes.map(|processes| Ok(Operation::JoinCgroup(path(&processes)?))).collect()
    }

    /// How the step ended.
    pub(crate) fn ending(&self, status: ExitStatus) -> Result<Ending, Error> {
        Ok(Ending { status, exceeded: self.exceeded(status)?, record: None })
    }

    /// Whether a process of the step, or around it, was killed for memory.
    pub(crate) fn lacked_memory(&self) -> Result<bool, Error> {
        let exceeded = self.exceeded(ExitStatus::Code(1))?;
        Ok(exceeded.iter().any(|met| matches!(met, Exceeded::Memory { .. } | Exceeded::MemoryAround { .. })))
    }

    /// The limits that the step met, if it failed.
    fn exceeded(&self, status: ExitStatus) -> Result<Vec<Exceeded>, Error> {
        if status.success() {
            return Ok(Vec::new());
        }
        let met = self.cgroup.as_ref().map(Cgroup::limits_met).transpose();
        let met = met.map_err(|error| Repr::Limits(error.into()))?.unwrap_or_default();
        let memory = match self.limits.memory {
            Some(bytes) if met.memory => Some(Exceeded::Memory { bytes }),
            Some(_) => None,
            None => self
                .killed
                .filter(|before| ocibuild_sys::killed_for_memory() > Some(*before))
                .map(|_| Exceeded::MemoryAround { bytes: ocibuild_sys::memory_limit() }),
        };
        let processes = self.limits.processes.filter(|_| met.processes);
        let processes = processes.map(|limit| Exceeded::Processes { limit });
        Ok(memory.into_iter().chain(processes).collect())
    }
}

/// Whether the step asks for limits that only cgroups give.
pub(crate) fn wants_cgroups(spec: &Spec) -> bool {
    !limits(spec).is_empty() || parent(spec).is_some()
}

/// The bundle for a runtime, which finds itself in a cgroup that has the limits.
pub(crate) fn without_limits(bundle: &Bundle) -> Cow<'_, Bundle> {
    if !wants_cgroups(&bundle.spec) {
        return Cow::Borrowed(bundle);
    }
    let mut bundle = bundle.clone();
    if let Some(mut linux) = bundle.spec.linux().clone() {
        linux.set_cgroups_path(None);
        if let Some(mut resources) = linux.resources().clone() {
            resources.set_memory(None).set_cpu(None).set_pids(None);
            linux.set_resources(Some(resources));
        }
        bundle.spec.set_linux(Some(linux));
    }
    Cow::Owned(bundle)
}

/// The cgroup in which the one of the step is to be.
fn parent(spec: &Spec) -> Option<&Path> {
    spec.linux().as_ref()?.cgroups_path().as_deref()?.parent()
}

fn limits(spec: &Spec) -> CgroupLimits {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.map(limits_of).unwrap_or_default()
}

/// Limits as a bundle has them, where -1 is without limit.
fn limits_of(resources: &LinuxResources) -> CgroupLimits {
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    let limit = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    CgroupLimits {
        memory: limit(memory.and_then(LinuxMemory::limit)),
        memory_and_swap: memory
            .and_then(LinuxMemory::swap)
            .map(|both| u64::try_from(both).unwrap_or(u64::MAX)),
        processes: limit(resources.pids().as_ref().map(LinuxPids::limit)),
        cpu_shares: cpu.and_then(LinuxCpu::shares),
        cpu_period: cpu.and_then(LinuxCpu::period),
        cpu_quota: limit(cpu.and_then(LinuxCpu::quota)),
        cpus: cpu.and_then(|cpu| cpu.cpus().clone()),
        memory_nodes: cpu.and_then(|cpu| cpu.mems().clone()),
    }
}

/// Makes a cgroup with limits, and removes it.
pub(crate) fn try_limits(wanted: &Resources) -> Result<(), Error> {
    let limits = crate::bundle::limits(wanted).as_ref().map(limits_of).unwrap_or_default();
    let parent = wanted.cgroup_parent.as_deref().map(cgroup_parent);
    if limits.is_empty() && parent.is_none() {
        return Ok(());
    }
    let cgroup = Cgroup::new(&CgroupRequest { parent: parent.as_deref(), devices: None, limits });
    Ok(cgroup.map(drop).map_err(Repr::Limits)?)
}
