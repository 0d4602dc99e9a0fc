/// Classes of [`Error`](crate::Error).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A `RUN` ended with this exit code.
    StepFailed(i32),
    /// What was asked for makes no sense: options, names, an unknown target.
    Usage,
    /// The Dockerfile, or a file it names, is wrong.
    Dockerfile,
    /// Hostile or invalid input: an image, an archive, a state directory.
    Refused,
    /// A registry or the network failed.
    Network,
    /// This host cannot: no space, no namespaces, no runtime, an unwritable directory.
    Host,
    /// The cache does not have what it was required to have.
    NotCached,
    /// The caller cancelled.
    Cancelled,
}

impl ErrorKind {
    /// A stable name of the class, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::StepFailed(_) => "step-failed",
            Self::Usage => "usage",
            Self::Dockerfile => "dockerfile",
            Self::Refused => "refused",
            Self::Network => "network",
            Self::Host => "host",
            Self::NotCached => "not-cached",
            Self::Cancelled => "cancelled",
        }
    }

    /// What can be done about any error of the class, for those that have no hint of their own.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::StepFailed(_) => {
                "the output of the command says why; change the instruction and build again"
            }
            Self::Usage => "change what was asked for",
            Self::Dockerfile => "change the instruction, and build again",
            Self::Refused => "the input is damaged or not what it should be: fetch or make it again",
            Self::Network => "check the name and the network, and try again",
            Self::Host => {
                "check that the path exists, that this user may use it, and that there is space left"
            }
            Self::NotCached => "build once without requiring that it is cached",
            Self::Cancelled => return None,
        })
    }
}
