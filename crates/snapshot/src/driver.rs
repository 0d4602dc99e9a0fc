//! What both drivers do in the same way: keeping unpacked layers, and the mount points of a step.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Changeset, DiffId, Entry, Mount, Owned, OwnershipRecord};

use crate::directory::Directory;
use crate::mount_points::{MountPoints, Top};
use crate::{ActiveSnapshot, Error, Hold, LayerTarget, MountPointKind, Snapshotter, Tree, Usage, Whiteouts};

/// What is a driver's own.
pub(crate) trait Driver: Send + Sync + Debug {
    /// Where its layers are.
    fn directory(&self) -> &Directory;

    /// See [`Snapshotter::whiteouts`].
    fn deletions(&self) -> Whiteouts;

    /// See [`Snapshotter::mounts_layers`].
    fn stacks(&self) -> bool;

    /// See [`Snapshotter::prepare_above`].
    fn start_above(&self, directory: &Path) -> Result<Option<Box<dyn ActiveSnapshot>>, Error>;

    /// See [`Snapshotter::prepare`].
    fn start(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error>;
}

impl<D: Driver> Snapshotter for D {
    fn whiteouts(&self) -> Whiteouts {
        self.deletions()
    }

    fn keeps_owners(&self) -> bool {
        self.directory().keeps_owners()
    }

    fn mounts_layers(&self) -> bool {
        self.stacks()
    }

    fn contains(&self, layer: &DiffId) -> Result<bool, Error> {
        self.directory().contains(layer)
    }

    fn prepare_layer(&self, layer: &DiffId) -> Result<LayerTarget, Error> {
        LayerTarget::new(self.directory().clone(), layer.clone())
    }

    fn layer_dir(&self, layer: &DiffId) -> PathBuf {
        self.directory().fs(layer)
    }

    fn prepare(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error> {
        self.start(stack, base, cancel)
    }

    fn prepare_above(&self, directory: &Path) -> Result<Option<Box<dyn ActiveSnapshot>>, Error> {
        self.start_above(directory)
    }

    fn hold(&self, layers: &[DiffId]) -> Result<Hold, Error> {
        Hold::new(self.directory(), layers)
    }

    fn remove(&self, layer: &DiffId) -> Result<(), Error> {
        self.directory().remove(layer)
    }

    fn list(&self) -> Result<Vec<DiffId>, Error> {
        self.directory().list()
    }

    fn usage(&self, layer: &DiffId) -> Result<Usage, Error> {
        // Nobody removes it, and makes it anew, in the middle of the count.
        let _hold = self.hold(std::slice::from_ref(layer))?;
        self.directory().usage(layer)
    }

    fn sync(&self) -> Result<(), Error> {
        self.directory().sync()
    }

    fn sweep(&self) -> Result<usize, Error> {
        self.directory().sweep()
    }
}

/// What is an active snapshot's own, depending on the driver.
pub(crate) trait Active: Send + Debug {
    /// The directory in which mount points are made, and what has been made there so far.
    fn top(&mut self) -> (Top<'_>, &mut MountPoints);

    /// See [`ActiveSnapshot::rootfs_mounts`].
    fn mounts(&self) -> Vec<Mount>;

    /// See [`ActiveSnapshot::diff`].
    fn changes(
        &self,
        owners: Option<&OwnershipRecord>,
        cancel: &CancelToken,
    ) -> Result<(Tree, Changeset), Error>;

    /// See [`ActiveSnapshot::renew`].
    fn renew_mounts(&mut self) -> Result<(), Error>;

    /// See [`ActiveSnapshot::write_out`].
    fn leave(&self, after: &Tree, directory: &Path, cancel: &CancelToken) -> Result<(), Error>;

    /// See [`ActiveSnapshot::commit`].
    fn publish(&self, layer: &DiffId, entries: &[Entry]) -> Result<(), Error>;
}

impl<A: Active> ActiveSnapshot for A {
    fn rootfs_mounts(&self) -> Vec<Mount> {
        self.mounts()
    }

    fn create_mount_point(&mut self, target: &Path, kind: MountPointKind) -> Result<(), Error> {
        let (top, made) = self.top();
        made.create(&top, target, kind)
    }

    fn create_directory(&mut self, path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
        let (top, made) = self.top();
        made.create_directory(&top, path, (uid, gid))
    }

    fn unkept(&mut self) -> Vec<(PathBuf, Owned)> {
        let (top, made) = self.top();
        if top.writer.owners {
            return Vec::new();
        }
        let mut unkept = top.base.unkept_without_owners();
        unkept.extend(made.owned().iter().filter(|(_, owned)| *owned != Owned::by(0, 0)).cloned());
        unkept
    }

    fn remove_mount_points(&mut self) -> Result<(), Error> {
        let (top, made) = self.top();
        made.remove(top.host)
    }

    fn diff(
        &self,
        owners: Option<&OwnershipRecord>,
        cancel: &CancelToken,
    ) -> Result<(Tree, Changeset), Error> {
        self.changes(owners, cancel)
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.renew_mounts()
    }

    fn write_out(self: Box<Self>, after: &Tree, directory: &Path, cancel: &CancelToken) -> Result<(), Error> {
        self.leave(after, directory, cancel)
    }

    fn commit(self: Box<Self>, layer: &DiffId, entries: &[Entry]) -> Result<(), Error> {
        self.publish(layer, entries)
    }
}
