use ocibuild_sys::{IdMap, IdRange, ProcSource};

use crate::known::PerUserNamespace;

/// What a bundle needs to know of the place it is carried out in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Host {
    /// Whether root here is root: not inside a user namespace.
    pub privileged: bool,
    /// Whether a step can have a `/proc` of its own. In a container that hides parts of its `/proc`, root of a user namespace
    /// cannot mount another, which would show them.
    pub own_proc: bool,
    /// Whether a step with a network of its own can have a `/sys` of its own, which is hidden in the same way.
    pub own_sys: bool,
    /// Whether a step can have a host name of its own.
    pub own_hostname: bool,
    /// Ids there are.
    pub ids: IdMap,
    /// Capabilities there are, one bit each.
    pub capabilities: u64,
    /// What is at `/sys/fs/cgroup`.
    pub cgroups: Cgroups,
    /// Whether file systems in memory can be kept from being swapped out (Linux 6.4, as root).
    pub tmpfs_without_swap: bool,
}

/// The cgroups of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// The one hierarchy of cgroup v2.
    Unified,
    /// The many of v1, with or without one of v2 beside them.
    Many,
    /// None.
    Absent,
}

/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2: u64 = 0x6367_7270;

/// What takes a process each to find out.
#[derive(Debug, Clone, Copy)]
struct Tried {
    own_proc: bool,
    own_sys: bool,
    own_hostname: bool,
}

impl Tried {
    const EVERYTHING: Self = Self { own_proc: true, own_sys: true, own_hostname: true };

    fn now() -> Self {
        Self {
            own_proc: ocibuild_sys::sandbox_works(ProcSource::New).is_ok(),
            own_sys: ocibuild_sys::sysfs_can_be_mounted(),
            own_hostname: ocibuild_sys::host_name_can_be_set(),
        }
    }
}

impl Host {
    /// This process' own.
    pub fn detect() -> Self {
        static TRIED: PerUserNamespace<Tried> = PerUserNamespace::new();
        let privileged = ocibuild_sys::in_initial_user_namespace();
        let Tried { own_proc, own_sys, own_hostname } =
            if privileged { Tried::EVERYTHING } else { TRIED.get_or_find(Tried::now) };
        Self {
            privileged,
            own_proc,
            own_sys,
            own_hostname,
            tmpfs_without_swap: privileged && kernel() >= (6, 4),
            ids: ocibuild_sys::id_map(),
            capabilities: bounding_capabilities(),
            cgroups: match rustix::fs::statfs("/sys/fs/cgroup") {
                Ok(stat) if stat.f_type as u64 == CGROUP2 => Cgroups::Unified,
                Ok(_) => Cgroups::Many,
                Err(_) => Cgroups::Absent,
            },
        }
    }

    /// Root of a machine with nothing missing.
    pub fn root() -> Self {
        let all = vec![IdRange { inside: 0, outside: 0, count: u32::MAX }];
        Self {
            privileged: true,
            own_proc: true,
            own_sys: true,
            own_hostname: true,
            ids: IdMap { users: all.clone(), groups: all, setgroups: true },
            capabilities: u64::MAX,
            cgroups: Cgroups::Unified,
            tmpfs_without_swap: true,
        }
    }
}

fn kernel() -> (u32, u32) {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_str().unwrap_or_default().split(['.', '-']);
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (next(), next())
}

fn bounding_capabilities() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}
