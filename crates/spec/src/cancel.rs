use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
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
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    is_cancelled: bool,
    /// Those to cancel with this one.
    children: Vec<Weak<State>>,
}

impl State {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and by itself without this one.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut known = self.state.known();
        if known.is_cancelled {
            child.state.known().is_cancelled = true;
        } else {
            known.children.retain(|child| child.strong_count() > 0);
            known.children.push(Arc::downgrade(&child.state));
        }
        drop(known);
        child
    }

    /// Cancels every clone of this token, and its children.
    pub fn cancel(&self) {
        let mut todo = vec![Arc::clone(&self.state)];
        while let Some(state) = todo.pop() {
            let mut known = state.known();
            known.is_cancelled = true;
            todo.extend(std::mem::take(&mut known.children).iter().filter_map(Weak::upgrade));
            drop(known);
            state.changed.notify_all();
        }
    }

    /// Whether somebody cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state.known().is_cancelled
    }

    /// Sleeps for `timeout`, or until cancelled; tells whether it was cancelled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let (known, _) = self
            .state
            .changed
            .wait_timeout_while(self.state.known(), timeout, |known| !known.is_cancelled)
            .unwrap_or_else(PoisonError::into_inner);
        known.is_cancelled
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

    #[test]
    fn a_child_is_cancelled_with_its_parent_and_not_the_other_way_round() {
        let parent = CancelToken::new();
        let (first, second) = (parent.child(), parent.child());
        let grandchild = second.child();
        first.cancel();
        assert!(first.is_cancelled() && !parent.is_cancelled() && !second.is_cancelled());
        let waiting = grandchild.clone();
        let thread = std::thread::spawn(move || waiting.wait_timeout(Duration::from_mins(1)));
        parent.cancel();
        assert!(thread.join().unwrap());
        assert!(second.is_cancelled() && grandchild.is_cancelled());
        assert!(parent.child().is_cancelled());
    }
}
