//! What each call is answered with.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_sys::{Answer, Call, FileStatus, Listener, PendingListener, set_file_system_ids, system_names};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, openat, readlink};
use rustix::io::Errno;

use super::place::Placed;
use super::request::{At, Change, Request, may_change};
use super::system::{Asking, Lead, Opened, SystemFiles, reopened};
use crate::calls::{CONTINUE, Caller, Reply, answer_all, directory_link, own_link};

/// Answers the calls of one step.
pub(super) struct Answers<'s> {
    /// The processes of this host.
    pub(super) proc: Arc<OwnedFd>,
    pub(super) system: SystemFiles,
    /// What is in its place.
    pub(super) placed: &'s Placed,
    /// What `uname` gives.
    names: Vec<u8>,
    /// Whether a directory of `/proc` or `/sys` has got entries, which are not what the kernel should find.
    has_stand_ins: bool,
}

impl<'s> Answers<'s> {
    pub(super) fn new(placed: &'s Placed, host: &str, mounts: String) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            proc: Arc::new(openat(rustix::fs::CWD, "/proc", flags, Mode::empty())?),
            system: SystemFiles::new(&placed.root, mounts)?,
            placed,
            names: system_names(host),
            has_stand_ins: false,
        })
    }

    /// Answers until the command has ended. To be called in a thread of its own, which looks for files as whoever calls.
    pub(super) fn answer_all(&mut self, pending: PendingListener) -> io::Result<()> {
        let Some(listener) = pending.wait()? else { return Ok(()) };
        answer_all(&listener, |call| {
            let request = Request::of(call);
            if self.is_plain(call, &request) {
                return CONTINUE;
            }
            let reply = self.reply(&listener, call, request);
            set_file_system_ids(0, 0);
            reply
        })
    }

    fn reply(&mut self, listener: &Listener, call: &Call, request: Request) -> Result<Reply, Errno> {
        if let Request::Signal { target } = request {
            return if self.system.may_signal(target) { CONTINUE } else { Err(Errno::PERM) };
        }
        let Some((uid, gid)) = self.owner(call.thread) else { return CONTINUE };
        let proc = Arc::clone(&self.proc);
        // Nobody has another root: the step cannot change it.
        let root = self.system.shared_root();
        let caller = Caller::of(call, listener, &proc, Some(&root));
        // A process that has changed who it is, and executed nothing since, is closed to everybody: it finds no /proc.
        set_file_system_ids(uid, gid);
        let asked = Asked { answers: self, caller: &caller, call };
        match request {
            Request::Open { at, flags } => asked.open(at, flags),
            Request::OpenDescribed { at, how, size } => asked.open_described(at, how, size),
            Request::Stat { at, follow, buffer } => asked.stat(at, follow, buffer),
            Request::Statx { at, flags, mask, buffer } => asked.statx(at, flags, mask, buffer),
            Request::Access { at, mode, follow } => asked.access(at, mode, follow),
            Request::ReadLink { at, buffer, size } => asked.read_link(at, buffer, size),
            Request::Attribute { at, follow, none } => asked.attribute(at, follow, none),
            Request::Names { first, second } => asked.guarded([Some(first), second].into_iter().flatten()),
            Request::Change { at, change } => asked.change(at, change),
            Request::SystemNames { buffer } => {
                caller.write(buffer, &asked.answers.names)?;
                Ok(Reply::Answer(Answer::Value(0)))
            }
            Request::Limits { process } => asked.limits(process),
            Request::Signal { .. } | Request::Other => CONTINUE,
        }
    }

    /// Whom a process belongs to, and so its directory in `/proc`.
    fn owner(&self, thread: i32) -> Option<(u32, u32)> {
        let stat = rustix::fs::statat(&*self.proc, thread.to_string(), AtFlags::empty()).ok()?;
        Some((stat.st_uid, stat.st_gid))
    }
}

/// One call being answered.
struct Asked<'a, 's> {
    answers: &'a mut Answers<'s>,
    caller: &'a Caller<'a>,
    call: &'a Call,
}

