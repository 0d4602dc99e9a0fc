//! `/proc` and `/sys` of a step, and its terminals, for which nothing is mounted.
//!
//! Files of them are opened in those of this process and handed over; of `/proc` only what belongs to a process of the step or
//! tells of the whole host. Directories are never handed over, since `..` leads out of them: for one that is opened, a directory
//! of the root gets entries of the same names, and what is then asked of those comes back here, by the path of that directory.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ocibuild_sys::{DirHandle, FileStatus, FileType, RootDir, set_file_system_ids, terminal_number};
use rustix::fs::{
    AtFlags, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::calls::own_link;
use crate::permissions::MASKED_PATHS;

/// Where terminals are. Beside those of the step there are others in the same file system, which it does not see.
const TERMINALS: &str = "/dev/pts";

/// As many links are followed in a path.
const MAX_LINKS: usize = 40;

/// Entries of a process that lead to files of its root.
const LEADS: [&str; 3] = ["cwd", "exe", "root"];

/// Entries of a process that tell what is mounted.
const MOUNTS: [&str; 3] = ["mounts", "mountinfo", "mountstats"];

/// Both trees, as the processes of one step see them.
pub(super) struct SystemFiles {
    /// The root of the step, for looking things up.
    root: Arc<OwnedFd>,
    /// Its path on this host.
    path: PathBuf,
    proc: OwnedFd,
    sys: OwnedFd,
    /// What is said to be mounted: lines of `/proc/mounts`.
    mounts: String,
    /// The terminals that the step has made, by their numbers in the `/dev/pts` of this process.
    terminals: RefCell<Vec<u32>>,
}

/// What a path of a call leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// The kernel finds it, or finds that it is not there.
    Native,
    /// A path of the root, to which a link of `/proc` led that only this process can follow.
    Root(PathBuf),
    /// Something of `/proc` or `/sys`, by its path in the root.
    System(PathBuf),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) process: i32,
    pub(super) thread: i32,
}

/// What is opened.
pub(super) enum Opened {
    File(OwnedFd),
    /// A directory of the root with the names that it should have.
    Directory(OwnedFd),
}

