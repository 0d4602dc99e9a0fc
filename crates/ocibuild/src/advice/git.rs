//! About repositories that cannot be fetched.

use super::Hint;
use crate::failure::GitFailure;

/// Why a repository cannot be fetched, beyond what the failure says.
pub(crate) fn cause(failure: &GitFailure) -> Option<String> {
    match failure {
        GitFailure::SubmoduleAddress { submodule, .. } => Some(submodule.clone()),
        _ => None,
    }
}

/// What can be done about it, besides what git itself says.
pub(crate) fn hint(failure: &GitFailure) -> Option<Hint> {
    Some(match failure {
        GitFailure::Offline { .. } => {
            "name a commit whose files are in the cache, or fetch it once while a network may be used".into()
        }
        GitFailure::NoDefaultBranch { .. } => "name a branch, tag or commit: #REF".into(),
        GitFailure::NoSuchReference { .. } => "name a branch, a tag, or a whole commit hash".into(),
        GitFailure::Status { login: Some(login), .. } => login.as_str().into(),
        GitFailure::ProgramMissing { .. } => {
            "install git (package `git`, for ssh also `openssh-client`)".into()
        }
        _ => return None,
    })
}
