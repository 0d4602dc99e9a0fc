//! Which calls are answered.

use oci_spec::runtime::Spec;
use ocibuild_sys::{Condition, Profile, Rule, Verdict};

use crate::permissions::profile;

/// Calls that name files, since there is no `/proc` and no `/sys` for the kernel to find; the host's name; and those that make
/// processes, which are to fail once the command has ended. Those of 32-bit programs are refused: nobody answers them.
const ANSWERED: &str = "\
    open openat openat2 stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat \
    chmod fchmodat fchmodat2 chown fchownat truncate utimensat link linkat \
    getxattr lgetxattr listxattr llistxattr \
    stat64 lstat64 fstatat64 oldstat oldlstat uname oldolduname olduname fork vfork";

/// The profile of a step, or none, with the calls that are answered.
pub(super) fn notifying(spec: &Spec) -> Profile {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let mut profile = seccomp.map_or_else(|| Profile { default: Verdict::Allow, rules: Vec::new() }, profile);
    let names = |names: &str| names.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let notify = |names, condition| Rule { names, verdict: Verdict::Notify, condition };
    // What is allowed under a condition is answered under it.
    for rule in &mut profile.rules {
        if rule.condition.is_some()
            && rule.verdict == Verdict::Allow
            && rule.names.iter().any(|name| name == "clone")
        {
            rule.verdict = Verdict::Notify;
        }
    }
    if seccomp.is_none() {
        profile.rules.push(notify(names("clone"), None));
        let missing = Verdict::Errno(libc_enosys());
        profile.rules.push(Rule { names: names("clone3"), verdict: missing, condition: None });
    }
    profile.rules.push(notify(names(ANSWERED), None));
    profile.rules.push(notify(names("prlimit64"), Some((0, Condition::NotEqual(0)))));
    profile
}

/// As if the kernel did not have the call: C libraries then take another.
fn libc_enosys() -> u16 {
    rustix::io::Errno::NOSYS.raw_os_error().unsigned_abs() as u16
}
