use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;

use libc::c_int;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::child::{self, Birthplace, Keeper, Prepared, Report, Stage, at};
use crate::dir::last_errno;
use crate::sandbox::{Operation, Sandbox};
use crate::signal::BlockedSignals;
use crate::{Filter, PendingListener, signal, terminal};

/// A failed sandbox: what could not be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxError {
    kind: SandboxErrorKind,
    what: String,
    errno: Errno,
}

/// What a failed sandbox means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SandboxErrorKind {
    /// The kernel gives this process no namespaces.
    Namespaces,
    /// There are no more descriptors, processes or memory for this process, this user or this host: the error number
    /// tells which.
    Exhausted,
    /// Something failed on the way to the command: a mount, a descriptor, a limit.
    Setup,
    /// User or groups cannot be taken on, because they are not mapped in this user namespace.
    Identity,
    /// The working directory is missing, no directory, or not inside the root.
    Directory,
    /// The program does not exist.
    ProgramNotFound,
    /// The program exists and cannot be executed.
    ProgramRefused,
    /// The process ended without a word, killed from outside.
    Lost,
}

impl SandboxError {
    pub(crate) fn new(kind: SandboxErrorKind, what: impl Into<String>, errno: Errno) -> Self {
        Self { kind, what: what.into(), errno }
    }

    /// Of a call that needs nothing but resources.
    fn of_resource(what: &'static str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM => SandboxErrorKind::Exhausted,
            _ => SandboxErrorKind::Setup,
        };
        Self::new(kind, what, errno)
    }

    /// The sort of failure.
    pub fn kind(&self) -> SandboxErrorKind {
        self.kind
    }

    /// What was tried, in words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The kernel's error number.
    pub fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, io::Error::from(self.errno))
    }
}

impl std::error::Error for SandboxError {}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
}

impl Status {
    fn from_wait(status: c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// A running command. Dropping it kills it and everything it started.
#[derive(Debug)]
#[must_use = "the command is killed when this is dropped"]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    has_keeper: bool,
    /// Whether the command and what it starts are in a process namespace of their own.
    has_namespace: bool,
    /// Where the other side of a terminal comes from.
    terminal: Option<UnixStream>,
    /// Where the listener of the filter comes from.
    listener: Option<UnixStream>,
    reports: Option<File>,
    descriptions: Vec<String>,
    program: String,
    reaped: bool,
}

impl Sandbox {
    /// Starts the command with nothing to read, which is a pipe at its end, and with its output going where it is told.
    ///
    /// Works from a process with any number of threads. The command dies with the *thread* that calls this: let
    /// it wait. What fails after the new process exists is told by [`Child::wait`].
    pub fn spawn(&self, stdout: impl AsFd, stderr: impl AsFd) -> Result<Child, SandboxError> {
        self.spawn_reading(None, stdout, stderr)
    }

