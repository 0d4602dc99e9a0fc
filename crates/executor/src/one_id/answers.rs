//! What each call is answered with.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{EntryKind, Owned, OwnershipRecord};
use ocibuild_sys::{
    Answer, Call, FileStatus, Listener, PendingListener, capability, device_numbers, mark_of,
    own_file_system_state, set_mark,
};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid, openat, openat2};
use rustix::io::Errno;
use rustix::process::umask;

use super::Meant;
use super::identity::Identity;
use super::record::{
    BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FILE_TYPE, Inode, REGULAR, Record, SET_GROUP, SET_USER,
};
use crate::calls::{CONTINUE, Caller, Named, Place, Reply, WORKING_DIRECTORY, answer_all};
use crate::error::{Error, Repr};

/// Answers the calls of one step.
pub(crate) struct Answers {
    /// The processes of this host.
    proc: Arc<OwnedFd>,
    /// Everybody that a process of the step took itself for, found by the number that the process carries; the first is root.
    identities: Vec<Identity>,
    /// Whom the step begins as.
    initial: Identity,
    /// The capabilities that root of the step has, one bit each.
    rights: u64,
    /// Whether the step is about to execute its first program. Until then it is a copy of this process.
    has_begun: bool,
    /// The root of the step, once it could be entered.
    root: Option<Arc<OwnedFd>>,
    /// Whether some process of the step may have another.
    has_other_roots: bool,
    record: Record,
    /// What the root file system should have and has not, until the record has it.
    root_means: Vec<(PathBuf, Owned)>,
    /// The same of what is mounted in it.
    mounts_mean: Vec<(PathBuf, Owned)>,
}

#[expect(clippy::unnecessary_wraps, reason = "as the answers that are made out are")]
fn value(value: impl Into<i64>) -> Result<Reply, Errno> {
    Ok(Reply::Answer(Answer::Value(value.into())))
}

