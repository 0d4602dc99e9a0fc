use std::borrow::Cow;
use std::ffi::CString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ocibuild_spec::CancelToken;
use ocibuild_sys::{DirHandle, MountOptions, Namespaces, Operation, ProcSource, Process, Sandbox, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Deserialize;

use crate::cgroups::{Confines, try_limits, without_limits};
use crate::devices::{self, Barrier, Nodes};
use crate::error::Repr;
use crate::executor::{Carrier, Ending, Executor, ExitStatus, Output};
use crate::namespaces::{check_identity, directory_operation, process_of, rootfs_operations, terminal};
use crate::private_network::{Connected, offers};
use crate::supervise::supervise;
use crate::{
    Attached, Bundle, Error, ErrorKind, Host, MemoryFile, Need, Offers, Resources, memory_directory,
};

/// Carries out bundles with an OCI runtime: runc, crun or what has their command line.
///
/// The runtime runs in namespaces of its own for mounts and processes: the root file system is mounted for it
/// alone, and its death, or that of this process, ends everything it started. All it keeps is in the state
/// directory of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeExecutor {
    program: PathBuf,
}

/// Where programs that run as root are looked for: not where a user's `PATH` points.
pub(crate) const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Tried in this order: crun starts a container in a sixth of the time that runc takes.
const RUNTIMES: [&str; 3] = ["crun", "runc", "youki"];

/// As much of the log as an error carries.
const LOG_TAIL: usize = 4096;

impl RuntimeExecutor {
    /// A runtime by its name, looked for in the system's directories, or by its absolute path.
    pub fn new(runtime: impl AsRef<Path>) -> Result<Self, Error> {
        let runtime = runtime.as_ref();
        match look_for(runtime) {
            Ok(program) => Ok(Self { program }),
            Err(searched) => {
                Err(Repr::RuntimeMissing { name: runtime.display().to_string(), searched }.into())
            }
        }
    }

    /// The best runtime that is installed.
    pub fn discover() -> Result<Self, Error> {
        let found = RUNTIMES.iter().find_map(|name| Self::new(name).ok());
        found.ok_or_else(|| {
            let searched = DIRECTORIES.iter().map(PathBuf::from).collect();
            Repr::RuntimeMissing { name: RUNTIMES.join(", "), searched }.into()
        })
    }

    /// Every runtime that is installed, in the order in which [`discover`](Self::discover) looks for them.
    pub fn installed() -> Vec<Self> {
        RUNTIMES.iter().filter_map(|name| Self::new(name).ok()).collect()
    }

