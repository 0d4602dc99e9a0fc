use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use ocibuild_spec::Digest;
use ocibuild_sys::{FileLock, try_lock_exclusive, try_lock_shared};

use super::ImageLayout;
use crate::{Error, ErrorKind};

/// How long to wait for a lock that others hold for moments only.
const PATIENCE: Duration = Duration::from_mins(1);

/// Held by a build from its first blob to its last reference; several may exist at once.
///
/// What is put, looked up or opened through the layout (or a clone of it) while it exists is safe from garbage
/// collection by anybody. The kernel ends it when the process dies.
#[derive(Debug)]
#[must_use = "what the build puts may be collected once the lease is dropped"]
pub struct Lease {
    layout: ImageLayout,
    _lock: FileLock,
}

/// Held by whoever needs that no build runs. The kernel ends it when the process dies.
#[derive(Debug)]
#[must_use = "builds may start once this is dropped"]
pub struct ExclusiveLock {
    _lock: FileLock,
}

impl ImageLayout {
    /// Announces a running build. Waits while somebody holds the layout exclusively, for a minute at most.
    pub fn lease(&self) -> Result<Lease, Error> {
        let lock = wait(&self.lock_file("use"), Mode::Shared)?;
        self.inner.session.begin()?;
        Ok(Lease { layout: self.clone(), _lock: lock })
    }

    /// The layout for the caller alone; `None` while any build runs.
    pub fn try_exclusive(&self) -> Result<Option<ExclusiveLock>, Error> {
        Ok(try_lock_exclusive(self.lock_file("use"))?.map(|lock| ExclusiveLock { _lock: lock }))
    }

    /// Under a lease: what this digest stands for in a private folder, such as the index of a layer, is safe from
    /// whoever collects garbage. To be called before it is looked up.
    pub fn protect(&self, digest: &Digest) -> Result<(), Error> {
        self.pin(digest).map(drop)
    }

    /// While the guard lives nobody collects garbage; and under a lease `digest` is safe afterwards as well.
    pub(super) fn pin(&self, digest: &Digest) -> Result<Option<FileLock>, Error> {
        if !self.inner.session.has_lease() {
            return Ok(None);
        }
        let lock = self.lock_blobs_shared()?;
        self.inner.session.pin(digest)?;
        Ok(Some(lock))
    }

    pub(super) fn lock_blobs_shared(&self) -> Result<FileLock, Error> {
        wait(&self.lock_file("blobs"), Mode::Shared)
    }

    pub(super) fn lock_blobs_exclusive(&self) -> Result<FileLock, Error> {
        wait(&self.lock_file("blobs"), Mode::Exclusive)
    }

    pub(super) fn lock_index(&self) -> Result<FileLock, Error> {
        wait(&self.lock_file("index"), Mode::Exclusive)
    }

    pub(super) fn lock_scratch(&self, exclusive: bool) -> Result<FileLock, Error> {
        wait(&self.lock_file("scratch"), if exclusive { Mode::Exclusive } else { Mode::Shared })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.layout.inner.session.end();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// Waits for a lock. A stopped process may hold it for ever, so the wait ends and names it.
pub(super) fn wait(path: &Path, mode: Mode) -> Result<FileLock, Error> {
    wait_for(path, mode, PATIENCE)
}

fn wait_for(path: &Path, mode: Mode, patience: Duration) -> Result<FileLock, Error> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let lock = match mode {
            Mode::Shared => try_lock_shared(path)?,
            Mode::Exclusive => try_lock_exclusive(path)?,
        };
        if let Some(lock) = lock {
            if mode == Mode::Exclusive {
                note_holder(&lock);
            }
            return Ok(lock);
        }
        if start.elapsed() > patience {
            return Err(busy(path));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Writes who holds the lock, for the message of those who wait in vain. The lock itself does not depend on it.
fn note_holder(lock: &FileLock) {
    let mut file = lock.file();
    let note = format!("{}\n", std::process::id());
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes()));
}

fn busy(path: &Path) -> Error {
    let mut holder = String::new();
    if let Ok(file) = fs_err::File::open(path) {
        let _ = file.take(32).read_to_string(&mut holder);
    }
    let holder = match holder.trim().parse::<u32>() {
        Ok(pid) => format!("; process {pid} was the last to take it exclusively"),
        Err(_) => String::new(),
    };
    Error::new(ErrorKind::Busy, format!("the lock {} is not given free{holder}", path.display()))
        .with_hint("wait for that process, continue it if it is stopped, or end it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_in_vain_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = wait(&path, Mode::Exclusive).unwrap();
        let error = wait_for(&path, Mode::Shared, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        drop(wait_for(&path, Mode::Exclusive, Duration::ZERO).unwrap());
    }
}
