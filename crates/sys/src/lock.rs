use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// A held `flock`. Dropping it, or the death of the process, lets it go: there are no stale locks.
///
/// A process forked meanwhile does not keep the lock beyond the drop, but dropping its copy would end the lock for
/// both: a child leaves by `exec` or `_exit`.
#[derive(Debug)]
#[must_use = "the lock is let go when this is dropped"]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing is not enough: a child between `fork` and `exec` has the same open file and would hold it on.
        // The only failures are of descriptors that are none.
        let _ = rustix::fs::flock(self.file.as_fd(), FlockOperation::Unlock);
    }
}

/// Waits for the lock on `path` for this holder alone. The file is made, with mode 0600, when it is missing.
pub fn lock_exclusive(path: impl AsRef<Path>) -> Result<FileLock, Error> {
    wait(path.as_ref(), FlockOperation::LockExclusive)
}

/// Waits for the lock on `path` together with other shared holders.
pub fn lock_shared(path: impl AsRef<Path>) -> Result<FileLock, Error> {
    wait(path.as_ref(), FlockOperation::LockShared)
}

/// As [`lock_exclusive`], or `None` if someone holds it now.
pub fn try_lock_exclusive(path: impl AsRef<Path>) -> Result<Option<FileLock>, Error> {
    attempt(path.as_ref(), FlockOperation::NonBlockingLockExclusive)
}

/// As [`lock_shared`], or `None` if someone holds it exclusively now.
pub fn try_lock_shared(path: impl AsRef<Path>) -> Result<Option<FileLock>, Error> {
    attempt(path.as_ref(), FlockOperation::NonBlockingLockShared)
}

/// As [`try_lock_exclusive`] for a file or directory that is there already: nothing is made. Without it the error is of
/// the kind [`NotFound`](crate::ErrorKind::NotFound), so that whoever looks at what others are removing leaves no file
/// behind in it.
pub fn try_lock_existing_exclusive(path: impl AsRef<Path>) -> Result<Option<FileLock>, Error> {
    let path = path.as_ref();
    take(open_existing(path)?, path, FlockOperation::NonBlockingLockExclusive)
}

/// The same together with other shared holders.
pub fn try_lock_existing_shared(path: impl AsRef<Path>) -> Result<Option<FileLock>, Error> {
    let path = path.as_ref();
    take(open_existing(path)?, path, FlockOperation::NonBlockingLockShared)
}

fn wait(path: &Path, operation: FlockOperation) -> Result<FileLock, Error> {
    let file = open(path)?;
    loop {
        match rustix::fs::flock(file.as_fd(), operation) {
            Ok(()) => return Ok(FileLock { file }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("flock", path, errno)),
        }
    }
}

fn attempt(path: &Path, operation: FlockOperation) -> Result<Option<FileLock>, Error> {
    take(open(path)?, path, operation)
}

fn take(file: File, path: &Path, operation: FlockOperation) -> Result<Option<FileLock>, Error> {
    match rustix::fs::flock(file.as_fd(), operation) {
        Ok(()) => Ok(Some(FileLock { file })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(Error::new("flock", path, errno)),
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(Error::at("open", path))
}

fn open_existing(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(Error::at("open", path))
}
