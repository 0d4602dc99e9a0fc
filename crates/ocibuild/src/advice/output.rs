//! About outputs.

use super::{Hint, Setting};
use crate::failure::OutputFailure;

/// What can be done about an output that cannot be made.
pub(crate) fn output(failure: &OutputFailure) -> Option<Hint> {
    Some(Hint::from(match failure {
        OutputFailure::SeveralPlatforms => {
            return Some(
                Hint::from("type=oci and ")
                    .setting(Setting::Load, "containerd")
                    .text(" take several platforms; type=docker, docker and podman take one"),
            );
        }
        OutputFailure::NoName => {
            return Some(
                Hint::from("name the image with its registry: ")
                    .setting(Setting::Tag, "registry.example.com/team/app:1.0"),
            );
        }
        OutputFailure::AnnotationsOfDocker => "Docker's media types cannot contain annotations",
        OutputFailure::NoIndex { key } => {
            return Some(format!("annotate the manifest: manifest:{key}=…").into());
        }
        OutputFailure::PlatformOfIndex { .. } => "omit the platform",
        OutputFailure::NoSuchPlatform { built, .. } => {
            let built: Vec<String> = built.iter().map(ToString::to_string).collect();
            return Some(format!("this build is for {}", built.join(", ")).into());
        }
        OutputFailure::WouldEmpty { .. } => "name a directory of its own as dest, or use mode=copy",
        OutputFailure::SeveralEpochs => "give every output the same source-date-epoch, or build twice",
        OutputFailure::Collision { .. } => {
            "omit platform-split=false: each platform then has a directory of its own"
        }
        OutputFailure::Unwritable { is_output: true, .. } => {
            "name a file in a directory that exists and can be written"
        }
        OutputFailure::DeviceNode { .. } => "an output of type=tar contains device nodes, whoever writes it",
        _ => return None,
    }))
}
