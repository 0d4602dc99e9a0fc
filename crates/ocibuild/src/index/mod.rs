//! Indexes of images that were built one by one: drafts of them, and jobs that meet in a registry.

mod draft;
mod drafts;
mod join;
mod lookup;
mod publish;

pub use draft::{EntrySelector, IndexChange, IndexDraft, IndexEntry};
pub(crate) use drafts::Drafts;
pub(crate) use join::PlatformJoin;
pub use join::{JoinOptions, JoinOutcome};
pub(crate) use lookup::{ImageLookup, parse};
pub(crate) use publish::Publishing;

use std::sync::Mutex;

use ocibuild_spec::{CancelToken, Reference};

use crate::error::Error;
use crate::failure::IndexFailure;

/// A name that an index can get at a registry: one with a tag.
pub(crate) fn check_name(name: &Reference) -> Result<&str, Error> {
    match name.tag() {
        Some(tag) if name.digest().is_none() => Ok(tag),
        _ => Err(IndexFailure::NotATag { name: name.clone() }.into()),
    }
}

/// Waits as long as others may need to finish what they are at: longer each time.
pub(crate) fn back_off(round: u32, cancel: &CancelToken) -> Result<(), Error> {
    let pause = std::time::Duration::from_millis(100 << round.min(6));
    if cancel.wait_timeout(pause) { Err(Error::cancelled()) } else { Ok(()) }
}

/// The first error that several threads met.
#[derive(Debug, Default)]
pub(crate) struct FirstError(Mutex<Option<Error>>);

impl FirstError {
    /// Keeps the error if it is the first; its text.
    fn keep(&self, error: Error) -> String {
        let text = error.to_string();
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        text
    }

    fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}
