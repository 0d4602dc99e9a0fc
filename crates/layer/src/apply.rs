use std::io::Read;
use std::path::PathBuf;

use ocibuild_spec::{CancelToken, DiffId};
use ocibuild_sys::RootDir;

use crate::{Error, LayerIndex, Limits};

/// How deletions are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutFormat {
    /// As overlayfs keeps them: character devices 0:0, and `trusted.overlay.opaque`, which only root can set.
    OverlayTrusted,
    /// The same with `user.overlay.opaque`, for mounts with `userxattr`.
    OverlayUser,
    /// As empty files, `.wh.name` and `.wh..wh..opq`.
    Files,
}

/// Whether entries get the owners they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// They do; an owner that does not exist here is an error.
    #[default]
    Set,
    /// All belong to whoever unpacks; only the index knows.
    Ignore,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// They are made; not being allowed to is an error.
    #[default]
    Make,
    /// They are left out, named in [`Applied::skipped`].
    Skip,
}

/// How a layer is unpacked.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// How deletions are kept.
    pub whiteouts: WhiteoutFormat,
    /// Owners.
    pub owners: Owners,
    /// Device nodes.
    pub devices: Devices,
    /// What the tar may cost.
    pub limits: Limits,
    /// Stops the call between entries and within large files.
    pub cancel: CancelToken,
}

/// What came out of [`apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// The entries.
    pub index: LayerIndex,
    /// Hard links to files that this layer does not have: the name, and the target in the layers below.
    pub deferred_links: Vec<(PathBuf, PathBuf)>,
    /// What could not be kept on disk, and was not asked to be.
    pub skipped: Vec<Skipped>,
}

/// Something of an entry that is not on disk; the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The entry.
    pub path: PathBuf,
    /// The attribute that this file system does not keep; `None` for a whole device node.
    pub attribute: Option<String>,
}

/// Unpacks one layer, by itself, into the empty directory `root`.
pub fn apply(tar: &mut dyn Read, root: &RootDir, options: &ApplyOptions) -> Result<Applied, Error> {
    let _ = (tar, root, options);
    todo!()
}
