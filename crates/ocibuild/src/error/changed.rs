//! What a step reads from a directory of this machine may not change between its key and its layer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{Code, Error, ErrorKind};

/// A path of a context that is not what it was a moment before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) path: PathBuf,
    pub(crate) how: How,
}

/// In what way a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It has other bytes, or more or fewer of them.
    Content,
    /// It has another type, mode, size, target or other attributes.
    Attributes,
    /// It was not there before.
    Appeared,
    /// It is gone, or something else took its place.
    Gone,
}

impl Changed {
    pub(crate) fn new(path: &Path, how: How) -> Self {
        Self { path: path.to_owned(), how }
    }

    /// The change that an error of reading is about, if that is what it is about.
    pub(crate) fn below(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(changed) = error.downcast_ref::<Self>() {
                return Some(changed.clone());
            }
            // What an error of input or output is made of is not among its sources.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }

    /// The error about a file that could not be read: the change, if there was one, otherwise what `other` makes of it.
    pub(crate) fn or(error: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
        match Self::below(&error) {
            Some(changed) => changed.into(),
            None => other(error),
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.how {
            How::Content => "its content is not what it was when the step's key was made of it",
            How::Attributes => "its type, mode, size, links or attributes changed",
            How::Appeared => "it was not there when the step's key was made",
            How::Gone => "it is gone, or something else took its place",
        })
    }
}

impl std::error::Error for Changed {}

impl From<Changed> for Error {
    fn from(changed: Changed) -> Self {
        let is_root = changed.path.as_os_str().is_empty();
        let shown = if is_root {
            "the root of the build context".to_owned()
        } else {
            changed.path.display().to_string()
        };
        Self::new(ErrorKind::Refused, format!("{shown} changed while it was read"))
            .id(Code::ChangedWhileRead)
            .hint("build again when nothing writes to the build context any more, or keep the path out of it")
            .caused_by(changed)
    }
}
