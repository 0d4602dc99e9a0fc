//! The driver that copies.

mod active;
mod commit;
mod fill;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, DiffId};

use crate::directory::Directory;
use crate::{ActiveSnapshot, Error, Hold, LayerTarget, Snapshotter, Tree, Usage, Whiteouts};
use active::ActiveCopy;

/// Copies the files of a stack into a directory of its own for each step, by reference where the file system can.
///
/// It needs no mount, no privilege and no particular file system. Without privilege everything on disk belongs to
/// the caller; what a step leaves alone keeps the owner that the merged view has.
///
/// # Limitations
///
/// A step that changes one of several hard links of a lower layer in place changes all of them, where an overlay
/// changes that name alone. (When it changes all of them, both drivers give the same changeset.)
#[derive(Debug)]
pub struct CopySnapshots {
    directory: Directory,
}

impl CopySnapshots {
    /// Opens or makes the snapshots in `dir`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        crate::directory::make_private(dir)?;
        Ok(Self { directory: Directory::open(&dir.join("copy"))? })
    }
}

impl Snapshotter for CopySnapshots {
    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Files
    }

    fn contains(&self, layer: &DiffId) -> Result<bool, Error> {
        self.directory.contains(layer)
    }

    fn prepare_layer(&self, layer: &DiffId) -> Result<LayerTarget, Error> {
        LayerTarget::new(self.directory.clone(), layer.clone())
    }

    fn layer_dir(&self, layer: &DiffId) -> PathBuf {
        self.directory.fs(layer)
    }

    fn prepare(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error> {
        Ok(Box::new(ActiveCopy::prepare(&self.directory, stack, base, cancel)?))
    }

    fn hold(&self, layers: &[DiffId]) -> Result<Hold, Error> {
        Hold::new(&self.directory, layers)
    }

    fn remove(&self, layer: &DiffId) -> Result<(), Error> {
        self.directory.remove(layer)
    }

    fn list(&self) -> Result<Vec<DiffId>, Error> {
        self.directory.list()
    }

    fn usage(&self, layer: &DiffId) -> Result<Usage, Error> {
        self.directory.usage(layer)
    }

    fn sync(&self) -> Result<(), Error> {
        self.directory.sync()
    }

    fn sweep(&self) -> Result<usize, Error> {
        self.directory.sweep()
    }
}
