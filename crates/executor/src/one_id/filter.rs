//! Which calls are answered.

use oci_spec::runtime::Spec;
use ocibuild_sys::{Condition, MARKED_RESOURCE, Profile, Rule, Verdict};

use crate::permissions::profile;

/// Calls about owners, identities and devices, those that make or remove what has an owner, those that execute, and those that
/// may give a process another root. Those of
/// 32-bit programs, some of which have names of their own, are refused: nobody answers them.
const ANSWERED: &str = "\
    chown fchown lchown fchownat chown32 fchown32 lchown32 \
    stat fstat lstat newfstatat statx stat64 fstat64 lstat64 fstatat64 oldstat oldfstat oldlstat \
    creat openat2 mkdir mkdirat mknod mknodat symlink symlinkat \
    unlink unlinkat rmdir rename renameat renameat2 \
    getuid geteuid getgid getegid getresuid getresgid getgroups \
    getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32 \
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups \
    setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setfsuid32 setfsgid32 setgroups32 \
    execve execveat chroot pivot_root setns";

/// `O_CREAT`, and the bit of `O_TMPFILE` that is its own.
const MAKES: [u32; 2] = [0o100, 0o20_000_000];

/// The profile of a step, or none, with the calls that are answered.
pub(super) fn notifying(spec: &Spec) -> Profile {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let mut profile = seccomp.map_or_else(|| Profile { default: Verdict::Allow, rules: Vec::new() }, profile);
    let notify = |names: &str, condition| Rule { names: list(names), verdict: Verdict::Notify, condition };
    profile.rules.push(notify(ANSWERED, None));
    for bit in MAKES {
        let makes = Condition::MaskedEqual { mask: bit, value: bit };
        profile.rules.push(notify("open", Some((1, makes))));
        profile.rules.push(notify("openat", Some((2, makes))));
    }
    let marked = Condition::Equal(MARKED_RESOURCE);
    profile.rules.push(notify("getrlimit setrlimit ugetrlimit", Some((0, marked))));
    profile.rules.push(notify("prlimit64", Some((1, marked))));
    profile
}

fn list(names: &str) -> Vec<String> {
    names.split_ascii_whitespace().map(str::to_owned).collect()
}
