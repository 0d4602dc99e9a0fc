//! Programs of others, where they are installed.

use std::path::Path;
use std::process::{Command, Stdio};

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
