//! Cache mounts: directories that outlive the build, below `mounts` of the state directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use ocibuild_snapshot::MountPointKind;
use ocibuild_sys::{FileLock, try_lock_exclusive};

use super::mounts::Mounts;
use super::unusable;
use crate::Error;
use crate::keys::Framed;
use crate::plan::{CacheSharing, MountKind, StepKind, StepMount};
use crate::schedule::Run;

/// How often somebody who waits for a cache looks whether it is free, or the wait is over.
const INTERVAL: Duration = Duration::from_millis(50);

impl Run<'_> {
    /// Where a cache is: by its id, what it begins with, and whose it is (9.17). The name of the file says nothing of
    /// the id, which may be a path.
    fn cache_place(&self, mount: &StepMount, known: Option<&str>) -> Result<PathBuf, Error> {
        let initial = match (&mount.from, known) {
            (_, Some(known)) => known.to_owned(),
            (Some(from), None) => self.mounted_digest(from, &mount.source)?.0,
            (None, None) => String::new(),
        };
        let (mode, uid, gid) = owner(mount);
        let mut framed = Framed::new("ocibuild cache mount v2");
        framed.field(mount.id.as_bytes());
        framed.field(format!("{initial} {} {mode:o} {uid} {gid}", mount.starts_empty).as_bytes());
        Ok(self.backends.store.private_dir("mounts").join(framed.finish().hex()))
    }

    /// Empties the caches of steps that run whatever the cache has, once and before any step runs (9.13). Those that
    /// begin with files are known only later, and are emptied at their first step.
    pub(crate) fn empty_caches(&self) -> Result<(), Error> {
        let fresh = self.plan.stages.iter().filter(|stage| self.is_uncached(stage));
        for step in fresh.flat_map(|stage| &stage.steps) {
            let StepKind::Run(run) = &step.kind else { continue };
            let caches = run.mounts.iter().filter(|mount| mount.kind == MountKind::Cache);
            for mount in caches.filter(|mount| mount.from.is_none()) {
                self.empty_once(&self.cache_place(mount, None)?)?;
            }
        }
        Ok(())
    }

    fn empty_once(&self, place: &Path) -> Result<(), Error> {
        let mut emptied = self.session.emptied.lock().expect("no thread panics while it holds this");
        if !emptied.insert(place.to_owned()) || !place.exists() {
            return Ok(());
        }
        // Whoever uses it at this moment keeps what it has; it goes with this build's own files.
        let away = self.scratch.path().join(format!("old-cache-{}", emptied.len()));
        match fs::rename(place, &away) {
            Err(_) if !place.exists() => Ok(()),
            other => other.map_err(|error| unusable(place, error)),
        }
    }

    fn wait_for(&self, place: &Path) -> Result<FileLock, Error> {
        loop {
            if let Some(lock) = try_lock_exclusive(lock_of(place))? {
                return Ok(lock);
            }
            if self.cancel.wait_timeout(INTERVAL) {
                return Err(Error::cancelled());
            }
        }
    }
}

impl Mounts<'_, '_> {
    pub(super) fn cache(&mut self, mount: &StepMount, fresh: bool, number: usize) -> Result<(), Error> {
        let mut place = self.run.cache_place(mount, self.mounted.digest(mount))?;
        let is_held = self.locks.iter().any(|(held, _)| *held == place);
        match mount.sharing {
            CacheSharing::Locked if !is_held => {
                let lock = self.run.wait_for(&place)?;
                self.locks.push((place.clone(), lock));
            }
            CacheSharing::Private => match try_lock_exclusive(lock_of(&place))? {
                Some(lock) => self.locks.push((place.clone(), lock)),
                None => place = self.directory.join(format!("private-{number}")),
            },
            CacheSharing::Shared | CacheSharing::Locked => {}
        }
        if fresh {
            self.run.empty_once(&place)?;
        }
        if !place.exists() {
            self.fill_cache(mount, &place)?;
        }
        self.bind(&place, &mount.target, mount.read_only, MountPointKind::Directory);
        Ok(())
    }

    /// Makes a cache's directory whole or not at all.
    fn fill_cache(&self, mount: &StepMount, place: &Path) -> Result<(), Error> {
        let new = self.directory.join("new-cache");
        fs::create_dir_all(&new).map_err(|error| unusable(&new, error))?;
        let content = mount.from.as_ref().filter(|_| !mount.starts_empty);
        if let Some(from) = content {
            self.run.copy_of(from, &mount.source, self.mounted.selection(mount), &new)?;
        } else {
            let (mode, uid, gid) = owner(mount);
            let parent = ocibuild_sys::DirHandle::open(&self.directory)?;
            parent.chown("new-cache", uid, gid)?;
            parent.chmod("new-cache", mode)?;
        }
        match fs::rename(&new, place) {
            // Another build was first.
            Err(_) if place.exists() => fs::remove_dir_all(&new).map_err(|error| unusable(&new, error)),
            other => other.map_err(|error| unusable(place, error)),
        }
    }
}

fn owner(mount: &StepMount) -> (u32, u32, u32) {
    (mount.mode.unwrap_or(0o755), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))
}

fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}
