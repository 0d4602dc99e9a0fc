//! About images on their way to registries, from them, and to engines.

use super::{Hint, Setting};
use crate::failure::TransferFailure;

/// What can be done about an image that does not arrive.
pub(crate) fn transfer(failure: &TransferFailure) -> Option<Hint> {
    Some(match failure {
        TransferFailure::NotAnImage { .. } | TransferFailure::TooManyManifests { .. } => {
            Hint::from("pull one platform of it: ").setting(Setting::Platform, "")
        }
        TransferFailure::OtherDigest { .. } => "push it under a tag, or under its own digest".into(),
        TransferFailure::PartsMissing { .. } => {
            "its storage may be damaged, or a cleaning job runs: ask whoever runs it".into()
        }
        TransferFailure::NoEngine { .. } => {
            Hint::from("start one, or write an archive for one that is elsewhere: ")
                .setting(Setting::Output, "type=docker,dest=FILE")
        }
        TransferFailure::EngineSilent { .. } => {
            "start it, or name another: docker, podman or containerd".into()
        }
        TransferFailure::EngineRefused { .. } => Hint::from("the engine's own log may say more; ")
            .setting(Setting::Output, "type=docker,dest=FILE")
            .text(" writes the archive to look at"),
        _ => return None,
    })
}
