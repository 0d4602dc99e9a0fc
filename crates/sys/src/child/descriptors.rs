//! Descriptors of the caller, none of which the command gets.

use std::os::fd::RawFd;

use libc::c_int;

/// Closes all descriptors but these (sorted): the caller's files, pipes and locks are none of ours.
pub(super) unsafe fn close_others(keep: &[RawFd]) {
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

pub(super) unsafe fn close_between(first: c_int, last: c_int) {
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

pub(super) unsafe fn close_on_exec_from(first: c_int) -> c_int {
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

pub(super) unsafe fn highest_descriptor() -> c_int {
    // SAFETY: the struct outlives the call.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur.clamp(1024, 1 << 20) as c_int
    }
}
