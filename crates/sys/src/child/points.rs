//! Mount points and directories that are made where they are missing.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::paths::{PATH_BUFFER, kind_of, open_in_root, open_parent, parent_of};
use super::report::{Outcome, at, check_at, errno, set_errno};
use crate::sandbox::Links;

/// Opens a mount point, made if it is missing. A mount point of another kind than what is mounted is refused.
pub(super) unsafe fn mount_point(
    root: RawFd,
    path: &CStr,
    links: Links,
    kind: libc::mode_t,
) -> Result<RawFd, u32> {
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

pub(super) unsafe fn make_mount_point(root: RawFd, path: &CStr, kind: libc::mode_t) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        if kind == libc::S_IFDIR {
            return make_directories(root, path, 0o755, None);
        }
        make_file(root, path, 0)
    }
}

/// Makes an empty file, where a link at `path` leads if there is one.
pub(super) unsafe fn make_file(root: RawFd, path: &CStr, followed: u32) -> Outcome {
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
pub(super) unsafe fn is_there(parent: RawFd, name: &CStr, kind: libc::mode_t) -> bool {
    // SAFETY: the name is NUL-terminated; `stat` is plain data, filled by the kernel.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        let result = libc::fstatat(parent, name.as_ptr(), &raw mut found, libc::AT_SYMLINK_NOFOLLOW);
        result == 0 && found.st_mode & libc::S_IFMT == kind
    }
}

/// Links followed one after the other where something is made behind them: each costs some pages of stack.
pub(super) const MAX_LINKS: u32 = 16;

/// Where the link `name` in `parent`, which is at `path`, leads.
pub(super) unsafe fn behind_link<'b>(
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
pub(super) unsafe fn make_directories(
    root: RawFd,
    path: &CStr,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Outcome {
    // SAFETY: as for `make_directories_from`.
    unsafe { make_directories_from(root, path, mode, owner, 0) }
}

pub(super) unsafe fn make_directories_from(
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

pub(super) unsafe fn make_directory(
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
