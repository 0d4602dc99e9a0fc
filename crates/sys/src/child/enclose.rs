//! Landlock: what is outside of the root stays out of reach, whatever the command holds or becomes.

use std::ptr;

use libc::{c_int, c_long};

/// `struct landlock_ruleset_attr`. A kernel that knows less of it is given less of it.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: c_int,
}

const CREATE_VERSION: u32 = 1;
const RULE_PATH_BENEATH: c_int = 1;

/// Sockets in the abstract name space, and signals, of who is outside.
const SCOPES: u64 = 0b11;

/// The rights about files that each version of the interface has: the lowest so many bits.
const FILE_RIGHTS: [u32; 5] = [13, 14, 15, 15, 16];

/// The version of the interface that the kernel has; 0 if it has none or Landlock is not active.
pub(crate) fn landlock_version() -> u32 {
    let none = ptr::null::<Ruleset>();
    // SAFETY: with this flag no pointer is looked at.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, CREATE_VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Keeps this process, which has its root already, to the files in it, and from the processes outside. Less than 0 if it
/// fails. Files that are open stay so.
pub(super) unsafe fn enclose() -> c_int {
    let version = landlock_version();
    // SAFETY: structs of the sizes that are given; descriptors of this process, closed once.
    unsafe {
        let newest = FILE_RIGHTS.len() as u32;
        let bits = FILE_RIGHTS.get((version.clamp(1, newest) - 1) as usize).copied().unwrap_or(0);
        let files = (1 << bits) - 1;
        let scopes = if version >= 6 { SCOPES } else { 0 };
        let attributes = Ruleset { files, network: 0, scopes };
        let size = match version {
            0..4 => 8,
            4..6 => 16,
            _ => size_of::<Ruleset>(),
        };
        let create = libc::SYS_landlock_create_ruleset;
        let ruleset = libc::syscall(create, &raw const attributes, size, 0_u32) as c_int;
        if ruleset < 0 {
            return -1;
        }
        let root = libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        let rule = Beneath { allowed: files, parent: root };
        let add = libc::SYS_landlock_add_rule;
        let added: c_long = if root < 0 {
            -1
        } else {
            libc::syscall(add, ruleset, RULE_PATH_BENEATH, &raw const rule, 0_u32)
        };
        let result =
            if added < 0 { -1 } else { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0_u32) };
        libc::close(root);
        libc::close(ruleset);
        result as c_int
    }
}
