//! User namespaces, made and entered without a rule about the threads of this program.

mod apart;
mod ranges;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::channel;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getgid, getpid, getppid, getuid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups};

use self::apart::apart;
pub(crate) use self::apart::program_id;
use self::ranges::Ranges;
use crate::obstacle::missing_capability;
use crate::{Obstacle, user_namespace_obstacle};

/// A user namespace in which the user of this program is root.
///
/// ```
/// use ocibuild_sys::UserNamespace;
///
/// # if ocibuild_sys::user_namespaces_work().is_err() { return Ok(()) }
/// let namespace = UserNamespace::create()?;
/// let ids = namespace.run(|| std::thread::spawn(ocibuild_sys::id_map).join().unwrap())?;
/// assert!(ids.has_user(0));
/// # Ok::<(), ocibuild_sys::UserNamespaceError>(())
/// ```
#[derive(Debug)]
pub struct UserNamespace {
    user: OwnedFd,
    /// Whether supplementary groups can be set.
    setgroups: bool,
    without_ranges: Option<IdsError>,
}

/// Why there is no user namespace: says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespaceError {
    operation: String,
    errno: Errno,
    obstacle: Option<Obstacle>,
}

impl UserNamespaceError {
    fn new(operation: impl Into<String>, errno: Errno) -> Self {
        // Of what was denied or is used up, and not of files and processes that there are too many of.
        let is_denied =
            matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::INVAL);
        Self {
            operation: operation.into(),
            errno,
            obstacle: is_denied.then(user_namespace_obstacle).flatten(),
        }
    }

    /// Of a file, which says nothing about namespaces.
    fn io(operation: impl Into<String>, error: &io::Error) -> Self {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        Self { operation: operation.into(), errno, obstacle: None }
    }

    /// The same, if it was denied, with the first of these capabilities that is missing: the kernel asks for all of them.
    fn lacking(mut self, names: &[&'static str]) -> Self {
        if self.errno == Errno::PERM
            && let Some(name) = missing_capability(names)
        {
            self.obstacle = Some(Obstacle::Capability(name));
        }
        self
    }

    /// What was tried, in words.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The kernel's error number.
    pub fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// What is in the way, if it is known.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle
    }
}

impl fmt::Display for UserNamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, std::io::Error::from(self.errno))?;
        match &self.obstacle {
            Some(obstacle) => write!(f, " ({obstacle})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UserNamespaceError {}

/// Why a user namespace has no ids but one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdsError {
    /// A file that gives ids to users gives none to this one.
    NoRange {
        /// The file.
        path: &'static str,
    },
    /// A program that hands them out is not installed.
    ProgramMissing {
        /// The program.
        name: &'static str,
    },
    /// Such a program did not do it.
    Program {
        /// Its path.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// The kernel did not take the ids.
    Kernel(UserNamespaceError),
}

impl fmt::Display for IdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRange { path } => write!(f, "{path} has no range for this user"),
            Self::ProgramMissing { name } => write!(f, "{name} is not installed"),
            Self::Program { path, message } => write!(f, "{}: {message}", path.display()),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for IdsError {}

/// A run of ids and what they are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id in this namespace.
    pub inside: u32,
    /// What it is in the parent namespace.
    pub outside: u32,
    /// How many follow.
    pub count: u32,
}

/// The ids of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Users.
    pub users: Vec<IdRange>,
    /// Groups.
    pub groups: Vec<IdRange>,
    /// Whether supplementary groups can be set.
    pub setgroups: bool,
}

impl IdMap {
    /// Whether there is one user and one group, so that no file can be given to anybody.
    pub fn is_single(&self) -> bool {
        let is_single = |ranges: &[IdRange]| matches!(ranges, [range] if range.count == 1);
        is_single(&self.users) && is_single(&self.groups)
    }

    /// Whether a process here can be this user.
    pub fn has_user(&self, uid: u32) -> bool {
        contains(&self.users, uid)
    }

    /// Whether a process here can be in this group.
    pub fn has_group(&self, gid: u32) -> bool {
        contains(&self.groups, gid)
    }
}

fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id.checked_sub(range.inside).is_some_and(|offset| offset < range.count))
}

/// The ids of the user namespace of this process.
pub fn id_map() -> IdMap {
    IdMap {
        users: parse_map(&read("/proc/self/uid_map")),
        groups: parse_map(&read("/proc/self/gid_map")),
        setgroups: read("/proc/self/setgroups").trim() != "deny",
    }
}

fn parse_map(text: &str) -> Vec<IdRange> {
    let parse = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map_while(|number| number.parse().ok());
        Some(IdRange { inside: numbers.next()?, outside: numbers.next()?, count: numbers.next()? })
    };
    text.lines().filter_map(parse).collect()
}

/// Whether this process is in the user namespace that the kernel started with.
pub fn in_initial_user_namespace() -> bool {
    /// `PROC_USER_INIT_INO`: part of the kernel's interface since 3.8.
    const INITIAL: u64 = 0xEFFF_FFFD;
    rustix::fs::stat(c"/proc/self/ns/user").is_ok_and(|stat| stat.st_ino == INITIAL)
}

impl UserNamespace {
    /// Makes one in which this user is root.
    ///
    /// The own ids become 0; those that `/etc/subuid` and `/etc/subgid` give to the user become 1 and following, by means of
    /// `newuidmap` and `newgidmap`. Without those, there is id 0 alone, and supplementary groups cannot be set. Root keeps all
    /// ids that it has, where it may give them away (`CAP_SETUID` and `CAP_SETGID`).
    ///
    /// Works in a program with any number of threads.
    pub fn create() -> Result<Self, UserNamespaceError> {
        match Self::with_all_ids()? {
            Ok(namespace) => Ok(namespace),
            Err(reason) => Ok(Self { without_ranges: Some(reason), ..Self::with_one_id()? }),
        }
    }

    /// The same with several ids, or not at all; the inner error is why there is one and no more.
    pub fn with_all_ids() -> Result<Result<Self, IdsError>, UserNamespaceError> {
        let own = own_ids();
        let user = match own.0 {
            0 => make(map_all)?.map_err(IdsError::Kernel),
            uid => match Ranges::find(uid) {
                Ok(ranges) => make(|process| ranges.map(process, own))?,
                Err(missing) => Err(missing),
            },
        };
        Ok(user.map(|user| Self { user, setgroups: true, without_ranges: None }))
    }

    /// The same with id 0 alone, whatever else there might be. Supplementary groups cannot be set.
    pub fn with_one_id() -> Result<Self, UserNamespaceError> {
        let own = own_ids();
        let user = make(|process| map_single(process, own))??;
        Ok(Self { user, setgroups: false, without_ranges: None })
    }

    /// Why there are no ids but one, where there might have been more.
    pub fn without_ranges(&self) -> Option<&IdsError> {
        self.without_ranges.as_ref()
    }

    /// Carries out `work` as root of the namespace, in a mount namespace of its own, and waits for it. Threads that it starts
    /// are there as well; the caller's stay where they are.
    ///
    /// It happens in a process that shares the memory and the descriptors of this one, on another stack, with the thread-local
    /// storage of a thread made for it. Its working directory and file mode mask are copies. It takes no signals.
    ///
    /// # Panics
    /// With the panic of `work`. If somebody kills the process, this program ends by `SIGABRT`, since the process is a thread
    /// of it in all but name.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, UserNamespaceError> {
        let host = getpid();
        let done = apart(0, || self.enter(host).map(|()| work()));
        done.map_err(|errno| UserNamespaceError::new("start a process", errno))?
    }

    fn enter(&self, host: Pid) -> Result<(), UserNamespaceError> {
        let failed = |operation: &'static str| move |errno| UserNamespaceError::new(operation, errno);
        let kind = Some(LinkNameSpaceType::User);
        move_into_link_name_space(self.user.as_fd(), kind).map_err(failed("enter a user namespace"))?;
        unshare_mounts().map_err(failed("make a mount namespace"))?;
        if self.setgroups {
            set_thread_groups(&[]).map_err(failed("drop supplementary groups"))?;
        }
        end_with(host)
    }
}

