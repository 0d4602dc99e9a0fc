//! What the processes of a cgroup may use, as the files of its controllers say it.

use super::hierarchy::Version;

/// What the processes of a cgroup may use together; whatever is not set is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Bytes of memory. Who wants more is killed.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together, which cannot be less than those of memory; `u64::MAX` is without limit. Where it is not
    /// set, and the kernel counts swap, it is twice the memory.
    pub memory_and_swap: Option<u64>,
    /// Number of processes and threads. Making more fails.
    pub processes: Option<u64>,
    /// Weight against others, 2 to 262144; without it, 1024.
    pub cpu_shares: Option<u64>,
    /// Length of a period, in microseconds; without it, 100,000.
    pub cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds.
    pub cpu_quota: Option<u64>,
    /// CPUs, as `0-3,5`.
    pub cpus: Option<String>,
    /// Memory nodes, likewise.
    pub memory_nodes: Option<String>,
}

/// What limits one sort of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// Memory and swap.
    Memory,
    /// Processes and threads.
    Pids,
    /// Time on CPUs.
    Cpu,
    /// Which CPUs and which memory.
    Cpuset,
}

impl Controller {
    /// All that there are here.
    pub(super) const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Cpuset];

    /// Its name for the kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
        }
    }
}

/// A file of a cgroup, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether it is no matter if the kernel has no such file.
    pub(super) optional: bool,
}

const DEFAULT_PERIOD: u64 = 100_000;

impl CgroupLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The controllers that it takes.
    pub(super) fn controllers(&self) -> impl Iterator<Item = Controller> + '_ {
        Controller::ALL.into_iter().filter(|controller| match controller {
            Controller::Memory => self.memory.is_some() || self.memory_and_swap.is_some(),
            Controller::Pids => self.processes.is_some(),
            Controller::Cpu => {
                self.cpu_shares.is_some() || self.cpu_period.is_some() || self.cpu_quota.is_some()
            }
            Controller::Cpuset => self.cpus.is_some() || self.memory_nodes.is_some(),
        })
    }

    /// What is written for a controller, in this order.
    pub(super) fn settings(&self, controller: Controller, version: Version) -> Vec<Setting> {
        let set = |file, value: String| Setting { file, value, optional: false };
        let number = |file, value: &Option<u64>| value.map(|value| set(file, value.to_string()));
        let list = |file, value: &Option<String>| value.clone().map(|value| set(file, value));
        match (controller, version) {
            (Controller::Memory, Version::One) => {
                let both = self.both().map(|(both, optional)| {
                    let value = if both == u64::MAX { "-1".to_owned() } else { both.to_string() };
                    Setting { file: "memory.memsw.limit_in_bytes", value, optional }
                });
                number("memory.limit_in_bytes", &self.memory).into_iter().chain(both).collect()
            }
            (Controller::Memory, Version::Two) => {
                let swap = self.both().map(|(both, optional)| {
                    let swap = both.saturating_sub(self.memory.unwrap_or(0));
                    let value = if both == u64::MAX { "max".to_owned() } else { swap.to_string() };
                    Setting { file: "memory.swap.max", value, optional }
                });
                number("memory.max", &self.memory).into_iter().chain(swap).collect()
            }
            (Controller::Pids, _) => number("pids.max", &self.processes).into_iter().collect(),
            (Controller::Cpu, Version::One) => [
                number("cpu.shares", &self.cpu_shares),
                number("cpu.cfs_period_us", &self.cpu_period),
                number("cpu.cfs_quota_us", &self.cpu_quota),
            ]
            .into_iter()
            .flatten()
            .collect(),
            (Controller::Cpu, Version::Two) => {
                let weight = self.cpu_shares.map(|shares| set("cpu.weight", weight(shares).to_string()));
                let max = (self.cpu_quota.is_some() || self.cpu_period.is_some()).then(|| {
                    let quota = self.cpu_quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                    set("cpu.max", format!("{quota} {}", self.cpu_period.unwrap_or(DEFAULT_PERIOD)))
                });
                weight.into_iter().chain(max).collect()
            }
            (Controller::Cpuset, _) => {
                let lists = [list("cpuset.cpus", &self.cpus), list("cpuset.mems", &self.memory_nodes)];
                lists.into_iter().flatten().collect()
            }
        }
    }

    /// Memory and swap together, and whether nobody asked for it.
    fn both(&self) -> Option<(u64, bool)> {
        match (self.memory_and_swap, self.memory) {
            (Some(both), _) => Some((both, false)),
            (None, Some(memory)) => Some((memory.saturating_mul(2), true)),
            (None, None) => None,
        }
    }
}

/// A weight of version 2, 1 to 10000, for one of version 1: as runtimes have it (<https://github.com/containers/crun>,
/// crun(1), "cgroup v2").
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &CgroupLimits, version: Version) -> String {
        let settings = limits.controllers().flat_map(|controller| limits.settings(controller, version));
        let line = |Setting { file, value, optional }: Setting| {
            format!("{file}={value}{}", if optional { "?" } else { "" })
        };
        settings.map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn limits_are_what_both_versions_take() {
        let none = CgroupLimits::default;
        for (limits, one, two) in [
            (none(), "", ""),
            (
                CgroupLimits { memory: Some(1000), ..none() },
                "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=2000?",
                "memory.max=1000 memory.swap.max=1000?",
            ),
            (
                CgroupLimits { memory: Some(1000), memory_and_swap: Some(1500), ..none() },
                "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=1500",
                "memory.max=1000 memory.swap.max=500",
            ),
            (
                CgroupLimits { memory: Some(1000), memory_and_swap: Some(u64::MAX), ..none() },
                "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=-1",
                "memory.max=1000 memory.swap.max=max",
            ),
            (CgroupLimits { processes: Some(7), ..none() }, "pids.max=7", "pids.max=7"),
            (
                CgroupLimits { cpu_shares: Some(512), cpu_quota: Some(5000), ..none() },
                "cpu.shares=512 cpu.cfs_quota_us=5000",
                "cpu.weight=20 cpu.max=5000 100000",
            ),
            (
                CgroupLimits { cpu_period: Some(20_000), ..none() },
                "cpu.cfs_period_us=20000",
                "cpu.max=max 20000",
            ),
            (
                CgroupLimits { cpus: Some("0-1".to_owned()), memory_nodes: Some("0".to_owned()), ..none() },
                "cpuset.cpus=0-1 cpuset.mems=0",
                "cpuset.cpus=0-1 cpuset.mems=0",
            ),
        ] {
            assert_eq!(written(&limits, Version::One), one);
            assert_eq!(written(&limits, Version::Two), two);
            assert_eq!(limits.is_empty(), one.is_empty());
        }
        assert_eq!([2, 1024, 262_144, u64::MAX].map(weight), [1, 39, 10_000, 10_000]);
    }
}
