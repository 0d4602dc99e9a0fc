//! Cache mounts: directories that outlive the build, below `mounts` of the state directory.
//!
//! ```text
//! mounts/<hex>/         the directory of a cache
//! mounts/<hex>.<n>/     the same, once it was emptied while a step used the one before; each locked, shared, by the
//!                       steps that use it
//! mounts/<hex>.current  that number; locked while it is looked at
//! mounts/<hex>.lock     locked by the step that uses a cache alone
//! ```

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fs_err as fs;
use ocibuild_executor::Need;
use ocibuild_plan::{CacheSharing, MountKind, StepMount};
use ocibuild_snapshot::MountPointKind;
use ocibuild_spec::{CancelToken, Owned};
use ocibuild_store::ImageLayout;
use ocibuild_sys::{
    DirHandle, ErrorKind as SystemError, FileLock, lock_exclusive, try_lock_exclusive,
    try_lock_existing_exclusive, try_lock_existing_shared,
};

use super::mounted::digest_of;
use super::mounts::Mounts;
use crate::error::{Error, unusable};
use crate::failure::RunFailure;
use crate::keys::Framed;

/// How often somebody who waits for a cache looks whether it is free, or the wait is over.
const INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of the longest number.
const MAX_NUMBER: u64 = 32;

/// The cache mounts of a state directory, as one build uses them.
#[derive(Debug)]
pub(crate) struct CacheMounts {
    root: PathBuf,
    /// Those that this build has emptied (9.13).
    emptied: Mutex<HashSet<PathBuf>>,
}

impl CacheMounts {
    pub(crate) fn of(layout: &ImageLayout) -> Self {
        Self { root: layout.private_dir("mounts"), emptied: Mutex::default() }
    }

    /// Where a cache is: by its id, the digest of what it begins with, and whose it is (9.17). The name of the file says
    /// nothing of the id, which may be a path.
    pub(crate) fn place(&self, mount: &StepMount, initial: &str) -> PathBuf {
        let (mode, uid, gid) = owner(mount);
        let mut framed = Framed::new("ocibuild cache mount v2");
        framed.field(mount.id.as_bytes());
        framed.field(format!("{initial} {} {mode:o} {uid} {gid}", mount.starts_empty).as_bytes());
        self.root.join(framed.finish().hex())
    }

    /// Empties a cache, unless this build has done so.
    pub(crate) fn empty_once(&self, place: &Path, scratch: &Path) -> Result<(), Error> {
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        if !emptied.insert(place.to_owned()) {
            return Ok(());
        }
        let away = scratch.join(format!("old-cache-{}", emptied.len()));
        empty(place, &away)
    }
}

/// Waits until nobody else uses a cache alone.
pub(super) fn wait_for(place: &Path, cancel: &CancelToken) -> Result<FileLock, Error> {
    loop {
        if let Some(lock) = try_lock_exclusive(lock_of(place))? {
            return Ok(lock);
        }
        if cancel.wait_timeout(INTERVAL) {
            return Err(Error::cancelled());
        }
    }
}

impl Mounts<'_, '_> {
    /// Where the caches of these mounts are, each found out once; `None` for other mounts. Takes the locks of those that
    /// one step alone may use: all steps take them in the same order, so that no two wait for each other.
    pub(super) fn lock_caches(&mut self, mounts: &[&StepMount]) -> Result<Vec<Option<PathBuf>>, Error> {
        let place = |mount: &&StepMount| {
            (mount.kind == MountKind::Cache).then(|| self.cache_place(mount)).transpose()
        };
        let places = mounts.iter().map(place).collect::<Result<Vec<_>, Error>>()?;
        let takes_turns = !self.context.executor.offers().includes(Need::SharedMounts);
        let locked = mounts.iter().zip(&places).filter(|(mount, _)| match mount.sharing {
            CacheSharing::Locked => true,
            CacheSharing::Shared => takes_turns,
            CacheSharing::Private => false,
        });
        let locked: BTreeSet<&PathBuf> = locked.filter_map(|(_, place)| place.as_ref()).collect();
        for place in locked {
            let lock = wait_for(place, self.context.cancel)?;
            self.locks.push((place.clone(), lock));
        }
        Ok(places)
    }

