//! What can be done where the cache does not have what it was to have.

use super::{Hint, Setting};
use crate::failure::CacheFailure;

pub(super) fn cache(failure: &CacheFailure) -> Hint {
    match failure {
        CacheFailure::NotCached { .. } => Hint::from("build once without ")
            .setting(Setting::RequireCache, "")
            .text(" to have it made and kept"),
        CacheFailure::UnknownStage { nearest: Some(name), .. } => format!("did you mean {name}?").into(),
        CacheFailure::UnknownStage { nearest: None, .. } => {
            "name a stage of the Dockerfile (`FROM … AS NAME`)".into()
        }
    }
}
