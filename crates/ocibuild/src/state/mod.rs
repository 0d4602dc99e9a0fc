//! What is in a state directory, and what can be done with it apart from building.

mod container;
mod find;
mod index;
mod kept;
mod load;
mod prune;
mod registry;
mod save;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ocibuild_snapshot::Snapshotter;
use ocibuild_spec::{Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference, Timestamp};
use ocibuild_spec::{is_image_config, json, parse_manifest_or_index, select_platform};
use ocibuild_store::{ImageLayout, read_document};

pub use container::{ContainerOptions, Volume};
pub use find::{Catalog, Found};
pub use index::{CreatedIndex, IndexOptions, IndexPlace, InspectedIndex};
pub use kept::EnterOptions;
pub use load::{LoadSource, LoadedImage};
pub use prune::{DiskUsage, PruneOptions, Pruned};

use self::sizes::Sizes;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use crate::failure::{NotAnImage, StateFailure};
use crate::state_directory::StateDirectory;

/// The images of a state directory.
#[derive(Clone, Copy)]
pub struct State<'a> {
    layout: &'a ImageLayout,
    cache: &'a Cache,
    snapshots: &'a dyn Snapshotter,
    directory: &'a StateDirectory,
}

/// An image in a list: one line for each of its names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageSummary {
    /// Its name, if it has one.
    pub reference: Option<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
    /// The image ID: the digest of its config.
    pub id: Digest,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Bytes of the files in its layers, unpacked.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A named image with its documents.
#[derive(Debug, Clone)]
#[non_exhaustive]
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

impl StateDirectory {
    /// Its images, and what can be done with them apart from building.
    pub fn state(&self) -> State<'_> {
        State {
            layout: &self.layout,
            cache: &self.cache,
            snapshots: self.snapshots.as_ref(),
            directory: self,
        }
    }
}

impl State<'_> {
    /// All images: those with names, sorted by these, then those without.
    pub fn images(&self) -> Result<Vec<ImageSummary>, Error> {
        let mut sizes = Sizes::default();
        let mut summaries = Vec::new();
        for (reference, descriptor) in self.all()? {
            match self.summary(reference.clone(), descriptor.clone(), &mut sizes) {
                Ok(summary) => summaries.push(summary),
                // Removed by somebody since the list was read.
                Err(_) if !self.all()?.contains(&(reference, descriptor)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(summaries)
    }

    fn summary(
        &self,
        reference: Option<Reference>,
        descriptor: Descriptor,
        sizes: &mut Sizes,
    ) -> Result<ImageSummary, Error> {
        let id = self.id(&descriptor)?;
        match self.details(&descriptor) {
            Ok(details) => {
                let size = sizes.of(self, &details)?.iter().sum();
                let (created, labels) = (details.config.created, details.config.config.labels);
                Ok(ImageSummary { reference, descriptor, id, created, size, labels })
            }
            // What is not an image has a name all the same, and must not hide the others.
            Err(error) if error.kind() == ErrorKind::Refused => {
                let layers = self.manifest(&descriptor).ok().flatten();
                let layers = layers.iter().flat_map(|(_, manifest)| manifest.layers());
                let size = layers.map(|layer| layer.size).sum();
                let (created, labels) = (None, BTreeMap::new());
                Ok(ImageSummary { reference, descriptor, id, created, size, labels })
            }
            Err(error) => Err(error),
        }
    }

    /// The ID of an image: the digest of its config. What is not an image has its own digest.
    pub fn id(&self, descriptor: &Descriptor) -> Result<Digest, Error> {
        match self.manifest(descriptor) {
            Ok(Some((_, manifest))) => Ok(manifest.config.digest),
            Ok(None) => Ok(descriptor.digest.clone()),
            Err(error) if error.kind() == ErrorKind::Refused => Ok(descriptor.digest.clone()),
            Err(error) => Err(error),
        }
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
        let not_an_image =
            |reason| Error::from(StateFailure::NotAnImage { digest: descriptor.digest.clone(), reason });
        let Some((descriptor, manifest)) = self.manifest(descriptor)? else {
            return Err(not_an_image(NotAnImage::EmptyIndex));
        };
        if !is_image_config(&manifest.config.media_type) {
            let media_type = manifest.config.media_type.to_string();
            return Err(not_an_image(NotAnImage::Artifact { media_type }));
        }
        let bytes = read_document(self.layout, &manifest.config)?;
        let config = json::from_slice(&bytes).map_err(|error| broken(&manifest.config, &error))?;
        Ok(ImageDetails { descriptor, manifest, config })
    }

    /// The manifest of that image; `None` of an index without images.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<(Descriptor, Manifest)>, Error> {
        let bytes = read_document(self.layout, descriptor)?;
        let document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
            .map_err(|error| broken(descriptor, &error))?;
        let index = match document {
            Document::Manifest(manifest) => return Ok(Some((descriptor.clone(), manifest))),
            Document::Index(index) => index,
        };
        let is_image =
            |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        // An index of other platforms only is an image to look at all the same.
        let chosen = select_platform(&index, &Platform::host()).ok();
        match chosen.or_else(|| index.manifests.iter().find(is_image)) {
            Some(chosen) => self.manifest(chosen),
            None => Ok(None),
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

    /// Takes names away, all at once; those that were there. The blobs stay until [`prune`](Self::prune).
    pub fn remove_all(&self, references: &[Reference]) -> Result<BTreeSet<Reference>, Error> {
        Ok(self.layout.untag_all(references)?)
    }

    /// Forgets an image that has no name. The blobs stay until [`prune`](Self::prune).
    pub fn forget(&self, image: &Descriptor) -> Result<bool, Error> {
        Ok(self.layout.forget(&image.digest)?)
    }
}

/// The error about an image that is not here.
pub fn no_such_image(reference: &Reference) -> Error {
    StateFailure::NoSuchImage { name: reference.clone() }.into()
}

fn broken(descriptor: &Descriptor, error: &dyn std::error::Error) -> Error {
    StateFailure::Damaged { digest: descriptor.digest.clone(), reason: error.to_string() }.into()
}
