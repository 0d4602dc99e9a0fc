use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ocibuild_spec::{
    CancelToken, Descriptor, Digest, Document, Index, Reference, SourceError, is_document,
    parse_manifest_or_index,
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

/// Images in the order in which they were found, each once. There may be very many, all under one digest or none.
#[derive(Default)]
pub(super) struct Found {
    images: Vec<(Descriptor, BTreeSet<Reference>)>,
    places: BTreeMap<Digest, usize>,
}

impl Found {
    /// Adds an image, or names to one that is there.
    pub(super) fn add(&mut self, descriptor: &Descriptor, names: impl IntoIterator<Item = Reference>) {
        let at = *self.places.entry(descriptor.digest.clone()).or_insert_with(|| {
            let mut descriptor = descriptor.clone();
            descriptor.annotations.clear();
            self.images.push((descriptor, BTreeSet::new()));
            self.images.len() - 1
        });
        self.images[at].1.extend(names);
    }

    pub(super) fn into_images(self) -> Vec<StoredImage> {
        let images = self.images.into_iter();
        images
            .map(|(descriptor, names)| StoredImage { names: names.into_iter().collect(), descriptor })
            .collect()
    }
}

/// The images that an `index.json` lists.
pub(super) fn listed(index: &Index) -> Vec<StoredImage> {
    let mut found = Found::default();
    for entry in index.manifests.iter().filter(|entry| is_document(&entry.media_type)) {
        found.add(entry, full_name(entry));
    }
    found.into_images()
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

    /// The images of an archive in a file that messages call `name`.
    pub fn of_archive(file: File, name: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(Source::Archive(ArchiveSource::read(file, name.as_ref())?)))
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
        let (mut parts, mut known) = (Parts::default(), BTreeMap::new());
        for manifest in index.manifests {
            // An index may list one manifest over and over.
            let key = (manifest.digest.clone(), manifest.size, manifest.media_type.to_string());
            let is_whole = match known.get(&key) {
                Some(is_whole) => *is_whole,
                None => self.is_whole(&manifest)?,
            };
            known.insert(key, is_whole);
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
