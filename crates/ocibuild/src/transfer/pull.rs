use std::io::{self, Read};

use ocibuild_registry::Registry;
use ocibuild_spec::{
    CancelToken, Descriptor, Document, ImageSource as _, Index, MAX_DOCUMENT, Platform, Reference,
    SourceError, SourceErrorKind, is_document, parse_manifest_or_index,
};
use ocibuild_store::{BlobSink, ImageLayout, read_document};

use super::{Transfer, Watcher, each};
use crate::advice::{Hint, Setting};
use crate::cache::BlobOrigins;
use crate::error::Error;
use crate::failure::TransferFailure;

/// Indexes in indexes that are looked into, and manifests and indexes of one image.
const MAX_DEPTH: usize = 4;
const MAX_DOCUMENTS: usize = 1000;

/// Which of an image's platforms are pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullOptions {
    /// One: the name then stands for this platform's manifest.
    Platform(Platform),
    /// All that there are: the name stands for the index.
    AllPlatforms,
}

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// What the name stands for at the registry.
    pub remote: Descriptor,
    /// What it stands for here: the same, or the manifest of one platform.
    pub descriptor: Descriptor,
    /// Whether the name stood for the same thing here before.
    pub was_current: bool,
}

pub(crate) struct Pulling<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) layout: &'a ImageLayout,
    pub(crate) origins: &'a BlobOrigins,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) watcher: &'a Watcher<'a>,
}

impl Pulling<'_> {
    /// Fetches an image with all its blobs and gives it its name here.
    pub(crate) fn run(&self, name: &Reference, options: &PullOptions) -> Result<Pulled, Error> {
        let _lease = self.layout.lease()?;
        let (remote, bytes) = self.registry.manifest(name, self.cancel).map_err(Error::of_registry)?;
        // What the tag stands for now is what is pulled, whatever it stands for in a minute.
        let fixed = name.with_digest(remote.digest.clone());
        let mut wanted = PullSet::default();
        let descriptor = match options {
            PullOptions::AllPlatforms => {
                self.everything(&fixed, &remote, bytes, &mut wanted, 0)?;
                remote.clone()
            }
            PullOptions::Platform(platform) => {
                let root = (&remote, bytes);
                // A damaged one is as good as none.
                let known = |descriptor: &Descriptor| read_document(self.layout, descriptor).ok();
                let image = self
                    .registry
                    .resolve_from(&fixed, root, platform, &known, self.cancel)
                    .map_err(unusable)?;
                wanted.blobs.extend_from_slice(image.manifest.layers());
                wanted.documents.push((image.manifest.config.clone(), image.config_bytes));
                wanted.documents.push((image.descriptor.clone(), image.manifest_bytes));
                image.descriptor
            }
        };
        let before = self.layout.resolve(name)?;
        wanted.blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        wanted.blobs.dedup_by(|a, b| a.digest == b.digest);
        each(&wanted.blobs, |blob| self.blob(&fixed, blob))?;
        for (descriptor, bytes) in &wanted.documents {
            self.layout.put_from(descriptor, &mut bytes.as_slice())?;
            if !is_document(&descriptor.media_type) {
                self.origins.put(&descriptor.digest, &fixed)?;
            }
        }
        self.layout.tag(name, &descriptor)?;
        (self.watcher)(Transfer::Named { name, descriptor: &descriptor });
        let was_current = before.is_some_and(|before| before.digest == descriptor.digest);
        Ok(Pulled { remote, descriptor, was_current })
    }

    /// A document and all that it reaches.
    fn everything(
        &self,
        fixed: &Reference,
        descriptor: &Descriptor,
        bytes: Vec<u8>,
        wanted: &mut PullSet,
        depth: usize,
    ) -> Result<(), Error> {
        let document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
            .map_err(|source| TransferFailure::Document { name: fixed.clone(), source })?;
        match document {
            Document::Manifest(manifest) => {
                wanted.blobs.push(manifest.config.clone());
                wanted.blobs.extend_from_slice(manifest.layers());
            }
            Document::Index(_) if depth == MAX_DEPTH => {
                let (name, maximum) = (fixed.clone(), MAX_DEPTH);
                return Err(TransferFailure::NestedTooDeeply { name, maximum }.into());
            }
            Document::Index(index) => self.listed(fixed, &index, wanted, depth)?,
        }
        wanted.documents.push((descriptor.clone(), bytes));
        Ok(())
    }

    fn listed(
        &self,
        fixed: &Reference,
        index: &Index,
        wanted: &mut PullSet,
        depth: usize,
    ) -> Result<(), Error> {
        for entry in &index.manifests {
            if !is_document(&entry.media_type) || entry.size > MAX_DOCUMENT {
                return Err(TransferFailure::NotAnImage {
                    name: fixed.clone(),
                    digest: entry.digest.clone(),
                    media_type: entry.media_type.clone(),
                }
                .into());
            }
            if wanted.documents.len() >= MAX_DOCUMENTS {
                let (name, maximum) = (fixed.clone(), MAX_DOCUMENTS);
                return Err(TransferFailure::TooManyManifests { name, maximum }.into());
            }
            let name = fixed.with_digest(entry.digest.clone());
            let bytes = match read_document(self.layout, entry) {
                Ok(bytes) => bytes,
                Err(_) => self.registry.manifest(&name, self.cancel).map_err(Error::of_registry)?.1,
            };
            if bytes.len() as u64 != entry.size {
                let (found, expected) = (bytes.len() as u64, entry.size);
                return Err(TransferFailure::Size { name, found, expected }.into());
            }
            self.everything(fixed, entry, bytes, wanted, depth + 1)?;
        }
        Ok(())
    }

    fn blob(&self, fixed: &Reference, blob: &Descriptor) -> Result<(), Error> {
        (self.watcher)(Transfer::Started { blob });
        let existed = self.layout.has(blob)?;
        if !existed {
            self.fetch(fixed, blob)?;
        }
        self.origins.put(&blob.digest, fixed)?;
        (self.watcher)(Transfer::Pulled { blob, existed });
        Ok(())
    }

    fn fetch(&self, fixed: &Reference, blob: &Descriptor) -> Result<(), Error> {
        let mut others = self.registry.routes(fixed).map_err(Error::of_registry)?.len().saturating_sub(1);
        loop {
            let inner = self.registry.open(fixed, blob, self.cancel).map_err(Error::of_registry)?;
            let mut counted = Counted { inner, blob, bytes: 0, failure: None, watcher: self.watcher };
            let put = self.layout.put_from(blob, &mut counted);
            match counted.failure {
                None => return Ok(put?),
                // A mirror that gave wrong bytes is asked last from then on.
                Some(failure) if failure.kind() == io::ErrorKind::InvalidData && others > 0 => others -= 1,
                Some(failure) => return Err(of_read(fixed, failure)),
            }
        }
    }
}

