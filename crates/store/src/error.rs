use std::io;
use std::path::{Path, PathBuf};

use ocibuild_spec::{Digest, DocumentError, SourceError, SourceErrorKind, VerifyError};

/// Why the store could not do what it was asked for.
///
/// The text names the path or digest at hand; [`hint`](Self::hint) says what to do about it, when that is known.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<&'static str>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such blob, tag, file or directory.
    NotFound,
    /// Bytes do not have the digest or size they should have, or a document is malformed.
    Corrupt,
    /// Well-formed, but of a kind that is refused.
    Unsupported,
    /// The file system is full, or a quota or limit on file sizes is reached.
    NoSpace,
    /// The owner, the mode or a read-only file system forbid it.
    Permission,
    /// The directory is in use for something else.
    NotAStateDirectory,
    /// The directory was written by a newer version.
    NewerFormat,
    /// Somebody else held a lock for too long.
    Busy,
    /// A name was to be given to an image of which blobs are missing here.
    Incomplete,
    /// The caller asked for something contradictory.
    InvalidInput,
    /// The caller cancelled it.
    Cancelled,
    /// Any other failure of the file system.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    pub(crate) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn missing(digest: &Digest, place: &Path) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no blob {digest} in {}", place.display()))
    }

    /// What was tried (`write blob …`) and how it failed.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let (kind, hint) = class_of(&source);
        let what = what.into();
        if kind == ErrorKind::Corrupt && is_verification(&source) {
            return Self { kind, message: format!("cannot {what}: {source}"), hint, source: None };
        }
        Self { kind, message: format!("cannot {what}"), hint, source: Some(source.into()) }
    }

    /// What `fs_err` says, which names operation and path.
    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
    pub(crate) fn fs(error: io::Error) -> Self {
        let (kind, hint) = class_of(&error);
        Self { kind, message: error.to_string(), hint, source: None }
    }

    pub(crate) fn document(what: impl std::fmt::Display, error: DocumentError) -> Self {
        let kind = match error.kind() {
            SourceErrorKind::Unsupported => ErrorKind::Unsupported,
            SourceErrorKind::NoPlatform => ErrorKind::NotFound,
            _ => ErrorKind::Corrupt,
        };
        let message = format!("{what}: {error}");
        match error {
            DocumentError::Malformed(source) => Self::new(kind, message).caused_by(source),
            _ => Self::new(kind, message),
        }
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint
    }
}

fn is_verification(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<VerifyError>())
}

fn class_of(error: &io::Error) -> (ErrorKind, Option<&'static str>) {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            (ErrorKind::NoSpace, Some("free space there, for instance with `ocibuild prune`, and try again"))
        }
        io::ErrorKind::QuotaExceeded => {
            (ErrorKind::NoSpace, Some("the quota of this user is used up; free space and try again"))
        }
        io::ErrorKind::FileTooLarge => {
            (ErrorKind::NoSpace, Some("raise the limit on file sizes (`ulimit -f`) or the file system's"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Permission, Some("the file system is read-only; choose another directory"))
        }
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Permission, Some("check owner and mode, or choose another directory"))
        }
        io::ErrorKind::NotFound => (ErrorKind::NotFound, None),
        io::ErrorKind::InvalidData => (ErrorKind::Corrupt, None),
        _ => (ErrorKind::Io, None),
    }
}

impl From<ocibuild_sys::Error> for Error {
    fn from(error: ocibuild_sys::Error) -> Self {
        let (kind, hint) = class_of(&io::Error::from_raw_os_error(error.raw_os_error()));
        let path: PathBuf = error.path().to_owned();
        let message = format!("cannot {} {}", error.operation(), path.display());
        let source = io::Error::from_raw_os_error(error.raw_os_error());
        Self { kind, message, hint, source: Some(source.into()) }
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::NotFound => SourceErrorKind::NotFound,
            ErrorKind::Corrupt => SourceErrorKind::Corrupt,
            ErrorKind::Cancelled => SourceErrorKind::Cancelled,
            ErrorKind::Unsupported | ErrorKind::NewerFormat | ErrorKind::InvalidInput => {
                SourceErrorKind::Unsupported
            }
            _ => SourceErrorKind::Io,
        };
        let mut converted = Self::new(kind, error.message);
        if let Some(hint) = error.hint {
            converted = converted.hint(hint);
        }
        match error.source {
            Some(source) => converted.caused_by(source),
            None => converted,
        }
    }
}
