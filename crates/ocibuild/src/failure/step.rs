//! The command of a `RUN` that failed, and what was found out about it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use ocibuild_executor::{Emulation, Exceeded};
use ocibuild_plan::quote;
use ocibuild_spec::Platform;

use super::KeptStep;

/// A command that ended with another code than 0, or that could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub struct StepFailure {
    /// The command, as histories have it.
    pub command: String,
    /// Its exit code, which is that of a shell where it could not be started.
    pub code: i32,
    /// The end of its output.
    pub output: String,
    /// What its output, its environment and its root file system tell, in the order in which it was found.
    pub facts: Vec<StepFact>,
    /// Why it could not be started.
    pub not_started: Option<Box<ocibuild_executor::Error>>,
}

impl StepFailure {
    pub(crate) fn new(command: &str, code: i32, output: String) -> Self {
        Self { command: command.to_owned(), code, output, facts: Vec::new(), not_started: None }
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, .. } = self;
        write!(f, "process {} did not complete successfully: exit code: {code}", quote(command))
    }
}

impl StdError for StepFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.not_started.as_deref().map(|error| error as _)
    }
}

/// Something that was found out about a command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepFact {
    /// Its programs are for another platform than the host's.
    Emulation {
        /// How the host executes these.
        emulation: Emulation,
        /// The platform.
        platform: Platform,
    },
    /// It holds a character that looks like a space.
    ConfusableSpace {
        /// The character, as `U+00A0`.
        code: String,
    },
    /// It is a JSON list, and a word of it is for shells.
    NoShell {
        /// The word.
        word: String,
        /// The command as a shell would have it.
        command: String,
    },
    /// It looks like a JSON list, but was run by a shell.
    BrokenJson {
        /// Why it is not one.
        fault: String,
    },
    /// `SHELL` does not end with a flag.
    ShellWithoutFlag {
        /// The shell.
        shell: String,
    },
    /// It begins with a word that the shell takes for its own flag.
    LeadingFlag {
        /// The word.
        word: String,
    },
    /// It mounts a secret that the build was not given.
    SecretAbsent {
        /// The secret.
        id: String,
        /// The nearest one that was given.
        nearest: Option<String>,
    },
    /// It does not run as root, and was denied something.
    NotRoot {
        /// Who it runs as.
        user: String,
    },
    /// The variables that it names, and their values.
    Variables(Vec<(String, VariableValue)>),
    /// It names a variable without a value.
    Unset {
        /// The variable.
        name: String,
        /// Why it may have none.
        reason: UnsetReason,
    },
    /// A limit was met while it ran.
    Exceeded(Exceeded),
    /// It was killed.
    Killed,
    /// It crashed.
    Crashed,
    /// It was ended from outside.
    Ended,
    /// A program exists, but not its loader or its libraries.
    LoaderMissing {
        /// The program.
        program: String,
    },
    /// A script exists, but not the interpreter that its first line names.
    InterpreterMissing {
        /// The script.
        program: String,
        /// Its interpreter.
        interpreter: String,
    },
    /// The image does not have the shell that runs the step.
    ShellMissing {
        /// The shell.
        shell: String,
        /// A shell that it has.
        other: Option<&'static str>,
    },
    /// A shell did not find a program, and does not say which.
    ProgramUnknown,
    /// A program that is looked for is an instruction of Dockerfiles.
    InstructionWord {
        /// The word.
        word: String,
        /// Whether the command begins with it.
        is_first: bool,
    },
    /// A program that is looked for is a flag.
    FlagWord {
        /// The word.
        word: String,
    },
    /// A program that is looked for begins with a bracket.
    BracketWord {
        /// The word.
        word: String,
    },
    /// A program that is looked for is a whole command.
    CommandWord {
        /// The command.
        word: String,
        /// The command as a shell would have it, if it is a JSON list.
        list: Option<String>,
    },
    /// A command that only shells have, in a JSON list.
    ShellCommand {
        /// The command.
        program: String,
        /// The whole of it as a shell would have it.
        command: String,
    },
    /// A command that only bash has.
    BashCommand {
        /// The command.
        program: String,
        /// The shell that runs the step.
        shell: String,
    },
    /// An assignment with spaces around the equals sign.
    SpacedAssignment {
        /// The variable.
        name: String,
    },
    /// Backslashes that the shell removed.
    Backslashes {
        /// What was left.
        program: String,
    },
    /// A program exists where `PATH` does not lead.
    NotOnPath {
        /// Where it is.
        place: PathBuf,
        /// The value of `PATH`.
        path: String,
    },
    /// A program exists in the directory of the step, where a shell does not look.
    InDirectory {
        /// The program.
        program: String,
        /// The directory.
        directory: String,
    },
    /// The image does not have a program, which is named by its path.
    ProgramPathMissing {
        /// The program.
        program: String,
        /// The directory that the path is relative to.
        directory: Option<String>,
        /// Where the build context has it.
        in_context: Option<String>,
        /// A file of nearly the same name, or of the same one elsewhere.
        nearest: Option<PathBuf>,
    },
    /// The image does not have a program.
    ProgramMissing {
        /// The program.
        program: String,
        /// The package manager of the image, and how it installs.
        manager: Option<(&'static str, &'static str)>,
        /// A program that does the same, and that the image has.
        alternative: Option<&'static str>,
        /// A program, or a script, of nearly the same name.
        nearest: Option<String>,
    },
    /// A program cannot be executed, and nothing more is known.
    NotExecutable {
        /// The program, if it is known.
        program: Option<String>,
    },
    /// A program is a directory.
    ProgramIsDirectory {
        /// The directory.
        program: String,
    },
    /// A program has no bit that lets it be executed.
    NoExecuteBit {
        /// The program.
        program: String,
        /// Its mode.
        mode: u32,
    },
    /// A program has the form of one, and cannot be executed.
    ExecutionDenied {
        /// The program.
        program: String,
    },
    /// A script has no first line that names an interpreter.
    NoInterpreterLine {
        /// The script.
        program: String,
    },
    /// A script begins with a byte order mark.
    ByteOrderMark {
        /// The script.
        program: String,
    },
    /// A script has the line ends of Windows.
    WindowsLineEnds {
        /// The script.
        program: String,
        /// The interpreter that its first line asks for.
        interpreter: String,
    },
    /// A program is for another processor.
    OtherArchitecture {
        /// The program.
        program: String,
        /// Its architecture.
        architecture: &'static str,
        /// That of this host.
        host: String,
    },
    /// Its output has words that tell what is wrong.
    Said(Symptom),
    /// It is root's, and was denied something all the same.
    RootDenied {
        /// Whether the build takes capabilities from its steps.
        drops_capabilities: bool,
    },
    /// It needs a network, and was given none.
    NoNetwork,
    /// A `RUN` before it changes the directory, for itself alone.
    LoneCd,
    /// It does not find a path that exists, or that a mount may have.
    PathNotFound {
        /// The path.
        path: String,
    },
    /// It cannot make a directory, since one above does not exist.
    ParentMissing {
        /// The path to make.
        path: String,
        /// What does not exist.
        parent: PathBuf,
    },
    /// It looks for a path that does not exist.
    PathMissing {
        /// The path.
        path: String,
        /// Where it is looked for.
        place: SearchedPlace,
        /// Where the build context has it.
        in_context: Option<String>,
        /// A path of nearly the same name, or of the same one elsewhere.
        nearest: Option<PathBuf>,
    },
    /// The line of its output that tells most.
    LastWords {
        /// The line.
        line: String,
    },
    /// It printed nothing.
    Silent,
    /// What it left is kept.
    Kept(KeptStep),
    /// What it left was to be kept, and could not be.
    NotKept {
        /// Why not.
        reason: String,
    },
    /// It was to be entered, and could not be.
    NotEntered {
        /// Why not.
        reason: String,
    },
}

