use std::ffi::CString;

use crate::{Filter, NetworkNamespace, Private};

/// Everything a new process does before it becomes the command: plain data, made without privilege, carried out
/// in order by [`Sandbox::spawn`](crate::Sandbox::spawn).
///
/// With namespaces it always gets a mount namespace and a process namespace of its own, whose process 1 it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The namespaces it gets; `None` leaves it in those of the caller. There is always a keeper then, which ends what the
    /// command leaves, and nothing is mounted.
    pub namespaces: Option<Namespaces>,
    /// What is done in them, in this order.
    pub operations: Vec<Operation>,
    /// What is executed then.
    pub process: Process,
    /// Whether a second process watches over the first from outside its process namespace, so that the death of
    /// the caller ends the command whatever it does. Without, the command itself is told by the kernel when the
    /// caller dies, which a set-user-ID program escapes, and a caller that ignores SIGCHLD never learns how a program
    /// ended that was executed: that is for operations alone.
    pub keeper: bool,
}

/// Namespaces that are optional, beside those of mounts and processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the kernel")]
pub struct Namespaces {
    /// System V and POSIX message queues, semaphores, shared memory.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network: only a loopback interface, which is down.
    pub network: bool,
    /// Root of the cgroup tree.
    pub cgroup: bool,
}

/// One thing done in the new namespaces before the command.
///
/// Paths of operations that come after [`Operation::EnterRoot`] are inside that root and are resolved there by
/// the kernel; all other paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Keeps mounts made here from spreading, and mounts made elsewhere from appearing here.
    MakePrivate,
    /// Joins the cgroup whose `cgroup.procs` this is.
    JoinCgroup(CString),
    /// Makes the cgroup that was joined the root of those that the command sees.
    CgroupNamespace,
    /// Takes the place of the network namespace that it would be in.
    JoinNetwork(NetworkNamespace),
    /// Shows a network namespace at a path of the host, where there is a file, to programs that take a path.
    BindNetwork {
        /// The namespace.
        network: NetworkNamespace,
        /// Where.
        target: CString,
    },
    /// Mounts a file system on a path of the host.
    HostMount {
        /// What the file system takes as its source.
        source: CString,
        /// Directory to mount on.
        target: CString,
        /// Type of file system.
        fstype: CString,
        /// Flags and data.
        options: MountOptions,
        /// Directory that relative paths in the data start from: long lists of layers must fit in a page.
        from: Option<CString>,
    },
    /// Mounts what is at a path of the host on another.
    HostBind {
        /// What is mounted.
        source: CString,
        /// Where.
        target: CString,
        /// Attributes; recursive or not.
        options: MountOptions,
    },
    /// Mounts what is below a directory of the host on a path of the host. No link is followed on the way.
    HostView {
        /// The directory.
        directory: CString,
        /// Path below it.
        path: CString,
        /// Device and inode of what must be there, where that is known.
        inode: Option<(u64, u64)>,
        /// Where: a directory, or a file for what is not one.
        target: CString,
        /// Attributes; recursive or not.
        options: MountOptions,
    },
    /// Makes a file on a path of the host: in a file system that was mounted before, where nobody else sees it.
    HostFile {
        /// Where.
        path: CString,
        /// What is in it.
        content: Private,
        /// Permission bits.
        mode: u32,
        /// Owner.
        owner: (u32, u32),
    },
    /// Makes a character device on a path of the host: in a file system that was mounted before, where nobody else
    /// sees it. Where the kernel does not let us make one, the host's device of that number is bound there, read-only:
    /// it can be read and written as ever, but not be given another mode, owner or time.
    HostDevice {
        /// Where.
        path: CString,
        /// The device of the host.
        host: CString,
        /// Its number.
        rdev: u64,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a directory of the host the root of the paths that follow.
    EnterRoot(CString),
    /// Makes what is missing of a directory, each component with this owner.
    Directory {
        /// The directory, links followed inside the root.
        path: CString,
        /// Permission bits of what is made.
        mode: u32,
        /// Owner of what is made.
        owner: (u32, u32),
    },
    /// Mounts a file system inside the root. A missing mount point is made.
    Mount {
        /// What the file system takes as its source.
        source: CString,
        /// Where.
        target: CString,
        /// Type of file system.
        fstype: CString,
        /// Flags and data.
        options: MountOptions,
        /// Whether links in `target` are followed.
        links: Links,
    },
    /// Mounts what is at a path of the host inside the root. A missing mount point is made, as a file or a
    /// directory like the source.
    Bind {
        /// A path of the host.
        source: CString,
        /// Where.
        target: CString,
        /// Attributes; recursive or not.
        options: MountOptions,
        /// Whether links in `target` are followed.
        links: Links,
    },
    /// Makes a character device in a directory that was mounted before, or binds the host's device of that
    /// number, read-only, where the kernel does not let us make one.
    Device {
        /// Path inside the root.
        path: CString,
        /// The device of the host.
        host: CString,
        /// Its number.
        rdev: u64,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a symbolic link.
    Symlink {
        /// What it says.
        target: CString,
        /// Where it is.
        path: CString,
    },
    /// Hides a file or directory, if it exists.
    Mask {
        /// Inside the root.
        path: CString,
        /// A null device of the host that hides files: one that only this sandbox sees.
        null: CString,
    },
    /// Makes a path read-only, if it exists.
    ReadOnly(CString),
    /// Sets the host name.
    Hostname(CString),
    /// Brings the loopback interface up.
    LoopbackUp,
    /// Makes the root the only root there is: everything else is out of sight from here on.
    Pivot,
    /// Makes the root the one that paths start at. What else there is stays where it is, out of reach of paths, as long as
    /// nobody can do the same again.
    Chroot,
}

/// Whether links in the path of a mount point are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed, inside the root.
    Follow,
    /// Refused: what should be `/proc` must be `/proc`.
    Refuse,
}

