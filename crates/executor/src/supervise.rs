//! Watching over a command: its input and output, its end, and the wish to cancel it.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ocibuild_spec::CancelToken;
use ocibuild_sys::{Child, PendingListener, Sandbox, Status, WindowSize, set_window_size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, Uid};

use crate::attached::Request;
use crate::error::Repr;
use crate::{Attached, Control, Error, Output, Stream};

/// How often a cancelled token, and what is asked of the command, are looked at while the command is silent.
pub(crate) const CANCEL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What is read at once.
const BUFFER: usize = 64 * 1024;

/// What is read after the end of the command and of everything it started. More than pipes hold cannot come
/// from them: it is from someone outside to whom they passed the descriptor, whose end nobody waits for.
const AFTER_END: usize = 2 * 1024 * 1024;

/// Answers the calls that the filter of a sandbox leaves to somebody, in a thread of its own, until nobody is left to make any.
pub(crate) type Answer<'a> = dyn FnMut(PendingListener) -> io::Result<()> + Send + 'a;

/// Runs `sandbox` to its end; `program` is what to call it in errors.
pub(crate) fn supervise(
    sandbox: &Sandbox,
    program: &str,
    attached: Attached<'_, '_>,
    cancel: &CancelToken,
    answers: Option<&mut Answer<'_>>,
) -> Result<Status, Error> {
    if cancel.is_cancelled() {
        return Err(Repr::Cancelled.into());
    }
    let Attached { input, output, control, started } = attached;
    let (stdout, stdout_writer) = io::pipe().map_err(Repr::Output)?;
    let (stderr, stderr_writer) = io::pipe().map_err(Repr::Output)?;
    let has_terminal = sandbox.process.terminal.is_some();
    // What goes to a terminal is written to its other side. A command with nothing to read gets a pipe, too: of the
    // host's null device it could change the mode.
    let (stdin, stdin_writer) = io::pipe().map_err(Repr::Output)?;
    let stdin_writer = (input.is_some() && !has_terminal).then_some(stdin_writer);
    if let Some(confinement) = &sandbox.process.confinement {
        give([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], confinement.uid)?;
    }
    let child = sandbox
        .spawn_reading(Some(stdin.as_fd()), &stdout_writer, &stderr_writer)
        .map_err(|error| Error::from_sandbox(error, program))?;
    let _running = control.begin();
    if let Some(started) = started {
        started();
    }
    drop((stdin, stdout_writer, stderr_writer));
    let streams = Streams::new(child, [stdout.into(), stderr.into()], input, stdin_writer)?;
    std::thread::scope(|scope| {
        let mut streams = streams;
        let answering = match (streams.child.listener(), answers) {
            (Some(listener), Some(answers)) => {
                let answer = || answers(listener);
                Some(std::thread::Builder::new().spawn_scoped(scope, answer).map_err(Repr::Answers)?)
            }
            _ => None,
        };
        let status = watch(streams, program, output, &control, cancel)?;
        // All who could call are gone.
        match answering.map(std::thread::ScopedJoinHandle::join) {
            Some(Ok(answered)) => answered.map_err(Repr::Answers)?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {}
        }
        Ok(status)
    })
}

/// Passes everything on until the command has ended.
fn watch(
    mut streams: Streams<'_>,
    program: &str,
    output: &mut Output<'_>,
    control: &Control,
    cancel: &CancelToken,
) -> Result<Status, Error> {
    let mut ended_by = None;
    loop {
        if cancel.is_cancelled() {
            return Err(Repr::Cancelled.into());
        }
        for request in control.take() {
            let signal = match request {
                Request::Resize(size) => {
                    streams.resize(size);
                    continue;
                }
                Request::Close(stream) => {
                    streams.close(stream);
                    Signal::PIPE.as_raw()
                }
                Request::Signal(signal) => signal,
            };
            if !streams.child.signal(signal) {
                ended_by = Some(signal);
                streams.child.kill();
            }
        }
        if streams.step(output)? {
            break;
        }
    }
    streams.rest(output)?;
    let status = streams.child.wait();
    match ended_by {
        Some(signal) => Ok(Status::Signaled(signal)),
        None => status.map_err(|error| Error::from_sandbox(error, program)),
    }
}

/// Gives pipes of ours to the user of the command, who may then open them by a name as `/dev/stdout`; runtimes do the
/// same. The group stays, which has no rights on a pipe. Where this process may not give anything away, the command can
/// still use them as they are.
fn give(pipes: [BorrowedFd<'_>; 3], uid: u32) -> Result<(), Error> {
    for pipe in pipes {
        match rustix::fs::fchown(pipe, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(Repr::Output(errno.into()).into()),
        }
    }
    Ok(())
}

/// Both directions of a command.
struct Streams<'i> {
    child: Child,
    /// Standard output, which may be the other side of a terminal, and standard error.
    sources: [Option<File>; 2],
    terminal: Option<File>,
    size: Option<WindowSize>,
    /// What the command is to read comes from here.
    input: Option<BorrowedFd<'i>>,
    sink: Option<File>,
    /// Read from the input, and not yet taken by the command.
    pending: Vec<u8>,
    buffer: Vec<u8>,
}

const NAMES: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// What a descriptor in the list of `poll` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    End,
    Terminal,
    Source(usize),
    Input,
    Sink,
}

