//! A terminal of the command's own.

use std::os::fd::RawFd;

use libc::{c_int, c_void};

use super::report::{Stage, fail};
use crate::sandbox::WindowSize;

/// What is needed to make one.
pub(crate) struct Terminal {
    pub(crate) size: WindowSize,
    /// Who may open it by its name.
    pub(crate) owner: Option<u32>,
    /// Where its other side is sent.
    pub(crate) socket: RawFd,
    /// It is one of the caller's `/dev/pts`, made before the root is entered: that has none, as nothing is mounted there.
    pub(crate) is_the_callers: bool,
}

/// Makes a terminal, takes it for all streams and as the one that controls the session, and sends its other side to the
/// caller.
pub(super) unsafe fn take(terminal: &Terminal, report: RawFd) {
    // SAFETY: system calls on our own descriptors, with pointers to locals that outlive them.
    unsafe {
        let check = |result: c_int, step: u32| {
            if result < 0 {
                fail(report, Stage::Terminal, step, 0);
            }
            result
        };
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let master = check(libc::open(c"/dev/ptmx".as_ptr(), flags), 0);
        let unlock: c_int = 0;
        check(libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlock), 1);
        // By its other side and not by a name, which an image could have put something else at.
        let slave = check(libc::ioctl(master, libc::TIOCGPTPEER, flags), 2);
        let size = libc::winsize {
            ws_row: terminal.size.rows,
            ws_col: terminal.size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        check(libc::ioctl(master, libc::TIOCSWINSZ, &raw const size), 3);
        if let Some(owner) = terminal.owner {
            check(libc::fchown(slave, owner, libc::gid_t::MAX), 4);
        }
        for stream in 0..3 {
            check(libc::dup2(slave, stream), 5);
        }
        check(libc::ioctl(0, libc::TIOCSCTTY, 0), 6);
        check(send_descriptor(terminal.socket, master), 7);
        libc::close(slave);
        libc::close(master);
        libc::close(terminal.socket);
    }
}

/// Room for the header of one descriptor, aligned as that.
#[repr(C)]
pub(crate) union Control {
    header: libc::cmsghdr,
    pub(crate) bytes: [u8; 64],
}

/// Sends a descriptor with one byte.
pub(super) unsafe fn send_descriptor(socket: RawFd, descriptor: RawFd) -> c_int {
    // SAFETY: all that the message points to are locals; the control buffer has room for one descriptor.
    unsafe {
        let mut byte = 0_u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast::<c_void>(), iov_len: 1 };
        let mut control = Control { bytes: [0; 64] };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return -1;
        }
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(descriptor);
        libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) as c_int
    }
}
