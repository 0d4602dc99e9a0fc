//! Cgroups for what this process starts: which devices it may open, and how much it may use.

mod devices;
mod hierarchy;
mod limits;
mod place;
mod usage;

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use self::devices::AllowedDevice;
use self::hierarchy::{Version, open, open_directory, text_of, write};
pub use self::limits::CgroupLimits;
use self::limits::Controller;
use self::place::{OWN, Parent, parents};
use self::usage::{Notification, counted};
pub use self::usage::{killed_for_memory, memory_limit};
use crate::probe::run;
use crate::sandbox::Operation;
use crate::{DirHandle, Error, FileType};

/// What a cgroup is to be for.
#[derive(Debug, Clone, Default)]
pub struct CgroupRequest<'a> {
    /// The cgroup that it is made in: one of the whole tree if it begins with a slash, else one below that of this process. It is
    /// made where it is missing, and stays. Without it, it is that of this process, or the next one above that can have others.
    pub parent: Option<&'a Path>,
    /// The devices that may be opened; all of them where there is no list.
    pub devices: Option<&'a [AllowedDevice]>,
    /// What may be used.
    pub limits: CgroupLimits,
}

/// Why there is no such cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No tree of cgroups is mounted here that has a controller.
    #[error("no cgroup here has the controller {controller}")]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// A cgroup of version 2 with processes in it hands out no controllers.
    #[error("{} has processes of its own, and so no cgroup in it can have the controller {controller}", path.display())]
    Occupied {
        /// The cgroup.
        path: PathBuf,
        /// The controller.
        controller: &'static str,
    },
    /// The kernel refused a call.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// Which limits were met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitsMet {
    /// A process was killed for memory.
    pub memory: bool,
    /// No process could be made.
    pub processes: bool,
}

/// A cgroup of processes that join it, in as many trees as that takes. Dropping it removes it; where the process was killed before,
/// the next one does.
#[derive(Debug)]
#[must_use = "the cgroup is removed when this is dropped"]
pub struct Cgroup {
    parts: Vec<Part>,
    notification: Option<Notification>,
}

/// The cgroup in one tree.
#[derive(Debug)]
struct Part {
    version: Version,
    controllers: Vec<Controller>,
    parent: OwnedFd,
    path: PathBuf,
    /// It, held so that nobody takes it for one that was left behind.
    directory: OwnedFd,
}

/// Runtimes are told other names.
const PREFIX: &str = "ocibuild-step-";

/// More cgroups than this beside each other are somebody else's.
const MAX_BESIDE: usize = 4096;

/// How deep below one that is removed there may be others, as of a runtime.
const MAX_BELOW: usize = 8;

impl Cgroup {
    /// Makes one, and tries whether it can be joined.
    pub fn new(request: &CgroupRequest<'_>) -> Result<Self, CgroupError> {
        let parts = parents(request)?.into_iter().map(|parent| Part::in_first(&parent, request));
        let parts = parts.collect::<Result<Vec<Part>, CgroupError>>()?;
        let mut cgroup = Self { parts, notification: None };
        if let Some(part) = cgroup.part_with(Controller::Memory)
            && part.version == Version::One
        {
            cgroup.notification = Some(Notification::of(part.directory.as_fd(), &part.path)?);
        }
        Ok(cgroup)
    }

    /// The files that a process writes itself to, to join.
    pub fn processes(&self) -> impl Iterator<Item = PathBuf> {
        self.parts.iter().map(Part::processes)
    }

    /// Which limits were met so far.
    pub fn limits_met(&self) -> Result<LimitsMet, Error> {
        let memory = match (&self.notification, self.part_with(Controller::Memory)) {
            (Some(notification), _) => notification.has_come()?,
            (None, Some(part)) => part.count("memory.events", "oom_kill")? > 0,
            (None, None) => false,
        };
        let processes = match self.part_with(Controller::Pids) {
            Some(part) => part.count("pids.events", "max")? > 0,
            None => false,
        };
        Ok(LimitsMet { memory, processes })
    }

    fn part_with(&self, controller: Controller) -> Option<&Part> {
        self.parts.iter().find(|part| part.controllers.contains(&controller))
    }
}

impl Part {
    /// One in the first of the directories that can have it, or why the very first of them cannot.
    fn in_first(parent: &Parent, request: &CgroupRequest<'_>) -> Result<Self, CgroupError> {
        let mut first = None;
        for directory in parent.directories() {
            let made = parent.prepare(directory).and_then(|()| {
                let part = Self::new(directory, parent)?;
                part.set_up(directory, parent, request)?;
                Ok(part)
            });
            match made {
                Ok(part) => return Ok(part),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new("find a cgroup in", "/proc/self/cgroup", Errno::NOENT).into()))
    }