/// Options of a mount as the kernel takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `MS_…` flags.
    pub flags: u64,
    /// What is left for the file system, comma separated.
    pub data: CString,
    /// Whether attributes reach the mounts below as well (`rro`, `rnodev`, or `ro` together with `rbind`).
    pub recursive_attributes: bool,
}

impl MountOptions {
    /// Sorts options as `mount(8)` and the OCI runtime specification spell them. Unknown ones are data of the
    /// file system. `None` if one contains NUL.
    pub fn parse<S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut parsed = Self::default();
        let mut data: Vec<String> = Vec::new();
        for option in options {
            parsed.parse_one(option.as_ref(), &mut data);
        }
        let read_only = parsed.flags & libc::MS_RDONLY != 0;
        if read_only && parsed.is_bind() && parsed.flags & libc::MS_REC != 0 {
            parsed.recursive_attributes = true;
        }
        parsed.data = CString::new(data.join(",")).ok()?;
        Some(parsed)
    }

    fn parse_one(&mut self, option: &str, data: &mut Vec<String>) {
        let (set, clear) = match option {
            "bind" => (libc::MS_BIND, 0),
            "rbind" => (libc::MS_BIND | libc::MS_REC, 0),
            "ro" => (libc::MS_RDONLY, 0),
            "rro" => {
                self.recursive_attributes = true;
                (libc::MS_RDONLY, 0)
            }
            "rw" => (0, libc::MS_RDONLY),
            "nosuid" => (libc::MS_NOSUID, 0),
            "suid" => (0, libc::MS_NOSUID),
            "nodev" => (libc::MS_NODEV, 0),
            "rnodev" => {
                self.recursive_attributes = true;
                (libc::MS_NODEV, 0)
            }
            "dev" => (0, libc::MS_NODEV),
            "noexec" => (libc::MS_NOEXEC, 0),
            "exec" => (0, libc::MS_NOEXEC),
            "noatime" => (libc::MS_NOATIME, 0),
            "nodiratime" => (libc::MS_NODIRATIME, 0),
            "relatime" => (libc::MS_RELATIME, 0),
            "strictatime" => (libc::MS_STRICTATIME, 0),
            "sync" => (libc::MS_SYNCHRONOUS, 0),
            // Everything is private here, and defaults are defaults.
            "private" | "rprivate" | "slave" | "rslave" | "defaults" | "" => (0, 0),
            other => {
                data.push(other.to_owned());
                (0, 0)
            }
        };
        self.flags = (self.flags | set) & !clear;
    }

    /// Whether this binds rather than mounts anew.
    pub fn is_bind(&self) -> bool {
        self.flags & libc::MS_BIND != 0
    }

    /// Whether no device can be opened there.
    pub fn has_no_devices(&self) -> bool {
        self.flags & libc::MS_NODEV != 0
    }

    /// Whether what is mounted below is bound as well.
    pub fn is_recursive(&self) -> bool {
        self.flags & libc::MS_REC != 0
    }
}

