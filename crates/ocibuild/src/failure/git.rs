//! Why a repository cannot be fetched.

use std::error::Error as StdError;
use std::path::PathBuf;

use super::{Code, ErrorKind};

/// What is wrong with a repository, or with the program that fetches it. Addresses are without credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitFailure {
    /// The commit does not have the checksum.
    #[error("{address}: expected checksum to match {checksum}, got {commit}")]
    ChecksumMismatch {
        /// The repository.
        address: String,
        /// The checksum.
        checksum: String,
        /// The commit.
        commit: String,
    },
    /// Nothing is fetched.
    #[error("{address}: this is offline: no repository is fetched")]
    Offline {
        /// The repository.
        address: String,
    },
    /// An address cannot be read.
    #[error("{reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The address of a submodule cannot be read.
    #[error("{address}: the address of a submodule is malformed")]
    SubmoduleAddress {
        /// The repository.
        address: String,
        /// The address of the submodule.
        submodule: String,
    },
    /// A repository does not say which branch is the one to take.
    #[error("could not find default branch for repository: {address}")]
    NoDefaultBranch {
        /// The repository.
        address: String,
    },
    /// A repository does not have a branch, tag or commit.
    #[error("repository does not contain ref {reference}: {address}")]
    NoSuchReference {
        /// The repository.
        address: String,
        /// The branch, tag or commit.
        reference: String,
    },
    /// What a repository sent is not what a repository has.
    #[error("{address}: {reason}")]
    Malformed {
        /// The repository.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server sent something else than the hash of an object.
    #[error("the git server sent {shown:?} for an object's hash")]
    NotAHash {
        /// The beginning of what it sent.
        shown: String,
    },
    /// What an object was said to be does not exist.
    #[error("{address}: there is no commit {object}")]
    NoSuchCommit {
        /// The repository.
        address: String,
        /// The object.
        object: String,
    },
    /// More submodules than are ever fetched.
    #[error("{address}: more than {maximum} submodules")]
    TooManySubmodules {
        /// The repository.
        address: String,
        /// How many there may be.
        maximum: usize,
    },
    /// Git does not fetch it.
    #[error("cannot fetch {address}")]
    NotFetched {
        /// The repository.
        address: String,
        /// Whether git refused what it got.
        is_refused: bool,
        /// What git said.
        #[source]
        said: Box<dyn StdError + Send + Sync>,
    },
    /// A server does not give it.
    #[error("cannot fetch {url}: {reason}")]
    Status {
        /// Where it was asked for.
        url: String,
        /// What the server answered.
        reason: String,
        /// Whether the answer leads where nothing is fetched from.
        is_refused: bool,
        /// What could give access, if that is missing.
        login: Option<String>,
    },
    /// Git is not installed.
    #[error("there is no program git in {}", search_path.display())]
    ProgramMissing {
        /// Where it was looked for.
        search_path: PathBuf,
    },
    /// Git takes too long.
    #[error("git took more than {limit} seconds")]
    TooSlow {
        /// How long it may take.
        limit: u64,
    },
    /// A repository is larger than it may be.
    #[error("the repository is larger than {limit} bytes, which is the limit")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A part of a subdirectory is not a directory.
    #[error("invalid subdir {subdirectory}: {part} is not a directory")]
    NoSubdirectory {
        /// The subdirectory.
        subdirectory: String,
        /// The part.
        part: String,
        /// Why not.
        #[source]
        reason: Box<dyn StdError + Send + Sync>,
    },
}

impl GitFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::NoDefaultBranch { .. }
            | Self::NoSuchReference { .. }
            | Self::NoSuchCommit { .. }
            | Self::NoSubdirectory { .. } => ErrorKind::Dockerfile,
            Self::Offline { .. }
            | Self::TooSlow { .. }
            | Self::NotFetched { is_refused: false, .. }
            | Self::Status { is_refused: false, .. } => ErrorKind::Network,
            Self::ProgramMissing { .. } => ErrorKind::Host,
            _ => ErrorKind::Refused,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::ChecksumMismatch { .. } => Code::ChecksumMismatch,
            Self::Offline { .. } => Code::Offline,
            Self::Address { .. } | Self::NoSubdirectory { .. } => Code::InvalidInstruction,
            Self::TooManySubmodules { .. } | Self::TooLarge { .. } => Code::TooLarge,
            Self::ProgramMissing { .. } => Code::ProgramMissing,
            Self::NoDefaultBranch { .. } | Self::NoSuchReference { .. } | Self::NoSuchCommit { .. } => {
                Code::GitReference
            }
            _ => Code::DownloadFailed,
        }
    }
}
