//! Device nodes. A node is made for the step where the kernel lets us, because who owns a node may change its mode, owner
//! and time; the host's own nodes are only ever bound read-only, which keeps all of that and lets their data through.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::mounts::{Attributes, bind_from, set_attributes};
use super::paths::{PATH_BUFFER, descriptor_path, open_parent};
use super::report::{Outcome, at, check, check_at, errno, set_errno};
use crate::sandbox::Links;

/// What the mount of a node of the host has: of devices, read-only keeps the node from changes, not the data.
const HOST_NODE: Attributes =
    Attributes { flags: libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NOEXEC, recursive: false };

/// Makes a node inside the root.
pub(super) unsafe fn device(root: RawFd, path: &CStr, host: &CStr, rdev: u64, mode: u32) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let (parent, name) = open_parent(root, path)?;
        let made = make_node(parent, name, rdev, mode);
        libc::close(parent);
        if made? {
            return Ok(());
        }
        let from = open_device(host, rdev)?;
        let result = bind_from(root, from, path, HOST_NODE, Links::Refuse);
        libc::close(from);
        result
    }
}

/// Makes a node on a path of the host.
pub(super) unsafe fn host_device(path: &CStr, host: &CStr, rdev: u64, mode: u32) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        if make_node(libc::AT_FDCWD, path, rdev, mode)? {
            return Ok(());
        }
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_WRONLY;
        let point = libc::open(path.as_ptr(), flags, 0 as libc::c_uint);
        check_at(point, at::TARGET)?;
        libc::close(point);
        let from = open_device(host, rdev)?;
        let mut source = [0; PATH_BUFFER];
        let none = std::ptr::null();
        let source = descriptor_path(from, &mut source).as_ptr();
        let result = libc::mount(source, path.as_ptr(), none, libc::MS_BIND, none.cast());
        libc::close(from);
        check(result)?;
        let mounted = libc::open(path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        check_at(mounted, at::TARGET)?;
        let result = set_attributes(mounted, HOST_NODE);
        libc::close(mounted);
        result
    }
}

/// Whether the node could be made; `false` where that is not allowed.
unsafe fn make_node(parent: RawFd, name: &CStr, rdev: u64, mode: u32) -> Result<bool, u32> {
    // SAFETY: the name is NUL-terminated.
    unsafe {
        // The mask of the caller applies until the command gets its own.
        libc::umask(0);
        match libc::mknodat(parent, name.as_ptr(), libc::S_IFCHR | mode, rdev as libc::dev_t) {
            0 => Ok(true),
            _ if errno() == libc::EPERM => Ok(false),
            _ => Err(at::CALL),
        }
    }
}

/// Opens a node of the host to bind it, if it is what it is called.
unsafe fn open_device(path: &CStr, rdev: u64) -> Result<RawFd, u32> {
    // SAFETY: the path is NUL-terminated; the descriptor is ours and closed once.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        check_at(fd, at::SOURCE)?;
        if is_device(fd, rdev) {
            return Ok(fd);
        }
        libc::close(fd);
        set_errno(libc::ENODEV);
        Err(at::KIND)
    }
}

unsafe fn is_device(fd: RawFd, rdev: u64) -> bool {
    // SAFETY: `stat` is plain data, filled by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut stat) == 0
            && stat.st_mode & libc::S_IFMT == libc::S_IFCHR
            && stat.st_rdev as u64 == rdev
    }
}

/// Hides a file behind `null`, read-only.
pub(super) unsafe fn mask_file(root: RawFd, path: &CStr, null: &CStr) -> Outcome {
    // SAFETY: the descriptor is ours and closed once.
    unsafe {
        let from = open_device(null, libc::makedev(1, 3))?;
        let result = bind_from(root, from, path, HOST_NODE, Links::Refuse);
        libc::close(from);
        result
    }
}
