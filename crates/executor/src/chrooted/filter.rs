//! Which calls are answered.

use oci_spec::runtime::Spec;
use ocibuild_sys::{Condition, Profile, Rule, Verdict};

use crate::permissions::profile;

/// Calls that name files, since there is no `/proc` and no `/sys` for the kernel to find, and nothing that it knows to be mounted;
/// and the host's name. Those of 32-bit programs are refused: nobody answers them.
const ANSWERED: &str = "\
    open openat openat2 stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat \
    chmod fchmodat fchmodat2 chown lchown fchownat truncate utimensat getxattr lgetxattr listxattr llistxattr \
    creat mkdir mkdirat mknod mknodat symlink symlinkat link linkat \
    unlink unlinkat rmdir rename renameat renameat2 \
    stat64 lstat64 fstatat64 oldstat oldlstat uname oldolduname olduname";

/// Calls that send signals, or make descriptors that do.
const SIGNALS: &str = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open";

/// The profile of a step, or none, with the calls that are answered; signals among them where nothing else keeps them in.
pub(super) fn notifying(spec: &Spec, answers_signals: bool) -> Profile {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let mut profile = seccomp.map_or_else(|| Profile { default: Verdict::Allow, rules: Vec::new() }, profile);
    let notify = |names: &str, condition| Rule {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        verdict: Verdict::Notify,
        condition,
    };
    profile.rules.push(notify(ANSWERED, None));
    if answers_signals {
        profile.rules.push(notify(SIGNALS, None));
    }
    // Those of others, which root could change whoever they are.
    profile.rules.push(notify("prlimit64", Some((0, Condition::NotEqual(0)))));
    profile
}
