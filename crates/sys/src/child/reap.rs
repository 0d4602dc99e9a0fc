//! A keeper where no process namespace can be had.

use libc::c_int;

use super::report::{Stage, errno, fail, send};
use super::{
    Prepared, become_command, close_others, close_the_commands, default_dispositions, die_with_the_caller,
    fork_command,
};

/// Sent to the keeper when the caller dies, and by the caller to end the command.
const END: c_int = libc::SIGTERM;

/// Whoever loses its parent below the keeper becomes its child. When the command has ended, or the caller dies or says so, it
/// kills all its children until there are none. It shuts down its end of the listener's socket first: nobody's calls are
/// answered then, so that who would only make more of itself, or complain, waits to be killed.
pub(super) unsafe fn keep(prepared: &Prepared<'_>) -> ! {
    // SAFETY: system calls on our own descriptors, with pointers to locals.
    unsafe {
        close_others(prepared.keep);
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 {
            fail(prepared.report, Stage::Watch, 0, 2);
        }
        // All signals are blocked: it waits until it is looked for.
        die_with_the_caller(prepared.report, END);
        default_dispositions();
        let mut pidfd = -1;
        let (pid, done) = fork_command(prepared, &mut pidfd);
        let pid = pid as c_int;
        if pid < 0 {
            fail(prepared.report, Stage::Keeper, 0, 0);
        }
        if pid == 0 {
            become_command(prepared, done);
        }
        close_the_commands(prepared);
        let ended = watch(prepared, pid, pidfd);
        if let Some(socket) = prepared.listener {
            libc::shutdown(socket, libc::SHUT_WR);
        }
        kill_all(prepared, pid, ended)
    }
}

/// Waits until the command has ended, whose status it gives, or is to be ended. Buries what others leave meanwhile.
unsafe fn watch(prepared: &Prepared<'_>, pid: c_int, pidfd: c_int) -> Option<c_int> {
    // SAFETY: plain data and descriptors of this process.
    unsafe {
        let mut wanted: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut wanted);
        libc::sigaddset(&raw mut wanted, END);
        libc::sigaddset(&raw mut wanted, libc::SIGCHLD);
        let signals = libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if signals < 0 {
            fail(prepared.report, Stage::Watch, 0, 3);
        }
        loop {
            let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut polled = [entry(pidfd), entry(signals)];
            if libc::poll(polled.as_mut_ptr(), 2, -1) < 0 && errno() != libc::EINTR {
                fail(prepared.report, Stage::Watch, 0, 4);
            }
            if let Some(status) = bury(pid) {
                return Some(status);
            }
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            while libc::read(signals, (&raw mut info).cast(), size) > 0 {
                if info.ssi_signo == END as u32 {
                    return None;
                }
            }
        }
    }
}

/// Waits for whoever has ended, and gives the status of the command if that is among them.
unsafe fn bury(pid: c_int) -> Option<c_int> {
    let mut of_command = None;
    loop {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        if ended <= 0 {
            return of_command;
        }
        if ended == pid {
            of_command = Some(status);
        }
    }
}

/// Kills all children, and those of theirs as they become its own, and ends.
unsafe fn kill_all(prepared: &Prepared<'_>, pid: c_int, ended: Option<c_int>) -> ! {
    // SAFETY: as for `start`.
    unsafe {
        let mut ended = ended;
        loop {
            kill_children(prepared);
            let mut status = 0;
            let found = libc::waitpid(-1, &raw mut status, libc::__WALL);
            if found == pid {
                ended = Some(status);
            }
            if found < 0 && errno() == libc::ECHILD {
                break;
            }
            ended = bury(pid).or(ended);
        }
        if let Some(status) = ended {
            send(prepared.report, Stage::Exited, 0, status, 0);
        }
        libc::_exit(0)
    }
}

/// Kills each child that there is now.
unsafe fn kill_children(prepared: &Prepared<'_>) {
    // SAFETY: the path ends in NUL; the buffer's size is given; the descriptor is closed once.
    unsafe {
        let list = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if list < 0 {
            fail(prepared.report, Stage::Watch, 0, 5);
        }
        let mut buffer = [0_u8; 4096];
        let mut number: c_int = 0;
        loop {
            let length = libc::read(list, buffer.as_mut_ptr().cast(), buffer.len());
            let Ok(length) = usize::try_from(length) else { break };
            if length == 0 {
                break;
            }
            // Numbers, each with a blank after it; one may be cut.
            for byte in buffer.iter().take(length) {
                if byte.is_ascii_digit() {
                    number = number.wrapping_mul(10).wrapping_add(c_int::from(byte - b'0'));
                } else if number > 0 {
                    libc::kill(number, libc::SIGKILL);
                    number = 0;
                }
            }
        }
        libc::close(list);
    }
}