impl<'i> Streams<'i> {
    fn new(
        child: Child,
        sources: [OwnedFd; 2],
        input: Option<BorrowedFd<'i>>,
        sink: Option<PipeWriter>,
    ) -> Result<Self, Error> {
        let open = |descriptor: OwnedFd| -> Result<Option<File>, Error> {
            rustix::io::ioctl_fionbio(&descriptor, true).map_err(|errno| Repr::Output(errno.into()))?;
            Ok(Some(File::from(descriptor)))
        };
        let [stdout, stderr] = sources;
        Ok(Self {
            child,
            sources: [open(stdout)?, open(stderr)?],
            terminal: None,
            size: None,
            input,
            sink: match sink {
                Some(sink) => open(sink.into())?,
                None => None,
            },
            pending: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn resize(&mut self, size: WindowSize) {
        match &self.terminal {
            // A terminal whose last process is gone needs no size.
            Some(terminal) => drop(set_window_size(terminal, size)),
            None => self.size = Some(size),
        }
    }

    /// Reads no more of a stream. A terminal is hung up.
    fn close(&mut self, stream: Stream) {
        for (source, name) in self.sources.iter_mut().zip(NAMES) {
            if name == stream {
                *source = None;
            }
        }
        if stream == Stream::Stdout && self.terminal.take().is_some() {
            (self.input, self.sink) = (None, None);
        }
    }

    /// Passes on what there is, after waiting for it a little; whether the command has ended.
    fn step(&mut self, output: &mut Output<'_>) -> Result<bool, Error> {
        let mut ended = false;
        for watched in self.wait()? {
            match watched {
                Watched::End => ended = true,
                Watched::Terminal => self.connect()?,
                Watched::Source(index) => drop(self.read_once(index, output)?),
                Watched::Input => self.read_input()?,
                Watched::Sink => self.write_pending(),
            }
        }
        Ok(ended)
    }

    /// Sleeps until something can be done, but not for long.
    fn wait(&self) -> Result<Vec<Watched>, Error> {
        let mut list = vec![(Watched::End, self.child.pidfd(), PollFlags::IN)];
        let mut add = |watched, descriptor, flags| list.push((watched, descriptor, flags));
        if let Some(socket) = self.child.terminal_socket() {
            add(Watched::Terminal, socket, PollFlags::IN);
        }
        for (index, source) in self.sources.iter().enumerate() {
            if let Some(source) = source {
                add(Watched::Source(index), source.as_fd(), PollFlags::IN);
            }
        }
        match (&self.sink, self.input) {
            (Some(sink), _) if !self.pending.is_empty() => add(Watched::Sink, sink.as_fd(), PollFlags::OUT),
            (Some(_), Some(input)) => add(Watched::Input, input, PollFlags::IN),
            _ => {}
        }
        let mut polled: Vec<PollFd<'_>> =
            list.iter().map(|(_, descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags)).collect();
        match poll(&mut polled, Some(&CANCEL_INTERVAL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Repr::Output(errno.into()).into()),
        }
        let ready = polled.iter().zip(&list).filter(|(polled, _)| !polled.revents().is_empty());
        Ok(ready.map(|(_, (watched, _, _))| *watched).collect())
    }

    /// The command has its terminal.
    fn connect(&mut self) -> Result<(), Error> {
        let Some(terminal) = self.child.terminal().map_err(Repr::Output)? else { return Ok(()) };
        rustix::io::ioctl_fionbio(&terminal, true).map_err(|errno| Repr::Output(errno.into()))?;
        self.sources[0] = Some(terminal.try_clone().map_err(Repr::Output)?);
        if self.input.is_some() {
            self.sink = Some(terminal.try_clone().map_err(Repr::Output)?);
        }
        self.terminal = Some(terminal);
        if let Some(size) = self.size.take() {
            self.resize(size);
        }
        Ok(())
    }

    /// Reads what is there now. The number of bytes is 0 when there is nothing, now or ever.
    fn read_once(&mut self, index: usize, output: &mut Output<'_>) -> Result<usize, Error> {
        let Some(source) = &mut self.sources[index] else { return Ok(0) };
        let is_terminal = index == 0 && self.terminal.is_some();
        match source.read(&mut self.buffer) {
            Ok(0) => {
                self.sources[index] = None;
                Ok(0)
            }
            Ok(length) => {
                output(NAMES[index], &self.buffer[..length]);
                Ok(length)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            // How a terminal says that nobody has it open any more.
            Err(error) if is_terminal && error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                self.sources[index] = None;
                Ok(0)
            }
            Err(error) => Err(Repr::Output(error).into()),
        }
    }

    /// Reads some input, and passes it on as far as the command takes it.
    fn read_input(&mut self) -> Result<(), Error> {
        let Some(input) = self.input else { return Ok(()) };
        match rustix::io::read(input, &mut self.buffer[..]) {
            // A terminal that is gone says it with an error.
            Ok(0) | Err(Errno::IO) => self.end_input(),
            Ok(length) => {
                self.pending.extend_from_slice(&self.buffer[..length]);
                self.write_pending();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(Repr::Input(errno.into()).into()),
        }
        Ok(())
    }

    fn end_input(&mut self) {
        self.input = None;
        if self.pending.is_empty() {
            self.sink = None;
        }
    }

    fn write_pending(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        match sink.write(&self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // Nobody reads any more.
            Err(_) => {
                self.pending.clear();
                self.input = None;
            }
        }
        if self.pending.is_empty() && self.input.is_none() {
            self.sink = None;
        }
    }

    /// What is left in the pipes once everybody who should write is gone.
    fn rest(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        // A command may end before its terminal is seen.
        if self.child.terminal_socket().is_some() {
            self.connect()?;
        }
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
