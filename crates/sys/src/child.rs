//! Everything that happens between `clone` and `execve`.
//!
//! The caller may have any number of threads, and the new process is a copy of only one of them: a lock that
//! another thread held stays locked here for ever, that of the allocator included. So nothing in this file
//! allocates, locks, panics on purpose or calls into the C library but for thin wrappers of system calls; all
//! it uses was prepared before. C library functions that would tell other threads (`setuid` and its kind) are
//! bypassed. Failures go back as a [`Report`] through a pipe.
#![expect(unsafe_code, reason = "this is what the crate is for")]

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_char, c_int, c_long, c_ulong, c_void};

use crate::sandbox::{Confinement, Links, MountOptions, Operation};

/// A message to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Report {
    pub(crate) stage: u32,
    /// Index of the operation, where that is what failed.
    pub(crate) index: u32,
    /// Error number; or the wait status in a report of [`Stage::Exited`].
    pub(crate) value: i32,
    /// What exactly the operation was at.
    pub(crate) detail: u32,
}

/// What a report is about. The numbers never leave the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stage {
    Exited = 1,
    Keeper,
    Session,
    Streams,
    Operation,
    Directory,
    OutsideRoot,
    Descriptors,
    Limits,
    Privileges,
    Seccomp,
    Capabilities,
    Groups,
    Group,
    User,
    Execute,
    NotFoundInPath,
}

/// Prepared by [`crate::spawn`]: nothing but borrowed data and descriptors.
pub(crate) struct Prepared<'p> {
    pub(crate) operations: &'p [Operation],
    pub(crate) confinement: Option<&'p Confinement>,
    pub(crate) rlimits: &'p [(u32, u64, u64)],
    /// Paths to try, one after the other.
    pub(crate) programs: &'p [std::ffi::CString],
    /// Whether they come from a search, in which case a missing one is passed over.
    pub(crate) searched: bool,
    /// NULL-terminated.
    pub(crate) argv: &'p [*const c_char],
    /// NULL-terminated.
    pub(crate) envp: &'p [*const c_char],
    pub(crate) cwd: &'p CStr,
    pub(crate) umask: u32,
    pub(crate) stdin: RawFd,
    pub(crate) stdout: RawFd,
    pub(crate) stderr: RawFd,
    pub(crate) report: RawFd,
    /// The descriptors above, sorted.
    pub(crate) keep: [RawFd; 4],
    pub(crate) clone_flags: c_int,
    pub(crate) keeper: bool,
}

/// Runs in the copy that [`fork`] made. Never returns.
///
/// # Safety
/// Must be called in a new process that shares no memory with another.
pub(crate) unsafe fn run(prepared: &Prepared<'_>) -> ! {
    // SAFETY: as promised by the caller, and everything in `prepared` was made before the copy.
    unsafe {
        if prepared.keeper {
            keep(prepared)
        } else {
            close_others(&prepared.keep);
            become_command(prepared)
        }
    }
}

/// `fork` without the handlers that the C library runs, with flags. 0 in the child, where `pidfd` is not set.
///
/// No signal is sent when the child ends: a handler of SIGCHLD, or a loop around `wait`, of the program this
/// library is part of never learns of it.
///
/// # Safety
/// The child may do no more than the comment on top of this file says.
pub(crate) unsafe fn fork(flags: c_int, pidfd: &mut c_int) -> c_long {
    // SAFETY: without CLONE_VM the child gets a copy of the memory, stack included; `pidfd` is written to only
    // in the parent.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            (flags | libc::CLONE_PIDFD) as c_ulong,
            ptr::null_mut::<c_void>(),
            ptr::from_mut(pidfd),
            ptr::null_mut::<c_int>(),
            0 as c_ulong,
        )
    }
}

/// The keeper is process 1 of a namespace around that of the command. When it dies, the kernel kills all below;
/// and it dies with the caller. It executes nothing and keeps its credentials, so that nothing clears the
/// signal that the kernel owes it.
unsafe fn keep(prepared: &Prepared<'_>) -> ! {
    // SAFETY: system calls on our own descriptors, with pointers to locals.
    unsafe {
        close_others(&prepared.keep);
        die_with_the_caller(prepared.report);
        let mut pidfd = -1;
        let pid = fork(prepared.clone_flags, &mut pidfd);
        if pid < 0 {
            fail(prepared.report, Stage::Keeper, 0, 0);
        }
        if pid == 0 {
            become_command(prepared);
        }
        // Their other end must see that they are closed when the command closes them.
        libc::close(prepared.stdin);
        libc::close(prepared.stdout);
        libc::close(prepared.stderr);
        let mut status = 0;
        while libc::waitpid(pid as c_int, &raw mut status, libc::__WALL) < 0 {
            if errno() != libc::EINTR {
                fail(prepared.report, Stage::Keeper, 0, 0);
            }
        }
        send(prepared.report, Stage::Exited, 0, status, 0);
        libc::_exit(0)
    }
}

