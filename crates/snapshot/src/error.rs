use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ocibuild_spec::DiffId;
use ocibuild_sys::OverlayError;

use crate::ResolveError;

/// A snapshot that could not be made, read or kept.
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// The operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A system call on a path of the snapshot directory, or of a root file system below it, failed.
    #[error("{action} {}", path.display())]
    System {
        /// What was being done.
        action: &'static str,
        /// The path of the host.
        path: PathBuf,
        /// What the kernel said.
        source: ocibuild_sys::Error,
    },
    /// A file of the snapshot directory could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The path of the host.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// This layer is not unpacked (any more): unpack it and try again.
    #[error("layer {layer} is not unpacked")]
    MissingLayer {
        /// The layer.
        layer: DiffId,
    },
    /// This layer cannot be removed now.
    #[error("layer {layer} is in use")]
    InUse {
        /// The layer.
        layer: DiffId,
    },
    /// No overlay can be mounted here.
    #[error("no overlay in {}", path.display())]
    NoOverlay {
        /// The snapshot directory.
        path: PathBuf,
        /// Why.
        source: OverlayError,
    },
    /// The path of the snapshot directory cannot stand among the options of an overlay.
    #[error("no overlay in {}: its path has a comma, a colon or a backslash", path.display())]
    UnsuitablePath {
        /// The snapshot directory.
        path: PathBuf,
    },
    /// More layers than the kernel stacks.
    #[error("{count} layers are more than the {limit} that an overlay stacks")]
    TooManyLayers {
        /// Layers of the stack.
        count: usize,
        /// What the kernel takes.
        limit: usize,
    },
    /// The path of a mount point leads nowhere.
    #[error("make the mount point {}", path.display())]
    Resolve {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: ResolveError,
    },
    /// What is at the path of a mount point is of another kind than what will be mounted.
    #[error("{} cannot be mounted on: it is {found}", path.display())]
    WrongKind {
        /// The path in the root file system, links followed.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A directory cannot be given to its owner here.
    #[error("{} cannot belong to {uid}:{gid}: this process has no other user than its own", path.display())]
    Owner {
        /// The path in the root file system.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A step left a file whose name means a deletion in a layer (image-spec `layer.md`, "Whiteouts").
    #[error("{} cannot be in a layer: names that begin with .wh. stand for deletions", path.display())]
    ReservedName {
        /// The path in the root file system.
        path: PathBuf,
    },
    /// The merged view names a layer that the stack does not have.
    #[error("{} comes from layer {layer} of a stack of {count}", path.display())]
    ForeignTree {
        /// The path in the root file system.
        path: PathBuf,
        /// Number of the layer.
        layer: u32,
        /// Layers of the stack.
        count: usize,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// For `map_err` on confined operations.
    pub(crate) fn system(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(ocibuild_sys::Error) -> Self {
        move |source| ErrorKind::System { action, path: path.as_ref().to_owned(), source }.into()
    }

    /// For `map_err` on files of the snapshot directory itself.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| ErrorKind::Io { action, path: path.as_ref().to_owned(), source }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}
