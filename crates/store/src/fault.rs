use std::path::PathBuf;

use ocibuild_spec::Digest;

use crate::error::ErrorKind;

/// What is wrong, as data, where what can be done about it depends on what the caller can choose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A state directory belongs to somebody else.
    #[error("{} belongs to user {owner}, not to {own}", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user.
        own: u32,
    },
    /// A directory to keep state in holds something else.
    #[error("{} is neither empty nor a state directory", path.display())]
    NotAStateDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A path to keep state at is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A directory to write a layout into holds something else.
    #[error("{} is neither empty nor an OCI layout", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// What an image lists is not known, since one of its documents is damaged.
    #[error("{digest} is damaged")]
    DamagedDocument {
        /// The document.
        digest: Digest,
    },
    /// A file is not an archive of images.
    #[error("{} has neither `oci-layout` and `index.json` nor `manifest.json`", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
    },
    /// A directory is not an OCI layout.
    #[error("{} is not an OCI layout: it has no file `oci-layout`", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// An archive for docker would hold an index.
    #[error("docker exporter does not currently support exporting manifest lists")]
    SeveralPlatforms {
        /// The index.
        digest: Digest,
    },
}

impl Fault {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherOwner { .. } => ErrorKind::Permission,
            Self::NotAStateDirectory { .. } | Self::NotADirectory { .. } | Self::NotEmpty { .. } => {
                ErrorKind::NotAStateDirectory
            }
            Self::DamagedDocument { .. } => ErrorKind::Corrupt,
            Self::NotAnArchive { .. } | Self::SeveralPlatforms { .. } => ErrorKind::Unsupported,
            Self::NotALayout { .. } => ErrorKind::NotFound,
        }
    }
}