    /// The version of the program, as it says itself within this time. A program that has not ended by then is killed.
    pub fn version(&self, patience: Duration) -> Result<String, Error> {
        let line = vec![self.program.display().to_string(), "--version".to_owned()];
        let failed = |error: std::io::Error| runtime_error(&line, -1, error.to_string());
        let mut command = Command::new(&self.program);
        command.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let said = child.stdout.take().map_or_else(|| Ok(Vec::new()), |said| said_within(said, patience));
        if said.is_err() {
            // Fails only if it has ended.
            let _ = child.kill();
        }
        // Whoever ignores SIGCHLD gets no status; what was said counts.
        let _ = child.wait();
        let text = String::from_utf8_lossy(&said.map_err(failed)?).into_owned();
        version_in(&text).ok_or_else(|| runtime_error(&line, 0, text.trim().to_owned()))
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What the program is, by its name: that of the file, to which another name may be a link.
    fn is(&self, name: &str) -> bool {
        let file = fs_err::canonicalize(&self.program).unwrap_or_else(|_| self.program.clone());
        file.file_name().is_some_and(|found| found.as_bytes().starts_with(name.as_bytes()))
    }

    fn is_crun(&self) -> bool {
        self.is("crun")
    }

    /// The one place that knows the command line.
    fn command_line(&self, state: &Path, action: &[&str]) -> Vec<String> {
        let mut line = vec![self.program.display().to_string()];
        if self.is_crun() {
            // Limits are those of the cgroup that it is started in. It cannot make any in hybrid hierarchies.
            line.push("--cgroup-manager=disabled".to_owned());
        }
        let root = self.root(state).display().to_string();
        let log = state.join("log.json").display().to_string();
        line.extend(["--root".to_owned(), root, "--log".to_owned(), log]);
        line.extend(["--log-format", "json"].map(str::to_owned));
        line.extend(action.iter().map(|word| (*word).to_owned()));
        line
    }

    fn is_runc(&self) -> bool {
        self.is("runc")
    }

    /// What keeps a step from the devices of the host. runc makes a cgroup that does so for root, or fails; in a user
    /// namespace it goes on without, and keeps what mounts say. crun is told to make none, and forgets what the mounts of
    /// the root and of nodes say.
    fn confines(&self, bundle: &Bundle, host: &Host) -> Result<Confines, Error> {
        if self.is_runc() && host.privileged {
            return Confines::without_barrier(bundle);
        }
        let confines = Confines::of(bundle, host)?;
        let is_open = match &confines.barrier {
            // Nobody makes nodes in a user namespace that it could show.
            Barrier::Mounts { .. } if self.is_runc() => false,
            Barrier::Mounts { .. } => host.privileged || devices::could_own_those_of_the_host(),
            Barrier::None | Barrier::Cgroup => false,
        };
        match confines.barrier {
            Barrier::Mounts { reason } if is_open => {
                let message = format!(
                    "{} cannot keep a step from the devices of this host where there is no cgroup for it: \
                     namespaces of our own can, and runc",
                    self.program.display()
                );
                Err(match reason {
                    Some(reason) => Error::caused_by(ErrorKind::Unsupported, message, reason),
                    None => Error::new(ErrorKind::Unsupported, message),
                })
            }
            _ => Ok(confines),
        }
    }

    /// Where the runtime keeps what it knows. runc finds its cgroups again by it, and writes no environment there;
    /// others copy the configuration, with the values of secrets, and get a place in memory.
    fn root(&self, state: &Path) -> PathBuf {
        if self.is_runc() { state.join("runtime") } else { memory_directory(state).join("runtime") }
    }

    fn sandbox(operations: Vec<Operation>, line: &[String]) -> Result<Sandbox, Error> {
        let text = |text: &String| {
            CString::new(text.as_bytes()).map_err(|_| Error::invalid(format!("{text:?}"), "contains NUL"))
        };
        let process = Process {
            args: line.iter().map(text).collect::<Result<_, _>>()?,
            env: vec![c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            search: Vec::new(),
            cwd: c"/".to_owned(),
            umask: 0o22,
            rlimits: Vec::new(),
            confinement: None,
            terminal: None,
        };
        Ok(Sandbox { namespaces: Some(Namespaces::default()), operations, process, keeper: true })
    }

    /// After the runtime was killed: what it keeps outside of its directory are cgroups.
    fn clean_up(&self, bundle: &Bundle, id: &str) {
        if !self.is_runc() {
            return;
        }
        let line = self.command_line(&bundle.state, &["delete", "--force", id]);
        if let Ok(sandbox) = Self::sandbox(vec![Operation::MakePrivate, own_proc()], &line) {
            // Nothing can be done about a failure, and it is not what went wrong first.
            let _ = supervise(&sandbox, "", Attached::to(&mut |_, _| ()), &CancelToken::new(), None);
        }
    }
}

impl RuntimeExecutor {
    fn end(
        &self,
        bundle: &Bundle,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<Ending, Error> {
        let host = Host::detect();
        let bundle = &*with_groups_of(bundle, &host);
        let confines = self.confines(bundle, &host)?;
        let bundle = &*without_limits(bundle);
        let bundle = &*confines.barrier.bundle(bundle, Nodes::Runtime)?;
        let process = process_of(&bundle.spec)?;
        check_identity(process, &host)?;
        forget(&bundle.state)?;
        bundle.write_files()?;
        let memory = memory_directory(&bundle.state);
        let mut files = vec![bundle.config(&memory)?];
        files.extend_from_slice(&bundle.memory_files);
        let connected = Connected::of(bundle, cancel)?;
        let mut operations = rootfs_operations(bundle, &files, &host)?;
        // The runtime joins what it is told the path of.
        operations.extend(connected.as_ref().map(Connected::bind));
        operations.push(directory_operation(process)?);
        operations.extend(devices::instead_of_the_hosts(&bundle.state)?);
        operations.splice(0..0, confines.operations()?);
        operations.push(own_proc());
        if self.is_crun() && fs_err::metadata(HYBRID_CONTROLLERS).is_ok() {
            operations.push(without_hybrid_controllers());
        }
        let id = container_id(&bundle.state)?;
        let directory = memory.display().to_string();
        let line = self.command_line(&bundle.state, &["run", "--bundle", &directory, &id]);
        let mut sandbox = Self::sandbox(operations, &line)?;
        // The runtime passes on between the command's terminal and its own.
        sandbox.process.terminal = terminal(process);
        let program = self.program.display().to_string();
        let status = match supervise(&sandbox, &program, attached, cancel, None) {
            Ok(Status::Exited(0)) => Ok(ExitStatus::Code(0)),
            Ok(Status::Exited(code)) => {
                let step_program = process.args().as_deref().unwrap_or_default().first();
                match failure(&bundle.state, &line, code, step_program.map_or("", String::as_str)) {
                    None => Ok(ExitStatus::Code(code)),
                    Some(error) => {
                        self.clean_up(bundle, &id);
                        Err(error)
                    }
                }
            }
            Ok(Status::Signaled(signal)) => {
                self.clean_up(bundle, &id);
                // It is in the cgroup of the step. Where memory is short, it may be who is killed, and the step with it.
                if confines.lacked_memory()? {
                    return confines.ending(ExitStatus::Signal(signal));
                }
                Err(runtime_error(&line, 128 + signal, "killed by a signal".to_owned()))
            }
            Err(error) => {
                self.clean_up(bundle, &id);
                Err(error)
            }
        };
        confines.ending(status?)
    }
}

impl Executor for RuntimeExecutor {
    fn carrier(&self) -> Option<Carrier<'_>> {
        Some(Carrier::Runtime(&self.program))
    }

    fn offers(&self) -> Offers {
        offers(Offers::ALL.without(Need::Owners))
    }

    fn probe(&self) -> Result<(), Error> {
        ocibuild_sys::sandbox_works(ProcSource::New).map_err(Error::blocked)
    }

    fn run(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        self.attach(bundle, Attached::to(output), cancel)
    }

    fn run_recording(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<Ending, Error> {
        self.end(bundle, Attached::to(output), cancel)
    }

    fn try_limits(&self, wanted: &Resources) -> Result<(), Error> {
        try_limits(wanted)
    }

    fn attach(
        &self,
        bundle: &Bundle,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        self.end(bundle, attached, cancel).map(|ending| ending.status)
    }
}

impl Bundle {
    pub(crate) fn write_files(&self) -> Result<(), Error> {
        for file in &self.files {
            write(&file.path, file.content.as_bytes())?;
        }
        for directory in [memory_directory(&self.state), devices::device_directory(&self.state)] {
            fs_err::create_dir_all(directory).map_err(Repr::State)?;
        }
        Ok(())
    }

    /// The configuration has the environment in it, and so may have secrets.
    fn config(&self, directory: &Path) -> Result<MemoryFile, Error> {
        let config = serde_json::to_vec(&self.spec).map_err(Repr::Config)?;
        let path = directory.join("config.json");
        Ok(MemoryFile { path, content: config.into(), mode: 0o600, uid: 0, gid: 0 })
    }
}

/// What another run in this directory left, if it was killed.
fn forget(state: &Path) -> Result<(), Error> {
    let dir = DirHandle::open(state).map_err(|error| Repr::State(error.into()))?;
    let forgotten = ["runtime", "log.json"].into_iter().try_for_each(|name| dir.remove_tree(name));
    forgotten.map_err(|error| Repr::State(error.below(state).into()).into())
}

/// Readable by all whatever the umask: it is what the command sees.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs_err::write(path, content).map_err(Repr::State)?;
    let readable = std::fs::Permissions::from_mode(0o644);
    fs_err::set_permissions(path, readable).map_err(Repr::State)?;
    Ok(())
}

/// The runtime has its own process namespace and must find itself in `/proc`.
fn own_proc() -> Operation {
    Operation::HostMount {
        source: c"proc".to_owned(),
        target: c"/proc".to_owned(),
        fstype: c"proc".to_owned(),
        options: MountOptions::parse(["nosuid", "noexec", "nodev"]).unwrap_or_default(),
        from: None,
    }
}

/// Controllers of the v2 hierarchy beside those of v1.
/// The bundle without groups where the kernel denies setting any: there is only the one that the step has anyway.
fn with_groups_of<'b>(bundle: &'b Bundle, host: &Host) -> Cow<'b, Bundle> {
    let mut bundle = Cow::Borrowed(bundle);
    if let (false, Some(process)) = (host.ids.setgroups, bundle.spec.process()) {
        let (mut process, mut user) = (process.clone(), process.user().clone());
        user.set_additional_gids(None);
        process.set_user(user);
        bundle.to_mut().spec.set_process(Some(process));
    }
    bundle
}

