use std::io::{self, Read};
use std::sync::Arc;

use ocibuild_registry::Registry;
use ocibuild_spec::{
    CancelToken, Descriptor, Document, DocumentError, ImageSource as _, MAX_DOCUMENT, Manifest, Platform,
    Reference, SourceError, SourceErrorKind, VerifyingReader, check_manifest, is_document, parse_config,
    parse_manifest_or_index,
};
use ocibuild_store::{ImageLayout, read_document};

use super::FirstError;
use super::draft::{IndexEntry, subject_of};
use crate::error::{Error, ErrorKind};
use crate::failure::{DocumentProblem, IndexFailure, TransferFailure};
use crate::transfer::Origin;

/// Most images of one index, and most indexes in indexes.
const MAX_ENTRIES: usize = 1000;
const MAX_DEPTH: usize = 4;

/// Where images are found: the state directory, then the registries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageLookup<'a> {
    pub(crate) layout: &'a ImageLayout,
    pub(crate) registry: &'a Registry,
    pub(crate) cancel: &'a CancelToken,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) origin: Origin,
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

/// The images of a name, with the attestations about them.
#[derive(Debug, Default)]
pub(crate) struct CollectedEntries {
    pub(crate) entries: Vec<IndexEntry>,
    /// What an index lists beside that.
    pub(crate) left_out: Vec<Descriptor>,
}

impl ImageLookup<'_> {
    /// What a name stands for in the state directory, or at its registry.
    pub(crate) fn find(&self, name: &Reference) -> Result<Found, Error> {
        if let Some(found) = self.find_here(name)? {
            return Ok(found);
        }
        let (descriptor, bytes) = self.registry.manifest(name, self.cancel).map_err(|error| {
            let is_missing = error.kind() == SourceErrorKind::NotFound;
            let error = Error::of_registry(error);
            if is_missing {
                return error
                    .hint(format!("there is no image {} in the state directory either", name.familiar()));
            }
            error
        })?;
        Ok(Found { origin: Origin::Registry(name.with_digest(descriptor.digest.clone())), descriptor, bytes })
    }

    /// What a name stands for in the state directory.
    pub(crate) fn find_here(&self, name: &Reference) -> Result<Option<Found>, Error> {
        let Some(descriptor) = self.layout.resolve(name)? else { return Ok(None) };
        let bytes = read_document(self.layout, &descriptor)?;
        Ok(Some(Found { origin: Origin::State, descriptor, bytes }))
    }

    /// The image that was found, or all images of the index.
    pub(crate) fn gather(&self, name: &Reference, found: &Found) -> Result<CollectedEntries, Error> {
        let mut gathered = CollectedEntries::default();
        self.add(name, found, None, 0, &mut gathered)?;
        let (images, attestations): (Vec<_>, Vec<_>) =
            gathered.entries.into_iter().partition(|entry| entry.subject().is_none());
        let is_about_one = |entry: &IndexEntry| {
            images.iter().any(|image| entry.subject() == Some(image.descriptor.digest.as_str()))
        };
        let (about, others): (Vec<_>, Vec<_>) = attestations.into_iter().partition(is_about_one);
        gathered.left_out.extend(others.into_iter().map(|entry| entry.descriptor));
        gathered.entries = images.into_iter().chain(about).collect();
        Ok(gathered)
    }

    /// Adds what `listed` says of `found`, or what `found` says of itself.
    fn add(
        &self,
        name: &Reference,
        found: &Found,
        listed: Option<&Descriptor>,
        depth: usize,
        gathered: &mut CollectedEntries,
    ) -> Result<(), Error> {
        let Found { origin, descriptor, bytes } = found;
        match parse(name, descriptor, bytes)? {
            Document::Manifest(manifest) => {
                let mut own = Descriptor::new(
                    descriptor.media_type.clone(),
                    descriptor.digest.clone(),
                    descriptor.size,
                );
                own.annotations = listed.map(|listed| listed.annotations.clone()).unwrap_or_default();
                own.platform = Some(self.platform(name, origin, &manifest)?);
                gathered.entries.push(IndexEntry {
                    descriptor: own,
                    name: name.clone(),
                    origin: origin.clone(),
                    is_of_base: false,
                });
                Ok(())
            }
            Document::Index(_) if depth == MAX_DEPTH => {
                let problem = DocumentProblem::NestedTooDeeply(MAX_DEPTH);
                Err(IndexFailure::document(name.familiar(), problem).into())
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    self.add_listed(name, origin, entry, depth, gathered)?;
                }
                Ok(())
            }
        }
    }

    fn add_listed(
        &self,
        name: &Reference,
        origin: &Origin,
        listed: &Descriptor,
        depth: usize,
        gathered: &mut CollectedEntries,
    ) -> Result<(), Error> {
        if gathered.entries.len() + gathered.left_out.len() >= MAX_ENTRIES {
            let problem = DocumentProblem::TooManyImages(MAX_ENTRIES);
            return Err(IndexFailure::document(name.familiar(), problem).into());
        }
        let origin = match origin {
            Origin::State => Origin::State,
            Origin::Registry(name) => Origin::Registry(name.with_digest(listed.digest.clone())),
        };
        let is_unknown = listed.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        let tells_all = listed.platform.is_some() && is_manifest(&listed.media_type);
        if !is_document(&listed.media_type) || (is_unknown && subject_of(listed).is_none()) {
            gathered.left_out.push(listed.clone());
        } else if tells_all {
            gathered.entries.push(IndexEntry {
                descriptor: listed.clone(),
                name: name.clone(),
                origin,
                is_of_base: false,
            });
        } else {
            let bytes = self.document(&origin, listed)?;
            let found = Found { origin, descriptor: listed.clone(), bytes };
            self.add(name, &found, Some(listed), depth + 1, gathered)?;
        }
        Ok(())
    }

    /// The platform that the config of an image tells.
    fn platform(&self, name: &Reference, origin: &Origin, manifest: &Manifest) -> Result<Platform, Error> {
        let malformed = |error: DocumentError| malformed(name.familiar(), error.to_string(), error);
        check_manifest(manifest).map_err(malformed)?;
        let bytes = self.document(origin, &manifest.config)?;
        let config = parse_config(&bytes).map_err(malformed)?;
        if config.os.is_empty() || config.architecture.is_empty() {
            return Err(IndexFailure::document(name.familiar(), DocumentProblem::NoPlatform).into());
        }
        let platform = Platform::new(&config.os, &config.architecture, &config.variant);
        Ok(Platform { os_version: config.os_version, os_features: config.os_features, ..platform })
    }

    /// The verified bytes of a manifest, an index or a config.
    pub(crate) fn document(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let Origin::Registry(name) = origin else { return Ok(read_document(self.layout, descriptor)?) };
        let refuse = |problem| {
            let (name, digest) = (name.familiar_name(), &descriptor.digest);
            Error::from(IndexFailure::document(format!("{name}@{digest}"), problem))
        };
        if descriptor.size > MAX_DOCUMENT {
            return Err(refuse(DocumentProblem::TooLarge));
        }
        let bytes = if is_document(&descriptor.media_type) {
            let name = name.with_digest(descriptor.digest.clone());
            self.registry.manifest(&name, self.cancel).map_err(Error::of_registry)?.1
        } else {
            let mut bytes = Vec::new();
            let mut reader = self.registry.open(name, descriptor, self.cancel).map_err(Error::of_registry)?;
            reader.read_to_end(&mut bytes).map_err(|error| of_read(name, error))?;
            bytes
        };
        if bytes.len() as u64 == descriptor.size {
            Ok(bytes)
        } else {
            Err(refuse(DocumentProblem::OtherSize))
        }
    }

    /// A config or layer, verified while it is read. What goes wrong is kept in `failed` as well: whoever reads it for
    /// others says only that it cannot be read.
    pub(crate) fn open(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
        failed: &Arc<FirstError>,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let opened = match origin {
            Origin::State => self
                .layout
                .open_blob(descriptor)
                .map(|reader| Box::new(VerifyingReader::new(reader, descriptor)) as Box<dyn Read + Send>)
                .map_err(Error::from),
            Origin::Registry(name) => {
                self.registry.open(name, descriptor, self.cancel).map_err(Error::of_registry).map(|inner| {
                    Box::new(Watched { inner, name: name.clone(), failed: Arc::clone(failed) })
                        as Box<dyn Read + Send>
                })
            }
        };
        opened.map_err(|error| {
            if error.kind() == ErrorKind::Cancelled {
                return error;
            }
            TransferFailure::NotOpened { reason: failed.keep(error) }.into()
        })
    }
}

