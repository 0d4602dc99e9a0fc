//! The Linux system calls ocibuild needs, behind safe functions.
//!
//! This is the only crate of the workspace that may contain `unsafe`. It knows nothing of OCI: it offers
//! nouns of the kernel and nothing more.
//!
//! # Confined paths
//!
//! Every path that came out of an image, a build context or a Dockerfile is resolved by the kernel *inside* a
//! [`RootDir`], as a `chroot` would resolve it: absolute links start at the root, `..` stops there. What is done
//! to a file is then done relative to the descriptor of its parent ([`DirHandle`]) with a single name that is
//! never followed.
//!
//! ```
//! use ocibuild_sys::RootDir;
//! use std::path::Path;
//!
//! # let host = tempfile::tempdir().unwrap();
//! let root = RootDir::open(host.path())?;
//! let (parent, name) = root.parent(Path::new("/motd"))?;
//! parent.create_file(&name, 0o644)?;
//! assert_eq!(parent.stat(&name)?.mode, 0o644);
//! # Ok::<(), ocibuild_sys::Error>(())
//! ```
//!
//! # Sandboxes
//!
//! A [`Sandbox`] is a list of operations and a process: plain data. [`Sandbox::spawn`] carries it out in new
//! namespaces. What happens between `clone` and `execve` is in one folder that neither allocates nor locks.
//! A [`UserNamespace`] makes an ordinary user root of one, for some work in a process that shares the memory of this one.
//!
//! # Limitations
//!
//! Linux only. Operations on extended attributes, and on modes before Linux 6.6, go through `/proc/self/fd`, so
//! `/proc` must be mounted.

mod capabilities;
mod cgroup;
mod child;
mod copy;
mod dir;
mod error;
mod extent;
mod lock;
mod metadata;
mod network;
mod notify;
mod obstacle;
mod private;
mod probe;
mod remove;
mod resolve;
mod root;
mod sandbox;
mod seccomp;
mod signal;
mod spawn;
mod syscalls;
mod target;
mod terminal;
mod userns;
mod xattr;

pub use capabilities::{Capabilities, UnknownCapability};
pub use cgroup::{
    AllowedDevice, Cgroup, CgroupError, CgroupLimits, CgroupRequest, LimitsMet, killed_for_memory,
    memory_limit,
};
pub use copy::{CopyMethod, copy_contents, sync_filesystem};
pub use dir::{DirEntry, DirHandle, OpenedFile, ReadDir};
pub use error::{Error, ErrorKind, raw_os_error_of};
pub use extent::{Extent, extent_at, is_sparse};
pub use lock::{
    FileLock, lock_exclusive, lock_shared, try_lock_exclusive, try_lock_existing_exclusive,
    try_lock_existing_shared, try_lock_shared,
};
pub use metadata::{FileType, Metadata, Timestamp, device, device_numbers, metadata_of_file};
pub use network::{NetworkNamespace, Unreachable};
pub use notify::{
    Answer, Call, FileStatus, Listener, MARKED_RESOURCE, PendingListener, Pretended, mark_of,
    own_file_system_state, read_memory, set_file_system_ids, set_mark, system_names,
};
pub use obstacle::{
    Blocked, CHROOT_CAPABILITIES, Obstacle, ProcSource, chroot_works, host_name_can_be_set,
    landlock_keeps_signals, may_administer, namespace_obstacle, network_can_be_made, sandbox_works,
    sysfs_can_be_mounted, user_namespace_obstacle,
};
pub use private::Private;
pub use probe::{
    OverlayAttributes, OverlayError, can_be_below_overlay, can_be_shown, namespaces_work, notification_works,
    openat2_works, overlay_works, user_namespaces_work,
};
pub use root::RootDir;
pub use sandbox::{
    CAPABILITIES, Confinement, Links, MountOptions, Namespaces, Operation, Process, Sandbox, WindowSize,
    capability,
};
pub use seccomp::{Condition, Filter, Profile, Rule, Verdict};
pub use spawn::{Child, SandboxError, SandboxErrorKind, Status};
pub use target::{FileTarget, own_descriptor};
pub use terminal::{set_window_size, terminal_number};
pub use userns::{
    IdMap, IdRange, IdsError, UserNamespace, UserNamespaceError, id_map, in_initial_user_namespace,
};