/// What a call is about.
enum Target {
    Lead(Lead),
    /// A file that is in memory only, by its place in the list, and what stands for it.
    Secret(usize, OwnedFd),
}

impl Asked<'_, '_> {
    fn asking(&self) -> Asking {
        let thread = self.call.thread;
        let process = || {
            let status = self.caller.text("status").ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
            line.trim().parse().ok()
        };
        Asking { process: process().unwrap_or(thread), thread }
    }

    /// What the path at an address leads to. Where something is wrong that is not about `/proc` or `/sys` the kernel says it.
    fn target(&self, at: At, follow: bool) -> Result<Target, Errno> {
        let native = Ok(Target::Lead(Lead::Native));
        let Ok(text) = self.caller.path(at.address) else { return native };
        let path = Path::new(OsStr::from_bytes(text.as_bytes()));
        if path.as_os_str().is_empty() {
            return native;
        }
        let base = if path.is_absolute() {
            PathBuf::from("/")
        } else {
            let Ok(base) = self.caller.read_link(&directory_link(at.directory)) else { return native };
            match self.answers.system.inside(Path::new(OsStr::from_bytes(base.as_bytes()))) {
                Some(base) => base,
                None => return native,
            }
        };
        let whole = base.join(path);
        let is_system = ["/proc", "/sys"].iter().any(|system| whole.starts_with(system));
        if !is_system {
            let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
            match self.answers.system.open_in_root(&whole, flags) {
                Ok(found) if self.is_in_stand_in(&found) => {}
                Ok(found) => return self.secret(found),
                // Perhaps by way of a link into /proc.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => return native,
            }
        }
        self.answers.system.lead(self.asking(), &base, path, follow).map(Target::Lead)
    }

    /// Whether something was found among the entries that only stand for those of `/proc` and `/sys`.
    fn is_in_stand_in(&self, found: &OwnedFd) -> bool {
        let is_system = |path: PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
        self.answers.has_stand_ins && self.path_inside(found).is_ok_and(is_system)
    }

    fn secret(&self, found: OwnedFd) -> Result<Target, Errno> {
        if self.answers.placed.secrets.is_empty() {
            return Ok(Target::Lead(Lead::Native));
        }
        let inode = FileStatus::of(found.as_fd(), c"", AtFlags::EMPTY_PATH)?.inode();
        let known = self.answers.placed.secrets.iter().position(|(secret, _)| *secret == inode);
        Ok(known.map_or(Target::Lead(Lead::Native), |place| Target::Secret(place, found)))
    }

