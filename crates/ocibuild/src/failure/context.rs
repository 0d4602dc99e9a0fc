//! Why a build context, or what a build downloads, cannot be used.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use ocibuild_dockerfile::IgnoreError;

use super::{ChangedPath, Code, ErrorKind};

/// What is wrong with a build context, a Dockerfile, an ignore file or a download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextFailure {
    /// The directory of a context cannot be opened.
    #[error("cannot open the build context {}", path.display())]
    NotOpened {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A context is something else than a directory.
    #[error("the build context {} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A named context is not a directory, where files are copied from it.
    #[error("the named context {name} is not a directory")]
    NamedNotADirectory {
        /// Its name.
        name: String,
    },
    /// The context is a Dockerfile, and another one is named.
    #[error("ambiguous Dockerfile source: the context is a Dockerfile, and another one is named")]
    AmbiguousDockerfile,
    /// A file does not exist in the context.
    #[error("{} does not exist in the build context", path.display())]
    NotFound {
        /// The file, from the root of the context.
        path: PathBuf,
    },
    /// A path of the context is not a regular file.
    #[error("{} in the build context is not a regular file", path.display())]
    NotRegular {
        /// The path, from the root of the context.
        path: PathBuf,
    },
    /// A file is larger than a Dockerfile or an ignore file may be.
    #[error("{} is larger than 16 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Whether it was named from outside the context.
        is_named: bool,
    },
    /// An address cannot be read.
    #[error("{text}: {reason}")]
    Address {
        /// The address, without credentials.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A context is larger than it may be.
    #[error("the build context is larger than {limit} bytes, which is the limit")]
    LimitExceeded {
        /// The limit.
        limit: u64,
    },
    /// A compressed stream is not an archive.
    #[error("the build context is compressed ({format}), but is not a tar archive")]
    NotAnArchive {
        /// How it is compressed.
        format: ocibuild_layer::Format,
    },
    /// A stream is too large for a Dockerfile, and is not an archive.
    #[error("the build context is neither an archive nor a Dockerfile: it is larger than 16 MiB")]
    NotADockerfile,
    /// A compressed stream cannot be read.
    #[error("the build context cannot be decompressed")]
    NotDecompressed {
        /// Why not.
        source: io::Error,
    },
    /// An archive cannot be listed.
    #[error("the build context is a broken archive")]
    BrokenArchive {
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An archive decompresses to more than it may.
    #[error("the build context decompresses to more than {limit} bytes, too many for its size")]
    DecompressesTooMuch {
        /// The limit.
        limit: u64,
    },
    /// A build check looks at the whole context, which cannot be listed.
    #[error("cannot list the build context")]
    NotListed {
        /// The build check.
        rule: &'static str,
        /// Why it cannot be listed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A path is not what it was a moment before.
    #[error("{} changed while {}", source.shown(), source.when())]
    ChangedWhileRead {
        /// The path, and how it changed.
        source: ChangedPath,
    },
    /// There is no Dockerfile at a path.
    #[error("there is no Dockerfile at {}", path.display())]
    NoDockerfile {
        /// The path.
        path: PathBuf,
        /// A file that was probably meant.
        similar: Option<String>,
    },
    /// A path is something else than a file.
    #[error("{} is {what}, not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The Dockerfile in it, if it is a directory that has one.
        inside: Option<PathBuf>,
    },
    /// An ignore file is a directory.
    #[error("{file} is a directory, not a file")]
    IgnoreFileIsDirectory {
        /// The ignore file, from the root of the context.
        file: String,
    },
    /// A file that is named does not exist.
    #[error("{} does not exist", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file that the context is to have is outside it.
    #[error("{} is a link that leads out of the build context", path.display())]
    LeadsOut {
        /// The link.
        path: PathBuf,
    },
    /// A file exists and cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pattern of an ignore file cannot be read.
    #[error("{file}:{}: {source}", source.line)]
    IgnorePattern {
        /// The ignore file, from the root of the context.
        file: String,
        /// The line, the pattern, and what is wrong with it.
        source: IgnoreError,
    },
    /// A server answered that it does not give a file.
    #[error("{address}: invalid response status {status}")]
    Status {
        /// The address, without credentials.
        address: String,
        /// The status.
        status: u16,
        /// What could give access, if that is missing.
        login: Option<String>,
    },
    /// A file is larger than a download may be.
    #[error("{address}: {size} bytes are more than {limit}, which is the limit")]
    DownloadTooLarge {
        /// The address, without credentials.
        address: String,
        /// Its size, as far as it is known.
        size: String,
        /// The limit.
        limit: u64,
    },
    /// The encoding of an answer cannot be undone.
    #[error("{address}: {reason}")]
    Encoding {
        /// The address, without credentials.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A checksum is of a kind that is not known.
    #[error("unsupported digest algorithm: {wanted}")]
    ChecksumAlgorithm {
        /// The checksum.
        wanted: String,
    },
    /// A file does not have its checksum.
    #[error("{address}: digest mismatch {found}: {wanted}")]
    ChecksumMismatch {
        /// The address, without credentials.
        address: String,
        /// The digest that it has.
        found: String,
        /// The digest that it should have.
        wanted: String,
    },
    /// A secret for a server cannot be sent.
    #[error("secret {id}: its value cannot be in a header")]
    SecretNotAHeader {
        /// The secret.
        id: String,
    },
}

impl ContextFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::LimitExceeded { .. }
            | Self::NotAnArchive { .. }
            | Self::NotDecompressed { .. }
            | Self::BrokenArchive { .. }
            | Self::DecompressesTooMuch { .. }
            | Self::ChangedWhileRead { .. }
            | Self::LeadsOut { .. }
            | Self::DownloadTooLarge { .. }
            | Self::Encoding { .. }
            | Self::ChecksumMismatch { .. } => ErrorKind::Refused,
            Self::Unreadable { .. } | Self::NotListed { .. } => ErrorKind::Host,
            Self::IgnorePattern { .. } | Self::ChecksumAlgorithm { .. } => ErrorKind::Dockerfile,
            Self::Status { .. } => ErrorKind::Network,
            _ => ErrorKind::Usage,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotOpened { .. }
            | Self::NotADirectory { .. }
            | Self::NamedNotADirectory { .. }
            | Self::NotAnArchive { .. }
            | Self::NotADockerfile
            | Self::NotDecompressed { .. }
            | Self::BrokenArchive { .. } => Code::ContextUnusable,
            Self::ChangedWhileRead { .. } => Code::ChangedWhileRead,
            Self::AmbiguousDockerfile | Self::Address { .. } => Code::InvalidArgument,
            Self::NotFound { .. } | Self::NoDockerfile { .. } => Code::NoDockerfile,
            Self::NotRegular { .. }
            | Self::TooLarge { .. }
            | Self::NotAFile { .. }
            | Self::IgnoreFileIsDirectory { .. }
            | Self::FileMissing { .. } => Code::NoRegularFile,
            Self::LimitExceeded { .. } | Self::DecompressesTooMuch { .. } | Self::DownloadTooLarge { .. } => {
                Code::TooLarge
            }
            Self::LeadsOut { .. } => Code::LinkOutOfContext,
            Self::Unreadable { .. } | Self::NotListed { .. } => Code::Unreadable,
            Self::IgnorePattern { .. } => Code::InvalidPattern,
            Self::Status { .. } | Self::Encoding { .. } => Code::DownloadFailed,
            Self::ChecksumAlgorithm { .. } => Code::InvalidInstruction,
            Self::ChecksumMismatch { .. } => Code::ChecksumMismatch,
            Self::SecretNotAHeader { .. } => Code::SecretUnusable,
        }
    }

    /// The file that it is about, where that is a place of its own.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::NoDockerfile { path, .. }
            | Self::NotAFile { path, .. }
            | Self::FileMissing { path }
            | Self::LeadsOut { path }
            | Self::Unreadable { path, .. }
            | Self::TooLarge { path, is_named: true } => Some(path),
            Self::IgnoreFileIsDirectory { file } => Some(Path::new(file)),
            _ => None,
        }
    }
}
