//! The driver that copies.

mod active;
mod commit;
mod scan;

use std::path::Path;
use std::sync::Arc;

use ocibuild_spec::{CancelToken, DiffId};

use crate::directory::Directory;
use crate::driver::Driver;
use crate::{ActiveSnapshot, Error, Tree, Whiteouts};
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

impl Driver for CopySnapshots {
    fn directory(&self) -> &Directory {
        &self.directory
    }

    fn deletions(&self) -> Whiteouts {
        Whiteouts::Files
    }

    fn stacks(&self) -> bool {
        false
    }

    fn start_above(&self, _directory: &Path) -> Result<Option<Box<dyn ActiveSnapshot>>, Error> {
        Ok(None)
    }

    fn start(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error> {
        Ok(Box::new(ActiveCopy::prepare(&self.directory, stack, base, cancel)?))
    }
}