    fn open(self, at: At, flags: OFlags) -> Result<Reply, Errno> {
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        let handed = |descriptor| Ok(Reply::Descriptor { descriptor, close_on_exec });
        match self.target(at, !flags.contains(OFlags::NOFOLLOW))? {
            Target::Lead(Lead::Native) if may_change(flags) => self.guarded_file(at, flags),
            Target::Lead(Lead::Native) => CONTINUE,
            Target::Lead(Lead::Root(path)) => {
                // Nothing is made by way of such a link.
                handed(
                    self.answers
                        .system
                        .open_in_root(&path, flags.difference(OFlags::CREATE | OFlags::EXCL))?,
                )
            }
            Target::Lead(Lead::System(path)) => match self.answers.system.open(&path, flags)? {
                Opened::File(descriptor) => handed(descriptor),
                Opened::Directory(descriptor) => {
                    self.answers.has_stand_ins = true;
                    handed(descriptor)
                }
            },
            Target::Secret(..) if flags.intersects(OFlags::WRONLY | OFlags::RDWR) => Err(Errno::ROFS),
            Target::Secret(_, _) if flags.contains(OFlags::PATH) => CONTINUE,
            Target::Secret(place, found) => {
                // Whether the caller may read it, what stands for it tells.
                openat(rustix::fs::CWD, own_link(&found), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                set_file_system_ids(0, 0);
                handed(reopened(&self.answers.placed.secrets[place].1)?)
            }
        }
    }

    /// `openat2`, which has its flags behind a pointer.
    fn open_described(self, at: At, how: u64, size: u64) -> Result<Reply, Errno> {
        match self.caller.open_how(how, size)? {
            Some([flags, _, 0]) => self.open(at, OFlags::from_bits_retain(flags as u32)),
            // Where a path must not lead, only the kernel knows.
            _ => CONTINUE,
        }
    }

    fn stat(self, at: At, follow: bool, buffer: u64) -> Result<Reply, Errno> {
        self.status(at, follow, buffer, |found| FileStatus::of(found.as_fd(), c"", AtFlags::EMPTY_PATH))
    }

    fn statx(self, at: At, flags: AtFlags, mask: u64, buffer: u64) -> Result<Reply, Errno> {
        let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
        self.status(at, follow, buffer, |found| {
            FileStatus::extended(found.as_fd(), c"", flags | AtFlags::EMPTY_PATH, mask as u32)
        })
    }

    fn status(
        self,
        at: At,
        follow: bool,
        buffer: u64,
        look: impl Fn(&OwnedFd) -> Result<FileStatus, Errno>,
    ) -> Result<Reply, Errno> {
        let status = match self.target(at, follow)? {
            Target::Lead(Lead::Native) => return CONTINUE,
            Target::Lead(Lead::Root(path)) => {
                let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
                look(&self.answers.system.open_in_root(&path, flags)?)?
            }
            Target::Lead(Lead::System(path)) => self.answers.system.status(&path, follow, look)?,
            Target::Secret(place, found) => {
                let mut status = look(&found)?;
                let memory =
                    FileStatus::of(self.answers.placed.secrets[place].1.as_fd(), c"", AtFlags::EMPTY_PATH)?;
                status.set_size(memory.size());
                status
            }
        };
        self.caller.write(buffer, status.bytes())?;
        Ok(Reply::Answer(Answer::Value(0)))
    }

    fn access(self, at: At, mode: u64, follow: bool) -> Result<Reply, Errno> {
        const WRITE: u64 = 2;
        let look = |found: &OwnedFd| FileStatus::of(found.as_fd(), c"", AtFlags::EMPTY_PATH);
        match self.target(at, follow)? {
            Target::Lead(Lead::Native) | Target::Secret(..) => CONTINUE,
            Target::Lead(Lead::Root(path)) => {
                self.answers.system.open_in_root(&path, OFlags::PATH)?;
                Ok(Reply::Answer(Answer::Value(0)))
            }
            Target::Lead(Lead::System(path)) => {
                let status = self.answers.system.status(&path, follow, look)?;
                let is_directory = FileType::from_raw_mode(status.mode()) == FileType::Directory;
                if mode & WRITE != 0 && (is_directory || status.mode() & 0o222 == 0) {
                    return Err(Errno::ACCESS);
                }
                Ok(Reply::Answer(Answer::Value(0)))
            }
        }
    }

    fn read_link(self, at: At, buffer: u64, size: u64) -> Result<Reply, Errno> {
        let Target::Lead(Lead::System(path)) = self.target(at, false)? else {
            return CONTINUE;
        };
        let text = self.answers.system.read_link(self.asking(), &path)?;
        let bytes = text.as_bytes();
        let length = bytes.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        if length == 0 {
            return Err(Errno::INVAL);
        }
        self.caller.write(buffer, &bytes[..length])?;
        Ok(Reply::Answer(Answer::Value(length as i64)))
    }

    /// Attributes, of which nothing in `/proc` and `/sys` has any.
    fn attribute(self, at: At, follow: bool, none: Result<Answer, Errno>) -> Result<Reply, Errno> {
        match self.target(at, follow)? {
            Target::Lead(Lead::System(_)) => none.map(Reply::Answer),
            Target::Lead(Lead::Native | Lead::Root(_)) | Target::Secret(..) => CONTINUE,
        }
    }

    /// A call that makes, removes or renames.
    fn guarded(self, names: impl IntoIterator<Item = At>) -> Result<Reply, Errno> {
        for at in names {
            // Where something is wrong the kernel says it.
            if let Ok(path) = self.path_of_name(at) {
                self.answers.placed.points.check_name(&path)?;
            }
        }
        CONTINUE
    }

    /// A call that changes a file, or makes one if it is not there.
    fn guarded_file(self, at: At, flags: OFlags) -> Result<Reply, Errno> {
        let path = self.caller.path(at.address).and_then(|path| {
            let place = self.caller.place(at.directory, path)?;
            let found = place.open(!flags.contains(OFlags::NOFOLLOW))?;
            self.path_inside(&found)
        });
        let path = match path {
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) => self.path_of_name(at),
            path => path,
        };
        if let Ok(path) = path {
            self.answers.placed.points.check_content(&path)?;
        }
        CONTINUE
    }

