use std::io;

use super::Error;
use crate::failure::{ChangedPath, ContextFailure};

impl ChangedPath {
    /// The error about a file that could not be read: the change, if there was one, otherwise what `other` makes of it.
    pub(crate) fn or(error: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
        match Self::below(&error) {
            Some(changed) => changed.into(),
            None => other(error),
        }
    }
}

impl From<ChangedPath> for Error {
    fn from(source: ChangedPath) -> Self {
        ContextFailure::ChangedWhileRead { source }.into()
    }
}