unsafe fn become_command(prepared: &Prepared<'_>) -> ! {
    let report = prepared.report;
    // SAFETY: as for `run`.
    unsafe {
        if libc::setsid() < 0 {
            fail(report, Stage::Session, 0, 0);
        }
        streams(prepared);
        let mut root = -1;
        for (index, operation) in prepared.operations.iter().enumerate() {
            if let Err(at) = operate(operation, &mut root) {
                fail(report, Stage::Operation, index as u32, at);
            }
        }
        libc::umask(prepared.umask as libc::mode_t);
        enter_directory(prepared);
        if close_on_exec_from(3) < 0 {
            fail(report, Stage::Descriptors, 0, 0);
        }
        limit(prepared);
        if let Some(confinement) = prepared.confinement {
            confine(report, confinement);
        }
        if !prepared.keeper {
            // Only now: a change of credentials clears it.
            die_with_the_caller(report);
        }
        default_signals();
        execute(prepared)
    }
}

/// Input from nowhere, output to the caller's pipes.
unsafe fn streams(prepared: &Prepared<'_>) {
    // SAFETY: descriptors of ours; a descriptor that already is in its place needs the flag cleared instead.
    unsafe {
        let wanted = [(prepared.stdin, 0), (prepared.stdout, 1), (prepared.stderr, 2)];
        for (have, want) in wanted {
            if libc::dup2(have, want) < 0 {
                fail(prepared.report, Stage::Streams, 0, want as u32);
            }
        }
    }
}

/// The error of an operation, with what it was at.
type Outcome = Result<(), u32>;

/// What an operation was at when it failed; see `spawn::describe_detail`.
pub(crate) mod at {
    pub(crate) const CALL: u32 = 0;
    pub(crate) const TARGET: u32 = 1;
    pub(crate) const SOURCE: u32 = 2;
    pub(crate) const ATTRIBUTES: u32 = 3;
    pub(crate) const KIND: u32 = 4;
}

unsafe fn operate(operation: &Operation, root: &mut RawFd) -> Outcome {
    // SAFETY: all strings are NUL-terminated and outlive the calls.
    unsafe {
        match operation {
            Operation::MakePrivate => {
                let flags = libc::MS_REC | libc::MS_PRIVATE;
                check(libc::mount(c"none".as_ptr(), c"/".as_ptr(), ptr::null(), flags, ptr::null()))
            }
            Operation::HostMount { source, target, fstype, options, from } => {
                if let Some(from) = from {
                    check_at(libc::chdir(from.as_ptr()), at::SOURCE)?;
                }
                mount_new(source, target, fstype, options)
            }
            Operation::HostBind { source, target, options } => {
                let flags = libc::MS_BIND | (options.flags & libc::MS_REC);
                let none = ptr::null();
                check(libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()))?;
                let fd = libc::open(target.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                check_at(fd, at::TARGET)?;
                let result = set_attributes(fd, Attributes::of(options));
                libc::close(fd);
                result
            }
            Operation::EnterRoot(dir) => {
                *root = libc::open(dir.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
                check_at(*root, at::TARGET)
            }
            Operation::Directory { path, mode, owner } => make_directories(*root, path, *mode, Some(*owner)),
            Operation::Mount { source, target, fstype, options, links } => {
                let fd = mount_point(*root, target, *links, libc::S_IFDIR)?;
                let mut buffer = [0; PATH_BUFFER];
                let result = mount_new(source, descriptor_path(fd, &mut buffer), fstype, options);
                libc::close(fd);
                result
            }
            Operation::Bind { source, target, options, links } => {
                bind(*root, source, target, Attributes::of(options), *links)
            }
            Operation::Device { path, host, rdev, mode } => device(*root, path, host, *rdev, *mode),
            Operation::Symlink { target, path } => {
                let (parent, name) = open_parent(*root, path)?;
                let result = libc::symlinkat(target.as_ptr(), parent, name.as_ptr());
                libc::close(parent);
                check(result)
            }
            Operation::Mask(path) => mask(*root, path),
            Operation::ReadOnly(path) => read_only(*root, path),
            Operation::Hostname(name) => check(libc::sethostname(name.as_ptr(), name.as_bytes().len())),
            Operation::LoopbackUp => loopback_up(),
            Operation::Pivot => {
                pivot(*root)?;
                // It would be a way to name the root as a working directory.
                libc::close(*root);
                *root = -1;
                Ok(())
            }
        }
    }
}

unsafe fn mount_new(source: &CStr, target: &CStr, fstype: &CStr, options: &MountOptions) -> Outcome {
    // SAFETY: all strings are NUL-terminated and outlive the call.
    unsafe {
        let data = options.data.as_ptr().cast::<c_void>();
        let flags = options.flags & !libc::MS_REC;
        check(libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data))
    }
}

