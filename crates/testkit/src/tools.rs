//! Programs of others, where they are installed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip;

/// Whether a program can be started and root may use it fully; says why not.
pub fn has_tool(program: &str) -> bool {
    if !ocibuild_sys::namespaces_work().is_ok_and(|()| rustix::process::geteuid().is_root()) {
        skip(&format!("{program} is tried as root only"));
        return false;
    }
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        skip(&format!("{program} is not installed"));
    }
    found.is_ok()
}

/// Runs a command to success; what it printed.
#[track_caller]
pub fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).expect("what is printed is Unicode")
}

/// podman with everything of its own below `directory`.
pub fn podman(directory: &Path) -> Command {
    let mut command = Command::new("podman");
    command.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--storage-driver", "vfs"]);
    command.args(["--events-backend", "file"]);
    for (flag, folder) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
        command.arg(flag).arg(directory.join(folder));
    }
    command
}

/// A docker engine of its own for one test, ended on drop.
#[derive(Debug)]
pub struct DockerEngine {
    process: Child,
    socket: String,
}

impl DockerEngine {
    /// Starts one with everything below `directory`; `None` where it does not start, with the reason said.
    pub fn start(directory: &Path) -> Option<Self> {
        fs_err::create_dir_all(directory).expect("the test's directory can be written");
        let socket = format!("unix://{}", directory.join("socket").display());
        let log = directory.join("log");
        let file = fs_err::File::create(&log).expect("the test's directory can be written");
        let process = Command::new("dockerd")
            .args(["-H", &socket, "--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.into_parts().0)
            .spawn()
            .expect("the program can be started");
        let mut engine = Self { process, socket };
        let start = Instant::now();
        while !engine.docker().arg("version").output().expect("docker can be started").status.success() {
            let ended = engine.process.try_wait().expect("it is our child").is_some();
            if ended || start.elapsed() > Duration::from_secs(30) {
                let text = fs_err::read_to_string(&log).expect("the log is there");
                skip(&format!("dockerd does not start here: {}", text.lines().last().unwrap_or_default()));
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(engine)
    }

    /// The client, about to talk to this engine.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket]).env("TZ", "UTC");
        command
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        // Asked to end, it ends its containerd too.
        if let Some(id) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}