impl StepFact {
    /// Whether it is a reason to fail, and no more than advice or circumstance.
    pub(crate) fn is_reason(&self) -> bool {
        !matches!(
            self,
            Self::Emulation { .. }
                | Self::Killed
                | Self::Crashed
                | Self::Ended
                | Self::ProgramUnknown
                | Self::NotExecutable { .. }
                | Self::ExecutionDenied { .. }
                | Self::NoInterpreterLine { .. }
                | Self::Said(_)
                | Self::RootDenied { .. }
                | Self::NoNetwork
                | Self::LoneCd
                | Self::Kept(_)
                | Self::NotKept { .. }
                | Self::NotEntered { .. }
        )
    }
}

/// The value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VariableValue {
    /// The value, or its beginning.
    Shown(String),
    /// It may be a secret, by its name.
    Hidden,
    /// It is a secret.
    Secret,
}

/// Why a variable may have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsetReason {
    /// Its `ARG` is in front of the first `FROM`.
    Global,
    /// Another one has nearly the same name.
    Misspelt(String),
    /// Its `ARG` has no default.
    NoDefault,
    /// Another `RUN` set it, for itself alone.
    OtherStep,
    /// Nothing declares it.
    Undeclared,
}

/// Where a command looked for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchedPlace {
    /// From the root of the image on.
    Image,
    /// In a directory that the command chose.
    Elsewhere,
    /// In the directory in which the command starts.
    Directory(String),
}

