//! Base images as people expect them: names of the state directory, then registries.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use ocibuild_registry::Registry;
use ocibuild_spec::{
    CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError, SourceErrorKind,
    resolve_image,
};
use ocibuild_store::{BlobSink as _, ImageLayout, read_document};

use crate::cache::Cache;
use crate::state_directory::StateDirectory;

/// The images that a state directory has names for, then those of registries.
///
/// A registry is asked once for what a name stands for, so that all platforms of a build start from the same image; the
/// answer is kept for builds that may not ask.
#[derive(Debug)]
pub struct BaseImages {
    layout: ImageLayout,
    cache: Cache,
    /// Nobody is asked offline.
    registry: Option<Registry>,
    /// Names here do not count.
    pull: bool,
    /// What names stood for when they were first asked for.
    roots: Mutex<BTreeMap<String, (Descriptor, Vec<u8>)>>,
}

/// What an offline build lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{part} is not in the state directory, and the build is offline", reference.familiar())]
#[non_exhaustive]
pub struct NotHere {
    /// The image.
    pub reference: Reference,
    /// What of it, in words that follow its name; empty of the image itself.
    part: String,
}

impl BaseImages {
    /// The images of this state directory, and those that `registry` can reach.
    pub fn new(state: &StateDirectory, registry: Registry) -> Self {
        Self { registry: Some(registry), ..Self::offline(state) }
    }

    /// The images of this state directory, and whatever else of earlier builds is in it: no network is used.
    pub fn offline(state: &StateDirectory) -> Self {
        let (layout, cache) = (state.layout.clone(), state.cache.clone());
        Self { layout, cache, registry: None, pull: false, roots: Mutex::default() }
    }

    /// Whether registries are asked even for what the state directory has a name for (as `docker build --pull`).
    #[must_use]
    pub fn pull(mut self, pull: bool) -> Self {
        self.pull = pull;
        self
    }

    /// What a name stands for by what is here: itself, where it has a digest, or what it stood for when a build asked last.
    fn root_here(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>), SourceError> {
        let root = match reference.digest() {
            Some(digest) => digest.clone(),
            None => self.cache.base_image(reference).ok_or_else(|| not_here(reference, ""))?.digest,
        };
        self.layout.document(&root)?.ok_or_else(|| not_here(reference, ""))
    }

    /// A manifest or a config that is here.
    fn document_here(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        if self.layout.stat(&descriptor.digest)?.is_none() {
            return Err(not_here(reference, &format!(" ({})", descriptor.digest)));
        }
        Ok(read_document(&self.layout, descriptor)?)
    }

    /// What a name stands for at its registry, asked once.
    fn root(
        &self,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<(Descriptor, Vec<u8>), SourceError> {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = roots.get(&reference.to_string()) {
            return Ok(known.clone());
        }
        let found = match &self.registry {
            None => self.root_here(reference)?,
            Some(registry) => {
                let found = registry.manifest(reference, cancel)?;
                // For builds that may not ask.
                self.layout.put_from(&found.0, &mut found.1.as_slice())?;
                self.cache.put_base_image(reference, &found.0).map_err(|error| {
                    SourceError::new(SourceErrorKind::Io, error.to_string()).caused_by(error)
                })?;
                found
            }
        };
        roots.insert(reference.to_string(), found.clone());
        Ok(found)
    }
}

impl ImageSource for BaseImages {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        while let Some(here) = self.layout.resolve(reference)?.filter(|_| !self.pull) {
            match ImageSource::resolve(&self.layout, reference, platform, cancel) {
                // The registry may have more platforms than were kept here.
                Err(error) if error.kind() == SourceErrorKind::NoPlatform && self.registry.is_some() => break,
                // Somebody gave the name to another image, or took it away, before this one was held.
                Err(error)
                    if error.kind() == SourceErrorKind::NotFound
                        && self.layout.resolve(reference)?.is_none_or(|now| now.digest != here.digest) => {}
                other => return other,
            }
        }
        let (root, bytes) = self.root(reference, cancel)?;
        let Some(registry) = &self.registry else {
            let mut bytes = Some(bytes);
            // The root is asked for first and once.
            return resolve_image(
                &reference.familiar(),
                &root,
                platform,
                &mut |descriptor| match bytes.take() {
                    Some(bytes) => Ok(bytes),
                    None => self.document_here(reference, descriptor),
                },
            );
        };
        let known = |descriptor: &Descriptor| read_document(&self.layout, descriptor).ok();
        let image = registry.resolve_from(reference, (&root, bytes), platform, &known, cancel)?;
        // For the next build, which then asks for what the name stands for and for nothing else.
        self.layout.put_from(&image.descriptor, &mut image.manifest_bytes.as_slice())?;
        self.layout.put_from(&image.manifest.config, &mut image.config_bytes.as_slice())?;
        Ok(image)
    }

    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        if self.layout.stat(&descriptor.digest)?.is_some() {
            return ImageSource::open(&self.layout, reference, descriptor, cancel);
        }
        match &self.registry {
            Some(registry) => registry.open(reference, descriptor, cancel),
            None => Err(not_here(reference, &format!(": its layer {}", descriptor.digest))),
        }
    }
}

fn not_here(reference: &Reference, part: &str) -> SourceError {
    let missing = NotHere { reference: reference.clone(), part: part.to_owned() };
    SourceError::new(SourceErrorKind::Offline, missing.to_string()).caused_by(missing)
}
