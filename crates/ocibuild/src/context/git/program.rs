use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use ocibuild_registry::Proxies;
use ocibuild_spec::CancelToken;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::{Error, unusable};
use crate::failure::{FileAction, GitFailure, HostFailure, HostOperation};

/// The system's `git`, and what it may use. Nothing of the user's configuration and environment reaches it: no
/// settings, hooks, credential helpers or keys but those given here.
#[derive(Debug, Clone)]
pub struct GitProgram {
    search_path: OsString,
    proxies: Proxies,
    ca_pem: Vec<u8>,
    ssh_agent: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    time_limit: Duration,
    size_limit: u64,
}

/// As much of what git prints as is taken.
const MAX_OUTPUT: u64 = 64 << 20;
/// The end of what it says about a failure.
const MAX_COMPLAINT: usize = 4096;
const INTERVAL: Duration = Duration::from_millis(10);

impl Default for GitProgram {
    fn default() -> Self {
        Self::new("/usr/local/bin:/usr/bin:/bin")
    }
}

impl GitProgram {
    /// `git` and what it starts (`ssh`) are looked for in these directories, in the form of `PATH`.
    pub fn new(search_path: impl Into<OsString>) -> Self {
        Self {
            search_path: search_path.into(),
            proxies: Proxies::default(),
            ca_pem: Vec::new(),
            ssh_agent: None,
            known_hosts: None,
            time_limit: Duration::from_mins(30),
            size_limit: 16 << 30,
        }
    }

    /// Proxies for `http` and `https`.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Certificate authorities to trust instead of the system's, in PEM; may be called several times.
    #[must_use]
    pub fn ca_pem(mut self, pem: &[u8]) -> Self {
        self.ca_pem.extend_from_slice(pem);
        self.ca_pem.push(b'\n');
        self
    }

    /// Socket of an SSH agent. Without one there are no keys: those of the user's files are not used.
    #[must_use]
    pub fn ssh_agent(mut self, socket: impl Into<PathBuf>) -> Self {
        self.ssh_agent = Some(socket.into());
        self
    }

    /// Keys of SSH hosts that are trusted besides the system's; others are refused.
    #[must_use]
    pub fn known_hosts(mut self, path: impl Into<PathBuf>) -> Self {
        self.known_hosts = Some(path.into());
        self
    }

    /// The longest that one repository may take; 30 minutes unless told otherwise.
    #[must_use]
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.time_limit = time;
        self
    }

    /// The most bytes that one repository may take on disk; 16 GiB unless told otherwise.
    #[must_use]
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    fn find(&self) -> Result<PathBuf, Error> {
        let is_program = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(&self.search_path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join("git"))
            .find(is_program)
            .ok_or_else(|| {
                let search_path = PathBuf::from(&self.search_path);
                GitFailure::ProgramMissing { search_path }.into()
            })
    }

    /// A session with an empty home directory below `place`, which also bounds what is fetched.
    pub(super) fn session(&self, place: &Path, cancel: &CancelToken) -> Result<Session<'_>, Error> {
        let home = place.join("home");
        fs::create_dir_all(&home).map_err(|error| unusable(&home, error))?;
        let mut config = Self::config();
        if !self.ca_pem.is_empty() {
            let path = home.join("ca.pem");
            fs::write(&path, &self.ca_pem).map_err(|error| unusable(&path, error))?;
            config.push(("http.sslCAInfo".to_owned(), path.display().to_string()));
        }
        Ok(Session {
            program: self,
            binary: self.find()?,
            place: place.to_owned(),
            home,
            config,
            cancel: cancel.clone(),
            deadline: Instant::now() + self.time_limit,
        })
    }

    fn config() -> Vec<(String, String)> {
        let mut config: Vec<(String, String)> = [
            ("advice.detachedHead", "false"),
            ("core.autocrlf", "false"),
            ("core.fsmonitor", "false"),
            ("core.hooksPath", "/dev/null"),
            ("core.logAllRefUpdates", "false"),
            ("core.protectHFS", "true"),
            ("core.protectNTFS", "true"),
            ("core.symlinks", "true"),
            ("credential.helper", ""),
            ("fetch.fsckObjects", "true"),
            ("transfer.fsckObjects", "true"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("init.defaultBranch", "master"),
            ("protocol.file.allow", "never"),
            ("protocol.ext.allow", "never"),
            ("submodule.recurse", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        // Faults of old programs that many histories have, and that harm nobody.
        for fault in ["zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "missingEmail"] {
            config.push((format!("fetch.fsck.{fault}"), "ignore".to_owned()));
        }
        config
    }

    fn ssh_command(&self) -> String {
        let option = |name: &str, path: Option<&Path>, default: &str| {
            // What a shell or ssh could read otherwise is as good as none.
            let is_plain = |path: &&str| !path.contains(['\'', '"', '\\', '\n', '%', '$']);
            let value = path.and_then(Path::to_str).filter(is_plain).unwrap_or(default);
            format!(" -o '{name}=\"{value}\"'")
        };
        let mut command =
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30 \
                           -o ServerAliveInterval=15 -o IdentityFile=none -o ForwardAgent=no \
                           -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ProxyCommand=none"
                .to_owned();
        command.push_str(&option("UserKnownHostsFile", self.known_hosts.as_deref(), "/dev/null"));
        command.push_str(&option("IdentityAgent", self.ssh_agent.as_deref(), "none"));
        command
    }
}

/// Where a command works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) repository: Option<&'a Path>,
    pub(super) tree: Option<&'a Path>,
}

impl Place<'_> {
    pub(super) const NOWHERE: Place<'static> = Place { repository: None, tree: None };
}