/// Options of a bind mount without the data, which would be on the heap.
#[derive(Clone, Copy)]
struct Attributes {
    flags: c_ulong,
    recursive: bool,
}

impl Attributes {
    fn of(options: &MountOptions) -> Self {
        Self { flags: options.flags, recursive: options.recursive_attributes }
    }
}

unsafe fn bind(root: RawFd, source: &CStr, target: &CStr, options: Attributes, links: Links) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let from = libc::open(source.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        check_at(from, at::SOURCE)?;
        let result = bind_from(root, from, target, options, links);
        libc::close(from);
        result
    }
}

/// Binds what `from` holds, so that nobody can put something else in its place any more.
unsafe fn bind_from(root: RawFd, from: RawFd, target: &CStr, options: Attributes, links: Links) -> Outcome {
    // SAFETY: as for `bind`.
    unsafe {
        let point = mount_point(root, target, links, kind_of(from)?)?;
        let (mut source, mut onto) = ([0; PATH_BUFFER], [0; PATH_BUFFER]);
        let flags = libc::MS_BIND | (options.flags & libc::MS_REC);
        let none = ptr::null();
        let result = libc::mount(
            descriptor_path(from, &mut source).as_ptr(),
            descriptor_path(point, &mut onto).as_ptr(),
            none,
            flags,
            none.cast(),
        );
        libc::close(point);
        check(result)?;
        if options.flags & ATTRIBUTE_FLAGS == 0 {
            return Ok(());
        }
        // The descriptor of the mount point is still what was there before.
        let mounted = open_in_root(root, target, links, libc::O_PATH);
        check_at(mounted, at::TARGET)?;
        let result = set_attributes(mounted, options);
        libc::close(mounted);
        result
    }
}

const ATTRIBUTE_FLAGS: c_ulong = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Restricts a mount. Only ever adds restrictions: what the source had stays, and in a user namespace must.
unsafe fn set_attributes(fd: RawFd, options: Attributes) -> Outcome {
    if options.flags & ATTRIBUTE_FLAGS == 0 {
        return Ok(());
    }
    // SAFETY: the struct outlives the call, and its size is given.
    unsafe {
        // The first four flags have the same values in both interfaces.
        let attributes =
            MountAttributes { set: options.flags & ATTRIBUTE_FLAGS, clear: 0, propagation: 0, userns_fd: 0 };
        let recursive = if options.recursive { libc::AT_RECURSIVE } else { 0 };
        let result = libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<MountAttributes>(),
        );
        if result == 0 || options.recursive || !matches!(errno(), libc::ENOSYS | libc::EPERM) {
            return check_at(result as c_int, at::ATTRIBUTES);
        }
        remount(fd, options)
    }
}

/// For kernels before 5.12. What the mount has already must be repeated.
unsafe fn remount(fd: RawFd, options: Attributes) -> Outcome {
    // SAFETY: `statvfs` is plain data, filled by the kernel.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        check_at(libc::fstatvfs(fd, &raw mut stat), at::ATTRIBUTES)?;
        // ST_… and MS_… agree for these; ST_RELATIME does not.
        let mut flags =
            stat.f_flag & (ATTRIBUTE_FLAGS | libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_SYNCHRONOUS);
        if stat.f_flag & libc::ST_RELATIME != 0 {
            flags |= libc::MS_RELATIME;
        }
        flags |= options.flags & ATTRIBUTE_FLAGS | libc::MS_BIND | libc::MS_REMOUNT;
        let mut buffer = [0; PATH_BUFFER];
        let path = descriptor_path(fd, &mut buffer).as_ptr();
        let none = ptr::null();
        check_at(libc::mount(none, path, none, flags, none.cast()), at::ATTRIBUTES)
    }
}

unsafe fn device(root: RawFd, path: &CStr, host: &CStr, rdev: u64, mode: u32) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let (parent, name) = open_parent(root, path)?;
        // The mask of the caller applies until the command gets its own.
        libc::umask(0);
        let result = libc::mknodat(parent, name.as_ptr(), libc::S_IFCHR | mode, rdev as libc::dev_t);
        libc::close(parent);
        if result == 0 {
            return Ok(());
        }
        if errno() != libc::EPERM {
            return Err(at::CALL);
        }
        let from = libc::open(host.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        check_at(from, at::SOURCE)?;
        let result = if is_device(from, rdev) {
            bind_from(root, from, path, Attributes { flags: 0, recursive: false }, Links::Refuse)
        } else {
            Err(at::KIND)
        };
        libc::close(from);
        result
    }
}

