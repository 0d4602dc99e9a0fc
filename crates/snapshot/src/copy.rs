use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, DiffId};

use crate::directory::Directory;
use crate::{ActiveSnapshot, Error, Hold, LayerTarget, Snapshotter, Tree, Usage, Whiteouts};

/// Copies the layers of each stack into a directory of its own.
#[derive(Debug)]
pub struct CopySnapshots {
    directory: Directory,
}

impl CopySnapshots {
    /// Opens or makes the snapshots in `dir`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let _ = dir;
        todo!()
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
        let _ = (stack, base, cancel);
        todo!()
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