const HYBRID_CONTROLLERS: &str = "/sys/fs/cgroup/unified/cgroup.controllers";

/// crun 1.8 refuses hosts where both versions have controllers, even when told to make no cgroups. It gets to see
/// none, and only it: this is in its own mount namespace.
fn without_hybrid_controllers() -> Operation {
    Operation::HostBind {
        source: c"/dev/null".to_owned(),
        target: CString::new(HYBRID_CONTROLLERS).unwrap_or_default(),
        options: MountOptions::parse(["bind"]).unwrap_or_default(),
    }
}

/// Unique among all containers alive, because their state directories are: cgroups are named by it.
fn container_id(state: &Path) -> Result<String, Error> {
    let metadata = fs_err::metadata(state).map_err(Repr::State)?;
    Ok(format!("ocibuild-{:x}-{:x}", metadata.dev(), metadata.ino()))
}

/// What a program says until it ends, or has said much.
fn said_within(mut said: ChildStdout, patience: Duration) -> std::io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
    while text.len() < LOG_TAIL {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&said, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Ok(_) => match said.read(&mut buffer)? {
                0 => break,
                length => text.extend_from_slice(&buffer[..length]),
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(text)
}

/// The word behind `version` in what runc, crun and youki say.
fn version_in(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("version"));
    words.nth(1).map(str::to_owned)
}