/// What there is may be something else than an image for this platform.
fn unusable(error: SourceError) -> Error {
    let hint = match error.kind() {
        SourceErrorKind::NoPlatform => Hint::of(Setting::PullPlatform, "")
            .text(" takes one that there is, ")
            .setting(Setting::AllPlatforms, "")
            .text(" all"),
        SourceErrorKind::Unsupported => {
            Hint::of(Setting::PullAllPlatforms, "").text(" takes it as it is, to be pushed elsewhere")
        }
        _ => return Error::of_registry(error),
    };
    Error::of_registry(error).hint(hint)
}

/// A blob that did not come: no fault of the state directory, where it was on its way to.
fn of_read(name: &Reference, error: io::Error) -> Error {
    let (is_corrupt, reason) = (error.kind() == io::ErrorKind::InvalidData, error.to_string());
    match error.downcast::<SourceError>() {
        Ok(inner) => Error::of_registry(inner),
        Err(_) => TransferFailure::Broken { name: name.clone(), reason, is_corrupt }.into(),
    }
}

/// What a pull consists of.
#[derive(Default)]
struct PullSet {
    /// What is listed before what lists it.
    documents: Vec<(Descriptor, Vec<u8>)>,
    blobs: Vec<Descriptor>,
}

struct Counted<'a> {
    inner: Box<dyn Read + Send>,
    blob: &'a Descriptor,
    bytes: u64,
    /// Why there was no more.
    failure: Option<io::Error>,
    watcher: &'a Watcher<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(|error| {
            let same = io::Error::new(error.kind(), error.to_string());
            self.failure = Some(error);
            same
        })?;
        self.bytes += count as u64;
        (self.watcher)(Transfer::Progress { blob: self.blob, bytes: self.bytes });
        Ok(count)
    }
}
