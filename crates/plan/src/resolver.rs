use ocibuild_spec::{Platform, Reference, ResolvedImage};

use super::ImageOrigin;

/// Why an image could not be had.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// Finds the images that a plan starts from.
///
/// The planner asks only for images that the target needs, each once, in the order of the stages (4.13).
pub trait BaseResolver {
    /// The image that is asked for.
    fn resolve(&mut self, request: &BaseRequest) -> Result<ResolvedImage, ResolveError>;
}

impl<F: FnMut(&BaseRequest) -> Result<ResolvedImage, ResolveError>> BaseResolver for F {
    fn resolve(&mut self, request: &BaseRequest) -> Result<ResolvedImage, ResolveError> {
        self(request)
    }
}

/// An image that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRequest {
    /// The name as the file has it, after expansion; the stage's name when a named context replaces a stage.
    pub name: String,
    /// The same, normalised. With an origin other than the default it is not the name of what the context holds.
    pub reference: Reference,
    /// The platform wanted.
    pub platform: Platform,
    /// Where to look.
    pub origin: ImageOrigin,
}