/// A program by its name, in the system's directories, or by its absolute path; or all places where it is not.
pub(crate) fn look_for(program: &Path) -> Result<PathBuf, Vec<PathBuf>> {
    let searched: Vec<PathBuf> = if program.is_absolute() {
        vec![program.to_owned()]
    } else {
        DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).collect()
    };
    searched.iter().find(|path| is_executable(path)).cloned().ok_or(searched)
}

fn is_executable(path: &Path) -> bool {
    fs_err::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// One line of the log.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The runtime ends with the code of the command, or with one of its own after it said why in its log.
fn failure(state: &Path, line: &[String], code: i32, program: &str) -> Option<Error> {
    let log = read_tail(&state.join("log.json"));
    let lines = log.lines().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let failed = |line: &LogLine| matches!(line.level.as_str(), "error" | "fatal" | "panic");
    let messages: Vec<String> = lines.filter(failed).map(|line| line.msg).collect();
    if messages.is_empty() {
        return None;
    }
    let log = messages.join("; ");
    Some(match classify(&log, program) {
        Some((kind, reason)) => Error::program(kind, program, reason),
        None => runtime_error(line, code, log),
    })
}

/// Whether what failed was the program of the step; runc and crun say so in words only.
fn classify(log: &str, program: &str) -> Option<(ErrorKind, &'static str)> {
    let lower = log.to_lowercase();
    // `exec: "x": …`, ``executable file `x` …``, and `open executable: …`.
    let about_program =
        (lower.contains("exec") && log.contains(program)) || lower.contains("open executable");
    if !about_program {
        return None;
    }
    if lower.contains("not found in $path") || lower.contains("no such file or directory") {
        Some((ErrorKind::ProgramNotFound, ""))
    } else if lower.contains("permission denied") {
        Some((ErrorKind::ProgramRefused, "permission denied"))
    } else if lower.contains("exec format error") {
        Some((ErrorKind::ProgramFormat, "exec format error"))
    } else if lower.contains("is a directory") {
        Some((ErrorKind::ProgramRefused, "is a directory"))
    } else {
        None
    }
}

fn runtime_error(line: &[String], status: i32, log: String) -> Error {
    Repr::Runtime { command: line.join(" "), status, log }.into()
}

/// The end of the log: a runtime in trouble can write a great deal.
fn read_tail(path: &Path) -> String {
    use std::io::{Seek, SeekFrom};
    let Ok(mut file) = fs_err::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut text = Vec::new();
    let start = length.saturating_sub(LOG_TAIL as u64);
    if file.seek(SeekFrom::Start(start)).is_ok() {
        let _ = file.take(LOG_TAIL as u64).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_made_for_the_runtime() {
        let crun = RuntimeExecutor { program: PathBuf::from("/usr/bin/crun") };
        assert_eq!(
            crun.command_line(Path::new("/s"), &["run", "x"]).join(" "),
            "/usr/bin/crun --cgroup-manager=disabled --root /s/memory/runtime --log /s/log.json --log-format json run x"
        );
        let runc = RuntimeExecutor { program: PathBuf::from("/usr/sbin/runc") };
        let line = runc.command_line(Path::new("/s"), &[]).join(" ");
        assert!(!line.contains("cgroup") && line.contains("--root /s/runtime"), "{line}");
    }

    #[test]
    fn missing_programs_are_told_from_other_failures() {
        let runc = "runc run failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown";
        assert_eq!(classify(runc, "nope").unwrap().0, ErrorKind::ProgramNotFound);
        let crun = "executable file `nope` not found in $PATH: No such file or directory";
        assert_eq!(classify(crun, "nope").unwrap().0, ErrorKind::ProgramNotFound);
        let runc = "runc run failed: unable to start container process: exec: \"/x\": permission denied";
        assert_eq!(classify(runc, "/x").unwrap().0, ErrorKind::ProgramRefused);
        assert_eq!(
            classify("open executable: Permission denied", "/x").unwrap().0,
            ErrorKind::ProgramRefused
        );
        assert_eq!(classify("mount proc: No such file or directory", "/x"), None);
    }

    #[test]
    fn a_program_that_does_not_end_has_no_version() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("runtime");
        // By another process: what another thread starts meanwhile must not have it open for writing.
        let make =
            "printf '#!/bin/sh\\necho runtime version 1\\nexec sleep 1000\\n' >\"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", make]).arg(&program).status().unwrap().success());
        let runtime = RuntimeExecutor { program };
        let error = runtime.version(Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("--version"), "{error}");
    }

    #[test]
    fn versions_are_found_in_what_runtimes_say() {
        let runc = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n";
        assert_eq!(version_in(runc).as_deref(), Some("1.1.5+ds1"));
        assert_eq!(version_in("crun version 1.8.1\ncommit: f8a096b\n").as_deref(), Some("1.8.1"));
        assert_eq!(version_in("youki version 0.5.4\n").as_deref(), Some("0.5.4"));
        assert_eq!(version_in("usage: runtime COMMAND\n"), None);
    }

    #[test]
    fn a_runtime_that_is_not_there_is_named() {
        let error = RuntimeExecutor::new("no-such-runtime").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RuntimeMissing);
        assert!(error.to_string().contains("/usr/bin/no-such-runtime"), "{error}");
    }
}
