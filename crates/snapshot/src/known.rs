//! What a process has found out about unpacked layers. A step asks about all of its stack, and so does the next one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ocibuild_spec::DiffId;
use ocibuild_sys::RootDir;

use crate::{Error, LayerNotes};

/// What there is to know of a layer that is unpacked and whole.
#[derive(Debug)]
pub(crate) struct LayerFacts {
    pub(crate) notes: LayerNotes,
    /// The layer's short name among the links of an overlay, once that is made; `None` if another layer has it.
    pub(crate) link: OnceLock<Option<String>>,
}

impl LayerFacts {
    pub(crate) fn new(notes: LayerNotes) -> Self {
        Self { notes, link: OnceLock::new() }
    }
}

/// Identity and time of change of a layer's directory. Both differ once the layer was removed and unpacked again, or its
/// marker was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, u32),
}

impl Stamp {
    /// That of the directory at `path`; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, Error> {
        use std::os::unix::fs::MetadataExt as _;
        match fs_err::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                device: metadata.dev(),
                inode: metadata.ino(),
                changed: (metadata.ctime(), u32::try_from(metadata.ctime_nsec()).unwrap_or(0)),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", path)(error)),
        }
    }
}

/// The facts about layers, as long as their directories are the same.
#[derive(Debug, Default)]
pub(crate) struct KnownLayers {
    layers: Mutex<HashMap<DiffId, (Stamp, Arc<LayerFacts>)>>,
}

impl KnownLayers {
    pub(crate) fn get(&self, layer: &DiffId, stamp: Stamp) -> Option<Arc<LayerFacts>> {
        let layers = self.layers();
        let (then, facts) = layers.get(layer)?;
        (*then == stamp).then(|| Arc::clone(facts))
    }

    pub(crate) fn put(&self, layer: &DiffId, stamp: Stamp, facts: &Arc<LayerFacts>) {
        self.layers().insert(layer.clone(), (stamp, Arc::clone(facts)));
    }

    pub(crate) fn forget(&self, layer: &DiffId) {
        self.layers().remove(layer);
    }

    fn layers(&self) -> MutexGuard<'_, HashMap<DiffId, (Stamp, Arc<LayerFacts>)>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directories of the layers of a stack, the lowest first, each opened when it is first read from: most steps read
/// from few of them.
#[derive(Debug, Default)]
pub(crate) struct LayerRoots {
    layers: Vec<(PathBuf, OnceLock<RootDir>)>,
}

impl LayerRoots {
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { layers: paths.into_iter().map(|path| (path, OnceLock::new())).collect() }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.layers.iter().map(|(path, _)| path.as_path())
    }

    pub(crate) fn len(&self) -> usize {
        self.layers.len()
    }

    /// The layer with this number; `None` if there are fewer.
    pub(crate) fn get(&self, number: u32) -> Option<Result<&RootDir, Error>> {
        let (path, opened) = self.layers.get(number as usize)?;
        if let Some(root) = opened.get() {
            return Some(Ok(root));
        }
        let root = RootDir::open(path).map_err(Error::system("open", path));
        Some(root.map(|root| opened.get_or_init(|| root)))
    }
}
