//! Watching over a command: its output, its end, and the wish to cancel it.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;

use ocibuild_spec::CancelToken;
use ocibuild_sys::{Child, Sandbox, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::Repr;
use crate::{Error, Output, Stream};

/// How often a cancelled token is looked at while the command is silent.
const CANCEL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What is read at once.
const BUFFER: usize = 64 * 1024;

/// What is read after the end of the command and of everything it started. More than pipes hold cannot come
/// from them: it is from someone outside to whom they passed the descriptor, whose end nobody waits for.
const AFTER_END: usize = 2 * 1024 * 1024;

/// Runs `sandbox` to its end; `program` is what to call it in errors.
pub(crate) fn supervise(
    sandbox: &Sandbox,
    program: &str,
    output: &mut Output<'_>,
    cancel: &CancelToken,
) -> Result<Status, Error> {
    if cancel.is_cancelled() {
        return Err(Repr::Cancelled.into());
    }
    let (stdout, stdout_writer) = io::pipe().map_err(Repr::Output)?;
    let (stderr, stderr_writer) = io::pipe().map_err(Repr::Output)?;
    let child =
        sandbox.spawn(&stdout_writer, &stderr_writer).map_err(|error| Error::from_sandbox(error, program))?;
    drop((stdout_writer, stderr_writer));
    let mut drain = Drain::new(stdout, stderr)?;
    if !drain.until_end(&child, output, cancel)? {
        drop(child);
        return Err(Repr::Cancelled.into());
    }
    drain.rest(output)?;
    child.wait().map_err(|error| Error::from_sandbox(error, program))
}

struct Drain {
    pipes: [Option<File>; 2],
    buffer: Vec<u8>,
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Drain {
    fn new(stdout: PipeReader, stderr: PipeReader) -> Result<Self, Error> {
        for pipe in [stdout.as_fd(), stderr.as_fd()] {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|errno| Repr::Output(errno.into()))?;
        }
        let open = |pipe: PipeReader| Some(File::from(std::os::fd::OwnedFd::from(pipe)));
        Ok(Self { pipes: [open(stdout), open(stderr)], buffer: vec![0; BUFFER] })
    }

    /// Passes output on until the command ends, and says true; or until it is cancelled, and says false.
    fn until_end(
        &mut self,
        child: &Child,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, Error> {
        loop {
            if cancel.is_cancelled() {
                return Ok(false);
            }
            let (readable, ended) = self.wait(child)?;
            for (index, readable) in readable.into_iter().enumerate() {
                if readable {
                    self.read_once(index, output)?;
                }
            }
            if ended {
                return Ok(true);
            }
        }
    }

    /// Sleeps until there is something to read or the command has ended, but not for long.
    fn wait(&self, child: &Child) -> Result<([bool; 2], bool), Error> {
        let mut fds = vec![PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
        let open: Vec<usize> = (0..2).filter(|index| self.pipes[*index].is_some()).collect();
        fds.extend(self.pipes.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, Some(&CANCEL_INTERVAL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Repr::Output(errno.into()).into()),
        }
        let mut readable = [false; 2];
        for (fd, index) in fds[1..].iter().zip(open) {
            readable[index] = !fd.revents().is_empty();
        }
        Ok((readable, !fds[0].revents().is_empty()))
    }

    /// Reads what is there now. The number of bytes is 0 when there is nothing, now or ever.
    fn read_once(&mut self, index: usize, output: &mut Output<'_>) -> Result<usize, Error> {
        let Some(pipe) = &mut self.pipes[index] else { return Ok(0) };
        match pipe.read(&mut self.buffer) {
            Ok(0) => {
                self.pipes[index] = None;
                Ok(0)
            }
            Ok(length) => {
                output(STREAMS[index], &self.buffer[..length]);
                Ok(length)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            Err(error) => Err(Repr::Output(error).into()),
        }
    }

    /// What is left in the pipes once everybody who should write is gone.
    fn rest(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        for index in 0..2 {
            let mut left = AFTER_END;
            loop {
                let length = self.read_once(index, output)?;
                left = left.saturating_sub(length);
                if length == 0 || left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}