unsafe fn is_device(fd: RawFd, rdev: u64) -> bool {
    // SAFETY: `stat` is plain data, filled by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &raw mut stat) < 0 {
            return false;
        }
        let right = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev as u64 == rdev;
        if !right {
            set_errno(libc::ENODEV);
        }
        right
    }
}

unsafe fn mask(root: RawFd, path: &CStr) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let fd = open_in_root(root, path, Links::Refuse, libc::O_PATH);
        if fd < 0 {
            return missing_is_fine();
        }
        let mut buffer = [0; PATH_BUFFER];
        let onto = descriptor_path(fd, &mut buffer);
        let result = if kind_of(fd)? == libc::S_IFDIR {
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let fstype = c"tmpfs".as_ptr();
            check(libc::mount(fstype, onto.as_ptr(), fstype, flags, c"size=0,nr_inodes=1".as_ptr().cast()))
        } else {
            mask_file(onto)
        };
        libc::close(fd);
        result
    }
}

unsafe fn mask_file(onto: &CStr) -> Outcome {
    // SAFETY: strings are NUL-terminated; the descriptor is ours and closed once.
    unsafe {
        // The host's own, and only if it is what it is called.
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        check_at(null, at::SOURCE)?;
        let mut source = [0; PATH_BUFFER];
        let none = ptr::null();
        let result = if is_device(null, libc::makedev(1, 3)) {
            let source = descriptor_path(null, &mut source).as_ptr();
            check(libc::mount(source, onto.as_ptr(), none, libc::MS_BIND, none.cast()))
        } else {
            Err(at::KIND)
        };
        libc::close(null);
        result
    }
}

unsafe fn read_only(root: RawFd, path: &CStr) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let fd = open_in_root(root, path, Links::Refuse, libc::O_PATH);
        if fd < 0 {
            return missing_is_fine();
        }
        let options = Attributes { flags: libc::MS_RDONLY | libc::MS_REC, recursive: false };
        let result = bind_from(root, fd, path, options, Links::Refuse);
        libc::close(fd);
        result
    }
}

unsafe fn missing_is_fine() -> Outcome {
    // SAFETY: reads the error number only.
    match unsafe { errno() } {
        libc::ENOENT | libc::ENOTDIR => Ok(()),
        _ => Err(at::TARGET),
    }
}

/// Opens a mount point, made if it is missing. A mount point of another kind than what is mounted is refused.
unsafe fn mount_point(root: RawFd, path: &CStr, links: Links, kind: libc::mode_t) -> Result<RawFd, u32> {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let mut fd = open_in_root(root, path, links, libc::O_PATH);
        if fd < 0 && errno() == libc::ENOENT {
            make_mount_point(root, path, kind)?;
            fd = open_in_root(root, path, links, libc::O_PATH);
        }
        check_at(fd, at::TARGET)?;
        let directory = kind_of(fd)? == libc::S_IFDIR;
        if directory != (kind == libc::S_IFDIR) {
            libc::close(fd);
            set_errno(if directory { libc::EISDIR } else { libc::ENOTDIR });
            return Err(at::TARGET);
        }
        Ok(fd)
    }
}

unsafe fn make_mount_point(root: RawFd, path: &CStr, kind: libc::mode_t) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        if kind == libc::S_IFDIR {
            return make_directories(root, path, 0o755, None);
        }
        make_file(root, path, 0)
    }
}

/// Makes an empty file, where a link at `path` leads if there is one.
unsafe fn make_file(root: RawFd, path: &CStr, followed: u32) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let mut buffer = [0; PATH_BUFFER];
        make_directories_from(root, parent_of(path, &mut buffer)?, 0o755, None, followed)?;
        let (parent, name) = open_parent(root, path)?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_WRONLY;
        let fd = libc::openat(parent, name.as_ptr(), flags, 0o644 as libc::c_uint);
        if fd < 0 && errno() == libc::EEXIST {
            if is_there(parent, name, libc::S_IFREG) {
                libc::close(parent);
                return Ok(());
            }
            let result = match behind_link(path, parent, name, &mut buffer, followed) {
                Ok(target) => make_file(root, target, followed + 1),
                Err(at) => Err(at),
            };
            libc::close(parent);
            return result;
        }
        libc::close(parent);
        check_at(fd, at::TARGET)?;
        libc::close(fd);
        Ok(())
    }
}

