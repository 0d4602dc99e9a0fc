//! Why a kind of sandbox cannot be had in a place.

use std::io;
use std::path::PathBuf;

use ocibuild_executor::Obstacle;

/// Why a kind of sandbox cannot be had in this place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxRefusal {
    /// It takes root.
    #[error("this process is not root but user {user}")]
    NotRoot {
        /// The user.
        user: u32,
    },
    /// It takes several ids, and the user namespace of this process has one.
    #[error("the user namespace of this process has one id")]
    OneId,
    /// A file that gives ids to users gives none to this one.
    #[error("{} has no range for this user", path.display())]
    NoRange {
        /// The file.
        path: PathBuf,
    },
    /// A program that hands out ids is not installed.
    #[error("{name} is not installed")]
    ProgramMissing {
        /// The program.
        name: String,
    },
    /// Such a program did not hand them out.
    #[error("{}: {message}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// It takes namespaces, which the sandbox does not have.
    #[error("the sandbox has no namespaces")]
    NoNamespaces,
    /// The kernel refused a call.
    #[error("{operation}: {}{}", io::Error::from_raw_os_error(*errno), listed(obstacles))]
    Kernel {
        /// What was tried, in words.
        operation: String,
        /// The error number.
        errno: i32,
        /// What there is evidence for that it is in the way; empty where nothing tells.
        obstacles: Vec<Obstacle>,
    },
}

fn listed(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join(", and ")) }
}

impl SandboxRefusal {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotRoot { .. } => "not-root",
            Self::OneId => "one-id",
            Self::NoRange { .. } => "no-range",
            Self::ProgramMissing { .. } => "program-missing",
            Self::Program { .. } => "program-failed",
            Self::NoNamespaces => "no-namespaces",
            Self::Kernel { .. } => "kernel",
        }
    }
}
