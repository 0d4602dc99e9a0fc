use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What time it is, for the lives of tokens and credentials.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn is_over(&self, renew_at: Option<Instant>) -> bool {
        renew_at.is_some_and(|time| (self.0)() >= time)
    }

    /// When four fifths of a life that begins now are over.
    pub(super) fn renewal(&self, life: Option<Duration>) -> Option<Instant> {
        life.and_then(|life| (self.0)().checked_add(life / 5 * 4))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Instant::now)
    }
}

impl Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Clock").finish_non_exhaustive()
    }
}
