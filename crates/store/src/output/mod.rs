mod archive;
mod directory;

pub use archive::{ArchiveFormat, LayoutArchive};
pub use directory::LayoutDirectory;

use ocibuild_spec::{Descriptor, Index, Reference, Timestamp};

use crate::layout::{CONTAINERD_NAME, CREATED, REF_NAME};

/// An image as the `index.json` of an output names it (11.6).
#[derive(Debug, Clone)]
pub struct OutputImage {
    /// The manifest, or the index of several platforms.
    pub descriptor: Descriptor,
    /// Its names; an image without any still has its entry.
    pub names: Vec<Reference>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// One entry per name: the full one for containerd, the tag alone for the specification's annotation.
fn entries(image: &OutputImage) -> Vec<Descriptor> {
    let mut base = image.descriptor.clone();
    if let Some(created) = &image.created {
        base.annotations.insert(CREATED.to_owned(), created.to_string());
    }
    if image.names.is_empty() {
        return vec![base];
    }
    let named = |name: &Reference| {
        let mut entry = base.clone();
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        entry.annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or("latest").to_owned());
        entry
    };
    image.names.iter().map(named).collect()
}

fn index_of(manifests: Vec<Descriptor>) -> Index {
    Index::new(manifests)
}
