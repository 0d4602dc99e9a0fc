use std::fmt;
use std::path::{Path, PathBuf};

use ocibuild_spec::DiffId;
use ocibuild_sys::RootDir;

use crate::Error;
use crate::directory::{Directory, Work};

/// An empty directory that a layer is unpacked into. Dropping it removes it.
#[must_use = "what is unpacked here is removed unless it is committed"]
pub struct LayerTarget {
    directory: Directory,
    work: Work,
    layer: DiffId,
}

/// What a layer says about layers below it, which are others in every image it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerNotes {
    /// Directories that the layer does not list but has something below: owner, mode and time are those of the layers
    /// below, if they have them.
    pub implied_directories: Vec<PathBuf>,
    /// Hard links to files of the layers below: name and target. The directory of the layer has nothing there.
    pub deferred_links: Vec<(PathBuf, PathBuf)>,
}

impl LayerTarget {
    pub(crate) fn new(directory: Directory, layer: DiffId) -> Result<Self, Error> {
        let work = directory.work(&[])?;
        Ok(Self { directory, work, layer })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.work.fs()
    }

    /// The directory, for confined operations.
    pub fn root(&self) -> Result<RootDir, Error> {
        RootDir::open(self.path()).map_err(Error::system("open", self.path()))
    }

    /// Makes what was unpacked the layer, unless somebody else was faster.
    pub fn commit(self, notes: &LayerNotes) -> Result<(), Error> {
        self.directory.publish(&self.work, &self.layer, notes)
    }
}

impl fmt::Debug for LayerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerTarget")
            .field("layer", &self.layer)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// Keeps layers from being removed while it lives.
#[derive(Debug)]
#[must_use = "the layers may be removed once this is dropped"]
pub struct Hold {
    _work: Work,
}

impl Hold {
    pub(crate) fn new(directory: &Directory, layers: &[DiffId]) -> Result<Self, Error> {
        Ok(Self { _work: directory.work(layers)? })
    }
}
