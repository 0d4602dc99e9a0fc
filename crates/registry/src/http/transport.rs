use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use ocibuild_spec::CancelToken;
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Longest wait between two looks at the cancel token.
const SLICE: Duration = Duration::from_millis(200);

thread_local! {
    /// All input and output of a request happens on the thread that asked for it, so the token of the moment is the
    /// thread's. A connection outlives its request in the pool and cannot hold one.
    static TOKEN: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
    /// How far this thread's sending of a body is.
    static SENDING: Cell<Sending> = const { Cell::new(Sending::Nothing) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    Body,
    /// The other side takes no more of it. It may have said why before it stopped, so its answer is still read.
    Unheard,
}

/// Runs `work`, which sends a body, so that a connection that takes no more of it is listened to all the same.
pub(super) fn sending<T>(work: impl FnOnce() -> T) -> T {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            SENDING.set(Sending::Nothing);
        }
    }

    let _restore = Restore;
    SENDING.set(Sending::Body);
    work()
}

/// The body of a request, which ends quickly when nobody listens any more, and which remembers why it broke.
pub(super) struct SentBody<'a> {
    inner: &'a mut dyn Read,
    left: u64,
    pub(super) failure: Option<io::Error>,
}

impl<'a> SentBody<'a> {
    pub(super) fn new(inner: &'a mut dyn Read, length: u64) -> Self {
        Self { inner, left: length, failure: None }
    }

    fn read_inner(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is less to send than announced"))
            }
            other => other,
        }
    }
}

impl Read for SentBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = if most == 0 || SENDING.get() == Sending::Unheard {
            // The announced length has to come about, though it goes nowhere.
            most
        } else if is_cancelled() {
            return Err(io::Error::other(Cancelled));
        } else {
            self.read_inner(&mut buffer[..most]).map_err(|error| {
                let same = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                same
            })?
        };
        self.left -= count as u64;
        Ok(count)
    }
}

/// Runs `work` so that its waits for the network end when `cancel` says so.
pub(super) fn with_token<T>(cancel: &CancelToken, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<CancelToken>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TOKEN.with_borrow_mut(|token| *token = self.0.take());
        }
    }

    let _restore = Restore(TOKEN.with_borrow_mut(|token| token.replace(cancel.clone())));
    work()
}

fn is_cancelled() -> bool {
    TOKEN.with_borrow(|token| token.as_ref().is_some_and(CancelToken::is_cancelled))
}

/// The caller cancelled while the network was waited for.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Cancelled;

/// Ends the chain of connectors: waits in slices, with a look at the token between them.
#[derive(Debug)]
pub(super) struct Interruptible;

#[derive(Debug)]
pub(super) struct InterruptibleTransport<T> {
    inner: T,
    /// Nothing is sent any more.
    is_deaf: bool,
}

impl<In: Transport> Connector<In> for Interruptible {
    type Out = InterruptibleTransport<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| InterruptibleTransport { inner, is_deaf: false }))
    }
}

impl<T: Transport> Transport for InterruptibleTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_deaf {
            return Ok(());
        }
        let result = self.inner.transmit_output(amount, timeout);
        if result.is_err() && SENDING.get() == Sending::Body {
            self.is_deaf = true;
            SENDING.set(Sending::Unheard);
            return Ok(());
        }
        result
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let limit = timeout.for_read();
        let deadline = limit.not_zero().map(|after| Instant::now() + *after);
        loop {
            if is_cancelled() {
                return Err(Error::Other(Box::new(Cancelled)));
            }
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Error::Timeout(limit.reason));
            }
            let slice = NextTimeout { after: left.min(SLICE).into(), per_read: None, ..timeout };
            match self.inner.await_input(slice) {
                Err(Error::Timeout(_)) => {}
                Err(Error::Io(error)) if is_wait(&error) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        !self.is_deaf && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
