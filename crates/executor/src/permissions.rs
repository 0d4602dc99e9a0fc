//! What docker and BuildKit let a container do, in the words of the runtime specification.

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxSeccomp, LinuxSeccompAction,
    LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall,
    LinuxSyscallBuilder,
};
use ocibuild_sys::{CAPABILITIES, Condition, Profile, Rule, Verdict, capability};

/// Capabilities of a container that asks for none.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Paths that tell of the host or act on it.
pub(crate) const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths through which the host could be changed.
pub(crate) const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default capabilities, or all of them; in any case only those in `available`.
pub(crate) fn capabilities(all: bool, uid: u32, available: u64) -> LinuxCapabilities {
    let names: &[&str] = if all { &CAPABILITIES } else { &DEFAULT_CAPABILITIES };
    let has = |name: &&&str| capability(name).is_some_and(|number| available & (1 << number) != 0);
    let set: HashSet<Capability> = names.iter().filter(has).filter_map(|name| parse(name)).collect();
    // Who is not root has nothing of its own, only what set-user-ID programs may get.
    let own = if uid == 0 { set.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set)
        .permitted(own.clone())
        .effective(own)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .expect("all fields are set")
}

fn parse(name: &str) -> Option<Capability> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

/// The bits of a set of capabilities.
pub(crate) fn capability_bits(set: &HashSet<Capability>) -> u64 {
    let number = |found: &Capability| {
        let name = serde_json::to_value(found).ok()?;
        capability(name.as_str()?)
    };
    set.iter().filter_map(number).fold(0, |bits, number| bits | 1 << number)
}

/// Calls that end when something is on a disk.
const FLUSHING: [&str; 7] =
    ["fsync", "fdatasync", "msync", "sync", "syncfs", "sync_file_range", "sync_file_range2"];

/// What a container may call. Without `flushes`, calls to flush something do nothing, and succeed.
pub(crate) fn calls(flushes: bool) -> Profile {
    let mut profile = Profile::container_default();
    if !flushes {
        for rule in &mut profile.rules {
            rule.names.retain(|name| !FLUSHING.contains(&&**name));
        }
        let names = FLUSHING.map(str::to_owned).to_vec();
        profile.rules.push(Rule { names, verdict: Verdict::Errno(0), condition: None });
    }
    profile
}

/// A profile of system calls as runtimes read it.
pub(crate) fn seccomp(profile: &Profile) -> LinuxSeccomp {
    let (default_action, default_errno) = action(profile.default);
    let mut builder = LinuxSeccompBuilder::default()
        .default_action(default_action)
        .architectures(architectures())
        .syscalls(profile.rules.iter().map(syscall).collect::<Vec<_>>());
    if let Some(errno) = default_errno {
        builder = builder.default_errno_ret(errno);
    }
    builder.build().expect("all required fields are set")
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        Vec::new()
    }
}

fn action(verdict: Verdict) -> (LinuxSeccompAction, Option<u32>) {
    match verdict {
        Verdict::Allow => (LinuxSeccompAction::ScmpActAllow, None),
        Verdict::Errno(errno) => (LinuxSeccompAction::ScmpActErrno, Some(errno.into())),
        Verdict::Notify => (LinuxSeccompAction::ScmpActNotify, None),
    }
}

fn syscall(rule: &Rule) -> LinuxSyscall {
    let (action, errno) = action(rule.verdict);
    let mut builder = LinuxSyscallBuilder::default().names(rule.names.clone()).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    if let Some((index, condition)) = rule.condition {
        builder = builder.args(vec![argument(index, condition)]);
    }
    builder.build().expect("all required fields are set")
}

fn argument(index: u8, condition: Condition) -> LinuxSeccompArg {
    let (op, value, value_two) = match condition {
        Condition::Equal(value) => (LinuxSeccompOperator::ScmpCmpEq, value, None),
        Condition::NotEqual(value) => (LinuxSeccompOperator::ScmpCmpNe, value, None),
        Condition::Less(value) => (LinuxSeccompOperator::ScmpCmpLt, value, None),
        // The mask comes first here.
        Condition::MaskedEqual { mask, value } => (LinuxSeccompOperator::ScmpCmpMaskedEq, mask, Some(value)),
    };
    let mut builder =
        LinuxSeccompArgBuilder::default().index(usize::from(index)).value(u64::from(value)).op(op);
    if let Some(value) = value_two {
        builder = builder.value_two(u64::from(value));
    }
    builder.build().expect("all required fields are set")
}

/// The way back, for the executor that compiles profiles itself. What it cannot express becomes stricter.
pub(crate) fn profile(seccomp: &LinuxSeccomp) -> Profile {
    let default = verdict(seccomp.default_action(), seccomp.default_errno_ret());
    let rule = |call: &LinuxSyscall| {
        let verdict = verdict(call.action(), call.errno_ret());
        let arguments = call.args().as_deref().unwrap_or_default();
        let condition = match arguments {
            [] => None,
            [argument] => Some(condition(argument)?),
            _ => return None,
        };
        Some(Rule { names: call.names().clone(), verdict, condition })
    };
    let calls = seccomp.syscalls().as_deref().unwrap_or_default();
    Profile { default, rules: calls.iter().filter_map(rule).collect() }
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Verdict {
    match action {
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog => Verdict::Allow,
        _ => Verdict::Errno(errno.unwrap_or(1) as u16),
    }
}

fn condition(argument: &LinuxSeccompArg) -> Option<(u8, Condition)> {
    let index = u8::try_from(argument.index()).ok()?;
    let value = u32::try_from(argument.value()).ok()?;
    let condition = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => Condition::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => Condition::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Condition::Less(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let masked = u32::try_from(argument.value_two().unwrap_or(0)).ok()?;
            Condition::MaskedEqual { mask: value, value: masked }
        }
        _ => return None,
    };
    Some((index, condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_survives_the_way_through_the_specification() {
        let original = Profile::container_default();
        assert_eq!(profile(&seccomp(&original)), original);
    }

    #[test]
    fn capabilities_are_the_default_ones_that_there_are() {
        let set = capabilities(false, 0, u64::MAX);
        assert_eq!(capability_bits(set.bounding().as_ref().unwrap()), 0xa804_25fb);
        assert_eq!(set.effective(), set.bounding());
        assert!(set.ambient().as_ref().unwrap().is_empty());
        let set = capabilities(false, 1000, u64::MAX);
        assert_eq!(capability_bits(set.bounding().as_ref().unwrap()), 0xa804_25fb);
        assert_eq!(capability_bits(set.permitted().as_ref().unwrap()), 0);
        let set = capabilities(true, 0, 1 << 21 | 1);
        assert_eq!(capability_bits(set.permitted().as_ref().unwrap()), 1 << 21 | 1);
    }
}
