use std::io;
use std::path::{Path, PathBuf};

use crate::fault::Fault;
use ocibuild_spec::{Digest, DocumentError, SourceError, SourceErrorKind, VerifyError};

/// Why the store could not do what it was asked for.
///
/// The text names the path or digest at hand. [`fault`](Self::fault) is what is wrong as data, and [`hint`](Self::hint)
/// says what to do where that is the same for all callers.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<&'static str>,
    fault: Option<Fault>,
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
        Self { kind, message: message.into(), hint: None, fault: None, source: None }
    }

    /// The same with what is wrong, as data.
    pub(crate) fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
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
            return Self {
                kind,
                message: format!("cannot {what}: {source}"),
                hint,
                fault: None,
                source: None,
            };
        }
        Self { kind, message: format!("cannot {what}"), hint, fault: None, source: Some(source.into()) }
    }

    /// What `fs_err` says, which names operation and path.
    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
    pub(crate) fn fs(error: io::Error) -> Self {
        let (kind, hint) = class_of(&error);
        Self { kind, message: error.to_string(), hint, fault: None, source: None }
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

    /// What to do about it, where that is the same for all callers.
    pub fn hint(&self) -> Option<&str> {
        self.hint
    }

    /// What is wrong, as data, where it is more than the class says.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

fn is_verification(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<VerifyError>())
}

fn class_of(error: &io::Error) -> (ErrorKind, Option<&'static str>) {
    match error.kind() {
        io::ErrorKind::StorageFull => (ErrorKind::NoSpace, None),
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

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind(), fault.to_string()).with_fault(fault)
    }
}

impl From<ocibuild_sys::Error> for Error {
    fn from(error: ocibuild_sys::Error) -> Self {
        let (kind, hint) = class_of(&io::Error::from_raw_os_error(error.raw_os_error()));
        let path: PathBuf = error.path().to_owned();
        let message = format!("cannot {} {}", error.operation(), path.display());
        let source = io::Error::from_raw_os_error(error.raw_os_error());
        Self { kind, message, hint, fault: None, source: Some(source.into()) }
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
        let converted = Self::new(kind, error.message.clone());
        error.hint.into_iter().fold(converted, Self::hint).caused_by(error)
    }
}