    fn cache_place(&self, mount: &StepMount) -> Result<PathBuf, Error> {
        let initial = match (&mount.from, self.mounted.digest(mount)) {
            (_, Some(known)) => known.to_owned(),
            (Some(from), None) => {
                let (threads, cancel) = (&self.context.layers.threads, self.context.cancel);
                digest_of((self.context.files)(from, &mount.source)?, threads, cancel)?.0
            }
            (None, None) => String::new(),
        };
        Ok(self.context.caches.place(mount, &initial))
    }

    pub(super) fn cache(
        &mut self,
        mount: &StepMount,
        place: &Path,
        fresh: bool,
        number: usize,
    ) -> Result<(), Error> {
        if mount.sharing == CacheSharing::Private {
            let Some(lock) = try_lock_exclusive(lock_of(place))? else {
                let own = self.directory.join(format!("private-{number}"));
                fs::rename(self.filled(mount)?, &own).map_err(|error| unusable(&own, error))?;
                self.bind(&own, &mount.target, mount.read_only, MountPointKind::Directory);
                return Ok(());
            };
            self.locks.push((place.to_owned(), lock));
        }
        if fresh {
            self.context.caches.empty_once(place, self.context.scratch)?;
        }
        let held = self.hold(mount, place)?;
        let (_, uid, gid) = owner(mount);
        self.note_owners(mount, [(PathBuf::new(), Owned::by(uid, gid))]);
        self.bind(&held.directory, &mount.target, mount.read_only, MountPointKind::Directory);
        self.caches.push(held);
        Ok(())
    }

    /// The directory that the cache has now, made if there is none, which stays as long as it is held.
    fn hold(&self, mount: &StepMount, place: &Path) -> Result<HeldCache, Error> {
        let mut filled = None;
        loop {
            let guard = lock_exclusive(guard_of(place))?;
            let directory = current(&guard, place)?;
            if let Some(lock) = hold_directory(&directory)? {
                return Ok(HeldCache { place: place.to_owned(), directory, lock: Some(lock) });
            }
            if let Some(new) = filled.take() {
                fs::rename(&new, &directory).map_err(|error| unusable(&directory, error))?;
            } else {
                // Others need not wait for that.
                drop(guard);
                filled = Some(self.filled(mount)?);
            }
        }
    }

    /// What a cache begins with, in a directory of the step.
    fn filled(&self, mount: &StepMount) -> Result<PathBuf, Error> {
        let new = self.directory.join("new-cache");
        // From a mount that found another build to have been first.
        remove(&new)?;
        fs::create_dir_all(&new).map_err(|error| unusable(&new, error))?;
        let content = mount.from.as_ref().filter(|_| !mount.starts_empty);
        if let Some(from) = content {
            self.copy_files(mount, from, &new)?;
        } else {
            let (mode, uid, gid) = owner(mount);
            let parent = DirHandle::open(&self.directory)?;
            if self.keeps_owners() {
                parent.chown("new-cache", uid, gid)?;
            }
            parent.chmod("new-cache", mode)?;
        }
        Ok(new)
    }
}

/// The directory of a cache, in use by a step. Nobody empties or removes it.
#[derive(Debug)]
pub(super) struct HeldCache {
    place: PathBuf,
    directory: PathBuf,
    lock: Option<FileLock>,
}

impl Drop for HeldCache {
    fn drop(&mut self) {
        self.lock = None;
        // What is left of a cache that was emptied meanwhile is removed by whoever prunes if it is not now.
        let _ = remove_if_abandoned(&self.place, &self.directory);
    }
}

/// A cache in use by somebody who entered a step that is kept.
#[derive(Debug)]
pub(crate) struct EnteredCache {
    _alone: FileLock,
    _held: HeldCache,
}

/// Takes the directory of a cache into use, for whoever enters a step that had it; waits for those who use the cache alone.
/// `None` when the directory is gone.
pub(crate) fn enter(directory: &Path, cancel: &CancelToken) -> Result<Option<EnteredCache>, Error> {
    let place = directory.with_extension("");
    let alone = wait_for(&place, cancel)?;
    let guard = lock_exclusive(guard_of(&place))?;
    let lock = hold_directory(directory)?;
    drop(guard);
    Ok(lock.map(|lock| {
        let held = HeldCache { place, directory: directory.to_owned(), lock: Some(lock) };
        EnteredCache { _alone: alone, _held: held }
    }))
}

