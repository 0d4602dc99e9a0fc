//! Keys given as files: OpenSSH's own agent is started for them, which knows every kind of key there is.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use fs_err as fs;

use crate::error::Error;
use crate::failure::RunFailure;

/// Where programs that see keys are looked for: not where a user's `PATH` points.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

/// The name of the socket; it is given to programs relative to their directory, as the kernel takes no long ones.
const SOCKET: &str = "agent.sock";

/// An agent with keys, which ends when this is dropped.
///
/// The agent ends with the command that it was started for: a shell that says the agent's number and then waits for
/// the end of its input. So the agent ends, some seconds later, also when this process is killed.
#[derive(Debug)]
pub(super) struct KeyAgent {
    socket: PathBuf,
    command: Child,
    input: Option<ChildStdin>,
    agent: Option<rustix::process::Pid>,
}

impl KeyAgent {
    /// Starts an agent in the new directory `directory` and gives it these keys.
    pub(super) fn start(directory: &Path, keys: &[PathBuf]) -> Result<Self, Error> {
        let unusable = |error| crate::error::unusable(directory, error);
        fs::create_dir_all(directory).map_err(unusable)?;
        let agent = program("ssh-agent")?;
        let mut command = Command::new(&agent)
            .args(["-a", SOCKET, "/bin/sh", "-c", "echo \"$SSH_AGENT_PID\"; exec cat >/dev/null"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| crate::error::unusable(&agent, error))?;
        let input = command.stdin.take();
        let mut line = String::new();
        if let Some(output) = command.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(|error| crate::error::unusable(&agent, error))?;
        }
        let number = line.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        let mut started = Self { socket: directory.join(SOCKET), command, input, agent: number };
        if number.is_none() {
            return Err(RunFailure::AgentNotStarted { said: started.last_words() }.into());
        }
        for key in keys {
            add(directory, key)?;
        }
        Ok(started)
    }

    /// The socket of the agent.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    fn last_words(&mut self) -> String {
        let mut said = String::new();
        drop(self.input.take());
        if let Some(errors) = self.command.stderr.take() {
            // What cannot be read is not said.
            let _ = errors.take(4096).read_to_string(&mut said);
        }
        said.trim().to_owned()
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Some(agent) = self.agent {
            // It may have ended already, having seen that its command did.
            let _ = rustix::process::kill_process(agent, rustix::process::Signal::TERM);
        }
        let _ = self.command.wait();
    }
}

/// Gives a key to the agent in `directory`. What has a passphrase is refused: there is nobody to ask.
fn add(directory: &Path, key: &Path) -> Result<(), Error> {
    let program = program("ssh-add")?;
    let output = Command::new(&program)
        .args(["-q", "--"])
        .arg(key)
        .env_clear()
        .env("SSH_AUTH_SOCK", SOCKET)
        .env("SSH_ASKPASS_REQUIRE", "never")
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| crate::error::unusable(&program, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(1024)]).trim().to_owned();
    Err(RunFailure::KeyUnusable { key: key.to_owned(), said }.into())
}

fn program(name: &str) -> Result<PathBuf, Error> {
    let paths = DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
    let mut found = paths.filter(|path| path.is_file());
    let missing =
        || RunFailure::AgentProgramMissing { program: name.to_owned(), directories: DIRECTORIES.to_vec() };
    found.next().ok_or_else(|| missing().into())
}
