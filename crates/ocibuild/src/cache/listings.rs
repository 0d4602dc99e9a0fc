//! What layers consist of.

use std::io;
use std::sync::Arc;

use fs_err as fs;
use ocibuild_layer::LayerListing;
use ocibuild_spec::{DiffId, Digest};

use super::CacheError;
use super::documents::Documents;

/// The listings of layers, written when a layer is first read or made. One that cannot be read counts as none: the layer
/// is read once more.
#[derive(Debug, Clone)]
pub(crate) struct LayerListings {
    documents: Documents,
}

impl LayerListings {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    pub(crate) fn get(&self, layer: &DiffId) -> Option<Arc<LayerListing>> {
        let bytes = self.documents.read(&layer.0).ok()??;
        let listing = bytes.strip_prefix(first_line(layer).as_bytes())?;
        LayerListing::decode(listing).ok().map(Arc::new)
    }

    /// Whether there is one, and not one of another version: only its beginning is looked at.
    pub(crate) fn has(&self, layer: &DiffId) -> bool {
        let first_line = first_line(layer);
        let Ok(file) = fs::File::open(self.documents.path(&layer.0)) else { return false };
        let mut beginning = Vec::new();
        let wanted = (first_line.len() + LayerListing::BEGINNING) as u64;
        let read = io::Read::read_to_end(&mut io::Read::take(file, wanted), &mut beginning);
        let is_other =
            beginning.strip_prefix(first_line.as_bytes()).is_some_and(LayerListing::is_other_version);
        read.is_ok() && !is_other
    }

    pub(crate) fn put(&self, layer: &DiffId, listing: &LayerListing) -> Result<(), CacheError> {
        let mut bytes = first_line(layer).into_bytes();
        bytes.extend(listing.encode());
        self.documents.write(&layer.0, &bytes)
    }

    /// Removes those of all layers but the ones to keep; the bytes that went.
    pub(super) fn retain(&self, keep: impl Fn(&DiffId) -> bool) -> Result<u64, CacheError> {
        self.documents.retain(|digest: &Digest| keep(&DiffId(digest.clone())))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn folder(&self) -> &Documents {
        &self.documents
    }
}

/// The first line of the file, which says what layer it is of: the listing itself does not.
fn first_line(layer: &DiffId) -> String {
    format!("{layer}\n")
}
