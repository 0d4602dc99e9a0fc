use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failed system call: what was tried, on what, and what the kernel answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    errno: Errno,
}

/// What a failed call means to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such file, or a parent of it is missing.
    NotFound,
    /// There is something of that name already.
    Exists,
    /// A component that should be a directory is something else.
    NotADirectory,
    /// A directory where something else was expected.
    IsADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// A link where none may be, or too many links one after the other.
    Link,
    /// A name that is empty, `.`, `..`, too long, or contains `/` or NUL; or another malformed argument.
    InvalidInput,
    /// Another file system or a mount point is in the way.
    CrossesDevice,
    /// The kernel denied it.
    Denied,
    /// No space, no inodes, or a quota is used up.
    NoSpace,
    /// The kernel or this file system has no such operation.
    Unsupported,
    /// Someone else holds it: a mount, a lock.
    Busy,
    /// There is no such attribute.
    NoAttribute,
    /// Anything else; see [`Error::raw_os_error`].
    Other,
}

impl Error {
    pub(crate) fn new(operation: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self { operation, path: path.as_ref().to_owned(), errno }
    }

    /// For `map_err`: keeps operation and path at hand without allocating unless there is an error.
    pub(crate) fn at<P: AsRef<Path>>(operation: &'static str, path: P) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::new(operation, path, errno)
    }

    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, error: &io::Error) -> Self {
        Self::new(operation, path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// The failed operation, named as the kernel names it (`openat`, `mount`, …).
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was tried on: a path as the caller gave it, or a single name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's error number.
    pub fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// The same with `prefix` before the path, for errors of a single name.
    #[must_use]
    pub fn below(mut self, prefix: &Path) -> Self {
        let inner = self.path.strip_prefix("/").unwrap_or(&self.path);
        self.path = prefix.join(inner);
        self
    }

    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self.errno {
            Errno::NOENT => ErrorKind::NotFound,
            Errno::EXIST => ErrorKind::Exists,
            Errno::NOTDIR => ErrorKind::NotADirectory,
            Errno::ISDIR => ErrorKind::IsADirectory,
            Errno::NOTEMPTY => ErrorKind::NotEmpty,
            Errno::LOOP | Errno::MLINK => ErrorKind::Link,
            Errno::INVAL | Errno::NAMETOOLONG | Errno::ILSEQ => ErrorKind::InvalidInput,
            Errno::XDEV => ErrorKind::CrossesDevice,
            Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorKind::Denied,
            Errno::NOSPC | Errno::DQUOT => ErrorKind::NoSpace,
            Errno::NOSYS | Errno::OPNOTSUPP => ErrorKind::Unsupported,
            Errno::BUSY | Errno::AGAIN | Errno::TXTBSY => ErrorKind::Busy,
            Errno::NODATA => ErrorKind::NoAttribute,
            _ => ErrorKind::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = io::Error::from(self.errno);
        if self.path.as_os_str().is_empty() {
            write!(f, "{}: {cause}", self.operation)
        } else {
            write!(f, "{} {}: {cause}", self.operation, self.path.display())
        }
    }
}

impl std::error::Error for Error {}

/// The kernel's error number behind an error, found among its causes.
pub fn raw_os_error_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own.raw_os_error());
        }
        if let Some(own) = error.downcast_ref::<crate::SandboxError>() {
            return Some(own.raw_os_error());
        }
        let io = error.downcast_ref::<io::Error>();
        if let Some(number) = io.and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        // What an error of input or output is made of is not among its causes.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = io::Error::from(error.errno).kind();
        io::Error::new(kind, error)
    }
}