/// Whether another process made, at the same time, what was to be made: steps may share a root file system.
unsafe fn is_there(parent: RawFd, name: &CStr, kind: libc::mode_t) -> bool {
    // SAFETY: the name is NUL-terminated; `stat` is plain data, filled by the kernel.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        let result = libc::fstatat(parent, name.as_ptr(), &raw mut found, libc::AT_SYMLINK_NOFOLLOW);
        result == 0 && found.st_mode & libc::S_IFMT == kind
    }
}

/// Links followed one after the other where something is made behind them: each costs some pages of stack.
const MAX_LINKS: u32 = 16;

/// Where the link `name` in `parent`, which is at `path`, leads.
unsafe fn behind_link<'b>(
    path: &CStr,
    parent: RawFd,
    name: &CStr,
    buffer: &'b mut [u8; PATH_BUFFER],
    followed: u32,
) -> Result<&'b CStr, u32> {
    // SAFETY: the buffer's size is given, with room for a NUL; `statfs` is plain data, filled by the kernel.
    unsafe {
        if followed >= MAX_LINKS {
            set_errno(libc::ELOOP);
            return Err(at::TARGET);
        }
        let mut filesystem: libc::statfs = std::mem::zeroed();
        check_at(libc::fstatfs(parent, &raw mut filesystem), at::TARGET)?;
        if filesystem.f_type == libc::PROC_SUPER_MAGIC {
            // What its links say is not where they lead.
            set_errno(libc::ELOOP);
            return Err(at::TARGET);
        }
        let mut target = [0_u8; PATH_BUFFER];
        let length = libc::readlinkat(parent, name.as_ptr(), target.as_mut_ptr().cast(), PATH_BUFFER - 1);
        if length <= 0 {
            // Not a link: what is there is in the way.
            set_errno(libc::EEXIST);
            return Err(at::TARGET);
        }
        let target = &target[..length as usize];
        let directory = path.to_bytes().len() - name.to_bytes().len();
        let start = if target[0] == b'/' { 0 } else { directory };
        if start + target.len() >= PATH_BUFFER {
            set_errno(libc::ENAMETOOLONG);
            return Err(at::TARGET);
        }
        buffer[..start].copy_from_slice(&path.to_bytes()[..start]);
        buffer[start..start + target.len()].copy_from_slice(target);
        buffer[start + target.len()] = 0;
        CStr::from_bytes_until_nul(buffer).map_err(|_| at::TARGET)
    }
}

/// Makes each missing component of `path`, from the first.
unsafe fn make_directories(root: RawFd, path: &CStr, mode: u32, owner: Option<(u32, u32)>) -> Outcome {
    // SAFETY: as for `make_directories_from`.
    unsafe { make_directories_from(root, path, mode, owner, 0) }
}

unsafe fn make_directories_from(
    root: RawFd,
    path: &CStr,
    mode: u32,
    owner: Option<(u32, u32)>,
    followed: u32,
) -> Outcome {
    // SAFETY: `buffer` is NUL-terminated at every moment it is used as a string.
    unsafe {
        let existing = open_in_root(root, path, Links::Follow, libc::O_PATH | libc::O_DIRECTORY);
        if existing >= 0 {
            libc::close(existing);
            return Ok(());
        }
        let bytes = path.to_bytes();
        if bytes.len() >= PATH_BUFFER {
            set_errno(libc::ENAMETOOLONG);
            return Err(at::TARGET);
        }
        let mut end = 0;
        while end < bytes.len() {
            end += 1;
            while end < bytes.len() && bytes[end] != b'/' {
                end += 1;
            }
            let mut buffer = [0_u8; PATH_BUFFER];
            buffer[..end].copy_from_slice(&bytes[..end]);
            let Ok(prefix) = CStr::from_bytes_until_nul(&buffer) else { continue };
            let fd = open_in_root(root, prefix, Links::Follow, libc::O_PATH | libc::O_DIRECTORY);
            if fd >= 0 {
                libc::close(fd);
                continue;
            }
            if errno() != libc::ENOENT {
                // A magic link of /proc, say, which leads out of the root: nothing may be made there.
                return Err(at::TARGET);
            }
            make_directory(root, prefix, mode, owner, followed)?;
        }
        Ok(())
    }
}

unsafe fn make_directory(
    root: RawFd,
    path: &CStr,
    mode: u32,
    owner: Option<(u32, u32)>,
    followed: u32,
) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let (parent, name) = open_parent(root, path)?;
        libc::umask(0);
        let mut result = libc::mkdirat(parent, name.as_ptr(), mode as libc::mode_t);
        if result < 0 && errno() == libc::EEXIST {
            if is_there(parent, name, libc::S_IFDIR) {
                libc::close(parent);
                return Ok(());
            }
            let mut buffer = [0; PATH_BUFFER];
            let result = match behind_link(path, parent, name, &mut buffer, followed) {
                Ok(target) => make_directories_from(root, target, mode, owner, followed + 1),
                Err(at) => Err(at),
            };
            libc::close(parent);
            return result;
        }
        if let (0, Some((uid, gid))) = (result, owner) {
            result = libc::fchownat(parent, name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW);
        }
        libc::close(parent);
        check_at(result, at::TARGET)
    }
}

