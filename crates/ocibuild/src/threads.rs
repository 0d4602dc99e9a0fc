//! The threads of a build that compute: one number for all that reads, hashes, compresses and unpacks at the same time. Memory
//! follows from it (`docs/decisions/0005-memory-follows-the-threads.md`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocibuild_spec::CancelToken;

use crate::error::Error;

/// How often somebody who waits looks whether he was cancelled.
const INTERVAL: Duration = Duration::from_millis(20);

/// So many threads may work. Whoever needs some takes a share, which is smaller when others work, too; with it the memory
/// that work takes has a bound.
#[derive(Debug)]
pub(crate) struct ThreadBudget {
    total: usize,
    free: Mutex<usize>,
    changed: Condvar,
}

/// Threads that somebody may use, his own among them, until this is dropped.
#[derive(Debug)]
#[must_use = "the threads are free again once this is dropped"]
pub(crate) struct ThreadShare<'b> {
    budget: &'b ThreadBudget,
    count: usize,
}

impl ThreadBudget {
    /// At least one thread.
    pub(crate) fn new(count: usize) -> Self {
        let total = count.max(1);
        Self { total, free: Mutex::new(total), changed: Condvar::new() }
    }

    /// All threads, whether they are free or not.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many threads as are free, but not more than `wanted`; waits until there is one. Nobody takes a share while he has
    /// another one.
    pub(crate) fn take(&self, wanted: usize, cancel: &CancelToken) -> Result<ThreadShare<'_>, Error> {
        let mut free = self.free();
        while *free == 0 {
            free = self.changed.wait_timeout(free, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
        }
        let count = wanted.clamp(1, *free);
        *free -= count;
        Ok(ThreadShare { budget: self, count })
    }

    /// One thread, if there is a free one right now. Nobody is waited for, so that who has a share may ask as well.
    pub(crate) fn try_take(&self) -> Option<ThreadShare<'_>> {
        let mut free = self.free();
        *free = free.checked_sub(1)?;
        Some(ThreadShare { budget: self, count: 1 })
    }
}

impl ThreadShare<'_> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for ThreadShare<'_> {
    fn drop(&mut self) {
        *self.budget.free() += self.count;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn shares_are_never_more_than_there_are() {
        let (budget, cancel) = (ThreadBudget::new(3), CancelToken::new());
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for wanted in [1, 2, 5, 1, 3, 2, 9, 1] {
                let (budget, cancel, now, most) = (&budget, &cancel, &now, &most);
                scope.spawn(move || {
                    let share = budget.take(wanted, cancel).unwrap();
                    assert!((1..=wanted).contains(&share.count()));
                    let working = now.fetch_add(share.count(), Ordering::SeqCst) + share.count();
                    most.fetch_max(working, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(share.count(), Ordering::SeqCst);
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(budget.take(9, &cancel).unwrap().count(), 3);
    }

    #[test]
    fn one_more_is_given_only_if_it_is_free() {
        let (budget, cancel) = (ThreadBudget::new(2), CancelToken::new());
        let own = budget.take(1, &cancel).unwrap();
        let other = budget.try_take().unwrap();
        assert_eq!(other.count(), 1);
        assert!(budget.try_take().is_none());
        drop(own);
        assert!(budget.try_take().is_some());
        drop(other);
        assert_eq!(budget.take(9, &cancel).unwrap().count(), 2);
    }

    #[test]
    fn waiting_ends_when_cancelled() {
        let (budget, cancel) = (ThreadBudget::new(1), CancelToken::new());
        let share = budget.take(1, &cancel).unwrap();
        cancel.cancel();
        assert!(budget.take(1, &cancel).is_err());
        drop(share);
        assert_eq!(budget.take(1, &cancel).unwrap().count(), 1);
    }
}
