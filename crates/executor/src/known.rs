//! What was found out by trying, for as long as it holds.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Something about the user namespace that this thread is in: what the kernel gives a process does not change as long as it is
/// in one. A build may be carried out in a namespace that is entered for it.
pub(crate) struct PerUserNamespace<T>(Mutex<Option<(PathBuf, T)>>);

impl<T: Copy> PerUserNamespace<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What is known of this one, or else found out.
    pub(crate) fn get_or_find(&self, find: impl FnOnce() -> T) -> T {
        let namespace = fs_err::read_link("/proc/thread-self/ns/user").unwrap_or_default();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, found)) = &*known
            && *of == namespace
        {
            return *found;
        }
        let found = find();
        *known = Some((namespace, found));
        found
    }
}
