//! What is in a state directory, and what can be done with it apart from building.

mod container;
mod find;
mod index;
mod load;
mod prune;
mod registry;
mod save;
mod sizes;

use std::collections::BTreeMap;
use std::fmt;

use ocibuild_snapshot::Snapshotter;
use ocibuild_spec::{Descriptor, Document, ImageConfig, Manifest, Platform, Reference, Timestamp};
use ocibuild_spec::{parse_manifest_or_index, select_platform};
use ocibuild_store::{ImageLayout, read_document};

pub use container::{ContainerOptions, Volume};
pub use find::Found;
pub use index::{CreatedIndex, IndexOptions, IndexPlace, InspectedIndex};
pub use load::{LoadSource, LoadedImage};
pub use prune::{DiskUsage, Pruned};

use self::sizes::Sizes;
use crate::cache::Cache;
use crate::{Error, ErrorKind};

/// The images of a state directory.
#[derive(Clone, Copy)]
pub struct State<'a> {
    layout: &'a ImageLayout,
    cache: &'a Cache,
    snapshots: &'a dyn Snapshotter,
}

/// An image in a list: one line for each of its names.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// Its name, if it has one.
    pub reference: Option<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
    /// Its config, whose digest is the image ID.
    pub config: Descriptor,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Bytes of the files in its layers, unpacked.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A named image with its documents.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// Descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
}

impl fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<'a> State<'a> {
    /// The images of `layout`, with the cache and the snapshots beside it.
    pub fn new(layout: &'a ImageLayout, cache: &'a Cache, snapshots: &'a dyn Snapshotter) -> Self {
        Self { layout, cache, snapshots }
    }

    /// All images: those with names, sorted by these, then those without.
    pub fn images(&self) -> Result<Vec<ImageSummary>, Error> {
        let mut sizes = Sizes::default();
        let mut images = Vec::new();
        for (reference, descriptor) in self.all()? {
            let details = self.details(&descriptor)?;
            let size = sizes.of(self, &details)?.iter().sum();
            images.push(ImageSummary {
                reference,
                descriptor,
                config: details.manifest.config,
                created: details.config.created,
                size,
                labels: details.config.config.labels,
            });
        }
        Ok(images)
    }

    /// Every name with what it stands for, and what has none.
    fn all(&self) -> Result<Vec<(Option<Reference>, Descriptor)>, Error> {
        let named = self.layout.list()?.into_iter().map(|(name, descriptor)| (Some(name), descriptor));
        let unnamed = self.layout.unnamed()?.into_iter().map(|descriptor| (None, descriptor));
        Ok(named.chain(unnamed).collect())
    }

    /// For each layer of an image the bytes of the files in it, unpacked.
    pub fn layer_sizes(&self, image: &ImageDetails) -> Result<Vec<u64>, Error> {
        Sizes::default().of(self, image)
    }

    /// The image with this name.
    pub fn inspect(&self, reference: &Reference) -> Result<ImageDetails, Error> {
        let descriptor = self.layout.resolve(reference)?.ok_or_else(|| no_such_image(reference))?;
        self.details(&descriptor)
    }

    /// The image with this manifest, or of this index: the image for this host, or else the first.
    pub fn details(&self, descriptor: &Descriptor) -> Result<ImageDetails, Error> {
        let bytes = read_document(self.layout, descriptor)?;
        let document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
            .map_err(|error| broken(descriptor, &error))?;
        match document {
            Document::Manifest(manifest) => {
                let bytes = read_document(self.layout, &manifest.config)?;
                let config =
                    serde_json::from_slice(&bytes).map_err(|error| broken(&manifest.config, &error))?;
                Ok(ImageDetails { descriptor: descriptor.clone(), manifest, config })
            }
            Document::Index(index) => {
                let is_image = |entry: &&Descriptor| {
                    entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
                };
                // An index of other platforms only is an image to look at all the same.
                let chosen = select_platform(&index, &Platform::host())
                    .or_else(|error| index.manifests.iter().find(is_image).ok_or(error))
                    .map_err(|error| broken(descriptor, &error))?;
                self.details(chosen)
            }
        }
    }

    /// Gives the image `source` another name as well.
    pub fn tag(&self, source: &Reference, name: &Reference) -> Result<(), Error> {
        let descriptor = self.layout.resolve(source)?.ok_or_else(|| no_such_image(source))?;
        Ok(self.layout.tag(name, &descriptor)?)
    }

    /// Takes a name away. The blobs stay until [`prune`](Self::prune).
    pub fn remove(&self, reference: &Reference) -> Result<(), Error> {
        if self.layout.untag(reference)? { Ok(()) } else { Err(no_such_image(reference)) }
    }

    /// Forgets an image that has no name. The blobs stay until [`prune`](Self::prune).
    pub fn forget(&self, image: &Descriptor) -> Result<bool, Error> {
        Ok(self.layout.forget(&image.digest)?)
    }
}

/// The stable name of the error about an image that is not here.
pub const NO_SUCH_IMAGE: &str = "no-such-image";

fn no_such_image(reference: &Reference) -> Error {
    Error::new(ErrorKind::Usage, format!("there is no image {} here", reference.familiar()))
        .id(NO_SUCH_IMAGE)
        .hint("`ocibuild images` lists the names there are")
}

fn broken(descriptor: &Descriptor, error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Refused, format!("{}: {error}", descriptor.digest))
}
