//! Whether a sandbox can be had here, found out by making one; and what in this system denies it, as far as it tells.

use std::fmt;
use std::path::Path;

use rustix::io::Errno;

use crate::child::landlock_version;
use crate::probe::{run, run_in, try_chroot};
use crate::sandbox::{Links, MountOptions, Namespaces, Operation};
use crate::userns::read;
use crate::{SandboxError, SandboxErrorKind};

/// Something of which there is evidence that it keeps this process from making a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The kernel was built without user namespaces.
    NoUserNamespaces,
    /// A sysctl of this name has a value that denies user namespaces to this process.
    Sysctl(&'static str, &'static str),
    /// Root, but without `CAP_SYS_ADMIN`, for a reason that is not known to deny it a user namespace.
    NoCapability,
    /// Another capability of this name is missing.
    Capability(&'static str),
    /// Root without `CAP_SYS_ADMIN`, and without `CAP_SETFCAP`, which mapping its id into a user namespace takes.
    NoIdMapping,
    /// A filter of system calls is active, and the kernel by itself would have allowed the call.
    SystemCallFilter,
    /// A profile of `AppArmor` confines this process, and a mount was denied as such a profile denies it.
    AppArmorProfile,
    /// Parts of `/proc` are hidden here, so that a user namespace gets no `/proc` of its own.
    HiddenProc,
    /// Landlock is missing, not active, or too old (before Linux 5.19) to let files change their directory.
    NoLandlock,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUserNamespaces => f.write_str("this kernel has no user namespaces"),
            Self::Sysctl(name, value) => write!(f, "the sysctl {name} is {value}"),
            Self::NoCapability => f.write_str("this process is root without CAP_SYS_ADMIN"),
            Self::Capability(name) => write!(f, "this process does not have {name}"),
            Self::NoIdMapping => f.write_str("this process is root without CAP_SYS_ADMIN and CAP_SETFCAP"),
            Self::SystemCallFilter => f.write_str("a seccomp filter is active in this process"),
            Self::AppArmorProfile => f.write_str("an AppArmor profile confines this process"),
            Self::HiddenProc => f.write_str("parts of /proc are hidden here"),
            Self::NoLandlock => {
                f.write_str("Landlock is not active in this kernel, or is older than Linux 5.19")
            }
        }
    }
}

/// No sandbox can be made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// What was tried, and what the kernel said.
    pub error: SandboxError,
    /// What is known to be in the way; empty where nothing tells.
    pub obstacles: Vec<Obstacle>,
}

/// Where the `/proc` of a sandbox comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcSource {
    /// A new one, of the processes of the sandbox.
    New,
    /// The one that is there, bound.
    Existing,
}

/// Makes a sandbox in a throwaway process as a step has it: namespaces, a root of its own, a `/proc`. Takes about a
/// millisecond and leaves nothing behind.
///
/// Only a refusal counts: where an attempt fails for another reason, a step that fails tells more about it.
pub fn sandbox_works(proc: ProcSource) -> Result<(), Blocked> {
    let Err(error) = run(operations(Some(proc))) else { return Ok(()) };
    let errno = Errno::from_raw_os_error(error.raw_os_error());
    if !matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::NOSYS) {
        return Ok(());
    }
    let refused = if error.kind() == SandboxErrorKind::Namespaces {
        Refused::Namespaces
    } else if run(operations(None)).is_ok() {
        Refused::Proc
    } else {
        Refused::Mount
    };
    let obstacles = judge(&Facts::of_this_process(), refused, errno);
    Err(Blocked { error, obstacles })
}

/// What root needs for the files of a step and their owners, and to be done with its processes, without any namespace.
pub const CHROOT_CAPABILITIES: [&str; 10] = [
    "CAP_SYS_CHROOT",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_MKNOD",
    "CAP_KILL",
];

/// The version of Landlock from which on what it confines can move and link files between directories (Linux 5.19).
const LANDLOCK: u32 = 2;

