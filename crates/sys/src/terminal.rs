//! Terminals of commands, from outside.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use crate::child::Control;
use crate::dir::last_errno;
use crate::sandbox::WindowSize;

/// Takes the descriptor that the child sent; `None` when it ended before it sent one.
#[expect(unsafe_code, reason = "the standard library receives no descriptors")]
pub(crate) fn receive(socket: &UnixStream) -> Result<Option<File>, Errno> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: all that the message points to are locals that outlive the call, with their sizes; a descriptor that the
    // kernel put into the control buffer is new and owned by nobody else.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        let received = loop {
            let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
            if received >= 0 {
                break received;
            }
            match last_errno() {
                Errno::INTR => {}
                errno => return Err(errno),
            }
        };
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if received == 0 || header.is_null() {
            return Ok(None);
        }
        let is_descriptor =
            (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS;
        if !is_descriptor {
            return Ok(None);
        }
        let descriptor = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Ok(Some(File::from(OwnedFd::from_raw_fd(descriptor))))
    }
}

/// Tells a terminal its size, and who runs in it of the change.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> std::io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the struct outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 { Err(last_errno().into()) } else { Ok(()) }
}

/// The number of a terminal, by the side of it that is not in `/dev/pts`.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn terminal_number(master: impl AsFd) -> Result<u32, Errno> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the number outlives the call, which fills it.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    if result < 0 { Err(last_errno()) } else { Ok(number) }
}
