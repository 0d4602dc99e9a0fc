use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::skip;

const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(50);

/// A container engine of its own for one test, with everything of it below one directory. Dropping it ends it.
pub struct Daemon {
    process: Child,
    socket: PathBuf,
}

impl Daemon {
    /// A dockerd without a network; `None`, with the reason told, where it does not start.
    pub fn docker(directory: &Path) -> Option<Self> {
        let socket = directory.join("socket");
        let mut daemon = Command::new("dockerd");
        daemon
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            daemon.arg(flag).arg(directory.join(name));
        }
        let mut client = Command::new("docker");
        client.arg("-H").arg(format!("unix://{}", socket.display())).arg("version");
        Self::start(daemon, &mut client, directory, socket)
    }

    /// A containerd without its Kubernetes part; `None`, with the reason told, where it does not start.
    pub fn containerd(directory: &Path) -> Option<Self> {
        let socket = directory.join("socket");
        let place = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("socket"),
        );
        fs::create_dir_all(directory).expect("the test's directory can be written");
        fs::write(directory.join("config.toml"), config).expect("the test's directory can be written");
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(directory.join("config.toml"));
        let mut client = Command::new("ctr");
        client.arg("--address").arg(&socket).args(["--connect-timeout", "1s", "version"]);
        Self::start(daemon, &mut client, directory, socket)
    }

    fn start(mut daemon: Command, client: &mut Command, directory: &Path, socket: PathBuf) -> Option<Self> {
        let name = daemon.get_program().display().to_string();
        fs::create_dir_all(directory).expect("the test's directory can be written");
        let log = directory.join("log");
        let file = fs::File::create(&log).expect("the test's directory can be written");
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.into_parts().0);
        let Ok(process) = daemon.spawn() else {
            skip(&format!("{name} is not installed"));
            return None;
        };
        let mut daemon = Self { process, socket };
        let begun = Instant::now();
        while !client.output().is_ok_and(|output| output.status.success()) {
            let has_ended = !matches!(daemon.process.try_wait(), Ok(None));
            if has_ended || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(&log).unwrap_or_default();
                skip(&format!("{name} does not start here: {}", log.lines().last().unwrap_or_default()));
                return None;
            }
            sleep(INTERVAL);
        }
        Some(daemon)
    }

    /// Docker's client, about to talk to this engine.
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).env("TZ", "UTC");
        command
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to end, a dockerd ends its containerd too.
        if let Some(id) = Pid::from_raw(self.process.id() as i32) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("socket", &self.socket).finish_non_exhaustive()
    }
}
