//! Signals for a command that is process 1 of its namespace.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Sends `signal` to the command that `pid` (with `pidfd`) is, or keeps; see [`Child::signal`](crate::Child::signal).
pub(crate) fn send(pid: u32, pidfd: BorrowedFd<'_>, has_keeper: bool, signal: i32) -> bool {
    let Some(named) = Signal::from_named_raw(signal) else { return true };
    if !has_keeper {
        let _ = pidfd_send_signal(pidfd, named);
        return true;
    }
    let Some(command) = kept_by(pid) else { return false };
    let Ok(command_fd) = pidfd_open(command, PidfdFlags::empty()) else { return true };
    // Opened before it is asked again: a number that was given to somebody else is no child of the keeper.
    if kept_by(pid) != Some(command) {
        return true;
    }
    match disposition(command, signal) {
        Disposition::Default if ends_by_default(named) => false,
        _ => {
            // Fails only if there is nobody left to tell.
            let _ = pidfd_send_signal(command_fd.as_fd(), named);
            true
        }
    }
}

/// The only child of the keeper.
fn kept_by(keeper: u32) -> Option<Pid> {
    let children = read(&format!("/proc/{keeper}/task/{keeper}/children"));
    Pid::from_raw(children.split_ascii_whitespace().next()?.parse().ok()?)
}

/// What a file of the kernel says; nothing when the process is gone.
fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::options().read(true).open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Default,
    /// Handled, ignored, or waited for.
    Own,
}

fn disposition(process: Pid, signal: i32) -> Disposition {
    let status = read(&format!("/proc/{process}/status"));
    disposition_in(&status, signal)
}

fn disposition_in(status: &str, signal: i32) -> Disposition {
    let is_set = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
        mask >> (signal - 1) & 1 == 1
    };
    if ["SigCgt", "SigIgn", "SigBlk"].into_iter().any(is_set) {
        Disposition::Own
    } else {
        Disposition::Default
    }
}

fn ends_by_default(signal: Signal) -> bool {
    [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
        Signal::PIPE,
        Signal::ALARM,
    ]
    .contains(&signal)
}

/// As long as it lives this thread takes no signals, and neither do processes that it starts.
pub(crate) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    #[expect(unsafe_code, reason = "rustix has no signal masks")]
    pub(crate) fn new() -> Self {
        // SAFETY: the sets are plain data.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    #[expect(unsafe_code, reason = "rustix has no signal masks")]
    fn drop(&mut self) {
        // SAFETY: a set that `new` got from the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_of_the_kernel_tell_who_handles_what() {
        let status =
            "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000014002\n";
        for (signal, disposition) in
            [(2, Disposition::Own), (3, Disposition::Own), (15, Disposition::Own), (1, Disposition::Default)]
        {
            assert_eq!(disposition_in(status, signal), disposition, "{signal}");
        }
        assert_eq!(disposition_in("", 15), Disposition::Default);
    }
}