/// Commands on one repository, all within one time limit.
#[derive(Debug)]
pub(super) struct Session<'a> {
    program: &'a GitProgram,
    binary: PathBuf,
    place: PathBuf,
    home: PathBuf,
    config: Vec<(String, String)>,
    cancel: CancelToken,
    deadline: Instant,
}

/// How a command ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// With what it said last.
    Complaint(String),
    /// Not by itself.
    Stopped(Error),
}

impl Session<'_> {
    /// One more setting. Settings go through the environment: arguments can be seen by other users.
    pub(super) fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.config.push((key.into(), value.into()));
    }

    /// What a command prints.
    pub(super) fn run(&self, place: Place<'_>, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut command = self.command(place, arguments);
        let mut child = command.spawn().map_err(|error| {
            Failure::Stopped(HostFailure::file(FileAction::Start, &self.binary, error).into())
        })?;
        let output = child.stdout.take();
        let complaint = child.stderr.take();
        std::thread::scope(|scope| {
            let output = std::thread::Builder::new().spawn_scoped(scope, || read_some(output));
            let complaint = std::thread::Builder::new().spawn_scoped(scope, || read_some(complaint));
            let (output, complaint) = match (output, complaint) {
                (Ok(output), Ok(complaint)) => (output, complaint),
                (Err(error), _) | (_, Err(error)) => {
                    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                    let _ = child.wait();
                    return Err(Failure::Stopped(Error::no_thread(error)));
                }
            };
            let ended = self.wait(&mut child);
            let output = output.join().unwrap_or_default();
            let complaint = complaint.join().unwrap_or_default();
            match ended.map_err(Failure::Stopped)? {
                status if status.success() => Ok(output),
                status => Err(Failure::Complaint(shown(&complaint, status))),
            }
        })
    }

    fn command(&self, place: Place<'_>, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(place.tree.unwrap_or(&self.home));
        let fixed: [(&str, &OsStr); 16] = [
            ("PATH", &self.program.search_path),
            ("HOME", self.home.as_os_str()),
            ("XDG_CONFIG_HOME", self.home.as_os_str()),
            ("LC_ALL", OsStr::new("C")),
            ("GIT_ALLOW_PROTOCOL", OsStr::new("http:https:ssh:git")),
            ("GIT_PROTOCOL_FROM_USER", OsStr::new("0")),
            ("GIT_CONFIG_NOSYSTEM", OsStr::new("1")),
            ("GIT_CONFIG_SYSTEM", OsStr::new("/dev/null")),
            ("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null")),
            ("GIT_ATTR_NOSYSTEM", OsStr::new("1")),
            ("GIT_NO_REPLACE_OBJECTS", OsStr::new("1")),
            ("GIT_TERMINAL_PROMPT", OsStr::new("0")),
            ("GIT_ASKPASS", OsStr::new("/bin/false")),
            ("SSH_ASKPASS", OsStr::new("/bin/false")),
            ("GIT_CEILING_DIRECTORIES", self.place.as_os_str()),
            ("GIT_ADVICE", OsStr::new("0")),
        ];
        command.envs(fixed);
        command.env("GIT_SSH_COMMAND", self.program.ssh_command());
        if let Some(repository) = place.repository {
            command.env("GIT_DIR", repository);
        }
        if let Some(tree) = place.tree {
            command.env("GIT_WORK_TREE", tree);
        }
        command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (number, (key, value)) in self.config.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let proxies = &self.program.proxies;
        for (name, value) in [("http_proxy", &proxies.http), ("https_proxy", &proxies.https)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                command.env(name, value);
            }
        }
        let direct = proxies.no_proxy.as_deref().unwrap_or_default();
        command.env("no_proxy", format!("localhost,127.0.0.1,::1,{direct}"));
        command
    }

    /// Waits for the end of a command, and ends it and all it started when it is time.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus, Error> {
        let id = Pid::from_child(child);
        let mut rounds = 0u32;
        let verdict = loop {
            // The process stays a zombie for now, so that its group cannot be another's when it is killed.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(id), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Ok(Some(_)) => break Ok(()),
                Err(error) => {
                    let error = std::io::Error::from(error);
                    break Err(HostFailure::operation(HostOperation::WaitForGit, error).into());
                }
            }
            if self.cancel.wait_timeout(INTERVAL) {
                break Err(Error::cancelled());
            }
            if Instant::now() > self.deadline {
                let limit = self.program.time_limit.as_secs();
                break Err(GitFailure::TooSlow { limit }.into());
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(50) && size_of(&self.place) > self.program.size_limit {
                let limit = self.program.size_limit;
                break Err(GitFailure::TooLarge { limit }.into());
            }
        };
        // What it started (transports, ssh) ends with it; there may be nothing left.
        let _ = kill_process_group(id, Signal::KILL);
        let status =
            child.wait().map_err(|error| HostFailure::operation(HostOperation::WaitForGit, error))?;
        verdict.map(|()| status)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// The beginning of a stream; the rest is read and dropped, so that nobody waits.
fn read_some(stream: Option<impl Read>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let mut bytes = Vec::new();
    // A broken pipe shows in how the command ends.
    let _ = (&mut stream).take(MAX_OUTPUT).read_to_end(&mut bytes);
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    bytes
}

/// The end of a complaint in one line without control characters: a server may have written it.
fn shown(complaint: &[u8], status: ExitStatus) -> String {
    let start = complaint.len().saturating_sub(MAX_COMPLAINT);
    let text = String::from_utf8_lossy(&complaint[start..]);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() { status.to_string() } else { lines.join("; ") }
}

/// Bytes of the regular files below a directory, as far as they can be seen.
fn size_of(directory: &Path) -> u64 {
    let files = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}