/// Whether Landlock keeps the signals of who is confined to who is confined (Linux 6.12).
pub fn landlock_keeps_signals() -> bool {
    landlock_version() >= 6
}

/// Makes a sandbox without namespaces in a throwaway process: another root, and Landlock around it.
pub fn chroot_works() -> Result<(), Blocked> {
    let denied = || SandboxError::new(SandboxErrorKind::Setup, "change the root", Errno::PERM);
    let status = read("/proc/self/status");
    let missing = CHROOT_CAPABILITIES.into_iter().filter(|name| !has(&status, name));
    let obstacles: Vec<Obstacle> = missing.map(Obstacle::Capability).collect();
    if !obstacles.is_empty() {
        return Err(Blocked { error: denied(), obstacles });
    }
    if landlock_version() < LANDLOCK {
        let error = SandboxError::new(SandboxErrorKind::Setup, "use Landlock", Errno::OPNOTSUPP);
        return Err(Blocked { error, obstacles: vec![Obstacle::NoLandlock] });
    }
    try_chroot().map_err(|error| {
        let filtered = Facts::of_this_process().is_filtered.then_some(Obstacle::SystemCallFilter);
        Blocked { error, obstacles: filtered.into_iter().collect() }
    })
}

/// Whether a sandbox can have a host name of its own. Filters of system calls may let everything else pass.
pub fn host_name_can_be_set() -> bool {
    let namespaces = Namespaces { uts: true, ..Namespaces::default() };
    run_in(namespaces, vec![Operation::MakePrivate, Operation::Hostname(c"probe".to_owned())]).is_ok()
}

/// Whether a sandbox with a network namespace can mount a sysfs of it.
pub fn sysfs_can_be_mounted() -> bool {
    let mut operations = operations(None);
    let mount = Operation::Mount {
        source: c"sysfs".to_owned(),
        target: c"/sys".to_owned(),
        fstype: c"sysfs".to_owned(),
        options: MountOptions::default(),
        links: Links::Refuse,
    };
    operations.insert(operations.len() - 1, mount);
    run_in(Namespaces { network: true, ..Namespaces::default() }, operations).is_ok()
}

/// What is known to keep this process from making namespaces, once the kernel has refused it.
pub fn namespace_obstacle() -> Option<Obstacle> {
    judge(&Facts::of_this_process(), Refused::Namespaces, Errno::PERM).into_iter().next()
}

/// What is known to keep this process from making a user namespace, once the kernel has refused it.
pub fn user_namespace_obstacle() -> Option<Obstacle> {
    judge(&Facts::of_this_process(), Refused::UserNamespace, Errno::PERM).into_iter().next()
}