    fn new(beside: &Path, parent: &Parent) -> Result<Self, Error> {
        sweep(beside);
        let opened = open(beside)?;
        let pid = rustix::process::getpid().as_raw_pid();
        for number in 0..MAX_BESIDE {
            let name = format!("{PREFIX}{pid}-{number}");
            let path = beside.join(&name);
            match rustix::fs::mkdirat(&opened, name.as_str(), Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => continue,
                result => result.map_err(Error::at("mkdir", &path))?,
            }
            match lock(opened.as_fd(), Path::new(&name)) {
                // Somebody took it for one that was left behind, and removes or has removed it.
                Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(Error::new("lock", &path, errno)),
                Ok(directory) => {
                    let controllers = parent.controllers.clone();
                    let version = parent.hierarchy.version;
                    return Ok(Self { version, controllers, parent: opened, path, directory });
                }
            }
        }
        Err(Error::new("mkdir", beside, Errno::EXIST))
    }

    fn set_up(&self, beside: &Path, parent: &Parent, request: &CgroupRequest<'_>) -> Result<(), Error> {
        if let (true, Some(allowed)) = (parent.has_devices, request.devices) {
            devices::allow(self.version, &self.directory, &self.path, allowed)?;
        }
        if self.version == Version::One && parent.hierarchy.has("cpuset") {
            inherit_cpuset(&self.directory, &self.path, beside)?;
        }
        for controller in &self.controllers {
            for setting in request.limits.settings(*controller, self.version) {
                match write(self.directory.as_fd(), &self.path, setting.file, &setting.value) {
                    Err(error) if setting.optional && error.raw_os_error() == Errno::NOENT.raw_os_error() => {
                    }
                    result => result?,
                }
            }
        }
        self.try_to_join()
    }

    fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    fn count(&self, file: &str, word: &str) -> Result<u64, Error> {
        Ok(counted(&text_of(&self.path.join(file))?, word).unwrap_or(0))
    }

    /// Joins it with a process that ends at once: some rules of the tree show only then.
    fn try_to_join(&self) -> Result<(), Error> {
        let processes = self.processes();
        let path = CString::new(processes.as_os_str().as_bytes())
            .map_err(|_| Error::new("join", &processes, Errno::INVAL))?;
        run(vec![Operation::JoinCgroup(path)])
            .map_err(|error| Error::new("join", &processes, Errno::from_raw_os_error(error.raw_os_error())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Where a process of it is not quite gone, the next one to be made removes it.
        remove(self.parent.as_fd(), Path::new(self.path.file_name().unwrap_or_default()), MAX_BELOW);
    }
}

/// A cgroup of version 1 begins with no CPUs and no memory, and cannot be joined before it has some.
fn inherit_cpuset(directory: &OwnedFd, path: &Path, parent: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        write(directory.as_fd(), path, file, text_of(&parent.join(file))?.trim())?;
    }
    Ok(())
}

/// The lock of what has this name now. Between opening and locking it may have been removed, and another may have the name:
/// whoever held that lock would keep, or remove, what is not its own. While it is held, nobody else removes what it is of.
fn lock(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    let locked = rustix::fs::fstat(&directory)?;
    let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_same = (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino);
    if is_same { Ok(directory) } else { Err(Errno::NOENT) }
}

/// Whether this is a name that is given here, and not one that somebody gave to [`CgroupRequest::parent`].
fn is_ours(name: &[u8]) -> bool {
    name == OWN.as_bytes() || name.starts_with(PREFIX.as_bytes())
}

/// Removes what killed processes left. Nothing depends on it.
fn sweep(directory: &Path) {
    let Ok(parent) = open(directory) else { return };
    let Ok(names) = DirHandle::open(directory).and_then(|opened| opened.read_dir()) else { return };
    for entry in names.take(MAX_BESIDE).flatten() {
        if is_ours(entry.name.as_encoded_bytes())
            && let Ok(_lock) = lock(parent.as_fd(), Path::new(&entry.name))
        {
            remove(parent.as_fd(), Path::new(&entry.name), MAX_BELOW);
        }
    }
}

/// Removes a cgroup that has no processes, and those in it that a runtime left there.
fn remove(parent: BorrowedFd<'_>, name: &Path, depth: usize) {
    let gone = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    if !matches!(gone, Err(Errno::BUSY | Errno::NOTEMPTY)) || depth == 0 {
        return;
    }
    let Ok(directory) = open_directory(parent, name).map(DirHandle::from_fd) else { return };
    let Ok(entries) = directory.read_dir() else { return };
    for entry in entries.flatten() {
        if directory.stat(&entry.name).is_ok_and(|found| found.file_type == FileType::Directory) {
            remove(directory.as_fd(), Path::new(&entry.name), depth - 1);
        }
    }
    let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
}