/// The directory that holds `path`, and the last component.
unsafe fn open_parent(root: RawFd, path: &CStr) -> Result<(RawFd, &CStr), u32> {
    // SAFETY: the name is the tail of a NUL-terminated string.
    unsafe {
        let mut buffer = [0; PATH_BUFFER];
        let parent = parent_of(path, &mut buffer)?;
        let fd = open_in_root(root, parent, Links::Follow, libc::O_PATH | libc::O_DIRECTORY);
        check_at(fd, at::TARGET)?;
        let bytes = path.to_bytes_with_nul();
        let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Ok((fd, CStr::from_bytes_with_nul_unchecked(&bytes[start..])))
    }
}

unsafe fn parent_of<'b>(path: &CStr, buffer: &'b mut [u8; PATH_BUFFER]) -> Result<&'b CStr, u32> {
    let bytes = path.to_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    if end >= PATH_BUFFER - 1 {
        // SAFETY: sets the error number only.
        unsafe { set_errno(libc::ENAMETOOLONG) };
        return Err(at::TARGET);
    }
    buffer[..end].copy_from_slice(&bytes[..end]);
    if end == 0 {
        buffer[0] = b'/';
    }
    buffer[end.max(1)] = 0;
    CStr::from_bytes_until_nul(buffer).map_err(|_| at::TARGET)
}

/// The length of a path that the kernel takes, with its NUL.
const PATH_BUFFER: usize = libc::PATH_MAX as usize;

/// `struct open_how`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// As `resolve::open_in_root`, for where nothing may be allocated. The way around a missing `openat2` follows
/// no links at all: a mount point behind one is then refused rather than looked for.
unsafe fn open_in_root(root: RawFd, path: &CStr, links: Links, flags: c_int) -> RawFd {
    // SAFETY: the struct outlives the call, and its size is given; strings are NUL-terminated.
    unsafe {
        let refuse = if links == Links::Refuse { libc::RESOLVE_NO_SYMLINKS } else { 0 };
        let how = OpenHow {
            flags: (flags | libc::O_CLOEXEC) as u64,
            mode: 0,
            resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | refuse,
        };
        for _ in 0..128 {
            let fd =
                libc::syscall(libc::SYS_openat2, root, path.as_ptr(), &raw const how, size_of::<OpenHow>());
            if fd >= 0 {
                return fd as RawFd;
            }
            match errno() {
                libc::EAGAIN | libc::EINTR => {}
                libc::ENOSYS | libc::EPERM => return open_without_links(root, path, flags),
                _ => return -1,
            }
        }
        -1
    }
}

unsafe fn open_without_links(root: RawFd, path: &CStr, flags: c_int) -> RawFd {
    // SAFETY: `name` is NUL-terminated because it is longer than what is copied into it.
    unsafe {
        let directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let mut here = libc::openat(root, c".".as_ptr(), directory);
        let mut rest = path.to_bytes();
        while here >= 0 {
            while let [b'/', tail @ ..] = rest {
                rest = tail;
            }
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (component, tail) = rest.split_at(end);
            rest = tail;
            if component.is_empty() {
                return here;
            }
            let mut name = [0_u8; 257];
            if component.len() > 255 || component == b".." {
                set_errno(if component == b".." { libc::EXDEV } else { libc::ENAMETOOLONG });
                libc::close(here);
                return -1;
            }
            name[..component.len()].copy_from_slice(component);
            let last = tail.is_empty();
            let flags = if last { flags | libc::O_NOFOLLOW | libc::O_CLOEXEC } else { directory };
            let next = libc::openat(here, name.as_ptr().cast(), flags);
            libc::close(here);
            here = next;
        }
        here
    }
}

unsafe fn kind_of(fd: RawFd) -> Result<libc::mode_t, u32> {
    // SAFETY: `stat` is plain data, filled by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check_at(libc::fstat(fd, &raw mut stat), at::TARGET)?;
        Ok(stat.st_mode & libc::S_IFMT)
    }
}

/// `/proc/self/fd/N`, for calls that take no descriptor.
fn descriptor_path(fd: RawFd, buffer: &mut [u8; PATH_BUFFER]) -> &CStr {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    let mut digits = [0; 10];
    let mut number = fd.unsigned_abs();
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let length = digits.len() - first;
    buffer[..PREFIX.len()].copy_from_slice(PREFIX);
    buffer[PREFIX.len()..PREFIX.len() + length].copy_from_slice(&digits[first..]);
    buffer[PREFIX.len() + length] = 0;
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"")
}