/// The command and what it is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments; never empty.
    pub args: Vec<CString>,
    /// Environment, `NAME=VALUE`.
    pub env: Vec<CString>,
    /// Directories that a program without a slash is looked for in.
    pub search: Vec<CString>,
    /// Working directory, links followed. It must exist and be inside the root.
    pub cwd: CString,
    /// Mask of permission bits of new files.
    pub umask: u32,
    /// Resource (`RLIMIT_…`), soft and hard limit.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// What it is reduced to; `None` leaves everything as the caller has it.
    pub confinement: Option<Confinement>,
    /// A terminal of this size, which all its streams then are: one of the file system at `/dev/pts` that it sees, and without
    /// namespaces of that of the caller.
    pub terminal: Option<WindowSize>,
}

/// Size of a terminal in characters; zeros where nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Whom the command runs as, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; `None` leaves those of the caller, where the kernel denies setting them.
    pub groups: Option<Vec<u32>>,
    /// Capabilities by number: bounding, permitted and effective. Nothing is inheritable or ambient.
    pub capabilities: u64,
    /// Whether set-user-ID programs lose their power.
    pub no_new_privileges: bool,
    /// System calls allowed.
    pub seccomp: Option<Filter>,
    /// Whether files outside of the root, and processes that neither it nor what it started has started, are kept from it
    /// (Landlock; takes `no_new_privileges`, unless there is `CAP_SYS_ADMIN`).
    pub enclosed: bool,
}

/// Number of a capability by its name (`CAP_CHOWN`).
pub fn capability(name: &str) -> Option<u32> {
    let position = CAPABILITIES.iter().position(|known| *known == name)?;
    u32::try_from(position).ok()
}

/// Names of all capabilities, by number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags_and_data() {
        let options = MountOptions::parse(["nosuid", "noexec", "mode=755", "size=65536k"]).unwrap();
        assert_eq!(options.flags, libc::MS_NOSUID | libc::MS_NOEXEC);
        assert_eq!(options.data.to_str(), Ok("mode=755,size=65536k"));
        assert!(!options.recursive_attributes);
    }

    #[test]
    fn later_options_win_and_recursive_binds_are_read_only_all_the_way() {
        assert_eq!(MountOptions::parse(["ro", "rw"]).unwrap().flags, 0);
        assert!(MountOptions::parse(["rbind", "ro"]).unwrap().recursive_attributes);
        assert!(!MountOptions::parse(["bind", "ro"]).unwrap().recursive_attributes);
        assert!(!MountOptions::parse(["rbind"]).unwrap().recursive_attributes);
        let nodev = MountOptions::parse(["rbind", "rnodev"]).unwrap();
        assert!(nodev.recursive_attributes && nodev.flags & libc::MS_NODEV != 0);
        assert!(MountOptions::parse(["a\0b"]).is_none());
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(capability("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability("CAP_SETFCAP"), Some(31));
        assert_eq!(capability("CAP_NONE"), None);
    }
}
