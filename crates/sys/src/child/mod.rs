//! Everything that happens between `clone` and `execve`.
//!
//! The caller may have any number of threads, and the new process is a copy of only one of them: a lock that
//! another thread held stays locked here for ever, that of the allocator included. So nothing in this folder
//! allocates, locks, panics on purpose or calls into the C library but for thin wrappers of system calls; all
//! it uses was prepared before. C library functions that would tell other threads (`setuid` and its kind) are
//! bypassed. Failures go back as a [`Report`] through a pipe.
#![expect(unsafe_code, reason = "this is what the crate is for")]

mod confine;
mod descriptors;
mod devices;
mod enclose;
mod mounts;
mod operate;
mod paths;
mod points;
mod reap;
mod report;
mod terminal;

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_char, c_int, c_long, c_ulong, c_void};

use self::confine::{confine, limit};
use self::descriptors::{close_on_exec_from, close_others};
pub(crate) use self::enclose::landlock_version;
use self::operate::operate;
use self::paths::PATH_BUFFER;
pub(crate) use self::report::{Report, Stage, at};
use self::report::{errno, fail, send, set_errno};
pub(crate) use self::terminal::{Control, Terminal};
use crate::sandbox::{Confinement, Operation};

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
    /// What becomes of the streams once there is a root.
    pub(crate) terminal: Option<Terminal>,
    /// Where the listener of the filter is sent, if it has one.
    pub(crate) listener: Option<RawFd>,
    /// The descriptors above, and those of operations, sorted.
    pub(crate) keep: &'p [RawFd],
    pub(crate) clone_flags: c_int,
    pub(crate) keeper: Keeper,
    /// Where the command starts, if it is to be in a cgroup.
    pub(crate) birthplace: Option<Birthplace>,
}

/// A cgroup of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birthplace {
    pub(crate) directory: RawFd,
    /// The operation that joins it, which is then done.
    pub(crate) operation: usize,
}

/// Who is between the caller and the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// Nobody.
    None,
    /// Process 1 of a namespace around that of the command.
    Namespace,
    /// A process that gets what the command leaves, and ends it.
    Reaper,
}

/// Starts whoever comes first: the keeper, or the command. -1 and `errno` if there is no new process.
///
/// # Safety
/// The calling process must stay as it is until this returns; the new one gets everything as it was.
pub(crate) unsafe fn start(prepared: &Prepared<'_>, pidfd: &mut c_int) -> c_long {
    // SAFETY: the new process does only what this folder does, and everything in `prepared` was made before the copy.
    unsafe {
        let (pid, done) = match prepared.keeper {
            Keeper::Namespace => (fork(libc::CLONE_NEWPID, pidfd), None),
            Keeper::Reaper => (fork(0, pidfd), None),
            Keeper::None => fork_command(prepared, pidfd),
        };
        if pid != 0 {
            return pid;
        }
        match prepared.keeper {
            Keeper::Namespace => keep(prepared),
            Keeper::Reaper => reap::keep(prepared),
            Keeper::None => {
                close_others(prepared.keep);
                become_command(prepared, done)
            }
        }
    }
}

/// Makes the process that becomes the command, in its cgroup if that can be had (Linux 5.7): moving it there later makes the
/// kernel wait for all its processors. Gives the operation which that has done, too.
unsafe fn fork_command(prepared: &Prepared<'_>, pidfd: &mut c_int) -> (c_long, Option<usize>) {
    let flags = prepared.clone_flags;
    // SAFETY: as for `start`.
    unsafe {
        if let Some(Birthplace { directory, operation }) = prepared.birthplace {
            let pid = fork_in_cgroup(flags, pidfd, directory);
            if pid >= 0 {
                return (pid, Some(operation));
            }
            // Whatever the reason, the operation meets it, too, or gets around it.
        }
        (fork(flags, pidfd), None)
    }
}

/// [`fork`] into a cgroup.
unsafe fn fork_in_cgroup(flags: c_int, pidfd: &mut c_int, cgroup: RawFd) -> c_long {
    /// `CLONE_INTO_CGROUP`, which libc has as a number of 32 bits on some architectures.
    const INTO_CGROUP: u64 = 1 << 33;
    // SAFETY: as for `fork`; the struct is plain data, whose size is given.
    unsafe {
        let mut arguments: libc::clone_args = std::mem::zeroed();
        arguments.flags = (flags | libc::CLONE_PIDFD) as u64 | INTO_CGROUP;
        arguments.pidfd = ptr::from_mut(pidfd) as u64;
        arguments.cgroup = cgroup as u64;
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    }
}