/// What the output of a command tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symptom {
    /// The kernel does not know the form of a program.
    ExecFormat,
    /// apt does not know a package.
    PackageLists,
    /// apk does not know a package.
    PackageName,
    /// A package manager waits for an answer.
    Question,
    /// debconf cannot ask its questions.
    Debconf,
    /// There is no network, or no name server.
    NoNetwork,
    /// A file system is read-only.
    ReadOnly,
    /// A file system is full.
    NoSpace,
    /// pip may not change the Python of the system.
    ManagedPython,
    /// A certificate is not trusted.
    Certificates,
    /// A server does not accept the keys of the step.
    SshKey,
    /// make has nothing to make.
    Makefile,
    /// npm misses `package-lock.json`.
    PackageLock,
    /// npm does not know a script.
    NpmScript,
    /// A test lacks the spaces inside its brackets.
    BracketSpaces,
    /// A test has an empty operand.
    TestOperands,
    /// pip does not know a version of a package.
    PythonVersion,
    /// Python does not have a module.
    PythonModule,
    /// Node does not have a module.
    NodeModule,
    /// There is no C compiler.
    Compiler,
    /// Something exists that was to be made.
    Exists,
    /// A server answered 404.
    NotFoundAtServer,
    /// A server wants credentials.
    Credentials,
    /// The key of a package repository is missing.
    RepositoryKey,
    /// There is no systemd.
    Systemd,
    /// There is no docker.
    Docker,
    /// Nothing listens at an address.
    ConnectionRefused,
    /// A server did not answer.
    TimedOut,
    /// An archive cannot be read.
    DamagedArchive,
    /// A user or group does not exist.
    UnknownUser,
    /// A directory is named where a file is needed.
    IsDirectory,
    /// npm misses `package.json`.
    PackageJson,
    /// pip misses its requirements.
    Requirements,
    /// go misses `go.mod`.
    GoMod,
    /// cargo misses `Cargo.toml`.
    CargoToml,
    /// The command is written for bash.
    NeedsBash,
    /// The shell cannot read the command.
    Unreadable,
    /// A directory does not exist.
    NoDirectory,
    /// It takes a user that may do more.
    NeedsRoot,
    /// A file may not be used.
    PermissionDenied,
    /// There is no more memory.
    OutOfMemory,
    /// A file does not exist.
    NoSuchFile,
    /// A package repository has moved on.
    Gone,
}