/// The first of these capabilities that is not effective.
pub(crate) fn missing_capability(names: &[&'static str]) -> Option<&'static str> {
    let status = read("/proc/self/status");
    names.iter().copied().find(|name| !has(&status, name))
}

/// Makes a network namespace in a throwaway process, and starts its loopback interface.
pub fn network_can_be_made() -> Result<(), SandboxError> {
    let namespaces = Namespaces { network: true, ..Namespaces::default() };
    run_in(namespaces, vec![Operation::MakePrivate, Operation::LoopbackUp])
}

/// A root in memory, on a directory that every system has.
fn operations(proc: Option<ProcSource>) -> Vec<Operation> {
    let mut operations = vec![
        Operation::MakePrivate,
        Operation::HostMount {
            source: c"tmpfs".to_owned(),
            target: c"/dev".to_owned(),
            fstype: c"tmpfs".to_owned(),
            options: MountOptions::default(),
            from: None,
        },
        Operation::EnterRoot(c"/dev".to_owned()),
    ];
    operations.extend(proc.map(|proc| match proc {
        ProcSource::New => Operation::Mount {
            source: c"proc".to_owned(),
            target: c"/proc".to_owned(),
            fstype: c"proc".to_owned(),
            options: MountOptions::default(),
            links: Links::Refuse,
        },
        ProcSource::Existing => Operation::Bind {
            source: c"/proc".to_owned(),
            target: c"/proc".to_owned(),
            options: MountOptions::parse(["rbind", "nosuid", "nodev", "noexec"]).unwrap_or_default(),
            links: Links::Refuse,
        },
    }));
    operations.push(Operation::Pivot);
    operations
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Namespaces,
    /// A user namespace, which takes no capability by itself.
    UserNamespace,
    /// A mount, or the change of the root.
    Mount,
    /// A `/proc` of its own, and nothing before it.
    Proc,
}

/// What the system tells about this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Facts {
    is_root: bool,
    /// `CAP_SYS_ADMIN` is effective.
    is_admin: bool,
    /// `CAP_SETFCAP` is effective.
    may_map_root: bool,
    is_filtered: bool,
    /// By `AppArmor`, in a profile that denies.
    is_confined: bool,
    /// By the profile that `AppArmor` gives to what is in a user namespace, where its sysctl says so.
    is_restricted: bool,
    is_in_user_namespace: bool,
    has_hidden_proc: bool,
    lacks_user_namespaces: bool,
    sysctl: Option<(&'static str, &'static str)>,
}

/// Whether `CAP_SYS_ADMIN`, which mounts and namespaces take, is effective.
pub fn may_administer() -> bool {
    has(&read("/proc/self/status"), "CAP_SYS_ADMIN")
}

/// Whether a capability is effective.
fn has(status: &str, capability: &str) -> bool {
    let effective = u64::from_str_radix(field(status, "CapEff:"), 16).unwrap_or_default();
    crate::capability(capability).is_some_and(|number| effective & (1_u64 << number) != 0)
}

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
}

impl Facts {
    fn of_this_process() -> Self {
        let status = read("/proc/self/status");
        let profile = read("/proc/self/attr/current");
        Self {
            is_root: rustix::process::geteuid().is_root(),
            is_admin: has(&status, "CAP_SYS_ADMIN"),
            may_map_root: has(&status, "CAP_SETFCAP"),
            is_filtered: field(&status, "Seccomp:") == "2",
            is_confined: profile.trim_end_matches(['\0', '\n']).ends_with("(enforce)"),
            is_restricted: profile.starts_with("unprivileged_userns "),
            is_in_user_namespace: !crate::in_initial_user_namespace(),
            has_hidden_proc: hides_proc(&read("/proc/self/mountinfo")),
            lacks_user_namespaces: Path::new("/proc/self/ns").exists()
                && !Path::new("/proc/self/ns/user").exists(),
            sysctl: SYSCTLS.into_iter().find(|(name, value)| {
                read(&format!("/proc/sys/{}", name.replace('.', "/"))).trim() == *value
            }),
        }
    }
}

/// Settings that deny user namespaces to those who are not root.
const SYSCTLS: [(&str, &str); 3] = [
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
];

/// Whether something is mounted over a part of `/proc`.
fn hides_proc(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with("/proc/")))
}

