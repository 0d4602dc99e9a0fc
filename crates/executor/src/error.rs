use std::path::{Path, PathBuf};

use ocibuild_sys::{Blocked, CgroupError, Obstacle, SandboxError, SandboxErrorKind};
use rustix::io::Errno;

use crate::Need;

/// A step that could not be carried out to its end.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Repr);

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller cancelled; everything was killed.
    Cancelled,
    /// This host gives no namespaces: the text names what is missing.
    NoSandbox,
    /// There are no more descriptors, processes or memory for this process, this user or this host:
    /// [`Error::raw_os_error`] tells which.
    Exhausted,
    /// User or group of the step do not exist in this user namespace.
    Identity,
    /// A mount, a limit or another preparation failed.
    Setup,
    /// The working directory cannot be used.
    Directory,
    /// The limits that are asked for cannot be had: [`Error::limits_refused`] tells why.
    Limits,
    /// The program of the step does not exist: as if it had ended with 127.
    ProgramNotFound,
    /// The program of the step cannot be executed: as if it had ended with 126.
    ProgramRefused,
    /// The program of the step is in a format that this host does not execute, as that of another architecture: as if
    /// it had ended with 126.
    ProgramFormat,
    /// The runtime program is not there.
    RuntimeMissing,
    /// The runtime program failed.
    Runtime,
    /// The program that connects a private network is not there.
    NetworkProgramMissing,
    /// The program that connects a private network failed.
    NetworkProgram,
    /// A file of the step could not be written or read.
    State,
    /// The step cannot be expressed: no program, a NUL in a string.
    InvalidStep,
    /// This executor cannot give the step what it asks for.
    Unsupported,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Repr {
    #[error("the step was cancelled")]
    Cancelled,
    #[error("no usable sandbox{}", listed(obstacles))]
    Blocked { obstacles: Vec<Obstacle>, source: SandboxError },
    #[error("{what} is not mapped in this user namespace; it takes a range in /etc/subuid and /etc/subgid")]
    Unmapped { what: String },
    #[error("{program}")]
    Program { kind: ErrorKind, program: String },
    #[error("prepare the step")]
    Sandbox(#[source] SandboxError),
    #[error("{}, said of it: {log}", command_failed(command, *status))]
    Runtime { command: String, status: i32, log: String },
    #[error("runtime {name} was not found in {}", join(searched))]
    RuntimeMissing { name: String, searched: Vec<PathBuf> },
    #[error("{name} is no program for private networks: those are pasta and slirp4netns")]
    NotANetworkProgram { name: String },
    #[error("{name} was not found in {}", join(searched))]
    NetworkProgramMissing { name: String, searched: Vec<PathBuf> },
    #[error("{}, which connects the private network of the step, {problem}{}", program.display(), said_so(said))]
    NetworkProgram { program: PathBuf, problem: &'static str, said: String },
    #[error("a step with {capability} cannot be kept in a private network")]
    NotPrivate { capability: &'static str },
    #[error("the limits of the step cannot be set")]
    Limits(#[source] CgroupError),
    #[error("write the files of the step")]
    State(#[source] std::io::Error),
    #[error("{verb} {}", path.display())]
    Place { verb: &'static str, path: PathBuf, source: ocibuild_sys::Error },
    #[error("{}", need.refusal())]
    Unmet { need: Need },
    #[error("{} is on a file system without devices (nodev), and a step needs some", path.display())]
    NoDevices { path: PathBuf },
    #[error("nothing keeps a step without namespaces from the devices of this host: no cgroup denies them")]
    OpenDevices,
    #[error("{} cannot be moved into the step, and nothing can be mounted here", path.display())]
    Unmovable { path: PathBuf },
    #[error("write the configuration of the runtime")]
    Config(#[source] serde_json::Error),
    #[error("read the output of the step")]
    Output(#[source] std::io::Error),
    #[error("read the input of the command")]
    Input(#[source] std::io::Error),
    #[error("answer the system calls of the step")]
    Answers(#[source] std::io::Error),
    #[error("{what} of the step {problem}")]
    Invalid { what: String, problem: &'static str },
    #[error("{message}")]
    Other { kind: ErrorKind, message: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
}

fn listed(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join(", and ")) }
}

fn is_exhausted(error: &std::io::Error) -> bool {
    let errno = ocibuild_sys::raw_os_error_of(error).map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn command_failed(command: &str, status: i32) -> String {
    format!("{command} ended with {status}")
}

fn said_so(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", and said: {said}") }
}

fn join(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

impl Error {
    /// An error of an executor that is not of this crate; `message` says what failed.
    ///
    /// ```
    /// use ocibuild_executor::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::ProgramNotFound, "the remote host has no cc");
    /// assert_eq!(error.exit_code(), Some(127));
    /// assert_eq!(error.to_string(), "the remote host has no cc");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Repr::Other { kind, message: message.into(), source: None })
    }

    /// The same with the error below it.
    pub fn caused_by(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Repr::Other { kind, message: message.into(), source: Some(source.into()) })
    }

    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Repr::Cancelled => ErrorKind::Cancelled,
            Repr::Blocked { .. } => ErrorKind::NoSandbox,
            Repr::Unmapped { .. } => ErrorKind::Identity,
            Repr::Program { kind, .. } | Repr::Other { kind, .. } => *kind,
            Repr::Sandbox(error) => match error.kind() {
                SandboxErrorKind::Identity => ErrorKind::Identity,
                SandboxErrorKind::Directory => ErrorKind::Directory,
                SandboxErrorKind::Exhausted => ErrorKind::Exhausted,
                _ => ErrorKind::Setup,
            },
            Repr::Runtime { .. } => ErrorKind::Runtime,
            Repr::RuntimeMissing { .. } => ErrorKind::RuntimeMissing,
            Repr::NotANetworkProgram { .. } | Repr::NetworkProgramMissing { .. } => {
                ErrorKind::NetworkProgramMissing
            }
            Repr::NetworkProgram { .. } => ErrorKind::NetworkProgram,
            Repr::State(error) | Repr::Output(error) | Repr::Input(error) | Repr::Answers(error)
                if is_exhausted(error) =>
            {
                ErrorKind::Exhausted
            }
            Repr::Limits(_) => ErrorKind::Limits,
            Repr::State(_) | Repr::Config(_) | Repr::Output(_) | Repr::Input(_) => ErrorKind::State,
            Repr::Answers(_) | Repr::Place { .. } => ErrorKind::Setup,
            Repr::Unmovable { .. }
            | Repr::Unmet { .. }
            | Repr::NotPrivate { .. }
            | Repr::NoDevices { .. }
            | Repr::OpenDevices => ErrorKind::Unsupported,
            Repr::Invalid { .. } => ErrorKind::InvalidStep,
        }
    }

    /// The kernel's error number, if there is one behind it.
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.0 {
            Repr::Blocked { source, .. } | Repr::Sandbox(source) => Some(source.raw_os_error()),
            Repr::State(error) | Repr::Output(error) | Repr::Input(error) | Repr::Answers(error) => {
                ocibuild_sys::raw_os_error_of(error)
            }
            Repr::Place { source, .. } | Repr::Limits(CgroupError::Kernel(source)) => {
                Some(source.raw_os_error())
            }
            Repr::Other { source: Some(source), .. } => ocibuild_sys::raw_os_error_of(&**source),
            _ => None,
        }
    }

    /// What the command would have ended with, had a shell been asked to execute it: 127 or 126, if the
    /// program is what failed.
    pub fn exit_code(&self) -> Option<i32> {
        match self.kind() {
            ErrorKind::ProgramNotFound => Some(127),
            ErrorKind::ProgramRefused | ErrorKind::ProgramFormat => Some(126),
            _ => None,
        }
    }

    /// What there is evidence for that it is in the way of a sandbox; empty for other errors.
    pub fn obstacles(&self) -> &[Obstacle] {
        match &self.0 {
            Repr::Blocked { obstacles, .. } => obstacles,
            _ => &[],
        }
    }

    /// What the step needs and the executor does not have, if that is what is wrong.
    pub fn need(&self) -> Option<Need> {
        match &self.0 {
            Repr::Unmet { need } => Some(*need),
            _ => None,
        }
    }

    /// Why limits cannot be had, if that is what is wrong.
    pub fn limits_refused(&self) -> Option<&CgroupError> {
        match &self.0 {
            Repr::Limits(error) => Some(error),
            _ => None,
        }
    }

    /// The program that should connect a private network and does not, and what it did instead, if that is what is wrong.
    pub fn network_program(&self) -> Option<(&Path, String)> {
        match &self.0 {
            Repr::NetworkProgram { program, problem, said } => {
                Some((program, format!("{problem}{}", said_so(said))))
            }
            _ => None,
        }
    }

    /// This host gives no sandbox.
    pub(crate) fn blocked(blocked: Blocked) -> Self {
        Self(Repr::Blocked { obstacles: blocked.obstacles, source: blocked.error })
    }

    pub(crate) fn invalid(what: impl Into<String>, problem: &'static str) -> Self {
        Self(Repr::Invalid { what: what.into(), problem })
    }

    /// The program of the step, in the words that runc has for it.
    pub(crate) fn program(kind: ErrorKind, program: &str, reason: &str) -> Self {
        let program = if kind == ErrorKind::ProgramNotFound && !program.contains('/') {
            format!("exec: {program:?}: executable file not found in $PATH")
        } else if kind == ErrorKind::ProgramNotFound {
            format!("exec: {program:?}: stat {program}: no such file or directory")
        } else {
            format!("exec: {program:?}: {reason}")
        };
        Self(Repr::Program { kind, program })
    }

    pub(crate) fn from_sandbox(error: SandboxError, program: &str) -> Self {
        let reason = std::io::Error::from_raw_os_error(error.raw_os_error()).to_string().to_lowercase();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        match error.kind() {
            SandboxErrorKind::ProgramNotFound => Self::program(ErrorKind::ProgramNotFound, program, reason),
            SandboxErrorKind::ProgramRefused if error.raw_os_error() == Errno::NOEXEC.raw_os_error() => {
                Self::program(ErrorKind::ProgramFormat, program, reason)
            }
            SandboxErrorKind::ProgramRefused => Self::program(ErrorKind::ProgramRefused, program, reason),
            SandboxErrorKind::Namespaces => {
                let obstacle = ocibuild_sys::namespace_obstacle();
                Self(Repr::Blocked { obstacles: obstacle.into_iter().collect(), source: error })
            }
            _ => Self(Repr::Sandbox(error)),
        }
    }
}
