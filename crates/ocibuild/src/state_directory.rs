//! The state directory: what builds keep, and share with each other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ocibuild_executor::Executor;
use ocibuild_snapshot::{CopySnapshots, Overlay, Snapshotter, auto};
use ocibuild_store::ImageLayout;

use crate::cache::Cache;
use crate::error::Error;
use crate::privilege::{Privilege, PrivilegeLimit};

/// An open state directory: an OCI image layout with images, and beside them unpacked layers, records of finished steps and
/// the directories of cache mounts (`docs/formats/state-directory.md`). Any number of builds, in any number of processes, may
/// share one.
///
/// Of a user who is not root, work with files of several owners is done as root of a user namespace, which is made when it is
/// first needed. That takes nothing from the program: it may have any number of threads.
pub struct StateDirectory {
    pub(crate) layout: ImageLayout,
    pub(crate) cache: Cache,
    pub(crate) snapshots: Box<dyn Snapshotter>,
    privilege: OnceLock<Privilege>,
}

/// How the root file systems of steps are put together. The images are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotDriver {
    /// By overlay mounts where the kernel gives them, else by copies.
    #[default]
    Auto,
    /// By overlay mounts.
    Overlay,
    /// By copies: needs no privilege and no particular file system, and takes time.
    Copy,
}

impl fmt::Debug for StateDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDirectory").field("root", &self.layout.root()).finish_non_exhaustive()
    }
}

impl StateDirectory {
    /// The state directory `root`, with [`SnapshotDriver::Auto`]. An empty directory is taken, a missing one is made.
    ///
    /// # Errors
    /// Of kind [`Refused`](crate::ErrorKind::Refused) where something else is there, or where others could exchange a
    /// directory on the way; of kind [`Host`](crate::ErrorKind::Host) where it cannot be made or written.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(root, SnapshotDriver::default())
    }

    /// The same with a driver.
    pub fn open_with(root: impl AsRef<Path>, driver: SnapshotDriver) -> Result<Self, Error> {
        let privilege = OnceLock::new();
        // Whether an overlay can be mounted shows only where it would be.
        let inside = |open: &(dyn Fn() -> Result<Box<dyn Snapshotter>, Error> + Sync)| {
            privilege.get_or_init(Privilege::find).run(open)
        };
        let (layout, snapshots) = opened(root.as_ref(), |directory| match driver {
            SnapshotDriver::Auto => inside(&|| Ok(auto(&directory)?)),
            SnapshotDriver::Overlay => inside(&|| Ok(Box::new(Overlay::open(&directory)?))),
            SnapshotDriver::Copy => Ok(Box::new(CopySnapshots::open(&directory)?)),
        })?;
        let cache = Cache::open(layout.private_dir("cache"))?;
        Ok(Self { layout, cache, snapshots, privilege })
    }

    /// The same with a driver of the caller's, which is given its directory.
    pub fn with_snapshots(
        root: impl AsRef<Path>,
        open: impl FnOnce(PathBuf) -> Result<Box<dyn Snapshotter>, Error>,
    ) -> Result<Self, Error> {
        let (layout, snapshots) = opened(root.as_ref(), open)?;
        let cache = Cache::open(layout.private_dir("cache"))?;
        Ok(Self { layout, cache, snapshots, privilege: OnceLock::new() })
    }

    /// The images in it.
    pub fn layout(&self) -> &ImageLayout {
        &self.layout
    }

    /// The unpacked layers in it.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        self.snapshots.as_ref()
    }

    /// Fails where this host gives `executor` no sandbox for a step or a container. Takes milliseconds.
    pub fn check_sandbox(&self, executor: &dyn Executor) -> Result<(), Error> {
        self.privilege().run(|| Ok(executor.probe()?))
    }

    /// What this process cannot do, and so may be the reason when something fails.
    pub fn privilege_limit(&self) -> Option<PrivilegeLimit> {
        self.privilege().limit()
    }

    /// Where work with the files of steps is done.
    pub(crate) fn privilege(&self) -> &Privilege {
        self.privilege.get_or_init(Privilege::find)
    }
}

fn opened(
    root: &Path,
    open: impl FnOnce(PathBuf) -> Result<Box<dyn Snapshotter>, Error>,
) -> Result<(ImageLayout, Box<dyn Snapshotter>), Error> {
    let layout = ImageLayout::open_or_create(root)?;
    let snapshots = open(layout.private_dir("snapshots"))?;
    Ok((layout, snapshots))
}