/// `fork` without the handlers that the C library runs, with flags. 0 in the child, where `pidfd` is not set.
///
/// No signal is sent when the child ends: a handler of SIGCHLD, or a loop around `wait`, of the program this
/// library is part of never learns of it.
///
/// # Safety
/// The child may do no more than the comment on top of this folder says.
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
        close_others(prepared.keep);
        die_with_the_caller(prepared.report, libc::SIGKILL);
        // A caller that ignores SIGCHLD would leave no status of the command, which has that signal since it was executed.
        // All of them stay blocked.
        default_dispositions();
        let mut pidfd = -1;
        let (pid, done) = fork_command(prepared, &mut pidfd);
        if pid < 0 {
            fail(prepared.report, Stage::Keeper, 0, 0);
        }
        if pid == 0 {
            become_command(prepared, done);
        }
        close_the_commands(prepared);
        if let Some(socket) = prepared.listener {
            libc::close(socket);
        }
        let mut status = 0;
        while libc::waitpid(pid as c_int, &raw mut status, libc::__WALL) < 0 {
            if errno() != libc::EINTR {
                fail(prepared.report, Stage::Watch, 0, 0);
            }
        }
        send(prepared.report, Stage::Exited, 0, status, 0);
        libc::_exit(0)
    }
}

/// Closes what is the command's alone: its other end must see when the command closes it.
unsafe fn close_the_commands(prepared: &Prepared<'_>) {
    // SAFETY: descriptors of this process, which it does not use any more.
    unsafe {
        libc::close(prepared.stdin);
        libc::close(prepared.stdout);
        libc::close(prepared.stderr);
        if let Some(terminal) = &prepared.terminal {
            libc::close(terminal.socket);
        }
    }
}

/// Carries out all operations but the one that is done already.
unsafe fn become_command(prepared: &Prepared<'_>, done: Option<usize>) -> ! {
    let report = prepared.report;
    // SAFETY: as for `start`.
    unsafe {
        if libc::setsid() < 0 {
            fail(report, Stage::Session, 0, 0);
        }
        streams(prepared);
        let (early, late) = match &prepared.terminal {
            Some(terminal) if terminal.is_the_callers => (Some(terminal), None),
            other => (None, other.as_ref()),
        };
        if let Some(terminal) = early {
            terminal::take(terminal, report);
        }
        let mut root = -1;
        for (index, operation) in prepared.operations.iter().enumerate() {
            if done == Some(index) {
                continue;
            }
            if let Err(at) = operate(operation, &mut root) {
                fail(report, Stage::Operation, index as u32, at);
            }
        }
        if let Some(terminal) = late {
            terminal::take(terminal, report);
        }
        libc::umask(prepared.umask as libc::mode_t);
        enter_directory(prepared);
        if close_on_exec_from(3) < 0 {
            fail(report, Stage::Descriptors, 0, 0);
        }
        limit(prepared);
        if let Some(confinement) = prepared.confinement {
            confine(report, confinement, prepared.listener);
        }
        if prepared.keeper == Keeper::None {
            // Only now: a change of credentials clears it.
            die_with_the_caller(report, libc::SIGKILL);
        }
        default_dispositions();
        unblock_signals();
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

unsafe fn execute(prepared: &Prepared<'_>) -> ! {
    // SAFETY: both lists end in NULL, and their strings were prepared.
    unsafe {
        if prepared.programs.is_empty() && !prepared.searched {
            libc::_exit(0);
        }
        let mut denied = false;
        for program in prepared.programs {
            let errno = become_program(program, prepared);
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

/// Becomes a program; why not, otherwise.
///
/// A file that a thread of the caller has just written may be open in a process that another thread started at that moment, until
/// that one gets to closing it. The kernel executes nothing that is open to be written, so this waits for a fifth of a second.
unsafe fn become_program(program: &CStr, prepared: &Prepared<'_>) -> c_int {
    const ATTEMPTS: usize = 200;
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: the lists end in null, their texts in NUL, and all of it outlives the calls.
    unsafe {
        for _ in 0..ATTEMPTS {
            libc::execve(program.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
            if errno() != libc::ETXTBSY {
                break;
            }
            libc::nanosleep(&raw const moment, ptr::null_mut());
            set_errno(libc::ETXTBSY);
        }
        errno()
    }
}

/// Asks for a signal when the caller's thread ends, and ends if that was before.
unsafe fn die_with_the_caller(report: RawFd, signal: c_int) {
    // SAFETY: the struct outlives the call.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 {
            fail(report, Stage::Watch, 0, 1);
        }
        // The parent is in another process namespace, so that its number is 0 dead or alive. Who reads the
        // reports is alive.
        let mut poll = libc::pollfd { fd: report, events: 0, revents: 0 };
        if libc::poll(&raw mut poll, 1, 0) > 0 && poll.revents & libc::POLLERR != 0 {
            libc::_exit(127);
        }
    }
}

/// No signal is ignored or handled any more, whatever the caller did.
unsafe fn default_dispositions() {
    // SAFETY: the array is as long as the struct it stands for.
    unsafe {
        // `struct sigaction` of the kernel: all zeros is the default. The C library would keep two signals to
        // itself; the kernel refuses SIGKILL and SIGSTOP.
        let default = [0_u64; 4];
        for signal in 1..=64 {
            let nothing = ptr::null_mut::<c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, size_of::<u64>());
        }
    }
}

/// The command starts with no signal blocked.
unsafe fn unblock_signals() {
    // SAFETY: the set is plain data.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
