//! Paths inside the root, resolved by the kernel.

use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::c_int;

use super::report::{at, check_at, errno, set_errno};
use crate::sandbox::Links;

/// The directory that holds `path`, and the last component.
pub(super) unsafe fn open_parent(root: RawFd, path: &CStr) -> Result<(RawFd, &CStr), u32> {
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

pub(super) unsafe fn parent_of<'b>(path: &CStr, buffer: &'b mut [u8; PATH_BUFFER]) -> Result<&'b CStr, u32> {
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
pub(super) const PATH_BUFFER: usize = libc::PATH_MAX as usize;

/// `struct open_how`.
#[repr(C)]
pub(super) struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// As `resolve::open_in_root`, for where nothing may be allocated. The way around a missing `openat2` follows
/// no links at all: a mount point behind one is then refused rather than looked for.
pub(super) unsafe fn open_in_root(root: RawFd, path: &CStr, links: Links, flags: c_int) -> RawFd {
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

pub(super) unsafe fn open_without_links(root: RawFd, path: &CStr, flags: c_int) -> RawFd {
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

pub(super) unsafe fn kind_of(fd: RawFd) -> Result<libc::mode_t, u32> {
    // SAFETY: `stat` is plain data, filled by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check_at(libc::fstat(fd, &raw mut stat), at::TARGET)?;
        Ok(stat.st_mode & libc::S_IFMT)
    }
}

/// `/proc/self/fd/N`, for calls that take no descriptor.
pub(super) fn descriptor_path(fd: RawFd, buffer: &mut [u8; PATH_BUFFER]) -> &CStr {
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
