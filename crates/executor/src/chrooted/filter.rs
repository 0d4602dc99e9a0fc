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

/// The profile of a step, or none, with the calls that are answered.
pub(super) fn notifying(spec: &Spec) -> Profile {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let mut profile = seccomp.map_or_else(|| Profile { default: Verdict::Allow, rules: Vec::new() }, profile);
    let notify = |names: &str, condition| Rule {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        verdict: Verdict::Notify,
        condition,
    };
    profile.rules.push(notify(ANSWERED, None));
    // Those of others, which root could change whoever they are.
    profile.rules.push(notify("prlimit64", Some((0, Condition::NotEqual(0)))));
    profile
}
