//! What a call asks for, by its arguments.

use ocibuild_sys::{Answer, Call};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::calls::WORKING_DIRECTORY;

/// A path of a call: the directory it starts at, and the address of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) directory: u64,
    pub(super) address: u64,
}

/// A call that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Open {
        at: At,
        flags: OFlags,
    },
    /// `openat2`, which has its flags behind a pointer.
    OpenDescribed {
        at: At,
        how: u64,
        size: u64,
    },
    Stat {
        at: At,
        follow: bool,
        buffer: u64,
    },
    Statx {
        at: At,
        flags: AtFlags,
        mask: u64,
        buffer: u64,
    },
    Access {
        at: At,
        mode: u64,
        follow: bool,
    },
    ReadLink {
        at: At,
        buffer: u64,
        size: u64,
    },
    /// An attribute, of which nothing in `/proc` and `/sys` has any, and what is answered there.
    Attribute {
        at: At,
        follow: bool,
        none: Result<Answer, Errno>,
    },
    /// Names that are made, removed or renamed.
    Names {
        first: At,
        second: Option<At>,
    },
    Change {
        at: At,
        change: Change,
    },
    /// `uname`.
    SystemNames {
        buffer: u64,
    },
    /// Limits of a process.
    Limits {
        process: i32,
    },
    /// A signal, or what sends some.
    Signal {
        target: i32,
    },
    Other,
}

/// What is done to a file that has a name already, with the arguments as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Mode(u64),
    Owner(u64, u64),
    Size(u64),
    /// The address of two times; 0 for the present.
    Times(u64),
    /// One more name.
    Name(At),
}

impl Request {
    pub(super) fn of(call: &Call) -> Self {
        let [first, second, third, fourth, fifth, _] = call.arguments;
        let at = |directory, address| At { directory, address };
        let here = |address| at(WORKING_DIRECTORY, address);
        let follows = |flags: u64| flags & u64::from(AtFlags::SYMLINK_NOFOLLOW.bits()) == 0;
        let open = |at, flags: u64| Self::Open { at, flags: OFlags::from_bits_retain(flags as u32) };
        let name = |first| Self::Names { first, second: None };
        let change = |at, change| Self::Change { at, change };
        let attribute = |follow, none| Self::Attribute { at: here(first), follow, none };
        match call.name {
            "open" => open(here(first), second),
            "openat" => open(at(first, second), third),
            "openat2" => Self::OpenDescribed { at: at(first, second), how: third, size: fourth },
            "stat" => Self::Stat { at: here(first), follow: true, buffer: second },
            "lstat" => Self::Stat { at: here(first), follow: false, buffer: second },
            "newfstatat" => Self::Stat { at: at(first, second), follow: follows(fourth), buffer: third },
            "statx" => {
                let flags = AtFlags::from_bits_retain(third as u32);
                Self::Statx { at: at(first, second), flags, mask: fourth, buffer: fifth }
            }
            "access" => Self::Access { at: here(first), mode: second, follow: true },
            "faccessat" => Self::Access { at: at(first, second), mode: third, follow: true },
            "faccessat2" => Self::Access { at: at(first, second), mode: third, follow: follows(fourth) },
            "readlink" => Self::ReadLink { at: here(first), buffer: second, size: third },
            "readlinkat" => Self::ReadLink { at: at(first, second), buffer: third, size: fourth },
            "getxattr" | "lgetxattr" => attribute(call.name == "getxattr", Err(Errno::NODATA)),
            "listxattr" | "llistxattr" => attribute(call.name == "listxattr", Ok(Answer::Value(0))),
            "creat" | "mkdir" | "mknod" | "unlink" | "rmdir" | "lchown" => name(here(first)),
            "mkdirat" | "mknodat" | "unlinkat" => name(at(first, second)),
            "symlink" => name(here(second)),
            "symlinkat" => name(at(second, third)),
            "rename" => Self::Names { first: here(first), second: Some(here(second)) },
            "renameat" | "renameat2" => {
                Self::Names { first: at(first, second), second: Some(at(third, fourth)) }
            }
            "chmod" => change(here(first), Change::Mode(second)),
            "fchmodat" | "fchmodat2" => change(at(first, second), Change::Mode(third)),
            "chown" => change(here(first), Change::Owner(second, third)),
            "fchownat" => change(at(first, second), Change::Owner(third, fourth)),
            "truncate" => change(here(first), Change::Size(second)),
            "utimensat" => change(at(first, second), Change::Times(third)),
            "link" => change(here(first), Change::Name(here(second))),
            "linkat" if fifth & u64::from(AtFlags::SYMLINK_FOLLOW.bits()) == 0 => name(at(third, fourth)),
            "linkat" => change(at(first, second), Change::Name(at(third, fourth))),
            "uname" => Self::SystemNames { buffer: first },
            "prlimit64" => Self::Limits { process: first as i32 },
            "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "pidfd_open" => {
                Self::Signal { target: first as i32 }
            }
            _ => Self::Other,
        }
    }
}

/// Whether a file that is opened like this may be changed, or made.
pub(super) fn may_change(flags: OFlags) -> bool {
    let changing = OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
    flags.intersects(changing) && !flags.contains(OFlags::PATH)
}
