//! What client programs say.

use std::io::{self, Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

/// Longest wait for the answer to a question.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(20);
/// Bytes of what a client says that are kept.
const MAX_WORDS: u64 = 8 << 10;

/// Both streams of a client in memory: it writes as much as it likes, and nobody has to read along.
#[derive(Debug)]
pub(super) struct Words {
    stdout: fs_err::File,
    stderr: fs_err::File,
}

impl Words {
    /// Of a client about to be started.
    pub(super) fn of(command: &mut Command) -> io::Result<Self> {
        let memory = |name: &str| -> io::Result<fs_err::File> {
            let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
            Ok(fs_err::File::from_parts(file.into(), name))
        };
        let words = Self { stdout: memory("stdout")?, stderr: memory("stderr")? };
        command.stdout(words.stdout.file().try_clone()?);
        command.stderr(words.stderr.file().try_clone()?);
        Ok(words)
    }

    /// What it wrote to its standard output.
    pub(super) fn said(self) -> io::Result<String> {
        read(self.stdout)
    }

    /// What it complained of; if it did not, whatever it wrote.
    pub(super) fn complaint(self) -> io::Result<String> {
        let complaint = read(self.stderr)?;
        if complaint.is_empty() { read(self.stdout) } else { Ok(complaint) }
    }
}

/// The end of a stream, without the white space around it.
fn read(mut file: fs_err::File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(MAX_WORDS)))?;
    let mut bytes = Vec::new();
    file.take(MAX_WORDS).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Runs a client that asks its engine something; if that does not go well, the client's words.
pub(super) fn ask(command: &mut Command) -> Result<(), String> {
    let words = Words::of(command).map_err(|error| error.to_string())?;
    let mut child = match command.stdin(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("the program {} is not installed", command.get_program().display()));
        }
        Err(error) => return Err(format!("cannot start {}: {error}", command.get_program().display())),
    };
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(INTERVAL),
            // Whether it gave no answer or cannot be waited for: it is not to stay.
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                let silent = || format!("no answer in {} seconds", PATIENCE.as_secs());
                return Err(ended.map_or_else(|error| error.to_string(), |_| silent()));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    match words.complaint() {
        Ok(complaint) if !complaint.is_empty() => Err(complaint),
        _ => Err(status.to_string()),
    }
}
