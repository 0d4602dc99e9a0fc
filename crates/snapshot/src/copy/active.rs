use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Changeset, DiffId, Entry, Mount, OwnershipRecord};
use ocibuild_sys::DirHandle;

use super::scan::Record;
use crate::directory::Directory;
use crate::driver::Active;
use crate::fill::fill;
use crate::mount_points::{MountPoints, Top};
use crate::step::{Step, rootfs_mount};
use crate::{Error, LayerNotes, Tree};

/// A step's copy, in `rootfs` of its working directory.
#[derive(Debug)]
pub(super) struct ActiveCopy {
    step: Step,
    rootfs: PathBuf,
    record: Record,
    mount_points: MountPoints,
}

impl ActiveCopy {
    pub(super) fn prepare(
        directory: &Directory,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let step = Step::new(directory, stack, base)?;
        let path = step.work.path();
        let handle = DirHandle::open(path).map_err(Error::system("open", path))?;
        handle.mkdir("rootfs", 0o755).map_err(Error::system("make a directory in", path))?;
        let rootfs = path.join("rootfs");
        fill(&rootfs, &step.base, step.writer(), cancel)?;
        let record = Record::of(&rootfs, &step.base, cancel)?;
        Ok(Self { step, rootfs, record, mount_points: MountPoints::default() })
    }
}

impl Active for ActiveCopy {
    fn top(&mut self) -> (Top<'_>, &mut MountPoints) {
        let top = Top { host: &self.rootfs, base: &self.step.base, writer: self.step.writer() };
        (top, &mut self.mount_points)
    }

    fn mounts(&self) -> Vec<Mount> {
        vec![rootfs_mount("bind", self.rootfs.clone(), vec!["bind".to_owned()])]
    }

    fn changes(
        &self,
        owners: Option<&OwnershipRecord>,
        cancel: &CancelToken,
    ) -> Result<(Tree, Changeset), Error> {
        let new = super::scan::scan(&self.step, &self.rootfs, &self.record, owners, cancel)?;
        self.step.changeset(&self.rootfs, &new)
    }

    fn renew_mounts(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn leave(&self, _after: &Tree, directory: &Path, _cancel: &CancelToken) -> Result<(), Error> {
        fs_err::rename(&self.rootfs, directory).map_err(Error::io("move the root file system to", directory))
    }

    fn publish(&self, layer: &DiffId, entries: &[Entry]) -> Result<(), Error> {
        super::commit::gather(&self.rootfs, self.step.work.fs(), entries, self.step.writer())?;
        self.step.directory.publish(&self.step.work, layer, &LayerNotes::default())
    }
}