/// `None` when there is no such directory. Whoever holds the guard of a cache never waits for its directory: only under
/// that guard does anybody lock it for himself.
fn hold_directory(directory: &Path) -> Result<Option<FileLock>, Error> {
    match try_lock_existing_shared(directory) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(RunFailure::CacheLocked { path: directory.to_owned() }.into()),
        Err(error) if error.kind() == SystemError::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a cache empty for those who use it next. Those who use it now keep what they have: the cache gets another
/// directory, and the last of them removes the old one.
fn empty(place: &Path, away: &Path) -> Result<(), Error> {
    let guard = lock_exclusive(guard_of(place))?;
    let directory = current(&guard, place)?;
    match try_lock_existing_exclusive(&directory) {
        Ok(Some(_unused)) => fs::rename(&directory, away).map_err(|error| unusable(&directory, error)),
        Ok(None) => set_current(&guard, place),
        Err(error) if error.kind() == SystemError::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The directory of a cache: the guard says which. A new one says nothing, and it is the place itself.
fn current(guard: &FileLock, place: &Path) -> Result<PathBuf, Error> {
    let mut number = String::new();
    let mut file = guard.file();
    let read = file.rewind().and_then(|()| file.take(MAX_NUMBER).read_to_string(&mut number));
    match read {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(unusable(place, error)),
        _ => {}
    }
    Ok(match number.trim().parse::<u64>() {
        Ok(number) => numbered(place, number),
        Err(_) => place.to_owned(),
    })
}

/// Gives the cache a directory that no one has used. After a power cut it may be an older one again, which is empty or as
/// steps left it.
fn set_current(guard: &FileLock, place: &Path) -> Result<(), Error> {
    let mut number = 1;
    while numbered(place, number).try_exists().map_err(|error| unusable(place, error))?
        || current(guard, place)? == numbered(place, number)
    {
        number += 1;
    }
    let mut file = guard.file();
    let text = format!("{number}\n");
    let written = file.rewind().and_then(|()| file.write_all(text.as_bytes()));
    written.and_then(|()| file.set_len(text.len() as u64)).map_err(|error| unusable(place, error))
}

fn numbered(place: &Path, number: u64) -> PathBuf {
    place.with_extension(number.to_string())
}

/// Removes a directory that was a cache's and is not any more, unless someone uses it; whether it did.
fn remove_if_abandoned(place: &Path, directory: &Path) -> Result<bool, Error> {
    let guard = lock_exclusive(guard_of(place))?;
    if current(&guard, place)? == directory {
        return Ok(false);
    }
    match try_lock_existing_exclusive(directory) {
        // Nobody can come to it any more, so nobody has to wait.
        Ok(Some(_unused)) => {
            drop(guard);
            remove(directory).map(|()| true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.kind() == SystemError::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes what killed builds have left of caches that were emptied while they used them; how many directories.
pub(crate) fn remove_abandoned(layout: &ImageLayout) -> Result<u64, Error> {
    let mounts = layout.private_dir("mounts");
    let mut removed = 0;
    for entry in DirHandle::open(&mounts)?.read_dir()? {
        let path = mounts.join(entry?.name);
        let is_numbered =
            path.extension().is_some_and(|number| !matches!(number.to_str(), Some("lock" | "current")));
        // The first directory of a cache has no number.
        let is_directory = is_numbered || path.extension().is_none();
        if is_directory && remove_if_abandoned(&path.with_extension(""), &path)? {
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    Ok(DirHandle::open(parent)?.remove_tree(name)?)
}

fn owner(mount: &StepMount) -> (u32, u32, u32) {
    (mount.mode.unwrap_or(0o755), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))
}

/// Held by a step that uses the cache alone.
fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}

/// Held for the moment in which it is found out or changed which directory a cache has.
fn guard_of(place: &Path) -> PathBuf {
    place.with_extension("current")
}
