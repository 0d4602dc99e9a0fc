use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ocibuild_spec::CancelToken;

use super::client::Words;
use crate::error::Error;
use crate::failure::{HostFailure, HostOperation, TransferFailure};

/// Waits for the first line and becomes the client, which then reads all that follows: a client that is started as such
/// talks to its engine at once, and a build may take an hour.
const WAIT: &str = "read -r line && exec \"$@\"";
const INTERVAL: Duration = Duration::from_millis(20);

/// A client that takes an image, or is going to.
#[must_use = "an image is loaded once its client has ended"]
#[derive(Debug)]
pub struct Loading {
    engine: String,
    child: Child,
    words: Option<Words>,
    /// The client did not read all that was written.
    is_broken: Arc<AtomicBool>,
}

/// What the client reads.
#[derive(Debug)]
pub(super) struct Pipe {
    stdin: ChildStdin,
    has_begun: bool,
    is_broken: Arc<AtomicBool>,
}

impl Loading {
    /// Starts what becomes the client with these words when the first byte is written.
    pub(super) fn start(engine: String, client: &[&str]) -> Result<(Pipe, Self), Error> {
        let cannot = |source| TransferFailure::ClientNotStarted { client: client[0].to_owned(), source };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WAIT, "sh"]).args(client).stdin(Stdio::piped());
        let words = Words::of(&mut command).map_err(cannot)?;
        let mut child = command.spawn().map_err(cannot)?;
        let stdin = child.stdin.take().expect("a pipe was asked for");
        let is_broken = Arc::new(AtomicBool::new(false));
        let pipe = Pipe { stdin, has_begun: false, is_broken: Arc::clone(&is_broken) };
        Ok((pipe, Self { engine, child, words: Some(words), is_broken }))
    }

    /// The error of a build that failed: if it failed since the client would not read, the client's own words.
    pub fn explain(self, error: Error, cancel: &CancelToken) -> Error {
        if !self.is_broken.load(Ordering::SeqCst) {
            return error;
        }
        self.finish(cancel).err().unwrap_or(error)
    }

    /// Waits until the engine has the image; what its client says of it. The output has to be written by now.
    pub fn finish(mut self, cancel: &CancelToken) -> Result<String, Error> {
        let cannot = |error| HostFailure::operation(HostOperation::WaitForClient, error);
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(cannot)? {
                break status;
            }
            if cancel.wait_timeout(INTERVAL) {
                return Err(Error::cancelled());
            }
        };
        let words = self.words.take().expect("it is finished once");
        if status.success() {
            return Ok(words.said().map_err(cannot)?);
        }
        let complaint = words.complaint().map_err(cannot)?;
        let complaint = if complaint.is_empty() { status.to_string() } else { complaint };
        Err(TransferFailure::EngineRefused { engine: self.engine.clone(), said: complaint.into() }.into())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // It has ended unless the build failed; half an image is of no use to anybody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.begin().and_then(|()| self.stdin.write(bytes));
        if result.is_err() {
            self.is_broken.store(true, Ordering::SeqCst);
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.flush()
    }
}

impl Pipe {
    fn begin(&mut self) -> io::Result<()> {
        if !self.has_begun {
            self.stdin.write_all(b"\n")?;
            self.has_begun = true;
        }
        Ok(())
    }
}