    /// The path in the root of a name that something is done to.
    fn path_of_name(&self, at: At) -> Result<PathBuf, Errno> {
        let place = self.caller.place(at.directory, self.caller.path(at.address)?)?;
        let named = place.parent()?;
        Ok(self.path_inside(&named.directory)?.join(OsStr::from_bytes(named.name.as_bytes())))
    }

    fn path_inside(&self, found: &OwnedFd) -> Result<PathBuf, Errno> {
        let path = readlink(own_link(found), Vec::new())?;
        self.answers.system.inside(Path::new(OsStr::from_bytes(path.as_bytes()))).ok_or(Errno::NOENT)
    }

    /// Changes what a link of `/proc` leads to, which C libraries use for what they have open: by no other name is it asked here.
    fn change(self, at: At, change: Change) -> Result<Reply, Errno> {
        if at.address == 0 {
            return CONTINUE;
        }
        if !self.caller.path(at.address)?.as_bytes().starts_with(b"/proc/") {
            return match change {
                Change::Name(name) => self.guarded([name]),
                Change::Mode(_) | Change::Owner(..) | Change::Size(_) | Change::Times(_) => {
                    self.guarded_file(at, OFlags::empty())
                }
            };
        }
        let Target::Lead(lead @ (Lead::Root(_) | Lead::System(_))) = self.target(at, true)? else {
            return CONTINUE;
        };
        let held = self.answers.system.hold(&lead)?;
        let link = own_link(&held);
        match change {
            Change::Mode(mode) => rustix::fs::chmod(link, Mode::from_raw_mode(mode as u32 & 0o7777))?,
            Change::Owner(uid, gid) => {
                let id = |id: u64| (id as u32 != u32::MAX).then_some(id as u32);
                let (uid, gid) = (id(uid).map(Uid::from_raw), id(gid).map(Gid::from_raw));
                rustix::fs::chownat(&held, c"", uid, gid, AtFlags::EMPTY_PATH)?;
            }
            Change::Size(size) => {
                let opened = openat(rustix::fs::CWD, link, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                rustix::fs::ftruncate(opened, size)?;
            }
            Change::Times(times) => {
                let times = self.times(times)?;
                rustix::fs::utimensat(rustix::fs::CWD, link, &times, AtFlags::empty())?;
            }
            Change::Name(name) => {
                let place = self.caller.place(name.directory, self.caller.path(name.address)?)?;
                let new = place.parent()?;
                let follow = AtFlags::SYMLINK_FOLLOW;
                rustix::fs::linkat(rustix::fs::CWD, link, &new.directory, &*new.name, follow)?;
            }
        }
        Ok(Reply::Answer(Answer::Value(0)))
    }

    fn times(&self, address: u64) -> Result<Timestamps, Errno> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        if address == 0 {
            return Ok(Timestamps { last_access: now, last_modification: now });
        }
        let mut words = [0; 32];
        self.caller.read(address, &mut words)?;
        let word = |index: usize| {
            <[u8; 8]>::try_from(&words[8 * index..8 * index + 8]).map_or(0, i64::from_ne_bytes)
        };
        let time = |index| Timespec { tv_sec: word(index), tv_nsec: word(index + 1) };
        Ok(Timestamps { last_access: time(0), last_modification: time(2) })
    }

    /// Limits of another process, which root could change whatever process it is.
    fn limits(self, process: i32) -> Result<Reply, Errno> {
        if self.answers.system.is_of_step(process) { CONTINUE } else { Err(Errno::PERM) }
    }
}
