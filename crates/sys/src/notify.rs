//! System calls of others that this process answers (`seccomp_unotify(2)`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::dir::last_errno;
use crate::seccomp::call_name;
use crate::terminal;

/// The listener of a command that has not got its filter yet.
#[derive(Debug)]
pub struct PendingListener {
    socket: UnixStream,
    /// Whether the other side of the socket is held until the command has ended.
    tells_end: bool,
}

impl PendingListener {
    pub(crate) fn new(socket: UnixStream, tells_end: bool) -> Self {
        Self { socket, tells_end }
    }

    /// Waits until the command has its filter; `None` when it ended before.
    pub fn wait(self) -> io::Result<Option<Listener>> {
        let Some(descriptor) = terminal::receive(&self.socket)? else { return Ok(None) };
        Ok(Some(Listener::new(descriptor.into(), self.tells_end.then_some(self.socket))))
    }
}

/// Gets the calls that a filter leaves to it ([`Verdict::Notify`](crate::Verdict::Notify)). None of them ends before it is
/// answered, or the one who made it is killed; without a listener they fail with ENOSYS.
#[derive(Debug)]
pub struct Listener {
    descriptor: OwnedFd,
    /// Shut down when the command has ended, and hung up when all that it started is gone.
    end: Option<UnixStream>,
}

/// A call, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The thread, by its number in the process namespace of whoever listens.
    pub thread: i32,
    /// The call's name; empty where this crate does not know it.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out, as if nobody had asked. It reads what is behind pointers anew.
    Continue,
    /// It returns this and does nothing.
    Value(i64),
    /// It fails.
    Fail(Errno),
}

impl Listener {
    fn new(descriptor: OwnedFd, end: Option<UnixStream>) -> Self {
        // Whoever called sleeps until it is answered, and so both may take turns on one processor (Linux 6.6).
        // SAFETY: takes a number. Kernels that do not know it say so, which changes nothing.
        #[expect(unsafe_code, reason = "an ioctl")]
        unsafe {
            const SYNCHRONOUS: u64 = 1;
            libc::ioctl(descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNCHRONOUS);
        }
        Self { descriptor, end }
    }

    /// Waits for the next call; `None` when nobody with this filter is left. Once the command has ended, what it has left is
    /// being killed, and its calls wait for that.
    pub fn next(&self) -> Result<Option<Call>, Errno> {
        let mut has_ended = false;
        loop {
            let wanted = if has_ended { [PollFlags::empty(); 2] } else { [PollFlags::IN, PollFlags::RDHUP] };
            let mut polled = vec![PollFd::new(&self.descriptor, wanted[0])];
            polled.extend(self.end.as_ref().map(|end| PollFd::new(end, wanted[1])));
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let end = polled.get(1).map_or(PollFlags::empty(), PollFd::revents);
            if end.contains(PollFlags::HUP) {
                return Ok(None);
            }
            if end.contains(PollFlags::RDHUP) {
                has_ended = true;
                continue;
            }
            if !polled[0].revents().contains(PollFlags::IN) {
                return Ok(None);
            }
            match self.receive() {
                // Who made it was killed or interrupted meanwhile.
                Err(Errno::NOENT | Errno::INTR) => {}
                result => return result.map(Some),
            }
        }
    }

    #[expect(unsafe_code, reason = "an ioctl")]
    fn receive(&self) -> Result<Call, Errno> {
        // SAFETY: plain data, which the kernel wants to be zero and fills.
        let call = unsafe {
            let mut call: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(self.descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) < 0 {
                return Err(last_errno());
            }
            call
        };
        let name = call_name(call.data.nr).unwrap_or_default();
        Ok(Call { id: call.id, thread: call.pid.cast_signed(), name, arguments: call.data.args })
    }

    /// Whether who made the call still waits for its answer. Only after that is what was opened by the number of its thread
    /// known not to be of another one that has the number since.
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn waits(&self, call: &Call) -> bool {
        // SAFETY: reads a number that outlives the call.
        unsafe {
            libc::ioctl(self.descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const call.id)
                == 0
        }
    }

    /// Answers a call. Who does not wait any more needs no answer.
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn answer(&self, call: &Call, answer: Answer) -> Result<(), Errno> {
        let (val, error, flags) = match answer {
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Value(value) => (value, 0, 0),
            Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
        };
        let answer = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        // SAFETY: reads a struct that outlives the call.
        let result = unsafe {
            libc::ioctl(self.descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer)
        };
        if result < 0 { gone_is_fine(last_errno()) } else { Ok(()) }
    }

    /// Answers a call with a descriptor: who made it gets a copy under a number of its own (Linux 5.14).
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn answer_with(
        &self,
        call: &Call,
        descriptor: BorrowedFd<'_>,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        let answer = libc::seccomp_notif_addfd {
            id: call.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: descriptor.as_raw_fd().cast_unsigned(),
            newfd: 0,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        // SAFETY: reads a struct that outlives the call.
        let result = unsafe {
            libc::ioctl(self.descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const answer)
        };
        if result >= 0 {
            return Ok(());
        }
        match last_errno() {
            // It has as many descriptors as it may have.
            errno @ (Errno::MFILE | Errno::NFILE) => self.answer(call, Answer::Fail(errno)),
            errno => gone_is_fine(errno),
        }
    }
}