impl SystemFiles {
    pub(super) fn new(root: &Path, mounts: String) -> Result<Self, Errno> {
        let directory = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(rustix::fs::CWD, path, flags, Mode::empty())
        };
        Ok(Self {
            root: Arc::new(directory(root)?),
            path: root.to_owned(),
            proc: directory(Path::new("/proc"))?,
            sys: directory(Path::new("/sys"))?,
            mounts,
            terminals: RefCell::default(),
        })
    }

    pub(super) fn shared_root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// The path inside the root of something outside; `None` for what is not in the root, or has no path.
    pub(super) fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.path).ok().map(|rest| Path::new("/").join(rest))
    }

    /// What a step is told of where something is that a process of its own holds; `None` for what is not its own.
    fn shown(&self, path: &Path) -> Option<PathBuf> {
        let is_terminal = path.starts_with(TERMINALS) || path == Path::new("/dev/ptmx");
        // What is not a path, such as `pipe:[7]`, is told as it is.
        if is_terminal || !path.is_absolute() { Some(path.to_owned()) } else { self.inside(path) }
    }

    /// Where a path leads, from a directory of the root.
    pub(super) fn lead(&self, asking: Asking, base: &Path, path: &Path, follow: bool) -> Result<Lead, Errno> {
        // What a slash follows is a directory, wherever it is.
        let is_directory = path.as_os_str().as_bytes().ends_with(b"/");
        let follow = follow || is_directory;
        let mut at = if path.is_absolute() { PathBuf::from("/") } else { base.to_owned() };
        let mut todo: VecDeque<OsString> = parts(path).collect();
        let (mut links, mut is_led) = (0, false);
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(&part);
            if todo.is_empty() && !follow {
                break;
            }
            let (target, is_system) = if is_below_system(&at) {
                let target = self.system_link(asking, &at, todo.is_empty() && !is_directory)?;
                (target, true)
            } else {
                match self.link(&at) {
                    Ok(target) => (target, false),
                    // It is not there, or not to be seen: not by way of a link that only we follow either.
                    Err(errno) if is_led => return Err(errno),
                    Err(_) => return Ok(Lead::Native),
                }
            };
            let Some(target) = target else { continue };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            is_led |= is_system;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(part);
            }
        }
        Ok(match at {
            at if is_answered_for(&at) => Lead::System(at),
            at if is_led => Lead::Root(at),
            _ => Lead::Native,
        })
    }

    /// What a link of the root says.
    fn link(&self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat2(&*self.root, path, flags, Mode::empty(), how)?;
        read_link(&found)
    }

    /// Where a link of `/proc` or `/sys` leads in the root. The last one of a path that leads to something open is left: it is
    /// opened anew by itself, also when it has no name any more.
    fn system_link(&self, asking: Asking, path: &Path, is_last: bool) -> Result<Option<PathBuf>, Errno> {
        let Asking { process, thread } = asking;
        if path.starts_with(TERMINALS) {
            return Ok(None);
        }
        let Ok(below) = path.strip_prefix("/proc") else {
            let below = path.strip_prefix("/sys").map_err(|_| Errno::NOENT)?;
            return link_beneath(&self.sys, below, is_last);
        };
        match below.to_str() {
            Some("self") => return Ok(Some(process.to_string().into())),
            Some("thread-self") => return Ok(Some(format!("{process}/task/{thread}").into())),
            Some("mounts" | "net") => return Ok(Some(Path::new("self").join(below))),
            _ => {}
        }
        if self.is_lead(below) {
            let leads_to = readlinkat(&self.proc, below, Vec::new())?;
            let leads_to = PathBuf::from(OsString::from_vec(leads_to.into_bytes()));
            let inside = self.inside(&leads_to);
            return Ok(inside.filter(|_| !is_last));
        }
        self.check(below)?;
        if is_mounts(below) {
            return Ok(None);
        }
        link_beneath(&self.proc, below, is_last)
    }

    /// Whether something of `/proc` is a link by which the kernel leads to what a process holds.
    fn is_lead(&self, below: &Path) -> bool {
        let Some(rest) = self.of_process(below) else { return false };
        let mut parts = rest.iter();
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        let is_named = first.is_some_and(|name| LEADS.iter().any(|lead| name == *lead));
        third.is_none()
            && (second.is_none() && is_named || second.is_some() && first == Some(OsStr::new("fd")))
    }

    /// What of a process, or of a thread, a path of `/proc` is, if the process belongs to the step.
    fn of_process<'p>(&self, below: &'p Path) -> Option<&'p Path> {
        let mut parts = below.iter();
        let process: i32 = parts.next()?.to_str()?.parse().ok()?;
        if !self.is_of_step(process) {
            return None;
        }
        let rest = parts.as_path();
        let Ok(of_threads) = rest.strip_prefix("task") else { return Some(rest) };
        let mut parts = of_threads.iter();
        parts.next().map_or(Some(rest), |_| Some(parts.as_path()))
    }

    /// Whether a process is one of the step: only those have its root.
    pub(super) fn is_of_step(&self, process: i32) -> bool {
        let root = readlinkat(&self.proc, format!("{process}/root"), Vec::new());
        root.is_ok_and(|root| root.as_bytes() == self.path.as_os_str().as_bytes())
    }

    /// Whether the target of a signal, as `kill` takes it, is of the step.
    pub(super) fn may_signal(&self, target: i32) -> bool {
        match target {
            // Its own group.
            0 => true,
            // Everybody. Who is of the step cannot be told apart there.
            -1 => false,
            target => {
                let process = target.unsigned_abs().cast_signed();
                // Each tells only its own user where its root is.
                let Ok(stat) = statat(&self.proc, process.to_string(), AtFlags::empty()) else { return true };
                set_file_system_ids(stat.st_uid, stat.st_gid);
                let is_of_step = self.is_of_step(process);
                set_file_system_ids(0, 0);
                is_of_step
            }
        }
    }

    /// Whether the step may know of something in `/proc`: of its own processes, and of what is not about a process.
    fn check(&self, below: &Path) -> Result<(), Errno> {
        let first = below.iter().next().and_then(OsStr::to_str).unwrap_or_default();
        let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        let whole = Path::new("/proc").join(below);
        if is_masked(&whole) || is_number && self.of_process(below).is_none() {
            return Err(Errno::NOENT);
        }
        Ok(())
    }

    fn tree_of<'p>(&self, path: &'p Path) -> Result<(&OwnedFd, &'p Path), Errno> {
        if let Ok(below) = path.strip_prefix("/proc") {
            self.check(below)?;
            return Ok((&self.proc, below));
        }
        let below = path.strip_prefix("/sys").map_err(|_| Errno::NOENT)?;
        if is_masked(path) { Err(Errno::NOENT) } else { Ok((&self.sys, below)) }
    }

    /// Opens the device that makes terminals, or one that the step has made with it.
    fn open_terminal(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        // It is not to become one of this process.
        let own = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
        let flags = flags.difference(OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC) | own | OFlags::CLOEXEC;
        let open = |path: &Path| openat(rustix::fs::CWD, path, flags, Mode::empty());
        if name == Path::new("ptmx") {
            let opened = open(Path::new("/dev/ptmx"))?;
            if !flags.contains(OFlags::PATH) {
                self.terminals.borrow_mut().push(terminal_number(&opened)?);
            }
            return Ok(opened);
        }
        let number: Option<u32> = name.to_str().and_then(|name| name.parse().ok());
        match number.filter(|number| self.terminals.borrow().contains(number)) {
            Some(number) => open(&Path::new(TERMINALS).join(number.to_string())),
            None => Err(Errno::NOENT),
        }
    }

    /// Opens something of `/proc` or `/sys`, or a terminal.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<Opened, Errno> {
        if let Ok(name) = path.strip_prefix(TERMINALS) {
            return self.open_terminal(name, flags).map(Opened::File);
        }
        let (tree, below) = self.tree_of(path)?;
        let is_proc = path.starts_with("/proc");
        if is_proc && self.is_lead(below) {
            if flags.contains(OFlags::NOFOLLOW) {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(&self.proc, below, Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            if self.shown(target).is_none() {
                return Err(Errno::NOENT);
            }
            let own =
                if flags.contains(OFlags::PATH) { OFlags::CLOEXEC } else { OFlags::CLOEXEC | OFlags::NOCTTY };
            let flags = flags.difference(OFlags::CREATE | OFlags::EXCL) | own;
            return openat(&self.proc, below, flags, Mode::empty()).map(Opened::File);
        }
        if is_proc && is_mounts(below) {
            return self.mounts(below).map(Opened::File);
        }
        let found = match open_beneath(tree, below, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) && !is_proc => return Err(Errno::ROFS),
            found => found?,
        };
        let status = FileStatus::of(found.as_fd(), c"", AtFlags::EMPTY_PATH)?;
        match rustix::fs::FileType::from_raw_mode(status.mode()) {
            rustix::fs::FileType::Directory => self.stand_in(path, &found).map(Opened::Directory),
            rustix::fs::FileType::Symlink => Err(Errno::LOOP),
            _ if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR),
            _ => {
                let is_of_process = is_proc && self.of_process(below).is_some();
                let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
                if writes && !is_of_process {
                    return Err(Errno::ROFS);
                }
                let own = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
                let flags = flags.difference(OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC) | own;
                open_beneath(tree, below, flags).map(Opened::File)
            }
        }
    }

    /// What is known of something of `/proc` or `/sys`. With `follow`, of what it leads to.
    pub(super) fn status(
        &self,
        path: &Path,
        follow: bool,
        look: impl Fn(&OwnedFd) -> Result<FileStatus, Errno>,
    ) -> Result<FileStatus, Errno> {
        if let Ok(name) = path.strip_prefix(TERMINALS) {
            return look(&self.open_terminal(name, OFlags::PATH)?);
        }
        let (tree, below) = self.tree_of(path)?;
        if follow && path.starts_with("/proc") && self.is_lead(below) {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            return look(&openat(&self.proc, below, flags, Mode::empty())?);
        }
        look(&open_beneath(tree, below, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    /// What a link of `/proc` or `/sys` says.
    pub(super) fn read_link(&self, asking: Asking, path: &Path) -> Result<CString, Errno> {
        let (_, below) = self.tree_of(path)?;
        let is_proc = path.starts_with("/proc");
        let text = if is_proc && self.is_lead(below) {
            let target = readlinkat(&self.proc, below, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            self.shown(&target).ok_or(Errno::NOENT)?
        } else {
            self.system_link(asking, path, false)?.ok_or(Errno::INVAL)?
        };
        CString::new(text.into_os_string().into_vec()).map_err(|_| Errno::INVAL)
    }

    /// What is said to be mounted.
    fn mounts(&self, below: &Path) -> Result<OwnedFd, Errno> {
        let file = memfd_create("mounts", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        let text = if below.ends_with("mountinfo") { mountinfo(&self.mounts) } else { self.mounts.clone() };
        file.write_all(text.as_bytes()).map_err(|_| Errno::NOMEM)?;
        reopened(&file)
    }

    /// The directory of the root that stands for one of `/proc` or `/sys`, with the names that this has now.
    fn stand_in(&self, path: &Path, found: &OwnedFd) -> Result<OwnedFd, Errno> {
        let below = path.strip_prefix("/").map_err(|_| Errno::NOENT)?;
        let wanted = self.names(path, found)?;
        let root = RootDir::from_fd(self.root.try_clone().map_err(|_| Errno::MFILE)?);
        // What stands for a directory is root's, whoever asks for it.
        set_file_system_ids(0, 0);
        let errno = |error: ocibuild_sys::Error| Errno::from_raw_os_error(error.raw_os_error());
        let directory = root.mkdir_all(below, 0o755).map_err(errno)?;
        for entry in directory.read_dir().map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let is_wanted = wanted.get(&entry.name).is_some_and(|kind| {
                entry
                    .file_type
                    .is_none_or(|found| (found == FileType::Directory) == (*kind == FileType::Directory))
            });
            if !is_wanted {
                directory.remove_tree(&entry.name).map_err(errno)?;
            }
        }
        for (name, kind) in wanted {
            let made = match kind {
                FileType::Directory => directory.mkdir(&name, 0o755),
                FileType::Symlink => directory.symlink(".", &name),
                _ => directory.create_private_file(&name).map(drop),
            };
            match made {
                Err(error) if error.kind() == ocibuild_sys::ErrorKind::Exists => {}
                result => result.map_err(errno)?,
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(directory.as_fd(), ".", flags, Mode::empty())
    }

    /// What is in a directory of `/proc` or `/sys`, as the step may know it.
    fn names(&self, path: &Path, found: &OwnedFd) -> Result<BTreeMap<OsString, FileType>, Errno> {
        let errno = |error: ocibuild_sys::Error| Errno::from_raw_os_error(error.raw_os_error());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = DirHandle::from_fd(openat(found, ".", flags, Mode::empty())?);
        let mut names = BTreeMap::new();
        for entry in opened.read_dir().map_err(errno)? {
            let entry = entry.map_err(errno)?;
            if self.tree_of(&path.join(&entry.name)).is_ok() {
                names.insert(entry.name, entry.file_type.unwrap_or(FileType::Regular));
            }
        }
        Ok(names)
    }

    /// Opens a path of the root, as whoever asks could if it got there.
    pub(super) fn open_in_root(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let own =
            if flags.contains(OFlags::PATH) { OFlags::CLOEXEC } else { OFlags::CLOEXEC | OFlags::NOCTTY };
        openat2(&*self.root, path, flags | own, Mode::empty(), how)
    }

    /// Opens a path of the root that goes along no link.
    pub(super) fn open_without_links(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        openat2(&*self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
    }

    /// Holds what a link of `/proc` leads to, only to name it.
    pub(super) fn hold(&self, lead: &Lead) -> Result<OwnedFd, Errno> {
        match lead {
            Lead::Root(path) => self.open_in_root(path, OFlags::PATH),
            Lead::System(path) if path.strip_prefix("/proc").is_ok_and(|below| self.is_lead(below)) => {
                match self.open(path, OFlags::PATH)? {
                    Opened::File(found) | Opened::Directory(found) => Ok(found),
                }
            }
            Lead::System(path) => {
                let (tree, below) = self.tree_of(path)?;
                open_beneath(tree, below, OFlags::PATH | OFlags::NOFOLLOW)?;
                // What the kernel has there is not the step's to change.
                Err(Errno::PERM)
            }
            Lead::Native => Err(Errno::NOENT),
        }
    }
}

/// Opens something in one of the trees, of which it does not lead out.
fn open_beneath(tree: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    match openat2(tree, below, flags | OFlags::CLOEXEC, Mode::empty(), how) {
        // A file system of its own, such as /sys/fs/cgroup, or a mount that hides what is below it.
        Err(Errno::XDEV) => {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            openat2(tree, below, flags | OFlags::CLOEXEC, Mode::empty(), how)
        }
        result => result,
    }
}

/// What a link of one of the trees says. What is not there may be the last of a path.
fn link_beneath(tree: &OwnedFd, below: &Path, is_last: bool) -> Result<Option<PathBuf>, Errno> {
    match open_beneath(tree, below, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) if is_last => Ok(None),
        found => read_link(&found?),
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// Whether a path is one of the two trees.
pub(super) fn is_system(path: &Path) -> bool {
    path == Path::new("/proc") || path == Path::new("/sys")
}

/// Whether a path is one that is answered for.
pub(super) fn is_answered_for(path: &Path) -> bool {
    is_system(path) || is_below_system(path)
}

/// Whether a path is in one of the two trees, or a terminal.
fn is_below_system(path: &Path) -> bool {
    let is_below = |tree: &str| path.starts_with(tree) && path != Path::new(tree);
    ["/proc", "/sys", TERMINALS].into_iter().any(is_below)
}

fn is_masked(path: &Path) -> bool {
    MASKED_PATHS.iter().any(|masked| path.starts_with(masked))
}

fn is_mounts(below: &Path) -> bool {
    let is_of_process = below.iter().count() >= 2;
    is_of_process && MOUNTS.iter().any(|name| below.ends_with(name))
}

/// What a link says that is held; `None` if it is not a link.
fn read_link(found: &OwnedFd) -> Result<Option<PathBuf>, Errno> {
    match readlinkat(found, c"", Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Another description of an open file, which begins at its start and cannot be written.
pub(super) fn reopened(file: &File) -> Result<OwnedFd, Errno> {
    openat(rustix::fs::CWD, own_link(file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Lines of `/proc/mounts` in the form of `/proc/<pid>/mountinfo` (proc(5)).
fn mountinfo(mounts: &str) -> String {
    let line = |(number, line): (usize, &str)| {
        let mut fields = line.split(' ');
        let mut next = || fields.next().unwrap_or("none");
        let (source, target, kind, options) = (next(), next(), next(), next());
        let parent = if number == 0 { 1 } else { 2 };
        format!("{} {parent} 0:{} / {target} {options} - {kind} {source} {options}\n", number + 2, number + 2)
    };
    mounts.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_stay_in_the_step() {
        let own = rustix::process::getpid().as_raw_pid();
        let of = |root: &str| SystemFiles::new(Path::new(root), String::new()).unwrap();
        // This process has the root of the host.
        assert!(of("/").may_signal(own) && of("/").may_signal(-own));
        assert!(!of("/usr").may_signal(own) && !of("/usr").may_signal(-own));
        // Everybody; its own group; nobody, of whom the kernel tells.
        assert!(!of("/").may_signal(-1) && of("/usr").may_signal(0) && of("/usr").may_signal(i32::MAX));
    }

    #[test]
    fn mounts_are_told_in_both_forms() {
        let mounts = "overlay / overlay rw 0 0\nproc /proc proc rw,nosuid 0 0\n";
        assert_eq!(
            mountinfo(mounts),
            "2 1 0:2 / / rw - overlay overlay rw\n3 2 0:3 / /proc rw,nosuid - proc proc rw,nosuid\n"
        );
        assert!(is_mounts(Path::new("7/mounts")) && is_mounts(Path::new("7/task/8/mountinfo")));
        assert!(!is_mounts(Path::new("mounts")) && !is_mounts(Path::new("7/mount")));
    }
}
