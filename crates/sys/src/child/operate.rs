//! The operations of a sandbox, one after the other.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use libc::c_char;

use super::devices::{device, host_device, mask_file};
use super::mounts::{Attributes, bind, bind_from, bind_on_host, mount_new, view};
use super::paths::{PATH_BUFFER, descriptor_path, kind_of, open_in_root, open_parent};
use super::points::{make_directories, mount_point};
use super::report::{Outcome, at, check, check_at, errno};
use crate::sandbox::{Links, Operation};

pub(super) unsafe fn operate(operation: &Operation, root: &mut RawFd) -> Outcome {
    // SAFETY: all strings are NUL-terminated and outlive the calls.
    unsafe {
        match operation {
            Operation::MakePrivate => {
                let flags = libc::MS_REC | libc::MS_PRIVATE;
                check(libc::mount(c"none".as_ptr(), c"/".as_ptr(), ptr::null(), flags, ptr::null()))
            }
            Operation::JoinCgroup(processes) => join_cgroup(processes),
            Operation::CgroupNamespace => check(libc::unshare(libc::CLONE_NEWCGROUP)),
            Operation::JoinNetwork(network) => check(libc::setns(network.raw(), libc::CLONE_NEWNET)),
            Operation::BindNetwork { network, target } => {
                let mut buffer = [0; PATH_BUFFER];
                let source = descriptor_path(network.raw(), &mut buffer).as_ptr();
                let none = ptr::null();
                check(libc::mount(source, target.as_ptr(), none, libc::MS_BIND, none.cast()))
            }
            Operation::HostMount { source, target, fstype, options, from } => {
                if let Some(from) = from {
                    check_at(libc::chdir(from.as_ptr()), at::SOURCE)?;
                }
                mount_new(source, target, fstype, options)
            }
            Operation::HostBind { source, target, options } => {
                bind_on_host(source, target, Attributes::of(options))
            }
            Operation::HostView { directory, path, inode, target, options } => {
                view(directory, path, *inode, target, Attributes::of(options))
            }
            Operation::HostFile { path, content, mode, owner } => {
                write_file(path, content.bytes(), *mode, *owner)
            }
            Operation::HostDevice { path, host, rdev, mode } => host_device(path, host, *rdev, *mode),
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
            Operation::Mask { path, null } => mask(*root, path, null),
            Operation::ReadOnly(path) => read_only(*root, path),
            Operation::Hostname(name) => check(libc::sethostname(name.as_ptr(), name.as_bytes().len())),
            Operation::LoopbackUp => loopback_up(),
            Operation::Chroot => {
                check(libc::fchdir(*root))?;
                check(libc::chroot(c".".as_ptr()))?;
                libc::close(*root);
                *root = -1;
                Ok(())
            }
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

unsafe fn join_cgroup(processes: &CStr) -> Outcome {
    // SAFETY: the path is NUL-terminated; what is written is given with its length; the descriptor is closed once.
    unsafe {
        let fd = libc::open(processes.as_ptr(), libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        check_at(fd, at::TARGET)?;
        // Who writes it.
        let written = libc::write(fd, c"0".as_ptr().cast(), 1);
        libc::close(fd);
        if written == 1 { Ok(()) } else { Err(at::CALL) }
    }
}

/// Makes a file that nobody can open before it is whole and has its owner and mode.
unsafe fn write_file(path: &CStr, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> Outcome {
    // SAFETY: the path is NUL-terminated; what is written is given with its length; the descriptor is closed once.
    unsafe {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_WRONLY;
        let fd = libc::open(path.as_ptr(), flags, 0 as libc::c_uint);
        check_at(fd, at::TARGET)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = libc::write(fd, rest.as_ptr().cast(), rest.len());
            match usize::try_from(written) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(_) if errno() == libc::EINTR => {}
                Err(_) => {
                    libc::close(fd);
                    return Err(at::CALL);
                }
            }
        }
        let mut result = libc::fchown(fd, uid, gid);
        if result == 0 {
            // The owner comes first: a change of it takes bits away.
            result = libc::fchmod(fd, mode as libc::mode_t);
        }
        libc::close(fd);
        check_at(result, at::ATTRIBUTES)
    }
}

unsafe fn mask(root: RawFd, path: &CStr, null: &CStr) -> Outcome {
    // SAFETY: strings are NUL-terminated; descriptors are ours and closed once.
    unsafe {
        let fd = open_in_root(root, path, Links::Refuse, libc::O_PATH);
        if fd < 0 {
            return missing_is_fine();
        }
        let result = if kind_of(fd)? == libc::S_IFDIR {
            let mut buffer = [0; PATH_BUFFER];
            let onto = descriptor_path(fd, &mut buffer).as_ptr();
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let fstype = c"tmpfs".as_ptr();
            check(libc::mount(fstype, onto, fstype, flags, c"size=0,nr_inodes=1".as_ptr().cast()))
        } else {
            mask_file(root, path, null)
        };
        libc::close(fd);
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
        } else if matches!(errno(), libc::EINVAL | libc::EPERM | libc::ENOSYS) {
            // The root of an initramfs cannot be pivoted away from, and filters of containers deny that more often than mounts.
            // The old root stays below the new one. Only a command that may unmount could take that away, which could mount
            // whatever is below as well.
            let none = ptr::null();
            check(libc::mount(dot, c"/".as_ptr(), none, libc::MS_MOVE, none.cast()))?;
            check(libc::chroot(dot))?;
        } else {
            return Err(at::CALL);
        }
        check(libc::chdir(c"/".as_ptr()))
    }
}
