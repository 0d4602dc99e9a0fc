use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use crate::{Obstacle, namespace_obstacle};

/// What [`enter_user_namespace`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespace {
    /// Whether there are ids beside the own one, from `/etc/subuid` and `/etc/subgid`.
    pub ranges: bool,
    /// Why there are none.
    pub without_ranges: Option<String>,
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
        Self { operation: operation.into(), errno, obstacle: is_denied.then(namespace_obstacle).flatten() }
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

/// Makes this process root of a new user namespace with a mount namespace, in place.
///
/// For the start of a program that runs as an ordinary user, while it has one thread: the kernel refuses it
/// later. The own ids become 0; those that `/etc/subuid` and `/etc/subgid` give to the user become 1 and
/// following, by means of `newuidmap` and `newgidmap`. Without those, there is id 0 alone, and supplementary
/// groups cannot be set.
pub fn enter_user_namespace() -> Result<UserNamespace, UserNamespaceError> {
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let ranges = Ranges::find(ids.0);
    let helper = match ranges {
        Ok(ranges) => Ok(Helper::start(ids, &ranges)?),
        Err(reason) => Err(reason),
    };
    unshare()?;
    let mapped = match helper {
        Ok(helper) => helper.finish(),
        Err(reason) => Err(reason),
    };
    match mapped {
        Ok(()) => {
            rustix::thread::set_thread_groups(&[])
                .map_err(|errno| UserNamespaceError::new("drop supplementary groups", errno))?;
            Ok(UserNamespace { ranges: true, without_ranges: None })
        }
        Err(reason) => {
            map_single(ids)?;
            Ok(UserNamespace { ranges: false, without_ranges: Some(reason) })
        }
    }
}

#[expect(
    unsafe_code,
    reason = "rustix marks unshare unsafe because of descriptor tables, which are not unshared"
)]
fn unshare() -> Result<(), UserNamespaceError> {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    // SAFETY: no UnshareFlags::FILES.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|errno| UserNamespaceError::new("make a user namespace", errno))
}

fn map_single((uid, gid): (u32, u32)) -> Result<(), UserNamespaceError> {
    // The kernel lets an unprivileged process map its group only once it cannot drop groups any more, which
    // may be what denies it something.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write(path: &str, text: &str) -> Result<(), UserNamespaceError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let file = options.write(true).custom_flags(libc::O_CLOEXEC).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        UserNamespaceError::new(format!("write {path}"), errno)
    })
}

/// Ids that the administrator gave to a user, and the programs that hand them out.
struct Ranges {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Ranges {
    fn find(uid: u32) -> Result<Self, String> {
        let name = user_name(uid);
        let ranges = |path: &str| {
            let ranges = parse_ranges(&read(path), uid, name.as_deref());
            if ranges.is_empty() { Err(format!("{path} has no range for this user")) } else { Ok(ranges) }
        };
        let (users, groups) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        Ok(Self { users, groups, newuidmap: program("newuidmap")?, newgidmap: program("newgidmap")? })
    }
}

fn parse_ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        if Some(who) != name && who != uid {
            return None;
        }
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some((start, count))
    };
    text.lines().filter_map(parse).collect()
}

fn user_name(uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let passwd = read("/etc/passwd");
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// Only places that are the administrator's: what is run here has set-user-ID.
fn program(name: &str) -> Result<PathBuf, String> {
    let directories = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"];
    let paths = directories.iter().map(|directory| Path::new(directory).join(name));
    paths.into_iter().find(|path| path.exists()).ok_or_else(|| format!("{name} is not installed"))
}

/// A copy of this process that stays outside and writes the maps once this process is inside.
struct Helper {
    pid: rustix::process::Pid,
    go: File,
    outcome: File,
}

impl Helper {
    fn start((uid, gid): (u32, u32), ranges: &Ranges) -> Result<Self, UserNamespaceError> {
        let failed = |errno| UserNamespaceError::new("make a pipe", errno);
        let (wait, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (outcome, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let parent = rustix::process::getpid().as_raw_pid();
        if let Some(pid) = fork()? {
            return Ok(Self { pid, go: File::from(go), outcome: File::from(outcome) });
        }
        drop((go, outcome));
        help(File::from(wait), File::from(tell), || {
            map(&ranges.newuidmap, parent, uid, &ranges.users)?;
            map(&ranges.newgidmap, parent, gid, &ranges.groups)
        })
    }

    /// Lets the helper write the maps; the error is what the programs said.
    fn finish(mut self) -> Result<(), String> {
        let mut message = String::new();
        let _ = self.go.write_all(b"x");
        let read = self.outcome.read_to_string(&mut message);
        // Only so that it does not stay as a zombie: a caller that ignores SIGCHLD gets no status.
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        match read {
            Ok(_) if message == MAPPED => Ok(()),
            Ok(_) => Err(message.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What the helper says when the maps are written.
const MAPPED: &str = "mapped";

#[expect(unsafe_code, reason = "forks")]
fn fork() -> Result<Option<rustix::process::Pid>, UserNamespaceError> {
    // SAFETY: the C library's own fork, in a process that has one thread (else the `unshare` that follows
    // fails), so that the child may do whatever it likes.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(UserNamespaceError::new("fork", crate::dir::last_errno()));
    }
    Ok(rustix::process::Pid::from_raw(pid))
}

/// The life of the helper.
#[expect(unsafe_code, reason = "a copy of a program: it has its signals, and must not run its exit handlers")]
fn help(mut wait: File, mut tell: File, work: impl FnOnce() -> Result<(), String>) -> ! {
    // SAFETY: a process of one thread, in which nobody else looks at signals. The programs it starts leave a status only if
    // the signal is not ignored.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut byte = [0];
    // Nothing comes if the parent failed: nothing to map then.
    let go = wait.read(&mut byte).is_ok_and(|length| length == 1);
    if go {
        let message = work().err();
        // Fails only if nobody is left to be told.
        let _ = tell.write_all(message.as_deref().unwrap_or(MAPPED).as_bytes());
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn map(program: &Path, pid: i32, own: u32, ranges: &[(u32, u32)]) -> Result<(), String> {
    let mut arguments = vec![pid.to_string(), "0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for (start, count) in ranges {
        arguments.extend([inside.to_string(), start.to_string(), count.to_string()]);
        inside = inside.saturating_add(*count);
    }
    let output = Command::new(program).args(&arguments).env_clear().output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", program.display(), message.trim()))
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
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\nalice:bad:1\nalice:5:0\n";
        assert_eq!(parse_ranges(text, 1000, Some("alice")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(parse_ranges(text, 7, None), []);
    }

    #[test]
    fn maps_tell_who_is_there() {
        let users = parse_map("         0       1000          1\n         1     100000      65536\n");
        let map = IdMap { users, groups: parse_map("0 0 1"), setgroups: false };
        assert!(map.has_user(0) && map.has_user(65_536) && !map.has_user(65_537));
        assert!(map.has_group(0) && !map.has_group(1));
    }
}
