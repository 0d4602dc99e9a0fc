//! What the cache was to have, and does not.

use super::{Code, ErrorKind};

/// The build was to take its steps from the cache, and cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheFailure {
    /// A step whose result was to be there has none.
    #[error("the cache has no result of {step}")]
    NotCached {
        /// The step, as progress shows it.
        step: String,
    },
    /// No stage of the Dockerfile has the name.
    #[error("there is no stage {stage} whose steps could be required to be cached")]
    UnknownStage {
        /// The name.
        stage: String,
        /// The nearest name that there is.
        nearest: Option<String>,
    },
}

impl CacheFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotCached { .. } => ErrorKind::NotCached,
            Self::UnknownStage { .. } => ErrorKind::Usage,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotCached { .. } => Code::NotCached,
            Self::UnknownStage { .. } => Code::InvalidArgument,
        }
    }
}
