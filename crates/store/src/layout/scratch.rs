use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ocibuild_spec::Digest;
use ocibuild_sys::{
    DirHandle, ErrorKind as SystemError, FileLock, lock_exclusive, try_lock_existing_exclusive,
};

use super::lock::{Mode, wait};
use super::{ImageLayout, read_capped};
use crate::Error;

/// Its lock tells the living from the dead: the kernel lets it go with the process.
const OWNER: &str = ".owner";
const PINS: &str = ".pins";
/// A digest and a line feed are 72 bytes; this is far more blobs than a build touches.
const MAX_PINS: u64 = 64 << 20;

/// A directory of its own below `tmp/`, removed with everything in it on drop.
///
/// When the process is killed instead, [`ImageLayout::sweep_dead_scratch`] removes it later.
#[derive(Debug)]
#[must_use = "the directory is removed when this is dropped"]
pub struct ScratchDir {
    path: PathBuf,
    _owner: FileLock,
}

impl ScratchDir {
    /// The directory. Names beginning with a dot are taken.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn create(root: &Path) -> Result<Self, Error> {
        // A sweep that found the directory before its lock would take it for dead.
        let _no_sweep = wait(&root.join("locks/scratch"), Mode::Shared)?;
        let tmp = root.join("tmp");
        let path = tempfile::Builder::new()
            .prefix("run-")
            .rand_bytes(12)
            .tempdir_in(&tmp)
            .map_err(|error| Error::io(format!("create a directory in {}", tmp.display()), error))?
            .keep();
        let owner = lock_exclusive(path.join(OWNER))?;
        Ok(Self { path, _owner: owner })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // What cannot be removed now is found by the next sweep.
        let _ = remove_owned(&self.path);
    }
}

/// Removes a directory, its lock last, so that until then everybody sees that it has an owner.
fn remove_owned(path: &Path) -> Result<(), Error> {
    let directory = DirHandle::open(path)?;
    for entry in directory.read_dir()? {
        let name = entry?.name;
        if name != OWNER {
            directory.remove_tree(&name)?;
        }
    }
    remove(path)
}

/// Removes a tree without following anything out of it.
fn remove(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    Ok(DirHandle::open(parent)?.remove_tree(name)?)
}

impl ImageLayout {
    /// A new directory for temporary files, on the file system of the layout.
    pub fn scratch(&self) -> Result<ScratchDir, Error> {
        ScratchDir::create(self.root())
    }

    /// Removes what killed processes left in `tmp/`, and tells how many directories or files that were.
    pub fn sweep_dead_scratch(&self) -> Result<usize, Error> {
        let mut dead = Vec::new();
        {
            let _nobody_begins = self.lock_scratch(true)?;
            for entry in fs_err::read_dir(self.root().join("tmp")).map_err(Error::fs)? {
                let entry = entry.map_err(Error::fs)?;
                if entry.file_name().to_string_lossy().starts_with("run-")
                    && let Owner::Dead(lock) = Owner::of(&entry.path())?
                {
                    dead.push((entry.path(), lock));
                }
            }
        }
        // Nobody waits for that: it may be much. The locks say meanwhile that someone is at it.
        let count = dead.len();
        for (path, _lock) in dead {
            remove_owned(&path).or_else(|_| remove(&path))?;
        }
        Ok(count)
    }

    /// Where this process writes blobs under temporary names.
    pub(super) fn session_dir(&self) -> Result<Arc<ScratchDir>, Error> {
        self.inner.session.directory()
    }

    /// Digests that running builds, this process's among them, have put or looked up.
    pub(super) fn pinned(&self) -> Result<BTreeSet<Digest>, Error> {
        let _nobody_begins = self.lock_scratch(true)?;
        let mut pinned = BTreeSet::new();
        for entry in fs_err::read_dir(self.root().join("tmp")).map_err(Error::fs)? {
            let path = entry.map_err(Error::fs)?.path().join(PINS);
            match read_capped(&path, MAX_PINS) {
                // The dead are not asked after: their pins only make the next collection free more.
                Ok(bytes) => pinned.extend(
                    String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse::<Digest>().ok()),
                ),
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) if !path.parent().is_some_and(Path::is_dir) => drop(error),
                Err(error) => return Err(error),
            }
        }
        Ok(pinned)
    }
}

/// Who has a directory below `tmp/`, as far as its lock tells. Looking makes nothing there: its owner may be removing it.
enum Owner {
    Alive,
    /// Nobody, and now whoever asked. Without a lock its owner was killed before the first or after the last of its
    /// files, or is removing it.
    Dead(Option<FileLock>),
    /// It has been removed.
    Gone,
}

impl Owner {
    /// To be asked while nobody makes such directories.
    fn of(path: &Path) -> Result<Self, Error> {
        match try_lock_existing_exclusive(path.join(OWNER)) {
            Ok(Some(lock)) => Ok(Self::Dead(Some(lock))),
            Ok(None) => Ok(Self::Alive),
            Err(error) if matches!(error.kind(), SystemError::NotFound | SystemError::NotADirectory) => {
                Ok(if super::is_missing(path) { Self::Gone } else { Self::Dead(None) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What one open layout has running: its temporary directory, made when it is first needed, and its leases.
#[derive(Debug)]
pub(super) struct Session {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    directory: Weak<ScratchDir>,
    leases: usize,
    pins: Option<Pins>,
}

#[derive(Debug)]
struct Pins {
    file: File,
    known: BTreeSet<Digest>,
    _directory: Arc<ScratchDir>,
}

impl Session {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory, which goes away with the last writer or lease that holds it.
    fn directory(&self) -> Result<Arc<ScratchDir>, Error> {
        self.directory_in(&mut self.state())
    }

    fn directory_in(&self, state: &mut State) -> Result<Arc<ScratchDir>, Error> {
        if let Some(directory) = state.directory.upgrade() {
            return Ok(directory);
        }
        let directory = Arc::new(ScratchDir::create(&self.root)?);
        state.directory = Arc::downgrade(&directory);
        Ok(directory)
    }

    pub(super) fn begin(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.pins.is_none() {
            let directory = self.directory_in(&mut state)?;
            let path = directory.path().join(PINS);
            let file = fs_err::OpenOptions::new().append(true).create(true).open(path).map_err(Error::fs)?;
            state.pins = Some(Pins { file: file.into_file(), known: BTreeSet::new(), _directory: directory });
        }
        state.leases += 1;
        Ok(())
    }

    pub(super) fn end(&self) {
        let mut state = self.state();
        state.leases -= 1;
        if state.leases == 0
            && let Some(pins) = state.pins.take()
        {
            // The directory may live on with a writer; what it pinned may not.
            let _ = pins.file.set_len(0);
        }
    }

    pub(super) fn has_lease(&self) -> bool {
        self.state().leases > 0
    }

    pub(super) fn pin(&self, digest: &Digest) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(pins) = &mut state.pins
            && !pins.known.contains(digest)
        {
            pins.file
                .write_all(format!("{digest}\n").as_bytes())
                .map_err(|error| Error::io(format!("write in {}", self.root.join("tmp").display()), error))?;
            pins.known.insert(digest.clone());
        }
        Ok(())
    }
}