pub(crate) fn parse(name: &Reference, descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, Error> {
    parse_manifest_or_index(bytes, Some(&descriptor.media_type)).map_err(|error| {
        let reason = format!("{}: {error}", descriptor.digest);
        malformed(name.familiar(), reason, error)
    })
}

fn malformed(name: String, reason: String, source: DocumentError) -> Error {
    let (problem, source) = (DocumentProblem::Malformed(reason), Some(source.into()));
    IndexFailure::Document { name, problem, source }.into()
}

/// Whether it is the type of a manifest, not of an index.
fn is_manifest(media_type: &ocibuild_spec::MediaType) -> bool {
    use ocibuild_spec::{MediaType, media_types};

    let is_index = *media_type == MediaType::ImageIndex || media_type.as_ref() == media_types::DOCKER_INDEX;
    is_document(media_type) && !is_index
}

/// A failed read of a blob at a registry.
fn of_read(name: &Reference, error: io::Error) -> Error {
    let (is_corrupt, reason) = (error.kind() == io::ErrorKind::InvalidData, error.to_string());
    match error.downcast::<SourceError>() {
        Ok(inner) => Error::of_registry(inner),
        Err(_) => TransferFailure::Broken { name: name.clone(), reason, is_corrupt }.into(),
    }
}

/// Remembers why it could not be read on.
struct Watched {
    inner: Box<dyn Read + Send>,
    name: Reference,
    failed: Arc<FirstError>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            io::Error::new(kind, self.failed.keep(of_read(&self.name, error)))
        })
    }
}
