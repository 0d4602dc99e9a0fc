//! What goes back to the caller, and the results that become it.

use std::os::fd::RawFd;

use libc::c_int;

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
    Watch,
    Session,
    Streams,
    Terminal,
    Operation,
    Directory,
    OutsideRoot,
    Descriptors,
    Limits,
    Privileges,
    Seccomp,
    Enclosure,
    Capabilities,
    Groups,
    Group,
    User,
    Execute,
    NotFoundInPath,
}

/// The error of an operation, with what it was at.
pub(super) type Outcome = Result<(), u32>;

/// What an operation was at when it failed; see `spawn::describe_detail`.
pub(crate) mod at {
    pub(crate) const CALL: u32 = 0;
    pub(crate) const TARGET: u32 = 1;
    pub(crate) const SOURCE: u32 = 2;
    pub(crate) const ATTRIBUTES: u32 = 3;
    pub(crate) const KIND: u32 = 4;
}

pub(super) fn check(result: c_int) -> Outcome {
    check_at(result, at::CALL)
}

pub(super) fn check_at(result: c_int, at: u32) -> Outcome {
    if result < 0 { Err(at) } else { Ok(()) }
}

pub(super) unsafe fn errno() -> c_int {
    // SAFETY: the C library always has a place for it.
    unsafe { *libc::__errno_location() }
}

pub(super) unsafe fn set_errno(errno: c_int) {
    // SAFETY: the C library always has a place for it.
    unsafe { *libc::__errno_location() = errno }
}

/// Reports the last error and ends.
pub(super) unsafe fn fail(report: RawFd, stage: Stage, index: u32, detail: u32) -> ! {
    // SAFETY: as for `start`.
    unsafe {
        let errno = errno();
        send(report, stage, index, errno, detail);
        libc::_exit(127)
    }
}

pub(super) unsafe fn send(fd: RawFd, stage: Stage, index: u32, value: i32, detail: u32) {
    let report = Report { stage: stage as u32, index, value, detail };
    // SAFETY: plain data of the size given; shorter than PIPE_BUF, so that it arrives whole.
    unsafe {
        libc::write(fd, (&raw const report).cast(), size_of::<Report>());
    }
}