/// What of the facts explains a refusal. Each answer is one that a system without it would not have given.
fn judge(facts: &Facts, refused: Refused, errno: Errno) -> Vec<Obstacle> {
    let filter = facts.is_filtered.then_some(Obstacle::SystemCallFilter);
    let sysctl = facts.sysctl.map(|(name, value)| Obstacle::Sysctl(name, value));
    let lacking = facts.lacks_user_namespaces.then_some(Obstacle::NoUserNamespaces);
    let found = match refused {
        _ if facts.is_restricted => Some(Obstacle::Sysctl(SYSCTLS[2].0, SYSCTLS[2].1)),
        // Whoever makes nothing else needs no capability for it.
        Refused::UserNamespace => lacking.or(sysctl).or(filter),
        // Without it, root needs a user namespace first, as an ordinary user does.
        Refused::Namespaces if !facts.is_admin => {
            let mapping = (facts.is_root && !facts.may_map_root).then_some(Obstacle::NoIdMapping);
            let capability = facts.is_root.then_some(Obstacle::NoCapability);
            lacking.or(sysctl).or(mapping).or(filter).or(capability)
        }
        Refused::Mount if errno == Errno::ACCESS && facts.is_confined => Some(Obstacle::AppArmorProfile),
        Refused::Proc if facts.is_in_user_namespace && facts.has_hidden_proc => Some(Obstacle::HiddenProc),
        Refused::Namespaces | Refused::Mount | Refused::Proc => filter,
    };
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_explained_by_what_there_is_evidence_for() {
        let of = |facts: Facts, refused, errno| judge(&facts, refused, errno);
        let root = Facts { is_root: true, may_map_root: true, is_filtered: true, ..Facts::default() };
        // docker without flags, without capabilities, and where something else denies the user namespace.
        assert_eq!(of(root, Refused::Namespaces, Errno::PERM), [Obstacle::SystemCallFilter]);
        let bare = Facts { may_map_root: false, ..root };
        assert_eq!(of(bare, Refused::Namespaces, Errno::PERM), [Obstacle::NoIdMapping]);
        let unfiltered = Facts { is_filtered: false, ..root };
        assert_eq!(of(unfiltered, Refused::Namespaces, Errno::PERM), [Obstacle::NoCapability]);
        let limited = Facts { sysctl: Some(SYSCTLS[0]), ..bare };
        let none = Obstacle::Sysctl("user.max_user_namespaces", "0");
        assert_eq!(of(limited, Refused::Namespaces, Errno::PERM), [none]);
        // docker with SYS_ADMIN added; the same in AppArmor's default profile.
        let admin = Facts { is_admin: true, ..root };
        assert_eq!(of(admin, Refused::Mount, Errno::PERM), [Obstacle::SystemCallFilter]);
        let confined = Facts { is_confined: true, ..admin };
        assert_eq!(of(confined, Refused::Mount, Errno::ACCESS), [Obstacle::AppArmorProfile]);
        // Another user, whom a filter or a setting denies the user namespace.
        let user = Facts { is_filtered: true, ..Facts::default() };
        assert_eq!(of(user, Refused::Namespaces, Errno::PERM), [Obstacle::SystemCallFilter]);
        let sysctl = Facts { sysctl: Some(SYSCTLS[0]), ..user };
        let max = Obstacle::Sysctl("user.max_user_namespaces", "0");
        assert_eq!(of(sysctl, Refused::Namespaces, Errno::PERM), [max]);
        let hidden = Facts { is_admin: true, is_in_user_namespace: true, has_hidden_proc: true, ..user };
        assert_eq!(of(hidden, Refused::Proc, Errno::PERM), [Obstacle::HiddenProc]);
        // Root without the capability may still make a user namespace, unless a filter or a setting denies that.
        assert_eq!(of(root, Refused::UserNamespace, Errno::PERM), [Obstacle::SystemCallFilter]);
        let sysctl = Facts { sysctl: Some(SYSCTLS[0]), ..root };
        assert_eq!(of(sysctl, Refused::UserNamespace, Errno::NOSPC), [max]);
        // Ubuntu lets anybody make one, and then denies everything in it.
        let restricted = Facts { is_restricted: true, is_confined: true, is_admin: true, ..root };
        let by_profile = Obstacle::Sysctl("kernel.apparmor_restrict_unprivileged_userns", "1");
        assert_eq!(of(restricted, Refused::Mount, Errno::ACCESS), [by_profile]);
        assert_eq!(of(restricted, Refused::Namespaces, Errno::PERM), [by_profile]);
        // Nothing is said where nothing tells.
        let nothing = Facts { is_admin: true, is_root: true, ..Facts::default() };
        assert_eq!(of(nothing, Refused::Mount, Errno::PERM), []);
    }

    #[test]
    fn hidden_parts_of_proc_are_mounts_below_it() {
        assert!(hides_proc("36 25 0:5 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw\n"));
        assert!(!hides_proc(
            "25 1 0:22 / /proc rw - proc proc rw\n26 1 0:23 / /procession rw - tmpfs t rw\n"
        ));
    }
}
