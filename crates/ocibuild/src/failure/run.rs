//! Why a `RUN` cannot begin, or leaves nothing.

use std::io;
use std::path::PathBuf;

use ocibuild_executor::Emulation;
use ocibuild_plan::quote;
use ocibuild_spec::Platform;

use super::{Code, ErrorKind};

/// What is wrong with a `RUN` besides its command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFailure {
    /// A variable has no name.
    #[error("environment variable name can't be empty: \"={value}\"")]
    EmptyVariableName {
        /// Its value.
        value: String,
    },
    /// A path that the instruction names cannot be what it has to be.
    #[error("{source}")]
    Path {
        /// Which path, and what is there.
        source: ocibuild_snapshot::Error,
    },
    /// The programs of the image are for another platform.
    #[error("programs for {platform} cannot be executed on this host, which is {}", Platform::host())]
    ForeignProgram {
        /// The platform.
        platform: Platform,
        /// What this host has to execute its programs.
        emulation: Emulation,
        /// What the kernel said.
        source: ocibuild_executor::Error,
    },
    /// Another program holds a lock of a cache mount.
    #[error("the cache {} is locked by a program other than ocibuild", path.display())]
    CacheLocked {
        /// Its directory.
        path: PathBuf,
    },
    /// The image does not have the user.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    UnknownUser {
        /// The user.
        user: String,
    },
    /// The image does not have the group.
    #[error("unable to find group {group}: no matching entries in group file")]
    UnknownGroup {
        /// The group.
        group: String,
    },
    /// An agent that the step requires was not given.
    #[error("no SSH key \"{id}\" forwarded from the client")]
    SshNotFound {
        /// Its id as it is written.
        id: String,
    },
    /// A secret that the step requires was not given.
    #[error("secret {id}: not found")]
    SecretNotFound {
        /// Its id.
        id: String,
        /// The nearest one that was given.
        nearest: Option<String>,
    },
    /// A secret cannot be the value of a variable.
    #[error("the value of secret {id} {}, and cannot be a variable", if *has_nul { "contains NUL" } else { "is not valid UTF-8" })]
    SecretNotText {
        /// Its id.
        id: String,
        /// Whether it is text with a NUL.
        has_nul: bool,
    },
    /// A secret is larger than any may be.
    #[error("secret {id} has more than 500 KiB")]
    SecretTooLarge {
        /// Its id.
        id: String,
    },
    /// What a mount names does not exist.
    #[error("{}: not found", quote(path))]
    MountSource {
        /// The path as it is written.
        path: String,
    },
    /// The network of the host is wanted while nothing goes to a network.
    #[error("this step wants the network of the host, and the build is offline")]
    HostNetworkOffline,
    /// A step with all capabilities could leave its private network.
    #[error("this step has all capabilities, with which it could leave its private network")]
    InsecureInPrivateNetwork,
    /// Somebody removed what another step made.
    #[error("the result of a step went away while the build needed it")]
    ResultGone,
    /// The socket of an agent cannot have the owner that the step wants.
    #[error("the socket of an agent cannot belong to {uid}:{gid} here")]
    AgentOwner {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers at the socket of an agent.
    #[error("no agent answers at {}", socket.display())]
    AgentSilent {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `ssh-agent` does not start.
    #[error("ssh-agent cannot be started")]
    AgentNotStarted {
        /// What it said.
        said: String,
    },
    /// A private key cannot be given to an agent.
    #[error("the key {} cannot be used", key.display())]
    KeyUnusable {
        /// The file.
        key: PathBuf,
        /// What `ssh-add` said.
        said: String,
    },
    /// A program that forwards agents is not installed.
    #[error("{program} was not found in {}", directories.join(", "))]
    AgentProgramMissing {
        /// The program.
        program: String,
        /// Where it was looked for.
        directories: Vec<&'static str>,
    },
}

impl RunFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::EmptyVariableName { .. }
            | Self::Path { .. }
            | Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::MountSource { .. } => ErrorKind::Dockerfile,
            Self::SshNotFound { .. }
            | Self::SecretNotFound { .. }
            | Self::SecretNotText { .. }
            | Self::SecretTooLarge { .. }
            | Self::HostNetworkOffline
            | Self::InsecureInPrivateNetwork
            | Self::KeyUnusable { .. } => ErrorKind::Usage,
            Self::ForeignProgram { .. }
            | Self::CacheLocked { .. }
            | Self::ResultGone
            | Self::AgentOwner { .. }
            | Self::AgentSilent { .. }
            | Self::AgentNotStarted { .. }
            | Self::AgentProgramMissing { .. } => ErrorKind::Host,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::EmptyVariableName { .. } => Code::InvalidInstruction,
            Self::Path { .. } => Code::Destination,
            Self::ForeignProgram { .. } => Code::ForeignPlatform,
            Self::CacheLocked { .. } | Self::ResultGone => Code::StateInUse,
            Self::UnknownUser { .. } | Self::UnknownGroup { .. } => Code::UnknownUser,
            Self::SshNotFound { .. } => Code::SshNotFound,
            Self::SecretNotFound { .. } => Code::SecretNotFound,
            Self::SecretNotText { .. } | Self::SecretTooLarge { .. } => Code::SecretUnusable,
            Self::MountSource { .. } => Code::SourceNotFound,
            Self::HostNetworkOffline => Code::Offline,
            Self::InsecureInPrivateNetwork => Code::PrivateNetwork,
            Self::AgentOwner { .. }
            | Self::AgentSilent { .. }
            | Self::AgentNotStarted { .. }
            | Self::KeyUnusable { .. }
            | Self::AgentProgramMissing { .. } => Code::AgentUnusable,
        }
    }

    /// The text to blame in the instruction.
    pub(crate) fn word(&self) -> Option<String> {
        match self {
            Self::UnknownGroup { group } => Some(group.clone()),
            Self::SecretNotFound { id, .. } => Some(id.clone()),
            Self::HostNetworkOffline => Some("--network=host".to_owned()),
            Self::InsecureInPrivateNetwork => Some("--security=insecure".to_owned()),
            _ => None,
        }
    }
}