/// Reads what a thread has in memory, of what this process may look at: as much as there is up to the length of the buffer, but
/// for what is beyond the next page. Takes the same real ids, or `CAP_SYS_PTRACE`.
#[expect(unsafe_code, reason = "rustix does not know this call")]
pub fn read_memory(thread: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    const PAGE: usize = 4096;
    let in_page = (PAGE - address as usize % PAGE).min(buffer.len());
    let of = |start: usize, length: usize| libc::iovec {
        iov_base: (address as usize).wrapping_add(start) as *mut libc::c_void,
        iov_len: length,
    };
    // The next page may not be there.
    let remote = [of(0, in_page), of(in_page, (buffer.len() - in_page).min(PAGE))];
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the kernel writes into the buffer, whose length it is told; what is read is in another process, or refused.
    let length = unsafe {
        libc::process_vm_readv(thread, &raw const local, 1, remote.as_ptr(), remote.len() as u64, 0)
    };
    usize::try_from(length).map_err(|_| last_errno())
}

fn gone_is_fine(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOENT { Ok(()) } else { Err(errno) }
}

/// What the kernel tells of a file, in the form in which it tells it: that of `stat`, or that of `statx`.
#[derive(Clone, Copy)]
pub enum FileStatus {
    /// `struct stat`.
    Stat(libc::stat),
    /// `struct statx`.
    Extended(libc::statx),
}

/// What is told of a file instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pretended {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The file type bits and the number of a device that the file stands for.
    pub device: Option<(u32, u64)>,
}

impl FileStatus {
    /// Fields of `statx` that [`FileStatus::mount`] takes (Linux 5.8).
    pub const MOUNT: u32 = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;

    /// The mount that the file is seen in, if `statx` was asked for it.
    pub fn mount(&self) -> Option<u64> {
        match self {
            Self::Extended(stat) if stat.stx_mask & libc::STATX_MNT_ID != 0 => Some(stat.stx_mnt_id),
            _ => None,
        }
    }

    /// As `fstatat`.
    #[expect(unsafe_code, reason = "the kernel's own form of it")]
    pub fn of(directory: BorrowedFd<'_>, path: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        // SAFETY: the path ends in NUL; the struct is plain data, filled by the kernel.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let flags = flags.bits().cast_signed();
            if libc::fstatat(directory.as_raw_fd(), path.as_ptr(), &raw mut stat, flags) < 0 {
                return Err(last_errno());
            }
            Ok(Self::Stat(stat))
        }
    }

    /// As `statx`, which looks at these fields.
    #[expect(unsafe_code, reason = "the kernel's own form of it")]
    pub fn extended(
        directory: BorrowedFd<'_>,
        path: &CStr,
        flags: AtFlags,
        mask: u32,
    ) -> Result<Self, Errno> {
        let (directory, flags) = (directory.as_fd().as_raw_fd(), flags.bits().cast_signed());
        // SAFETY: the path ends in NUL; the struct is plain data, filled by the kernel.
        unsafe {
            let mut stat: libc::statx = std::mem::zeroed();
            if libc::statx(directory, path.as_ptr(), flags, mask | libc::STATX_INO, &raw mut stat) < 0 {
                return Err(last_errno());
            }
            Ok(Self::Extended(stat))
        }
    }

    /// Device and number of the inode.
    pub fn inode(&self) -> (u64, u64) {
        match self {
            Self::Stat(stat) => (stat.st_dev, stat.st_ino),
            Self::Extended(stat) => (libc::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
        }
    }

    /// Owner and group.
    pub fn owner(&self) -> (u32, u32) {
        match self {
            Self::Stat(stat) => (stat.st_uid, stat.st_gid),
            Self::Extended(stat) => (stat.stx_uid, stat.stx_gid),
        }
    }

    /// File type and permission bits.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Stat(stat) => stat.st_mode,
            Self::Extended(stat) => stat.stx_mode.into(),
        }
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        match self {
            Self::Stat(stat) => stat.st_size.cast_unsigned(),
            Self::Extended(stat) => stat.stx_size,
        }
    }

    /// Number of names.
    #[allow(clippy::useless_conversion, reason = "it is narrower on other architectures")]
    pub fn names(&self) -> u64 {
        match self {
            Self::Stat(stat) => stat.st_nlink.into(),
            Self::Extended(stat) => stat.stx_nlink.into(),
        }
    }

    /// The same with another owner, or as a device.
    pub fn pretend(&mut self, pretended: Pretended) {
        let Pretended { uid, gid, device } = pretended;
        match self {
            Self::Stat(stat) => {
                (stat.st_uid, stat.st_gid) = (uid, gid);
                if let Some((kind, number)) = device {
                    stat.st_mode = stat.st_mode & !libc::S_IFMT | kind;
                    stat.st_rdev = number;
                }
            }
            Self::Extended(stat) => {
                (stat.stx_uid, stat.stx_gid) = (uid, gid);
                if let Some((kind, number)) = device {
                    stat.stx_mode = (u32::from(stat.stx_mode) & !libc::S_IFMT | kind) as u16;
                    (stat.stx_rdev_major, stat.stx_rdev_minor) = (libc::major(number), libc::minor(number));
                }
            }
        }
    }

    /// The same with another size.
    pub fn set_size(&mut self, size: u64) {
        match self {
            Self::Stat(stat) => stat.st_size = size.cast_signed(),
            Self::Extended(stat) => stat.stx_size = size,
        }
    }

    /// Its bytes, as a program gets them.
    #[expect(unsafe_code, reason = "the kernel's own form of it")]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: both structs were zeroed and then filled by the kernel: no byte of them is uninitialised.
        unsafe {
            match self {
                Self::Stat(stat) => {
                    std::slice::from_raw_parts((&raw const *stat).cast(), size_of::<libc::stat>())
                }
                Self::Extended(stat) => {
                    std::slice::from_raw_parts((&raw const *stat).cast(), size_of::<libc::statx>())
                }
            }
        }
    }
}

