//! Results that several steps want at the same time, and one of them makes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocibuild_spec::CancelToken;

use crate::error::Error;

/// How often a waiting thread looks whether it was cancelled.
const INTERVAL: Duration = Duration::from_millis(20);

/// What is known under each name. Whoever asks first for what is not known makes it; the others wait for him, and make it
/// themselves if he fails.
#[derive(Debug)]
pub(crate) struct SingleFlight<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Entry<V> {
    known: Option<V>,
    is_under_way: bool,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default(), changed: Condvar::new() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    fn entries(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, if it is.
    pub(crate) fn get(&self, name: &K) -> Option<V> {
        self.entries().get(name)?.known.clone()
    }

    /// What is known if that is `enough`; otherwise what `make` makes of it, with no lock held.
    pub(crate) fn get_or(
        &self,
        name: &K,
        cancel: &CancelToken,
        enough: impl Fn(&V) -> bool,
        make: impl FnOnce(Option<V>) -> Result<V, Error>,
    ) -> Result<V, Error> {
        let mut entries = self.entries();
        let known = loop {
            let entry =
                entries.entry(name.clone()).or_insert_with(|| Entry { known: None, is_under_way: false });
            match &entry.known {
                Some(known) if enough(known) => return Ok(known.clone()),
                _ if !entry.is_under_way => {
                    entry.is_under_way = true;
                    break entry.known.clone();
                }
                _ => {}
            }
            entries = self.changed.wait_timeout(entries, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
        };
        drop(entries);
        let landing = Landing { flight: self, name };
        let made = make(known)?;
        if let Some(entry) = self.entries().get_mut(name) {
            entry.known = Some(made.clone());
        }
        drop(landing);
        Ok(made)
    }
}

/// Lets the others go on, however the making ends.
struct Landing<'f, K: Hash + Eq + Clone, V: Clone> {
    flight: &'f SingleFlight<K, V>,
    name: &'f K,
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        if let Some(entry) = self.flight.entries().get_mut(self.name) {
            entry.is_under_way = false;
        }
        self.flight.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_makes_what_many_want() {
        let (flight, made, cancel) = (SingleFlight::default(), AtomicUsize::new(0), CancelToken::new());
        let make = || flight.get_or(&"name", &cancel, |_| true, |_| Ok(made.fetch_add(1, Ordering::Relaxed)));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(make().unwrap(), 0));
            }
        });
        assert_eq!(flight.get(&"name"), Some(0));
    }

    #[test]
    fn who_waited_for_a_failure_makes_it() {
        let flight = SingleFlight::default();
        let cancel = CancelToken::new();
        let failed: Result<u8, Error> = flight.get_or(&1, &cancel, |_| true, |_| Err(Error::cancelled()));
        assert!(failed.is_err() && flight.get(&1).is_none());
        assert_eq!(flight.get_or(&1, &cancel, |_| true, |_| Ok(7)).unwrap(), 7);
        // What is known is not enough.
        let more = flight.get_or(&1, &cancel, |known| *known > 7, |known| Ok(known.unwrap_or(0) + 1));
        assert_eq!(more.unwrap(), 8);
    }

    #[test]
    fn waiting_ends_when_cancelled() {
        let flight = SingleFlight::default();
        let (inside, cancel) = (std::sync::Barrier::new(2), CancelToken::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let never = CancelToken::new();
                flight.get_or(
                    &1,
                    &never,
                    |_| true,
                    |_| {
                        inside.wait();
                        // Until the other has given up.
                        inside.wait();
                        Ok(1)
                    },
                )
            });
            inside.wait();
            cancel.cancel();
            let waited = flight.get_or(&1, &cancel, |_| true, |_| Ok(2));
            assert!(waited.is_err());
            inside.wait();
        });
    }
}
