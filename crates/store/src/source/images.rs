use std::io::Read;
use std::path::Path;

use ocibuild_spec::{
    CancelToken, Descriptor, Document, Index, Reference, SourceError, is_document, parse_manifest_or_index,
};

use super::select::full_name;
use super::{ArchiveSource, LayoutSource};
use crate::blob::{BlobSink, copy_from, reachable_by, read_small};
use crate::{Error, ErrorKind};

/// An image of an archive or a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its full names, sorted; a tag alone is none.
    pub names: Vec<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
}

/// Adds an image, or names to one that is there.
pub(super) fn add(
    images: &mut Vec<StoredImage>,
    descriptor: &Descriptor,
    names: impl IntoIterator<Item = Reference>,
) {
    let at =
        images.iter().position(|image| image.descriptor.digest == descriptor.digest).unwrap_or_else(|| {
            let mut descriptor = descriptor.clone();
            descriptor.annotations.clear();
            images.push(StoredImage { names: Vec::new(), descriptor });
            images.len() - 1
        });
    let known = &mut images[at].names;
    known.extend(names);
    known.sort_unstable();
    known.dedup();
}

/// The images that an `index.json` lists.
pub(super) fn listed(index: &Index) -> Vec<StoredImage> {
    let mut images = Vec::new();
    for entry in index.manifests.iter().filter(|entry| is_document(&entry.media_type)) {
        add(&mut images, entry, full_name(entry));
    }
    images
}

/// All that is in an archive or a layout, to be taken over image by image.
#[derive(Debug)]
pub struct StoredImages(Source);

#[derive(Debug)]
enum Source {
    Archive(ArchiveSource),
    Layout(LayoutSource),
}

/// What of an image is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// What is there with all its blobs: the image itself, or the manifests of an index that is not complete.
    pub whole: Vec<Descriptor>,
    /// The manifests of which blobs are missing.
    pub broken: Vec<Descriptor>,
}

impl StoredImages {
    /// The images of whatever `path` is: an OCI layout directory, an OCI archive or a docker archive.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let is_directory = fs_err::metadata(path).map_err(Error::fs)?.is_dir();
        Ok(Self(if is_directory {
            Source::Layout(LayoutSource::open(path, None, None)?)
        } else {
            Source::Archive(ArchiveSource::open(path)?)
        }))
    }

    /// The images, each with its names.
    pub fn list(&self, cancel: &CancelToken) -> Result<Vec<StoredImage>, SourceError> {
        match &self.0 {
            Source::Archive(archive) => archive.images(cancel),
            Source::Layout(layout) => Ok(layout.images()?),
        }
    }

    /// Copies an image with all its blobs, each verified on the way.
    pub fn copy(&self, image: &Descriptor, to: &dyn BlobSink) -> Result<(), Error> {
        copy_from(&|descriptor| self.blob(descriptor), image, to)
    }

    /// What of an image of [`list`](Self::list) is there.
    pub fn parts(&self, image: &Descriptor) -> Result<Parts, Error> {
        if self.is_whole(image)? {
            return Ok(Parts { whole: vec![image.clone()], broken: Vec::new() });
        }
        let bytes = read_small(self.blob(image)?, image)?;
        let document = parse_manifest_or_index(&bytes, Some(&image.media_type))
            .map_err(|error| Error::document(&image.digest, error))?;
        let Document::Index(index) = document else {
            return Ok(Parts { whole: Vec::new(), broken: vec![image.clone()] });
        };
        let mut parts = Parts::default();
        for manifest in index.manifests {
            let is_whole = self.is_whole(&manifest)?;
            if is_whole { &mut parts.whole } else { &mut parts.broken }.push(manifest);
        }
        Ok(parts)
    }

    fn is_whole(&self, image: &Descriptor) -> Result<bool, Error> {
        let open = |descriptor: &Descriptor| self.blob(descriptor);
        let all = reachable_by(&open, image)
            .and_then(|blobs| blobs.iter().try_for_each(|blob| self.blob(blob).map(drop)));
        match all {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        match &self.0 {
            Source::Archive(archive) => archive.blob(descriptor),
            Source::Layout(layout) => layout.blob(descriptor),
        }
    }
}