impl std::fmt::Debug for FileStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (inode, mode) = (self.inode(), self.mode());
        f.debug_struct("FileStatus").field("inode", &inode).field("mode", &mode).finish_non_exhaustive()
    }
}

/// A number that a process carries, gives to all it starts, and keeps over `execve`: what its soft limit of real-time CPU time
/// (`RLIMIT_RTTIME`) is above a number that no limit ever is. It limits nothing, since a step gets no real-time scheduling.
/// 0 for a process that carries none.
pub fn mark_of(thread: i32) -> Result<u64, Errno> {
    let limit = real_time_limit(thread, None)?;
    let is_mark = limit.rlim_cur != libc::RLIM64_INFINITY;
    Ok(limit.rlim_cur.checked_sub(MARK).filter(|_| is_mark).unwrap_or(0))
}

/// Gives a process its number, below 2⁶².
pub fn set_mark(thread: i32, mark: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: MARK + mark, rlim_max: libc::RLIM64_INFINITY };
    real_time_limit(thread, Some(&limit)).map(drop)
}

const MARK: u64 = 1 << 62;

/// The resource whose soft limit is the mark: `RLIMIT_RTTIME`.
pub const MARKED_RESOURCE: u32 = 15;

#[expect(unsafe_code, reason = "rustix does not read limits of others")]
fn real_time_limit(thread: i32, new: Option<&libc::rlimit64>) -> Result<libc::rlimit64, Errno> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both structs outlive the call; no new limit is a null pointer.
    let result = unsafe { libc::prlimit64(thread, libc::RLIMIT_RTTIME, new, &raw mut old) };
    if result < 0 { Err(last_errno()) } else { Ok(old) }
}

/// Has this thread alone look for files as another user: what it may open, and what of other processes it may look at, is from
/// now on up to these ids. Who is not root loses the rights of root about files until root is taken on again.
#[expect(unsafe_code, reason = "rustix does not know these calls")]
pub fn set_file_system_ids(uid: u32, gid: u32) {
    // The C library does the same: it changes the thread that calls. Nothing tells whether it was allowed; what is looked for
    // then tells. The group is first, which takes the rights of root.
    // SAFETY: takes numbers.
    unsafe {
        if uid != 0 {
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        } else {
            libc::syscall(libc::SYS_setfsuid, uid);
            libc::syscall(libc::SYS_setfsgid, gid);
        }
    }
}

/// Bytes of each name in what `uname` gives (`struct new_utsname`), with the NUL.
const NAME: usize = 65;

/// What `uname` would give where the host has this name.
pub fn system_names(host: &str) -> Vec<u8> {
    let names = rustix::system::uname();
    let all = [
        names.sysname().to_bytes(),
        host.as_bytes(),
        names.release().to_bytes(),
        names.version().to_bytes(),
        names.machine().to_bytes(),
        names.domainname().to_bytes(),
    ];
    let mut bytes = vec![0; NAME * all.len()];
    for (place, name) in bytes.chunks_exact_mut(NAME).zip(all) {
        let length = name.len().min(NAME - 1);
        place[..length].copy_from_slice(&name[..length]);
    }
    bytes
}

/// Gives this thread a root, a working directory and a file mode mask of its own, which other threads have no part in. It may
/// then enter mount namespaces.
#[expect(
    unsafe_code,
    reason = "rustix marks unshare unsafe because of descriptor tables, which are not unshared"
)]
pub fn own_file_system_state() -> Result<(), Errno> {
    // SAFETY: no UnshareFlags::FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
}
