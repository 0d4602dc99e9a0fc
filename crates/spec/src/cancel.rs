use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Asks a long call to stop; clones share one state.
///
/// Cancelling is final. Whoever works looks at [`is_cancelled`](Self::is_cancelled) between units of bounded
/// work, or sleeps in [`wait_timeout`](Self::wait_timeout), which cancelling ends at once.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels every clone of this token.
    pub fn cancel(&self) {
        *self.state.cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.changed.notify_all();
    }

    /// Whether somebody cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.state.cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `timeout`, or until cancelled; tells whether it was cancelled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let guard = self.state.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .state
            .changed
            .wait_timeout_while(guard, timeout, |cancelled| !*cancelled)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_state_and_waiting_ends() {
        let token = CancelToken::new();
        assert!(!token.wait_timeout(Duration::from_millis(1)));
        let other = token.clone();
        let thread = std::thread::spawn(move || other.wait_timeout(Duration::from_mins(1)));
        token.cancel();
        assert!(thread.join().unwrap());
        assert!(token.is_cancelled());
    }
}