unsafe fn loopback_up() -> Outcome {
    // SAFETY: `ifreq` is plain data; the name is shorter than its field, which is zeroed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(socket)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        let mut result = libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut request);
        if result == 0 {
            request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
            result = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request);
        }
        libc::close(socket);
        check(result)
    }
}

unsafe fn pivot(root: RawFd) -> Outcome {
    // SAFETY: all strings are NUL-terminated and outlive the calls.
    unsafe {
        check(libc::fchdir(root))?;
        let dot = c".".as_ptr();
        if libc::syscall(libc::SYS_pivot_root, dot, dot) == 0 {
            // The old root is on top of the new one now; without it the new one is all there is.
            check(libc::umount2(dot, libc::MNT_DETACH))?;
        } else if errno() == libc::EINVAL {
            // The root of an initramfs cannot be pivoted away from.
            let none = ptr::null();
            check(libc::mount(dot, c"/".as_ptr(), none, libc::MS_MOVE, none.cast()))?;
            check(libc::chroot(dot))?;
        } else {
            return Err(at::CALL);
        }
        check(libc::chdir(c"/".as_ptr()))
    }
}

/// A working directory outside the root has been the way out of a container before: the kernel says of such a
/// directory that it is unreachable.
unsafe fn enter_directory(prepared: &Prepared<'_>) {
    // SAFETY: the buffer's size is given.
    unsafe {
        if libc::chdir(prepared.cwd.as_ptr()) < 0 {
            fail(prepared.report, Stage::Directory, 0, 0);
        }
        let mut buffer = [0_u8; PATH_BUFFER];
        let length = libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len());
        if length < 0 {
            fail(prepared.report, Stage::Directory, 0, 0);
        }
        if buffer[0] != b'/' {
            set_errno(libc::ENOENT);
            fail(prepared.report, Stage::OutsideRoot, 0, 0);
        }
    }
}

unsafe fn limit(prepared: &Prepared<'_>) {
    for (resource, soft, hard) in prepared.rlimits {
        let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
        // SAFETY: the struct outlives the call.
        if unsafe { libc::setrlimit64(*resource as _, &raw const limit) } < 0 {
            // SAFETY: as for `run`.
            unsafe { fail(prepared.report, Stage::Limits, *resource, 0) };
        }
    }
}

/// Gives up what the command may not have. The order matters: a filter without `no_new_privs` takes
/// `CAP_SYS_ADMIN` to install, the identity takes `CAP_SETUID` and `CAP_SETGID` to change: all gone after.
unsafe fn confine(report: RawFd, confinement: &Confinement) {
    // SAFETY: pointers are to locals or to prepared data, with their lengths.
    unsafe {
        // Keys of the caller's session are not the command's; a kernel without keys is fine.
        libc::syscall(libc::SYS_keyctl, 1, 0, 0, 0, 0);
        if confinement.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            fail(report, Stage::Privileges, 0, 0);
        }
        drop_bounding(report, confinement.capabilities);
        if let Some(filter) = &confinement.seccomp {
            let program = libc::sock_fprog {
                len: filter.program.len() as libc::c_ushort,
                filter: filter.program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
            };
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) < 0 {
                fail(report, Stage::Seccomp, 0, 0);
            }
        }
        identify(report, confinement);
        set_capabilities(report, confinement);
    }
}

unsafe fn drop_bounding(report: RawFd, keep: u64) {
    for number in 0..64 {
        // SAFETY: takes numbers only.
        let result = unsafe {
            match libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) {
                1 if keep & (1 << number) == 0 => libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0),
                other => other,
            }
        };
        if result < 0 {
            // SAFETY: as for `run`.
            unsafe {
                match errno() {
                    // The kernel knows none of this number.
                    libc::EINVAL => return,
                    _ => fail(report, Stage::Capabilities, number, 0),
                }
            }
        }
    }
}

unsafe fn identify(report: RawFd, confinement: &Confinement) {
    // SAFETY: the list of groups is given with its length.
    unsafe {
        if let Some(groups) = &confinement.groups
            && libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) < 0
        {
            fail(report, Stage::Groups, 0, 0);
        }
        let gid = confinement.gid;
        if libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0 {
            fail(report, Stage::Group, gid, 0);
        }
        let uid = confinement.uid;
        if libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0 {
            fail(report, Stage::User, uid, 0);
        }
    }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Root gets what it may have; anyone else lost everything with the change of user. Ambient capabilities go
