//! Limits and privileges: what the command may not have is given up here.

use std::os::fd::RawFd;
use std::ptr;

use libc::c_int;

use super::Prepared;
use super::enclose::enclose;
use super::report::{Stage, errno, fail};
use super::terminal::send_descriptor;
use crate::sandbox::Confinement;

pub(super) unsafe fn limit(prepared: &Prepared<'_>) {
    for (resource, soft, hard) in prepared.rlimits {
        let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
        // SAFETY: the struct outlives the call.
        if unsafe { libc::setrlimit64(*resource as _, &raw const limit) } < 0 {
            // SAFETY: as for `start`.
            unsafe { fail(prepared.report, Stage::Limits, *resource, 0) };
        }
    }
}

/// Gives up what the command may not have. The order matters: a filter without `no_new_privs` takes
/// `CAP_SYS_ADMIN` to install, the identity takes `CAP_SETUID` and `CAP_SETGID` to change: all gone after.
pub(super) unsafe fn confine(report: RawFd, confinement: &Confinement, listener: Option<RawFd>) {
    // SAFETY: pointers are to locals or to prepared data, with their lengths.
    unsafe {
        // Keys of the caller's session are not the command's; a kernel without keys is fine.
        libc::syscall(libc::SYS_keyctl, 1, 0, 0, 0, 0);
        if confinement.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            fail(report, Stage::Privileges, 0, 0);
        }
        if confinement.enclosed && enclose() < 0 {
            fail(report, Stage::Enclosure, 0, 0);
        }
        drop_bounding(report, confinement.capabilities);
        if let Some(filter) = &confinement.seccomp {
            let program = libc::sock_fprog {
                len: filter.program.len() as libc::c_ushort,
                filter: filter.program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
            };
            install(report, &program, listener);
        }
        identify(report, confinement);
        set_capabilities(report, confinement);
    }
}

/// Installs a filter. Its listener, if it has one, goes to the caller, who answers what is called from here on.
unsafe fn install(report: RawFd, program: &libc::sock_fprog, listener: Option<RawFd>) {
    // SAFETY: the program outlives the calls; descriptors are ours and closed once.
    unsafe {
        let set = |flags: libc::c_ulong| {
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            libc::syscall(libc::SYS_seccomp, mode, flags, ptr::from_ref(program))
        };
        let Some(socket) = listener else {
            if set(0) < 0 {
                fail(report, Stage::Seccomp, 0, 0);
            }
            return;
        };
        // A signal between a call and its answer has it made again, unless the kernel can be told otherwise (Linux 5.19).
        let mut descriptor =
            set(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        if descriptor < 0 && errno() == libc::EINVAL {
            descriptor = set(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        }
        if descriptor < 0 || send_descriptor(socket, descriptor as RawFd) < 0 {
            fail(report, Stage::Seccomp, 1, 0);
        }
        libc::close(descriptor as RawFd);
        libc::close(socket);
    }
}

pub(super) unsafe fn drop_bounding(report: RawFd, keep: u64) {
    for number in 0..64 {
        // SAFETY: takes numbers only.
        let result = unsafe {
            match libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) {
                1 if keep & (1 << number) == 0 => libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0),
                other => other,
            }
        };
        if result < 0 {
            // SAFETY: as for `start`.
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

pub(super) unsafe fn identify(report: RawFd, confinement: &Confinement) {
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
pub(super) struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Root gets what it may have; anyone else lost everything with the change of user. Ambient capabilities go
/// with inheritable ones.
pub(super) unsafe fn set_capabilities(report: RawFd, confinement: &Confinement) {
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
