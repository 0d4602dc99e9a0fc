//! The driver that lets the kernel stack the layers.

mod active;
mod commit;
mod scan;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, DiffId};
use ocibuild_sys::{OverlayAttributes, overlay_works};

use crate::directory::Directory;
use crate::driver::Driver;
use crate::{ActiveSnapshot, CopySnapshots, Error, ErrorKind, Snapshotter, Tree, Whiteouts};
use active::ActiveOverlay;

/// Stacks unpacked layers with overlayfs: nothing is copied until a step writes to it.
///
/// # Limitations
///
/// As in every overlay without `index=on` (and so in BuildKit's), a step that changes one of several hard links of a
/// lower layer changes that name alone.
#[derive(Debug)]
pub struct Overlay {
    directory: Directory,
    attributes: OverlayAttributes,
}

impl Overlay {
    /// Opens or makes the snapshots in `dir`, after mounting an overlay there in a throwaway process.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let path = suitable(dir)?;
        crate::directory::make_private(&path)?;
        let name = match OverlayAttributes::of_this_process() {
            OverlayAttributes::Trusted => "overlay",
            OverlayAttributes::User => "overlay-user",
        };
        let directory = Directory::open(&path.join(name))?;
        // In a directory that nobody else uses, and that is swept should this process be killed in the middle.
        let work = directory.work(&[])?;
        let attributes = overlay_works(work.path())
            .map_err(|source| ErrorKind::NoOverlay { path: path.clone(), source })?;
        drop(work);
        Ok(Self { directory, attributes })
    }

    /// Whether snapshots in `dir`, an empty directory that nobody else uses, would work: mounts an overlay there in a
    /// throwaway process, and leaves the directory empty. Tells which attributes such snapshots have their notes in.
    pub fn probe(dir: impl AsRef<Path>) -> Result<OverlayAttributes, Error> {
        let path = suitable(dir.as_ref())?;
        overlay_works(&path).map_err(|source| ErrorKind::NoOverlay { path, source }.into())
    }
}

/// The absolute path, if it can stand among the options of an overlay.
fn suitable(dir: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(dir).map_err(Error::io("open", dir))?;
    if path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b',' | b':' | b'\\')) {
        return Err(ErrorKind::UnsuitablePath { path }.into());
    }
    Ok(path)
}

impl Driver for Overlay {
    fn directory(&self) -> &Directory {
        &self.directory
    }

    fn deletions(&self) -> Whiteouts {
        match self.attributes {
            OverlayAttributes::Trusted => Whiteouts::OverlayTrusted,
            OverlayAttributes::User => Whiteouts::OverlayUser,
        }
    }

    fn stacks(&self) -> bool {
        true
    }

    fn start_above(&self, directory: &Path) -> Result<Option<Box<dyn ActiveSnapshot>>, Error> {
        let lower = suitable(directory)?;
        Ok(Some(Box::new(ActiveOverlay::prepare_above(&self.directory, self.attributes, lower)?)))
    }

    fn start(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error> {
        Ok(Box::new(ActiveOverlay::prepare(&self.directory, self.attributes, stack, base, cancel)?))
    }
}

/// [`Overlay`] where it works, else [`CopySnapshots`].
pub fn auto(dir: impl AsRef<Path>) -> Result<Box<dyn Snapshotter>, Error> {
    let dir = dir.as_ref();
    match Overlay::open(dir) {
        Ok(overlay) => Ok(Box::new(overlay)),
        Err(error) => match error.kind() {
            ErrorKind::NoOverlay { .. } | ErrorKind::UnsuitablePath { .. } => {
                Ok(Box::new(CopySnapshots::open(dir)?))
            }
            _ => Err(error),
        },
    }
}
