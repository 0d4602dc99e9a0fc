//! What a step reads from a directory of this machine may not change between its key and its layer.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A path of a context that is not what it was a moment before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedPath {
    /// The path, from the root of the context.
    pub path: PathBuf,
    /// In what way it changed.
    pub change: PathChange,
}

/// In what way a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathChange {
    /// It has other bytes, or more or fewer of them.
    Content,
    /// It has another type, mode, size, target or other attributes.
    Attributes,
    /// It did not exist before.
    Appeared,
    /// It is gone, or something else took its place.
    Gone,
    /// It, or one of its times, changed while a step had it mounted.
    WhileMounted,
}

impl ChangedPath {
    pub(crate) fn new(path: &Path, change: PathChange) -> Self {
        Self { path: path.to_owned(), change }
    }

    /// The change that an error of reading is about, if that is what it is about.
    pub(crate) fn below(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(changed) = error.downcast_ref::<Self>() {
                return Some(changed.clone());
            }
            // What an error of input or output is made of is not among its sources.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner as &(dyn StdError + 'static)),
                None => error.source(),
            };
        }
        None
    }

    /// When that was.
    pub(super) fn when(&self) -> &'static str {
        if self.change == PathChange::WhileMounted { "a step had it mounted" } else { "it was read" }
    }

    /// The path as people read it.
    pub(super) fn shown(&self) -> String {
        if self.path.as_os_str().is_empty() {
            "the root of the build context".to_owned()
        } else {
            self.path.display().to_string()
        }
    }
}

impl fmt::Display for ChangedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.change {
            PathChange::Content => "its content is not what it was when the step's key was made from it",
            PathChange::Attributes => "its type, mode, size, links or attributes changed",
            PathChange::Appeared => "it did not exist when the step's key was made",
            PathChange::Gone => "it is gone, or something else took its place",
            PathChange::WhileMounted => "it, or one of its times, is not what it was when the step began",
        })
    }
}

impl StdError for ChangedPath {}