/// Makes a user namespace, to which `map` gives ids by way of the process that is in it.
fn make<E: Send>(
    map: impl FnOnce(Pid) -> Result<(), E> + Send,
) -> Result<Result<OwnedFd, E>, UserNamespaceError> {
    let host = getpid();
    let (born, process) = channel();
    let (mapped, is_mapped) = channel::<()>();
    let inside = move || -> Result<File, UserNamespaceError> {
        end_with(host)?;
        // Fails only if the caller has given up.
        let _ = born.send(getpid());
        // Ends with an error, since nothing is ever sent.
        let _ = is_mapped.recv();
        let opened = File::options().read(true).open("/proc/self/ns/user");
        opened.map_err(|error| UserNamespaceError::io("open /proc/self/ns/user", &error))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, move || apart(libc::CLONE_NEWUSER, inside))
            .map_err(|error| UserNamespaceError::io("start a thread", &error))?;
        // Apart, since this program may ignore SIGCHLD, and would not learn how others that it starts have ended. There is
        // nothing to map of a process that did not come to be.
        let map = |process| apart(0, || map(process));
        let outcome = process.recv().ok().map(map).transpose();
        drop(mapped);
        let made = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let user = made.map_err(|errno| UserNamespaceError::new("make a user namespace", errno))??;
        let outcome = outcome.map_err(|errno| UserNamespaceError::new("start a process", errno))?;
        Ok(outcome.unwrap_or(Ok(())).map(|()| user.into()))
    })
}

#[expect(
    unsafe_code,
    reason = "rustix marks unshare unsafe because of descriptor tables, which are not unshared"
)]
fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: no UnshareFlags::FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Has this process, which was made by a thread of `host`, end when that does.
fn end_with(host: Pid) -> Result<(), UserNamespaceError> {
    let failed = |errno| UserNamespaceError::new("end a process with this one", errno);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    if getppid() == Some(host) { Ok(()) } else { Err(failed(Errno::SRCH)) }
}

/// The ids that this process has, under the same numbers.
fn map_all(process: Pid) -> Result<(), UserNamespaceError> {
    let own = id_map();
    let same = |ranges: &[IdRange]| {
        let line = |range: &IdRange| format!("{0} {0} {1}\n", range.inside, range.count);
        ranges.iter().map(line).collect::<String>()
    };
    let mapped = write(process, "uid_map", &same(&own.users));
    let mapped = mapped.and_then(|()| write(process, "gid_map", &same(&own.groups)));
    mapped.map_err(|error| error.lacking(&["CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]))
}

/// The own ids as 0, and nothing else.
fn map_single(process: Pid, (uid, gid): (u32, u32)) -> Result<(), UserNamespaceError> {
    // The kernel lets an unprivileged process map its group only once it cannot drop groups any more, which
    // may be what denies it something.
    write(process, "setgroups", "deny")?;
    let mapped = write(process, "uid_map", &format!("0 {uid} 1"));
    let mapped = mapped.and_then(|()| write(process, "gid_map", &format!("0 {gid} 1")));
    // Who gives the id of root away needs a capability for that.
    mapped.map_err(|error| if uid == 0 { error.lacking(&["CAP_SETFCAP"]) } else { error })
}

fn own_ids() -> (u32, u32) {
    (getuid().as_raw(), getgid().as_raw())
}

fn write(process: Pid, name: &str, text: &str) -> Result<(), UserNamespaceError> {
    let path = format!("/proc/{}/{name}", process.as_raw_pid());
    let file = File::options().write(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| UserNamespaceError::io(format!("write {path}"), &error))
}

/// The text of a file that may not be there: what cannot be read tells nothing.
pub(crate) fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::options().read(true).open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_tell_who_is_there() {
        let users = parse_map("         0       1000          1\n         1     100000      65536\n");
        let map = IdMap { users, groups: parse_map("0 0 1"), setgroups: false };
        assert!(map.has_user(0) && map.has_user(65_536) && !map.has_user(65_537));
        assert!(map.has_group(0) && !map.has_group(1));
    }
}
