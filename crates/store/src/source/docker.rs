use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ocibuild_spec::{
    CancelToken, Descriptor, DiffId, Digest, Hasher, MAX_DOCUMENT, Manifest, MediaType, Reference,
    ResolvedImage, SourceError, SourceErrorKind, check_image, check_manifest, json, parse_config,
};
use serde::Deserialize;

use super::images::{Found, StoredImage};
use super::members::{Members, Place};
use super::select::Selection;
use crate::{Error, ErrorKind};

/// Most bytes of `manifest.json`; a hundred thousand names have a third of it.
pub(super) const MAX_LIST: u64 = 16 << 20;
/// Most bytes of the configs of all images together; each has some kilobytes.
const MAX_CONFIGS: u64 = 64 << 20;

/// The images of a docker archive. It has no manifests of the registry's kind, so one is made: with the layers as
/// they are stored.
#[derive(Debug)]
pub(super) struct DockerArchive {
    images: Vec<Image>,
    /// Blobs of the images resolved so far.
    places: Mutex<BTreeMap<Digest, Place>>,
    /// Digests of compressed layers that were read for them: images share layers.
    hashed: Mutex<BTreeMap<Place, Digest>>,
    /// Manifests made for images resolved so far.
    made: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Image {
    fn names(&self) -> impl Iterator<Item = Reference> + '_ {
        self.repo_tags.iter().flatten().filter_map(|name| name.parse().ok())
    }
}

impl DockerArchive {
    pub(super) fn parse(bytes: &[u8], place: &Path) -> Result<Self, Error> {
        let images: Vec<Image> = json::from_slice(bytes).map_err(|error| {
            Error::corrupt(format!("manifest.json of {} is malformed", place.display())).caused_by(error)
        })?;
        if images.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, format!("{} holds no image", place.display())));
        }
        Ok(Self { images, places: Mutex::default(), hashed: Mutex::default(), made: Mutex::default() })
    }

    pub(super) fn names(&self) -> Vec<Reference> {
        self.images.iter().flat_map(Image::names).collect()
    }

    pub(super) fn place(&self, digest: &Digest) -> Option<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    /// The bytes of a manifest that was made here.
    pub(super) fn made(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// All images with their names; one that stands there twice has the names of both.
    pub(super) fn all(
        &self,
        members: &Members,
        cancel: &CancelToken,
    ) -> Result<Vec<StoredImage>, SourceError> {
        let (mut found, mut configs) = (Found::default(), 0);
        for image in &self.images {
            let resolved = self.image(members, image, cancel)?;
            // An archive may name one config over and over.
            configs += resolved.config_bytes.len() as u64;
            if configs > MAX_CONFIGS {
                let archive = members.path().display();
                let text = format!("{archive}: the configs of its images have more than {MAX_CONFIGS} bytes");
                return Err(SourceError::new(SourceErrorKind::Corrupt, text)
                    .hint("save fewer images into one archive"));
            }
            found.add(&resolved.descriptor, image.names());
            let digest = resolved.descriptor.digest;
            self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, resolved.manifest_bytes);
        }
        Ok(found.into_images())
    }

    fn choose(&self, selection: &Selection, place: &Path) -> Result<&Image, SourceError> {
        let fits = |image: &&Image| match (&selection.tag, &selection.reference) {
            (Some(tag), _) => image.names().any(|name| name.tag() == Some(tag)),
            (None, Some(reference)) => image.names().any(|name| name == *reference),
            (None, None) => false,
        };
        if selection.tag.is_none()
            && let [only] = self.images.as_slice()
        {
            return Ok(only);
        }
        self.images.iter().find(fits).ok_or_else(|| {
            let names: Vec<String> = self.names().iter().take(20).map(Reference::familiar).collect();
            let text = format!("{}: several images, and none is chosen", place.display());
            SourceError::new(SourceErrorKind::NotFound, text)
                .hint(format!("the images here: {}", names.join(", ")))
        })
    }

    pub(super) fn resolve(
        &self,
        members: &Members,
        selection: &Selection,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let archive = members.path().display();
        if selection.digest.is_some() {
            let text = format!("{archive} is a docker archive, which knows no digests of manifests");
            return Err(SourceError::new(SourceErrorKind::Unsupported, text));
        }
        self.image(members, self.choose(selection, members.path())?, cancel)
    }

    fn image(
        &self,
        members: &Members,
        image: &Image,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let archive = members.path().display();
        let config_place = find(members, &image.config)?;
        let config_bytes = members.read_small(config_place, MAX_DOCUMENT)?;
        let config = parse_config(&config_bytes).map_err(|error| error.of(&archive))?;
        let names = image.layers.as_deref().unwrap_or_default();
        let diff_ids = config.rootfs.layers();
        if names.len() != diff_ids.len() {
            let text = format!("{archive}: {} layers, but the config names {}", names.len(), diff_ids.len());
            return Err(SourceError::new(SourceErrorKind::Corrupt, text));
        }
        let config_descriptor = Descriptor::of(MediaType::ImageConfig, &config_bytes);
        let mut places = vec![(config_descriptor.digest.clone(), config_place)];
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let place = find(members, name)?;
            let layer = self.describe(members, place, diff_id, cancel)?;
            places.push((layer.digest.clone(), place));
            layers.push(layer);
        }
        let manifest = Manifest::new(config_descriptor, layers);
        check_manifest(&manifest).map_err(|error| error.of(&archive))?;
        check_image(&manifest, &config).map_err(|error| error.of(&archive))?;
        let manifest_bytes = json::to_vec_pretty(&manifest).map_err(|error| {
            Error::corrupt(format!("{archive}: no manifest can be made")).caused_by(error)
        })?;
        self.places.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
        let descriptor = Descriptor::of(MediaType::ImageManifest, &manifest_bytes);
        Ok(ResolvedImage { descriptor, manifest, manifest_bytes, config, config_bytes })
    }

    /// The descriptor of a layer as it is stored. A plain tar has its diff id for a digest, which reading verifies; of
    /// a compressed one the digest has to be computed.
    fn describe(
        &self,
        members: &Members,
        place: Place,
        diff_id: &DiffId,
        cancel: &CancelToken,
    ) -> Result<Descriptor, SourceError> {
        let mut magic = Vec::new();
        members.reader(place).take(6).read_to_end(&mut magic).map_err(|error| unreadable(members, error))?;
        let media_type = match magic.as_slice() {
            [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => MediaType::ImageLayerZstd,
            _ => return Ok(Descriptor::new(MediaType::ImageLayer, diff_id.0.clone(), place.size)),
        };
        let hashed = || self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hashed().get(&place).cloned();
        let digest = match known {
            Some(digest) => digest,
            None => digest_of(members, place, cancel)?,
        };
        hashed().insert(place, digest.clone());
        Ok(Descriptor::new(media_type, digest, place.size))
    }
}

fn find(members: &Members, name: &str) -> Result<Place, Error> {
    members.find(name)?.ok_or_else(|| {
        Error::corrupt(format!(
            "{} has no member {name:?} that its manifest.json names",
            members.path().display()
        ))
    })
}

fn unreadable(members: &Members, error: io::Error) -> Error {
    Error::io(format!("read {}", members.path().display()), error)
}

fn digest_of(members: &Members, place: Place, cancel: &CancelToken) -> Result<Digest, SourceError> {
    let (mut hasher, mut reader) = (Hasher::new(), members.reader(place));
    let mut buffer = vec![0; 256 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::new(SourceErrorKind::Cancelled, "cancelled"));
        }
        match reader.read(&mut buffer).map_err(|error| unreadable(members, error))? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