impl Answers {
    /// With `may_mount` a process of the step may see other file systems than the step began with.
    pub(super) fn new(meant: Meant, rights: u64, may_mount: bool) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(rustix::fs::CWD, "/proc", flags, Mode::empty());
        Ok(Self {
            proc: Arc::new(proc.map_err(|errno| Repr::State(errno.into()))?),
            identities: vec![Identity::of(0, 0, Vec::new())],
            initial: meant.identity,
            rights,
            has_begun: false,
            root: None,
            has_other_roots: may_mount,
            record: Record::default(),
            root_means: meant.root,
            mounts_mean: meant.mounted,
        })
    }

    /// Answers until no process of the step is left. To be called in a thread of its own, whose file mode mask it changes.
    pub(crate) fn answer_all(&mut self, pending: PendingListener) -> io::Result<()> {
        let Some(listener) = pending.wait()? else { return Ok(()) };
        own_file_system_state()?;
        answer_all(&listener, |call| self.reply(&listener, call))
    }

    /// What has become of owners and devices.
    pub(crate) fn into_record(self) -> OwnershipRecord {
        let Self { root, record, root_means, .. } = self;
        OwnershipRecord::new(move |path: &Path| {
            let Some(root) = &root else {
                // No program has run, and so nothing has changed.
                let meant = root_means.iter().find(|(known, _)| known == path);
                return Ok(meant.map(|(_, owned)| owned.clone()));
            };
            match status_below(root, path) {
                Ok(status) => Ok(record.get(status.inode()).cloned()),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    fn reply(&mut self, listener: &Listener, call: &Call) -> Result<Reply, Errno> {
        if matches!(call.name, "chroot" | "pivot_root" | "setns") {
            self.has_other_roots = true;
            return CONTINUE;
        }
        let proc = Arc::clone(&self.proc);
        let root = self.root.clone().filter(|_| !self.has_other_roots);
        let caller = Caller::of(call, listener, &proc, root.as_deref());
        if !self.has_begun
            && let Some(reply) = self.become_initial(call)?
        {
            return Ok(reply);
        }
        if self.root.is_none() && !self.enter(&caller)? {
            return CONTINUE;
        }
        Answering { answers: self, caller: &caller, call }.reply()
    }

    /// Looks at the root of the step, as soon as the kernel lets us: it may close the copy of this process, which has changed
    /// its identity, to everybody.
    fn enter(&mut self, caller: &Caller<'_>) -> Result<bool, Errno> {
        let root = match caller.open_root() {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
            result => result?,
        };
        let mount = status_below(&root, Path::new(""))?.mount();
        for (means, is_mounted) in [(&self.root_means, false), (&self.mounts_mean, true)] {
            for (path, owned) in means {
                match status_below(&root, path) {
                    // Not what is mounted over it, and the other way round.
                    Ok(status) if (status.mount() != mount) == is_mounted => {
                        self.record.set(status.inode(), owned.clone());
                    }
                    Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        self.root = Some(Arc::new(root));
        Ok(true)
    }

    /// The copy of this process takes on whom the step is to be; `None` if it is about to execute the program.
    fn become_initial(&mut self, call: &Call) -> Result<Option<Reply>, Errno> {
        match call.name {
            "setresgid" => {}
            "setresuid" => self.become_of(call, self.initial.clone())?,
            _ => {
                self.has_begun = call.name == "execve";
                return Ok(None);
            }
        }
        Ok(Some(Reply::Answer(Answer::Value(0))))
    }

    /// Whether root of the step has a capability.
    fn has(&self, name: &str) -> bool {
        capability(name).is_some_and(|number| self.rights & (1 << number) != 0)
    }

    fn identity_of(&self, call: &Call) -> Result<Identity, Errno> {
        let mark = usize::try_from(mark_of(call.thread)?).unwrap_or(usize::MAX);
        // A limit that somebody else has set is no mark of ours.
        Ok(self.identities.get(mark).unwrap_or(&self.identities[0]).clone())
    }

    fn become_of(&mut self, call: &Call, identity: Identity) -> Result<(), Errno> {
        let known = self.identities.iter().position(|known| *known == identity);
        let number = known.unwrap_or_else(|| {
            self.identities.push(identity);
            self.identities.len() - 1
        });
        set_mark(call.thread, number as u64)
    }
}

/// What is at a path of a root, which it does not leave.
fn status_below(root: &OwnedFd, path: &Path) -> Result<FileStatus, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, path, flags, Mode::empty(), how)?;
    FileStatus::extended(file.as_fd(), c"", AtFlags::EMPTY_PATH, FileStatus::MOUNT)
}

/// One call being answered.
struct Answering<'a> {
    answers: &'a mut Answers,
    caller: &'a Caller<'a>,
    call: &'a Call,
}

/// Stands for "as it is" among owners.
const KEEP: u32 = u32::MAX;

/// What a call is about.
enum Target<'c> {
    Descriptor(i32),
    Path { place: Place<'c>, follow: bool },
}

impl<'a> Answering<'a> {
    fn reply(&mut self) -> Result<Reply, Errno> {
        let [first, second, third, fourth, fifth, _] = self.call.arguments;
        let nofollow = |flags: u64| flags & u64::from(AtFlags::SYMLINK_NOFOLLOW.bits()) != 0;
        match self.call.name {
            "stat" => self.stat(self.at(WORKING_DIRECTORY, first, true), second),
            "lstat" => self.stat(self.at(WORKING_DIRECTORY, first, false), second),
            "fstat" => self.stat(Ok(Target::Descriptor(first as i32)), second),
            "newfstatat" => self.stat(self.at_or_of(first, second, !nofollow(fourth), fourth), third),
            "statx" => {
                self.statx(self.at_or_of(first, second, !nofollow(third), third), third, fourth, fifth)
            }
            "chown" => self.chown(self.at(WORKING_DIRECTORY, first, true)?, second, third),
            "lchown" => self.chown(self.at(WORKING_DIRECTORY, first, false)?, second, third),
            "fchown" => self.chown(Target::Descriptor(first as i32), second, third),
            "fchownat" => self.chown(self.at_or_of(first, second, !nofollow(fifth), fifth)?, third, fourth),
            "creat" => self.create(WORKING_DIRECTORY, first, CREATES, second),
            "open" => self.create(WORKING_DIRECTORY, first, second, third),
            "openat" => self.create(first, second, third, fourth),
            "openat2" => self.create_described(first, second, third, fourth),
            "mkdir" => self.make(WORKING_DIRECTORY, first, |_| Ok(New::Directory { mode: second })),
            "mkdirat" => self.make(first, second, |_| Ok(New::Directory { mode: third })),
            "mknod" => self.make(WORKING_DIRECTORY, first, |_| Ok(New::Node { mode: second, device: third })),
            "mknodat" => self.make(first, second, |_| Ok(New::Node { mode: third, device: fourth })),
            "symlink" => {
                self.make(WORKING_DIRECTORY, second, |caller| Ok(New::Link { target: caller.path(first)? }))
            }
            "symlinkat" => self.make(second, third, |caller| Ok(New::Link { target: caller.path(first)? })),
            "unlink" => self.unlink(WORKING_DIRECTORY, first, 0),
            "rmdir" => self.unlink(WORKING_DIRECTORY, first, AtFlags::REMOVEDIR.bits().into()),
            "unlinkat" => self.unlink(first, second, third),
            "rename" => self.rename((WORKING_DIRECTORY, first), (WORKING_DIRECTORY, second), 0),
            "renameat" => self.rename((first, second), (third, fourth), 0),
            "renameat2" => self.rename((first, second), (third, fourth), fifth),
            "execve" => self.execute(WORKING_DIRECTORY, first, 0),
            "execveat" => self.execute(first, second, fifth),
            "getrlimit" | "setrlimit" => self.limit(second),
            "prlimit64" => self.limit(fourth),
            _ => self.identify(),
        }
    }

    /// The path at an address, from a directory of the caller.
    fn at(&self, directory: u64, address: u64, follow: bool) -> Result<Target<'a>, Errno> {
        let place = self.caller.place(directory, self.caller.path(address)?)?;
        Ok(Target::Path { place, follow })
    }

    /// The same for a call that takes a descriptor alone if the path is empty.
    fn at_or_of(&self, directory: u64, address: u64, follow: bool, flags: u64) -> Result<Target<'a>, Errno> {
        if flags & u64::from(AtFlags::EMPTY_PATH.bits()) != 0 {
            let path = if address == 0 { CString::default() } else { self.caller.path(address)? };
            if path.is_empty() {
                return Ok(Target::Descriptor(directory as i32));
            }
        }
        self.at(directory, address, follow)
    }

    fn open(&self, target: Target<'a>) -> Result<OwnedFd, Errno> {
        match target {
            Target::Descriptor(number) => self.caller.descriptor(number),
            Target::Path { place, follow } => place.open(follow),
        }
    }

    // Status

    /// Where something is wrong, the kernel says it: it sees a `/proc/self` and a `/dev/fd` that we do not.
    fn stat(&self, target: Result<Target<'a>, Errno>, buffer: u64) -> Result<Reply, Errno> {
        let status = target.and_then(|target| status(&self.open(target)?));
        self.pretend(&status, buffer)
    }

    fn statx(
        &self,
        target: Result<Target<'a>, Errno>,
        flags: u64,
        mask: u64,
        buffer: u64,
    ) -> Result<Reply, Errno> {
        let flags = AtFlags::from_bits_retain(flags as u32) | AtFlags::EMPTY_PATH;
        let status = target
            .and_then(|target| FileStatus::extended(self.open(target)?.as_fd(), c"", flags, mask as u32));
        self.pretend(&status, buffer)
    }

    fn pretend(&self, status: &Result<FileStatus, Errno>, buffer: u64) -> Result<Reply, Errno> {
        let Some(status) = status.as_ref().ok().and_then(|status| self.answers.record.pretend(status)) else {
            return CONTINUE;
        };
        self.caller.write(buffer, status.bytes())?;
        value(0)
    }

    // Owners

    fn chown(&mut self, target: Target<'a>, uid: u64, gid: u64) -> Result<Reply, Errno> {
        let file = match self.open(target) {
            // The kernel finds what only the caller sees, such as its own standard output by name, and denies all but itself.
            Err(Errno::NOENT | Errno::LOOP) => return CONTINUE,
            result => result?,
        };
        let before = self.answers.record.of(status(&file)?.inode());
        let (uid, gid) = (uid as u32, gid as u32);
        let identity = self.answers.identity_of(self.call)?;
        if !(identity.is_root() && self.answers.has("CAP_CHOWN") || may_give(&identity, &before, uid, gid)) {
            return Err(Errno::PERM);
        }
        // It has the effects of every change of owner: set-id bits and capabilities go, the time of the inode changes, and an
        // overlay copies the file up, which may have another number then.
        let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        rustix::fs::chownat(&file, c"", root, group, AtFlags::EMPTY_PATH)?;
        let keep = |new: u32, old: u32| if new == KEEP { old } else { new };
        let owned = Owned { uid: keep(uid, before.uid), gid: keep(gid, before.gid), device: before.device };
        self.answers.record.set(status(&file)?.inode(), owned);
        value(0)
    }

    /// Whose a new file in a directory is.
    fn owner_in(&self, parent: &OwnedFd) -> Result<Owned, Errno> {
        let identity = self.answers.identity_of(self.call)?;
        let status = status(parent)?;
        let gid = match status.mode() & SET_GROUP {
            0 => identity.group.file_system,
            _ => self.answers.record.of(status.inode()).gid,
        };
        Ok(Owned::by(identity.user.file_system, gid))
    }

    // What makes files

    fn create(&mut self, directory: u64, address: u64, flags: u64, mode: u64) -> Result<Reply, Errno> {
        let flags = OFlags::from_bits_retain(flags as u32);
        let place = self.caller.place(directory, self.caller.path(address)?)?;
        // A file without a name is made in a directory, any other beside its name.
        let parent = if flags.contains(OFlags::TMPFILE) {
            let in_itself = |directory| Named { directory, name: c".".to_owned(), as_directory: true };
            place.open(true).map(in_itself)
        } else {
            match place.status(!flags.contains(OFlags::NOFOLLOW)) {
                Err(Errno::NOENT) => place.parent(),
                // What is there keeps its owner, or the kernel says what is wrong.
                _ => return CONTINUE,
            }
        };
        let Ok(new) = parent else { return CONTINUE };
        let owned = self.owner_in(&new.directory)?;
        if owned == Owned::by(0, 0) || new.as_directory != flags.contains(OFlags::TMPFILE) {
            return CONTINUE;
        }
        umask(self.caller.umask()?);
        let exclusively = if new.as_directory { OFlags::empty() } else { OFlags::EXCL };
        let mode = Mode::from_raw_mode(mode as u32 & 0o7777);
        let own = flags | exclusively | OFlags::CLOEXEC | OFlags::NOCTTY;
        match openat(&new.directory, &*new.name, own, mode) {
            // Somebody else was faster, or it is a link to nowhere.
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => CONTINUE,
            Err(errno) => Err(errno),
            Ok(descriptor) => {
                self.answers.record.set(status(&descriptor)?.inode(), owned);
                Ok(Reply::Descriptor { descriptor, close_on_exec: flags.contains(OFlags::CLOEXEC) })
            }
        }
    }

    /// `openat2`, which has its flags behind a pointer.
    fn create_described(
        &mut self,
        directory: u64,
        address: u64,
        how: u64,
        size: u64,
    ) -> Result<Reply, Errno> {
        let Some([flags, mode, resolve]) = self.caller.open_how(how, size)? else { return CONTINUE };
        let makes = OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY);
        if !OFlags::from_bits_retain(flags as u32).intersects(makes) {
            return CONTINUE;
        }
        // Where a path must not lead, it is not made out here.
        if resolve != 0 {
            return Err(Errno::NOSYS);
        }
        self.create(directory, address, flags, mode)
    }

    fn make(
        &mut self,
        directory: u64,
        address: u64,
        new: impl FnOnce(&Caller<'_>) -> Result<New, Errno>,
    ) -> Result<Reply, Errno> {
        let place = self.caller.place(directory, self.caller.path(address)?)?;
        // The kernel says what is wrong.
        let Ok(named) = place.parent() else { return CONTINUE };
        let mut owned = self.owner_in(&named.directory)?;
        let new = new(self.caller)?;
        if named.as_directory && !matches!(new, New::Directory { .. }) {
            return CONTINUE;
        }
        owned.device = new.device();
        let is_root = self.answers.identity_of(self.call)?.is_root();
        if owned.device.is_some() && !(is_root && self.answers.has("CAP_MKNOD")) {
            return Err(Errno::PERM);
        }
        if owned == Owned::by(0, 0) {
            return CONTINUE;
        }
        umask(self.caller.umask()?);
        new.make(&named)?;
        self.answers.record.set(named.status()?.inode(), owned);
        value(0)
    }

    // What removes files

    /// The inode that is no more once this name of it is gone, if anything is known of it.
    fn last_name_of(&self, named: &Named) -> Option<Inode> {
        let status = named.status().ok()?;
        let is_directory = status.mode() & FILE_TYPE == DIRECTORY;
        let is_known = self.answers.record.get(status.inode()).is_some();
        let is_last = is_directory || status.names() == 1 && !named.as_directory;
        (is_last && is_known).then(|| status.inode())
    }

    fn unlink(&mut self, directory: u64, address: u64, flags: u64) -> Result<Reply, Errno> {
        let place = self.caller.place(directory, self.caller.path(address)?)?;
        let Ok(named) = place.parent() else { return CONTINUE };
        let Some(inode) = self.last_name_of(&named) else { return CONTINUE };
        let flags = AtFlags::from_bits_retain(flags as u32);
        rustix::fs::unlinkat(&named.directory, &*named.name, flags)?;
        self.answers.record.forget(inode);
        value(0)
    }

    fn rename(&mut self, old: (u64, u64), new: (u64, u64), flags: u64) -> Result<Reply, Errno> {
        let flags = RenameFlags::from_bits_retain(flags as u32);
        if flags.intersects(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE) {
            return CONTINUE;
        }
        let new = self.caller.place(new.0, self.caller.path(new.1)?)?;
        let Ok(new) = new.parent() else { return CONTINUE };
        let Some(inode) = self.last_name_of(&new) else { return CONTINUE };
        let old = self.caller.place(old.0, self.caller.path(old.1)?)?;
        let Ok(old) = old.parent() else { return CONTINUE };
        if old.as_directory && old.status()?.mode() & FILE_TYPE != DIRECTORY {
            return CONTINUE;
        }
        rustix::fs::renameat_with(&old.directory, &*old.name, &new.directory, &*new.name, flags)?;
        if new.status().is_ok_and(|now| now.inode() != inode) {
            self.answers.record.forget(inode);
        }
        value(0)
    }

    // Identities

    fn identify(&mut self) -> Result<Reply, Errno> {
        let mut identity = self.answers.identity_of(self.call)?;
        let [a, b, c, ..] = self.call.arguments;
        if let Some(id) = identity.ask(self.call.name) {
            return value(id);
        }
        match self.call.name {
            "getresuid" => {
                let user = identity.user;
                self.caller.write_ids([(a, user.real), (b, user.effective), (c, user.saved)])?;
                return value(0);
            }
            "getresgid" => {
                let group = identity.group;
                self.caller.write_ids([(a, group.real), (b, group.effective), (c, group.saved)])?;
                return value(0);
            }
            "getgroups" => return self.groups(&identity.groups, a, b),
            "setgroups" => {
                if !(identity.is_root() && self.answers.has("CAP_SETGID")) {
                    return Err(Errno::PERM);
                }
                identity.groups = self.read_groups(a, b)?;
                self.answers.become_of(self.call, identity)?;
                return value(0);
            }
            _ => {}
        }
        let has = |name: &str| self.answers.has(name);
        let Some(changed) = identity.change(self.call.name, [a as u32, b as u32, c as u32], has) else {
            return CONTINUE;
        };
        let result = changed?;
        self.answers.become_of(self.call, identity)?;
        value(result)
    }

    fn groups(&self, groups: &[u32], room: u64, address: u64) -> Result<Reply, Errno> {
        let count = groups.len() as u64;
        if room != 0 {
            if room < count {
                return Err(Errno::INVAL);
            }
            let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
            self.caller.write(address, &bytes)?;
        }
        value(count.cast_signed())
    }

    fn read_groups(&self, count: u64, address: u64) -> Result<Vec<u32>, Errno> {
        /// `NGROUPS_MAX`.
        const MOST: usize = 65536;
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST).ok_or(Errno::INVAL)?;
        let mut bytes = vec![0; 4 * count];
        if count > 0 {
            self.caller.read(address, &mut bytes)?;
        }
        let id = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map_or(0, u32::from_ne_bytes);
        Ok(bytes.chunks_exact(4).map(id).collect())
    }

    /// A program with a set-id bit makes of its process whom it belongs to.
    fn execute(&mut self, directory: u64, address: u64, flags: u64) -> Result<Reply, Errno> {
        let nofollow = flags & u64::from(AtFlags::SYMLINK_NOFOLLOW.bits()) != 0;
        let target = self.at_or_of(directory, address, !nofollow, flags);
        let Ok(file) = target.and_then(|target| self.open(target)) else { return CONTINUE };
        let status = status(&file)?;
        let (is_file, mode) = (status.mode() & FILE_TYPE == REGULAR, status.mode());
        if !is_file || mode & (SET_USER | SET_GROUP) == 0 || self.is_script(&file) {
            return CONTINUE;
        }
        let owned = self.answers.record.of(status.inode());
        let mut identity = self.answers.identity_of(self.call)?;
        let before = identity.clone();
        let has_both = mode & (SET_GROUP | 0o010) == SET_GROUP | 0o010;
        identity.execute_as((mode & SET_USER != 0).then_some(owned.uid), has_both.then_some(owned.gid));
        if identity != before {
            self.answers.become_of(self.call, identity)?;
        }
        CONTINUE
    }

    /// The kernel gives scripts nothing for such a bit.
    fn is_script(&self, file: &OwnedFd) -> bool {
        use std::os::fd::AsRawFd as _;

        let mut start = [0; 2];
        let path = format!("self/fd/{}", file.as_raw_fd());
        let opened = openat(&*self.answers.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        opened.and_then(|file| rustix::io::read(file, &mut start)).is_ok() && &start == b"#!"
    }

    /// The limit that identities are told apart by is nobody else's.
    fn limit(&self, old: u64) -> Result<Reply, Errno> {
        if self.call.name != "setrlimit" && old != 0 {
            self.caller.write(old, &[0xff; 16])?;
        }
        value(0)
    }
}

/// What `creat` opens with.
const CREATES: u64 = OFlags::CREATE.union(OFlags::WRONLY).union(OFlags::TRUNC).bits() as u64;

/// What a call makes.
enum New {
    Directory { mode: u64 },
    Link { target: CString },
    Node { mode: u64, device: u64 },
}

impl New {
    /// The device, if it is one that the kernel does not let us make. (It does one kind: what overlays keep deletions as.)
    fn device(&self) -> Option<EntryKind> {
        let Self::Node { mode, device } = self else { return None };
        let (major, minor) = device_numbers(u64::from(*device as u32));
        match *mode as u32 & FILE_TYPE {
            CHARACTER_DEVICE if (major, minor) != (0, 0) => Some(EntryKind::CharacterDevice { major, minor }),
            BLOCK_DEVICE => Some(EntryKind::BlockDevice { major, minor }),
            _ => None,
        }
    }

    fn make(&self, Named { directory, name, .. }: &Named) -> Result<(), Errno> {
        let bits = |mode: u64| Mode::from_raw_mode(mode as u32 & 0o7777);
        match self {
            Self::Directory { mode } => rustix::fs::mkdirat(directory, name, bits(*mode)),
            Self::Link { target } => rustix::fs::symlinkat(target, directory, name),
            Self::Node { mode, .. } if self.device().is_some() => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(directory, name, flags, bits(*mode)).map(drop)
            }
            Self::Node { mode, device } => {
                let kind = match *mode as u32 & FILE_TYPE {
                    0 => FileType::RegularFile,
                    kind => FileType::from_raw_mode(kind),
                };
                rustix::fs::mknodat(directory, name, kind, bits(*mode), *device)
            }
        }
    }
}

fn status(file: &OwnedFd) -> Result<FileStatus, Errno> {
    FileStatus::of(file.as_fd(), c"", AtFlags::EMPTY_PATH)
}

/// Whether an owner may make a file belong to these (`chown(2)`): it may choose among its groups.
fn may_give(identity: &Identity, file: &Owned, uid: u32, gid: u32) -> bool {
    let is_owner = identity.user.file_system == file.uid;
    let keeps_owner = uid == KEEP || uid == file.uid;
    let has_group = gid == KEEP || gid == file.gid || identity.is_in(gid);
    is_owner && keeps_owner && has_group
}
