//! About layers of base images and of steps.

use super::{Hint, Setting};
use crate::failure::LayerFailure;

/// What can be done about a layer that cannot be had.
pub(crate) fn layer(failure: &LayerFailure) -> Option<Hint> {
    Some(match failure {
        LayerFailure::BlobMissing { is_of_base_image: true, .. } => "fetch the image again".into(),
        LayerFailure::BlobMissing { .. } => {
            Hint::from("build with ").setting(Setting::NoCache, "").text(" to make it again")
        }
        LayerFailure::OtherDiffId { .. } => {
            "the image is damaged or forged: fetch it or build it again".into()
        }
        LayerFailure::DanglingLink { .. } => "the image is damaged: fetch it or build it again".into(),
        LayerFailure::Unreadable { source, .. } => {
            source.downcast_ref::<ocibuild_layer::Error>().and_then(ocibuild_layer::Error::hint)?.into()
        }
        _ => return None,
    })
}