    /// The same with something to read. A command that gets a terminal has that for all its streams, once there is one;
    /// [`Child::terminal`] is the other side.
    pub fn spawn_reading(
        &self,
        stdin: Option<BorrowedFd<'_>>,
        stdout: impl AsFd,
        stderr: impl AsFd,
    ) -> Result<Child, SandboxError> {
        let setup = |what: &'static str| move |errno| SandboxError::of_resource(what, errno);
        // Not the null device of the host, whose owner and mode the command could then change.
        let (nothing, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(setup("make a pipe"))?;
        let (reports, report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(setup("make a pipe"))?;
        let above_streams = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let duplicate = |fd| above_streams(fd).map_err(setup("duplicate a descriptor"));
        let (stdin, report) = (duplicate(stdin.unwrap_or(nothing.as_fd()))?, duplicate(report.as_fd())?);
        let (stdout, stderr) = (duplicate(stdout.as_fd())?, duplicate(stderr.as_fd())?);
        let sockets = |wanted: bool| -> Result<Option<(UnixStream, OwnedFd)>, SandboxError> {
            if !wanted {
                return Ok(None);
            }
            let (ours, theirs) =
                UnixStream::pair().map_err(|error| errno_of(&error)).map_err(setup("make a socket"))?;
            let theirs = above_streams(theirs.as_fd()).map_err(setup("duplicate a descriptor"))?;
            Ok(Some((ours, theirs)))
        };
        let filter = self.process.confinement.as_ref().and_then(|confinement| confinement.seccomp.as_ref());
        let terminal = sockets(self.process.terminal.is_some())?;
        let listener = sockets(filter.is_some_and(Filter::notifies))?;
        let streams = [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd(), report.as_raw_fd()];
        let theirs =
            |sockets: &Option<(UnixStream, OwnedFd)>| sockets.as_ref().map(|(_, theirs)| theirs.as_raw_fd());
        let (pid, pidfd) = self.start(streams, theirs(&terminal), theirs(&listener))?;
        Ok(Child {
            pid,
            pidfd,
            has_keeper: self.has_keeper(),
            has_namespace: self.namespaces.is_some(),
            terminal: terminal.map(|(ours, _)| ours),
            listener: listener.map(|(ours, _)| ours),
            reports: Some(File::from(reports)),
            descriptions: self.operations.iter().map(describe).collect(),
            program: self.process.args.first().map_or_else(String::new, |program| text(program)),
            reaped: false,
        })
    }

    fn start(
        &self,
        [stdin, stdout, stderr, report]: [RawFd; 4],
        socket: Option<RawFd>,
        listener: Option<RawFd>,
    ) -> Result<(u32, OwnedFd), SandboxError> {
        let streams = [stdin, stdout, stderr, report];
        let birthplace = self.birthplace();
        let directory = birthplace.as_ref().map(|(directory, _)| directory.as_raw_fd());
        let networks = self.operations.iter().filter_map(|operation| match operation {
            Operation::JoinNetwork(network) | Operation::BindNetwork { network, .. } => Some(network.raw()),
            _ => None,
        });
        let kept = socket.into_iter().chain(listener).chain(directory).chain(networks);
        let mut keep: Vec<RawFd> = streams.into_iter().chain(kept).collect();
        keep.sort_unstable();
        keep.dedup();
        let terminal = self.process.terminal.zip(socket).map(|(size, socket)| child::Terminal {
            size,
            owner: self.process.confinement.as_ref().map(|confinement| confinement.uid),
            socket,
            is_the_callers: self.namespaces.is_none(),
        });
        let (programs, searched) = self.programs();
        let argv = null_terminated(&self.process.args);
        let envp = null_terminated(&self.process.env);
        let prepared = Prepared {
            operations: &self.operations,
            confinement: self.process.confinement.as_ref(),
            rlimits: &self.process.rlimits,
            programs: &programs,
            searched,
            argv: &argv,
            envp: &envp,
            cwd: &self.process.cwd,
            umask: self.process.umask,
            stdin,
            stdout,
            stderr,
            report,
            terminal,
            listener,
            keep: &keep,
            clone_flags: self.clone_flags(),
            keeper: match self.namespaces {
                None => Keeper::Reaper,
                Some(_) if self.keeper => Keeper::Namespace,
                Some(_) => Keeper::None,
            },
            birthplace: birthplace.as_ref().map(|(directory, operation)| Birthplace {
                directory: directory.as_raw_fd(),
                operation: *operation,
            }),
        };
        start(&prepared).map_err(not_started)
    }

    /// The first cgroup of version 2 that the command joins, and the operation that joins it.
    fn birthplace(&self) -> Option<(OwnedFd, usize)> {
        const VERSION_TWO: u64 = 0x6367_7270;
        let open = |(index, operation): (usize, &Operation)| {
            let Operation::JoinCgroup(processes) = operation else { return None };
            let directory = Path::new(OsStr::from_bytes(processes.as_bytes())).parent()?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // What is wrong with it is told by the operation.
            let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
            let system = rustix::fs::fstatfs(&directory).ok()?;
            (system.f_type.cast_unsigned() == VERSION_TWO).then_some((directory, index))
        };
        self.operations.iter().enumerate().find_map(open)
    }

    /// Whether there is a process between the command and this one.
    fn has_keeper(&self) -> bool {
        self.keeper || self.namespaces.is_none()
    }

    fn clone_flags(&self) -> c_int {
        let Some(namespaces) = &self.namespaces else { return 0 };
        let optional = [
            (namespaces.ipc, libc::CLONE_NEWIPC),
            (namespaces.uts, libc::CLONE_NEWUTS),
            (namespaces.network, libc::CLONE_NEWNET),
            (namespaces.cgroup, libc::CLONE_NEWCGROUP),
        ];
        let wanted = optional.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag);
        wanted.fold(libc::CLONE_NEWPID | libc::CLONE_NEWNS, |flags, flag| flags | flag)
    }

    /// Paths to try for the program, and whether they are guesses.
    fn programs(&self) -> (Vec<CString>, bool) {
        let Some(program) = self.process.args.first() else { return (Vec::new(), false) };
        if program.as_bytes().contains(&b'/') {
            return (vec![program.clone()], false);
        }
        let in_directory = |directory: &CString| {
            let path = [directory.as_bytes(), b"/", program.as_bytes()].concat();
            CString::new(path).unwrap_or_default()
        };
        let named = !program.as_bytes().is_empty();
        let search = self.process.search.iter().filter(|_| named);
        (search.map(in_directory).collect(), true)
    }
}

/// A process in new namespaces that could not be made. Only some errors speak of the namespaces.
fn not_started(errno: Errno) -> SandboxError {
    match errno {
        // Denied; more than `/proc/sys/user` allows; unknown to the kernel.
        Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::INVAL | Errno::NOSYS => {
            SandboxError::new(SandboxErrorKind::Namespaces, "make namespaces", errno)
        }
        errno => SandboxError::of_resource("start a process", errno),
    }
}

/// Forks with all signals blocked: a handler of the caller's must not run in the copy, where its world is gone.
#[expect(unsafe_code, reason = "forks")]
fn start(prepared: &Prepared<'_>) -> Result<(u32, OwnedFd), Errno> {
    let _blocked = BlockedSignals::new();
    // SAFETY: this thread waits for the call; the descriptor is new and owned by nobody else.
    unsafe {
        let mut pidfd = -1;
        let pid = child::start(prepared, &mut pidfd);
        if pid < 0 { Err(last_errno()) } else { Ok((pid as u32, OwnedFd::from_raw_fd(pidfd))) }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn null_terminated(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

impl Child {
    /// Becomes readable when the command has ended and everything it started is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Becomes readable when the command has its terminal, if it gets one.
    pub fn terminal_socket(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// The other side of the command's terminal, once: what is written there it reads, and the other way round. Waits until
    /// the command has it; `None` when it gets none, or ended before.
    pub fn terminal(&mut self) -> io::Result<Option<File>> {
        match self.terminal.take() {
            Some(socket) => Ok(terminal::receive(&socket)?),
            None => Ok(None),
        }
    }

    /// Where the listener of the filter comes from, once, if the filter has one.
    pub fn listener(&mut self) -> Option<PendingListener> {
        self.listener.take().map(|socket| PendingListener::new(socket, !self.has_namespace))
    }

    /// Sends a signal to the command. The kernel keeps from process 1, which it is, what it has no handler for; `false` says
    /// that such a signal was not sent, and that any other process would have ended by it.
    pub fn signal(&self, signal: i32) -> bool {
        signal::send(self.pid, self.pidfd.as_fd(), self.has_keeper, signal)
    }

    /// Kills the command and everything it started, at once.
    pub fn kill(&self) {
        use rustix::process::Signal;
        // A keeper that is no process 1 kills the others itself.
        let signal = if self.has_namespace { Signal::KILL } else { Signal::TERM };
        // Fails only if there is nothing to kill any more.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end of the command. When this returns, all its processes and mounts are gone.
    pub fn wait(mut self) -> Result<Status, SandboxError> {
        let mut reports = Vec::new();
        // Two reports at most.
        let read = self.reports.take().map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut reports));
        let status = self.reap()?;
        if let Err(error) = read {
            let what = "read what became of the command";
            return Err(SandboxError::new(SandboxErrorKind::Lost, what, errno_of(&error)));
        }
        let reports: Vec<Report> = reports.chunks_exact(size_of::<Report>()).map(decode).collect();
        // A failure comes before the end that it leads to.
        match reports.first() {
            None => Ok(status),
            Some(report) if report.stage == Stage::Exited as u32 => Ok(Status::from_wait(report.value)),
            Some(report) => Err(self.explain(report)),
        }
    }

    #[expect(unsafe_code, reason = "rustix does not know __WALL")]
    fn reap(&mut self) -> Result<Status, SandboxError> {
        self.reaped = true;
        loop {
            // SAFETY: the struct is plain data, filled by the kernel.
            let (result, info) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let flags = libc::WEXITED | libc::__WALL;
                let fd = self.pidfd.as_raw_fd() as libc::id_t;
                (libc::waitid(libc::P_PIDFD, fd, &raw mut info, flags), info)
            };
            if result == 0 {
                // SAFETY: `waitid` succeeded, so that these are the fields of the union that are filled.
                let status = unsafe { info.si_status() };
                let by_itself = info.si_code == libc::CLD_EXITED;
                return Ok(if by_itself { Status::Exited(status) } else { Status::Signaled(status) });
            }
            match last_errno() {
                Errno::INTR => {}
                errno => {
                    return Err(SandboxError::new(SandboxErrorKind::Lost, "wait for the command", errno));
                }
            }
        }
    }

    fn explain(&self, report: &Report) -> SandboxError {
        use SandboxErrorKind as Kind;
        let errno = Errno::from_raw_os_error(report.value);
        let is = |stage: Stage| report.stage == stage as u32;
        let (kind, what) = if is(Stage::Operation) {
            let operation = self.descriptions.get(report.index as usize).cloned().unwrap_or_default();
            (Kind::Setup, format!("{operation}{}", describe_detail(report.detail)))
        } else if is(Stage::Keeper) {
            return not_started(errno);
        } else if is(Stage::Directory) {
            (Kind::Directory, "change to the working directory".to_owned())
        } else if is(Stage::OutsideRoot) {
            (Kind::Directory, "the working directory is outside the root file system".to_owned())
        } else if is(Stage::Limits) {
            (Kind::Setup, format!("set resource limit {}", report.index))
        } else if is(Stage::Groups) {
            (Kind::Identity, "set supplementary groups".to_owned())
        } else if is(Stage::Group) {
            (Kind::Identity, format!("become group {}", report.index))
        } else if is(Stage::User) {
            (Kind::Identity, format!("become user {}", report.index))
        } else if is(Stage::Execute) {
            let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
            let kind = if missing { Kind::ProgramNotFound } else { Kind::ProgramRefused };
            (kind, format!("exec {:?}", self.program))
        } else if is(Stage::NotFoundInPath) {
            let kind = if errno == Errno::ACCESS { Kind::ProgramRefused } else { Kind::ProgramNotFound };
            (kind, format!("exec {:?}: executable file not found in $PATH", self.program))
        } else {
            (Kind::Setup, self.describe_rest(report))
        };
        SandboxError::new(kind, what, errno)
    }

    fn describe_rest(&self, report: &Report) -> String {
        let is = |stage: Stage| report.stage == stage as u32;
        if is(Stage::Watch) {
            "watch over the command".to_owned()
        } else if is(Stage::Session) {
            "make a session".to_owned()
        } else if is(Stage::Terminal) {
            let steps =
                ["open", "unlock", "connect", "size", "give away", "take", "be controlled by", "send"];
            let step = steps.get(report.index as usize).copied().unwrap_or_default();
            format!("make a terminal ({step} it)")
        } else if is(Stage::Streams) {
            "connect the output".to_owned()
        } else if is(Stage::Seccomp) {
            "install the seccomp filter".to_owned()
        } else if is(Stage::Enclosure) {
            "keep it from files and processes outside (Landlock)".to_owned()
        } else if is(Stage::Capabilities) {
            "drop capabilities".to_owned()
        } else if is(Stage::Privileges) {
            "set no_new_privs".to_owned()
        } else {
            format!("prepare {:?}", self.program)
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            let _ = self.reap();
        }
    }
}

fn decode(bytes: &[u8]) -> Report {
    let field = |index: usize| {
        let field = &bytes[4 * index..4 * index + 4];
        <[u8; 4]>::try_from(field).map_or(0, u32::from_ne_bytes)
    };
    Report { stage: field(0), index: field(1), value: field(2) as i32, detail: field(3) }
}

fn text(string: &CStr) -> String {
    OsStr::from_bytes(string.to_bytes()).to_string_lossy().into_owned()
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::MakePrivate => "make mounts private".to_owned(),
        Operation::JoinCgroup(path) => format!("join {}", text(path)),
        Operation::CgroupNamespace => "make a cgroup namespace".to_owned(),
        Operation::JoinNetwork(_) => "join a network namespace".to_owned(),
        Operation::BindNetwork { target, .. } => format!("bind a network namespace on {}", text(target)),
        Operation::HostMount { target, fstype, .. } | Operation::Mount { target, fstype, .. } => {
            format!("mount {} on {}", text(fstype), text(target))
        }
        Operation::HostBind { source, target, .. } | Operation::Bind { source, target, .. } => {
            format!("bind {} on {}", text(source), text(target))
        }
        Operation::HostView { directory, path, target, .. } => {
            format!("bind {} of {} on {}", text(path), text(directory), text(target))
        }
        Operation::HostFile { path, .. } => format!("write {}", text(path)),
        Operation::EnterRoot(dir) => format!("open the root file system {}", text(dir)),
        Operation::Directory { path, .. } => format!("make directory {}", text(path)),
        Operation::Device { path, .. } | Operation::HostDevice { path, .. } => {
            format!("make device {}", text(path))
        }
        Operation::Symlink { path, .. } => format!("make link {}", text(path)),
        Operation::Mask { path, .. } => format!("mask {}", text(path)),
        Operation::ReadOnly(path) => format!("make {} read-only", text(path)),
        Operation::Hostname(name) => format!("set host name {}", text(name)),
        Operation::LoopbackUp => "bring up the loopback interface".to_owned(),
        Operation::Pivot | Operation::Chroot => "change the root".to_owned(),
    }
}

fn describe_detail(detail: u32) -> &'static str {
    match detail {
        at::TARGET => " (at the target)",
        at::SOURCE => " (at the source)",
        at::ATTRIBUTES => " (setting its attributes)",
        at::KIND => " (not the device it should be)",
        _ => "",
    }
}
