use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_sys::WindowSize;

use crate::{Output, Stream};

/// What connects a command with whoever runs it.
pub struct Attached<'a, 'o> {
    /// What the command reads: a descriptor whose bytes are passed on to it. `None` is nothing.
    pub input: Option<BorrowedFd<'a>>,
    /// Takes what the command writes. All of a terminal's is [`Stdout`](crate::Stream::Stdout).
    pub output: &'a mut Output<'o>,
    /// What is asked of the command while it runs.
    pub control: Control,
    /// Called once the command, or what starts it, runs: from then on it gets input and signals.
    pub started: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl<'a, 'o> Attached<'a, 'o> {
    /// Output alone, as a build step has it.
    pub fn to(output: &'a mut Output<'o>) -> Self {
        Self { input: None, output, control: Control::default(), started: None }
    }
}

impl fmt::Debug for Attached<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached")
            .field("input", &self.input)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// A way to reach a command that runs, from other threads: clones are the same. What is asked is done within some tens of
/// milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    runs: bool,
    requests: Vec<Request>,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The number of a signal.
    Signal(i32),
    Resize(WindowSize),
    Close(Stream),
}

impl Control {
    /// Sends a signal to the command. One that it has no handler for, and that would end any other process, ends it too:
    /// a command is process 1, which the kernel keeps such signals from. `false` when no command runs.
    pub fn signal(&self, signal: i32) -> bool {
        let mut state = self.state();
        if state.runs {
            state.requests.push(Request::Signal(signal));
        }
        state.runs
    }

    /// Gives the command's terminal another size.
    pub fn resize(&self, size: WindowSize) {
        self.state().requests.push(Request::Resize(size));
    }

    /// Tells the command that nobody reads a stream of it any more, as a closed pipe does: by `SIGPIPE`, and by an error
    /// of each write if it has a handler for that.
    pub fn close(&self, stream: Stream) {
        self.state().requests.push(Request::Close(stream));
    }

    /// From now on, until the guard is dropped, a command runs.
    pub(crate) fn begin(&self) -> Running {
        self.state().runs = true;
        Running(self.clone())
    }

    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Running(Control);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().runs = false;
    }
}
