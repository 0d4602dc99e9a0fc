//! The images of a build, complete and in the form that outputs get, with a way to open what they consist of.

use ocibuild_plan::Plan;
use ocibuild_spec::CancelToken;

use crate::cache::BlobOrigins;
use crate::image::{Built, DocumentStyle, ImageParts, put_together};
use crate::layers::{Layer, Layers};
use crate::stage::StageState;

/// The finished target stage of one platform.
pub(crate) struct FinishedImage<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) state: StageState<'a>,
    /// The layers in the form that outputs get.
    pub(crate) layers: Vec<Layer<'a>>,
    /// Where their bytes are, and those of the state's layers.
    pub(crate) source: Layers<'a>,
    /// Which repositories have the blobs of base images.
    pub(crate) origins: &'a BlobOrigins,
    pub(crate) cancel: &'a CancelToken,
}

impl FinishedImage<'_> {
    fn parts(&self) -> ImageParts<'_> {
        ImageParts {
            state: &self.state,
            layers: &self.layers,
            config: &self.plan.stages[self.plan.target].config,
            epoch: self.plan.source_date_epoch,
            has_base: self.plan.target_has_base(),
        }
    }
}

/// The images of all platforms, and their index if there is to be one, as an output wants them.
pub(crate) fn built(images: &[FinishedImage<'_>], with_index: bool, form: &DocumentStyle) -> Built {
    let parts: Vec<ImageParts<'_>> = images.iter().map(FinishedImage::parts).collect();
    put_together(&parts, with_index, form)
}