/// with inheritable ones.
unsafe fn set_capabilities(report: RawFd, confinement: &Confinement) {
    let wanted = if confinement.uid == 0 { confinement.capabilities } else { 0 };
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    let mut data = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 has two of the structs, which outlive the call.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) < 0 {
            fail(report, Stage::Capabilities, 0, 1);
        }
        for (half, word) in data.iter_mut().enumerate() {
            // Nobody gets more than the caller has.
            word.permitted &= (wanted >> (32 * half)) as u32;
            word.effective = word.permitted;
            word.inheritable = 0;
        }
        if libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) < 0 {
            fail(report, Stage::Capabilities, 0, 2);
        }
    }
}

unsafe fn execute(prepared: &Prepared<'_>) -> ! {
    // SAFETY: both lists end in NULL, and their strings were prepared.
    unsafe {
        if prepared.programs.is_empty() && !prepared.searched {
            libc::_exit(0);
        }
        let mut denied = false;
        for program in prepared.programs {
            libc::execve(program.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
            let errno = errno();
            denied |= errno == libc::EACCES;
            let missing = matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES);
            if !(prepared.searched && missing) {
                fail(prepared.report, Stage::Execute, 0, 0);
            }
        }
        set_errno(if denied { libc::EACCES } else { libc::ENOENT });
        fail(prepared.report, Stage::NotFoundInPath, 0, 0)
    }
}

/// Asks to be killed when the caller's thread ends, and ends if that was before.
unsafe fn die_with_the_caller(report: RawFd) {
    // SAFETY: the struct outlives the call.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0 {
            fail(report, Stage::Keeper, 0, 1);
        }
        // The parent is in another process namespace, so that its number is 0 dead or alive. Who reads the
        // reports is alive.
        let mut poll = libc::pollfd { fd: report, events: 0, revents: 0 };
        if libc::poll(&raw mut poll, 1, 0) > 0 && poll.revents & libc::POLLERR != 0 {
            libc::_exit(127);
        }
    }
}

/// The command starts with no signal ignored or blocked, whatever the caller did.
unsafe fn default_signals() {
    // SAFETY: the set is plain data, and the array as long as the struct it stands for.
    unsafe {
        // `struct sigaction` of the kernel: all zeros is the default. The C library would keep two signals to
        // itself; the kernel refuses SIGKILL and SIGSTOP.
        let default = [0_u64; 4];
        for signal in 1..=64 {
            let nothing = ptr::null_mut::<c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, size_of::<u64>());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Closes all descriptors but these (sorted): the caller's files, pipes and locks are none of ours.
unsafe fn close_others(keep: &[RawFd]) {
    // SAFETY: closes descriptors of this process alone.
    unsafe {
        let mut from = 0;
        for fd in keep {
            close_between(from, *fd - 1);
            from = *fd + 1;
        }
        close_between(from, c_int::MAX);
    }
}

unsafe fn close_between(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: closes descriptors of this process alone.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) < 0 {
            // Before Linux 5.9.
            for fd in first..=last.min(highest_descriptor()) {
                libc::close(fd);
            }
        }
    }
}

unsafe fn close_on_exec_from(first: c_int) -> c_int {
    const CLOSE_RANGE_CLOEXEC: c_int = 4;
    // SAFETY: touches descriptors of this process alone.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, CLOSE_RANGE_CLOEXEC) < 0 {
            for fd in first..=highest_descriptor() {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        0
    }
}

unsafe fn highest_descriptor() -> c_int {
    // SAFETY: the struct outlives the call.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur.clamp(1024, 1 << 20) as c_int
    }
}

fn check(result: c_int) -> Outcome {
    check_at(result, at::CALL)
}

fn check_at(result: c_int, at: u32) -> Outcome {
    if result < 0 { Err(at) } else { Ok(()) }
}

unsafe fn errno() -> c_int {
    // SAFETY: the C library always has a place for it.
    unsafe { *libc::__errno_location() }
}

unsafe fn set_errno(errno: c_int) {
    // SAFETY: the C library always has a place for it.
    unsafe { *libc::__errno_location() = errno }
}

/// Reports the last error and ends.
unsafe fn fail(report: RawFd, stage: Stage, index: u32, detail: u32) -> ! {
    // SAFETY: as for `run`.
    unsafe {
        let errno = errno();
        send(report, stage, index, errno, detail);
        libc::_exit(127)
    }
}

unsafe fn send(fd: RawFd, stage: Stage, index: u32, value: i32, detail: u32) {
    let report = Report { stage: stage as u32, index, value, detail };
    // SAFETY: plain data of the size given; shorter than PIPE_BUF, so that it arrives whole.
    unsafe {
        libc::write(fd, (&raw const report).cast(), size_of::<Report>());
    }
}
