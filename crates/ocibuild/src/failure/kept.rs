//! A step that failed, and what is kept of it.

use std::fmt;
use std::path::PathBuf;

/// The root file system of a step that failed, with everything that was around it, as an OCI bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptStep {
    /// The directory, below `kept` of the state directory.
    pub bundle: PathBuf,
    /// A shell that the files of the step have.
    pub shell: Option<String>,
    /// What the step had and the bundle does not.
    pub left_out: Vec<LeftOut>,
}

/// Something that a step had, and that is not kept with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftOut {
    /// A secret that was mounted.
    Secret {
        /// Where.
        target: PathBuf,
    },
    /// A secret in a variable.
    SecretVariable {
        /// The variable.
        name: String,
    },
    /// The socket of an agent.
    Agent {
        /// Where it was.
        target: PathBuf,
    },
    /// The address of a proxy that has a password in it.
    Proxy {
        /// The variable.
        name: String,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { target } => write!(f, "the secret at {}", target.display()),
            Self::SecretVariable { name } => write!(f, "the secret in {name}"),
            Self::Agent { target } => write!(f, "the agent at {}", target.display()),
            Self::Proxy { name } => write!(f, "the proxy in {name}, which has a password"),
        }
    }
}
