//! Work in a process of its own that shares the memory and the descriptors of this one.
//!
//! The kernel lets only a process with a single thread enter a user namespace, and a program that embeds the library has
//! many. So the work is done by another process, made with `CLONE_VM | CLONE_FILES`: it has its own credentials,
//! namespaces, working directory, file mode mask and dispositions of signals, and for all the rest is one more thread of this program. Values, locks
//! and channels work across the border, and it may start threads, which are in the namespace as well.
//!
//! With `CLONE_VFORK` the thread that makes it sleeps until it ends, and lends it its thread-local storage: to the C library
//! and to Rust the new process *is* that thread, which is why nobody else may be it in the meantime.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::dir::last_errno;
use crate::signal::BlockedSignals;

/// As much as a main thread usually has. It takes memory as it is used.
const STACK: usize = 8 << 20;
/// What is left free below the stack, so that an overflow ends the process.
const GUARD: usize = 64 << 10;

/// Carries out `work` in a process of its own with these `CLONE_` flags besides. The process dies with this one.
///
/// Threads that `work` leaves behind go on in the namespaces of the process until they end.
pub(super) fn apart<T: Send>(flags: c_int, work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    program_id();
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("user-namespace".to_owned());
    let lend = move || lend(flags, work, &sender);
    // SAFETY: what the closure borrows is used until it has sent something, or dropped the sender in unwinding, and this
    // function returns after that.
    #[expect(unsafe_code, reason = "the thread outlives the call, to collect the process")]
    let thread = unsafe { thread.spawn_unchecked(lend) };
    thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
    let outcome = receiver.recv().expect("the thread sends one outcome, whatever happens");
    outcome?.or_else(|panic| resume_unwind(panic))
}

/// The process that the program was started as, also in one that shares its memory.
pub(crate) fn program_id() -> i32 {
    static FIRST: OnceLock<i32> = OnceLock::new();
    *FIRST.get_or_init(|| rustix::process::getpid().as_raw_pid())
}

type Outcome<T> = Result<Result<T, Box<dyn Any + Send>>, Errno>;

/// How long an outcome waits for threads that `work` has started and not waited for. Who did not wait at all would leave the
/// process to the parent of this program if that ended right after, and some parents never look at what they are left; who waited
/// for ever would wait for what was given up, such as the look-up of a name.
const LINGERING: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The life of the thread that the process is.
fn lend<T: Send>(flags: c_int, work: impl FnOnce() -> T + Send, outcome: &Sender<Outcome<T>>) {
    let (process, result) = match start(flags, work) {
        Ok((process, Some(result))) => (process, result),
        // Killed amid its work, by somebody else or for a stack overflow. Its memory is ours, and what it was about to change
        // is half changed, locks are held for good: the same as if a thread of ours had been killed, which ends the program.
        Ok((_, None)) => std::process::abort(),
        Err(errno) => {
            let _ = outcome.send(Err(errno));
            return;
        }
    };
    if process.has_ended(LINGERING) {
        process.collect();
        // Fails only if the receiver is gone, which waits.
        let _ = outcome.send(Ok(result));
    } else {
        let _ = outcome.send(Ok(result));
        process.collect();
    }
}

/// Starts the process and sleeps until its first thread has ended.
#[expect(unsafe_code, reason = "clone")]
fn start<T: Send, W: FnOnce() -> T + Send>(
    flags: c_int,
    work: W,
) -> Result<(Process, Option<std::thread::Result<T>>), Errno> {
    let stack = Stack::new()?;
    let mut slot = Slot { work: Some(work), result: None };
    let flags = flags | libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let mut pidfd: c_int = -1;
    let blocked = BlockedSignals::new();
    // SAFETY: the function and its argument fit together; both, and the stack, outlive the first thread of the process,
    // since this thread goes on only when that has ended. It runs with this thread's storage, as described above. No signal
    // handler runs in it, as all signals are blocked. The descriptor is new and owned by nobody else.
    unsafe {
        let argument = (&raw mut slot).cast::<c_void>();
        let number = libc::clone(enter::<T, W>, stack.top(), flags, argument, &raw mut pidfd);
        let errno = last_errno();
        drop(blocked);
        if number < 0 {
            return Err(errno);
        }
        Ok((Process { number, pidfd: OwnedFd::from_raw_fd(pidfd) }, slot.result))
    }
}

struct Slot<T, W> {
    work: Option<W>,
    result: Option<std::thread::Result<T>>,
}

/// The first thread of the process. That it returns ends it, and not the threads it started.
#[expect(unsafe_code, reason = "what the process gets is a pointer")]
extern "C" fn enter<T, W: FnOnce() -> T>(slot: *mut c_void) -> c_int {
    // SAFETY: `start` passes a slot of these types, and touches it when this thread has ended.
    let slot = unsafe { &mut *slot.cast::<Slot<T, W>>() };
    // A program that ignores the signal gets no status of its children; the process has a table of its own.
    // SAFETY: changes that table alone, as the process does not share it.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if let Some(work) = slot.work.take() {
        slot.result = Some(catch_unwind(AssertUnwindSafe(work)));
    }
    0
}

/// The process, of which the first thread has ended.
struct Process {
    number: c_int,
    pidfd: OwnedFd,
}

impl Process {
    /// Whether all its threads end within this time.
    fn has_ended(&self, time: Timespec) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // What cannot be waited for like this is waited for later.
        poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until they have, so that it does not stay as a zombie.
    #[expect(unsafe_code, reason = "rustix does not know __WALL")]
    fn collect(self) {
        loop {
            // SAFETY: no status is asked for.
            let result = unsafe { libc::waitpid(self.number, ptr::null_mut(), libc::__WALL) };
            if result >= 0 || last_errno() != Errno::INTR {
                return;
            }
        }
    }
}

struct Stack(*mut c_void);

impl Stack {
    #[expect(unsafe_code, reason = "maps memory")]
    fn new() -> Result<Self, Errno> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: new memory, wherever the kernel likes.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), STACK, protection, flags) }?;
        let stack = Self(start);
        // SAFETY: the lowest pages of that memory, of which nothing is used yet.
        unsafe { rustix::mm::mprotect(start, GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    #[expect(unsafe_code, reason = "unmaps memory")]
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and no thread runs on it any more.
        let _ = unsafe { rustix::mm::munmap(self.0, STACK) };
    }
}
