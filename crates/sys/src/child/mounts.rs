//! Mounts, once their mount points are known.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, c_ulong, c_void};

use super::paths::{PATH_BUFFER, descriptor_path, kind_of, open_in_root};
use super::points::mount_point;
use super::report::{Outcome, at, check, check_at, errno, set_errno};
use crate::sandbox::{Links, MountOptions};

pub(super) unsafe fn mount_new(
    source: &CStr,
    target: &CStr,
    fstype: &CStr,
    options: &MountOptions,
) -> Outcome {
    // SAFETY: all strings are NUL-terminated and outlive the call.
    unsafe {
        let data = options.data.as_ptr().cast::<c_void>();
        let flags = options.flags & !libc::MS_REC;
        check(libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data))
    }
}

/// Options of a bind mount without the data, which would be on the heap.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub(super) flags: c_ulong,
    pub(super) recursive: bool,
}

impl Attributes {
    pub(super) fn of(options: &MountOptions) -> Self {
        Self { flags: options.flags, recursive: options.recursive_attributes }
    }
}

pub(super) unsafe fn bind(
    root: RawFd,
    source: &CStr,
    target: &CStr,
    options: Attributes,
    links: Links,
) -> Outcome {
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
pub(super) unsafe fn bind_from(
    root: RawFd,
    from: RawFd,
    target: &CStr,
    options: Attributes,
    links: Links,
) -> Outcome {
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

/// Binds one path of the host on another.
pub(super) unsafe fn bind_on_host(source: &CStr, target: &CStr, options: Attributes) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let flags = libc::MS_BIND | (options.flags & libc::MS_REC);
        let none = ptr::null();
        check(libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()))?;
        let fd = libc::open(target.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        check_at(fd, at::TARGET)?;
        let result = set_attributes(fd, options);
        libc::close(fd);
        result
    }
}

/// Binds what is at `path` below a directory of the host, if it is what it should be, on another path of the host.
pub(super) unsafe fn view(
    directory: &CStr,
    path: &CStr,
    inode: Option<(u64, u64)>,
    target: &CStr,
    options: Attributes,
) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let root = libc::open(directory.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        check_at(root, at::SOURCE)?;
        let from = open_in_root(root, path, Links::Refuse, libc::O_PATH);
        libc::close(root);
        check_at(from, at::SOURCE)?;
        let mut source = [0; PATH_BUFFER];
        let result = check_inode(from, inode)
            .and_then(|()| bind_on_host(descriptor_path(from, &mut source), target, options));
        libc::close(from);
        result
    }
}

/// Fails if this is another file than the one that is expected.
unsafe fn check_inode(fd: RawFd, inode: Option<(u64, u64)>) -> Outcome {
    // SAFETY: `stat` is plain data, filled by the kernel.
    unsafe {
        let Some(expected) = inode else { return Ok(()) };
        let mut found: libc::stat = std::mem::zeroed();
        check_at(libc::fstat(fd, &raw mut found), at::SOURCE)?;
        if (found.st_dev, found.st_ino) == expected {
            return Ok(());
        }
        set_errno(libc::ESTALE);
        Err(at::SOURCE)
    }
}

pub(super) const ATTRIBUTE_FLAGS: c_ulong =
    libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// `struct mount_attr`.
#[repr(C)]
pub(super) struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Restricts a mount. Only ever adds restrictions: what the source had stays, and in a user namespace must.
pub(super) unsafe fn set_attributes(fd: RawFd, options: Attributes) -> Outcome {
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
pub(super) unsafe fn remount(fd: RawFd, options: Attributes) -> Outcome {
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
