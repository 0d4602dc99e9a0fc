use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, DiffId};

use crate::directory::Directory;
use crate::{ActiveSnapshot, CopySnapshots, Error, Hold, LayerTarget, Snapshotter, Tree, Usage, Whiteouts};

/// Stacks unpacked layers with overlayfs.
#[derive(Debug)]
pub struct Overlay {
    directory: Directory,
    whiteouts: Whiteouts,
}

impl Overlay {
    /// Opens or makes the snapshots in `dir`, after mounting an overlay there in a throwaway process.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let _ = dir;
        todo!()
    }
}

impl Snapshotter for Overlay {
    fn whiteouts(&self) -> Whiteouts {
        self.whiteouts
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

/// [`Overlay`] where it works, else [`CopySnapshots`].
pub fn auto(dir: impl AsRef<Path>) -> Result<Box<dyn Snapshotter>, Error> {
    let dir = dir.as_ref();
    match Overlay::open(dir) {
        Ok(overlay) => Ok(Box::new(overlay)),
        Err(error) if matches!(error.kind(), crate::ErrorKind::NoOverlay { .. }) => {
            Ok(Box::new(CopySnapshots::open(dir)?))
        }
        Err(error) => Err(error),
    }
}
