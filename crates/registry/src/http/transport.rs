use std::cell::RefCell;
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
}

impl<In: Transport> Connector<In> for Interruptible {
    type Out = InterruptibleTransport<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| InterruptibleTransport { inner }))
    }
}

impl<T: Transport> Transport for InterruptibleTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
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
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
