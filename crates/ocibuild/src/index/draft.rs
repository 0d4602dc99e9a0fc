use std::collections::BTreeMap;

use ocibuild_spec::{Descriptor, Digest, Index, MediaType, Platform, Reference, json};

use crate::annotation::{Annotation, AnnotationLevel};
use crate::error::Error;
use crate::failure::IndexFailure;
use crate::transfer::Origin;

/// The annotation by which a manifest of attestations tells which image it is about.
const ABOUT: &str = "vnd.docker.reference.digest";

/// An index that is being put together, and is not at its registry yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexDraft {
    /// The name it is to get.
    pub name: Reference,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// What it lists, always in the same order: images by platform, attestations behind all images.
    pub entries: Vec<IndexEntry>,
    /// The index that it goes on with.
    pub(crate) base: Option<Base>,
    /// Its own images take the place of others for the same platform, also when these come later.
    pub(crate) replace: bool,
}

/// The index that had the name when a draft began to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// `None` when nothing had the name.
    pub(crate) digest: Option<Digest>,
}

/// An image, or attestations about one, in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexEntry {
    /// Its manifest, with the platform and annotations as the index lists them.
    pub descriptor: Descriptor,
    /// The name by which it was given.
    pub name: Reference,
    /// Where its manifest is, and what that lists.
    pub origin: Origin,
    /// It is of the index that the draft goes on with.
    pub(crate) is_of_base: bool,
}

/// Which entry of a draft is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntrySelector {
    /// The one that was given by this name, or has this digest.
    Image(Reference),
    /// The one for this platform.
    Platform(Platform),
}

/// What is to be changed in a draft.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexChange {
    /// The entry that the other fields are about.
    pub entry: Option<EntrySelector>,
    /// Its operating system.
    pub os: Option<String>,
    /// Its architecture.
    pub architecture: Option<String>,
    /// Its variant; empty for none.
    pub variant: Option<String>,
    /// The version of its operating system; empty for none.
    pub os_version: Option<String>,
    /// Features of its operating system, if there are any to set.
    pub os_features: Vec<String>,
    /// Annotations: of the index, or of descriptors of manifests, which are those for the annotation's platform, the
    /// entry, or all images.
    pub annotations: Vec<Annotation>,
}

impl IndexChange {
    fn sets_platform(&self) -> bool {
        let texts = [&self.os, &self.architecture, &self.variant, &self.os_version];
        texts.iter().any(|text| text.is_some()) || !self.os_features.is_empty()
    }
}

impl IndexEntry {
    /// The digest of the image that these attestations are about; `None` for an image.
    pub fn subject(&self) -> Option<&str> {
        subject_of(&self.descriptor)
    }

    /// What tells images apart that an index lists.
    fn identity(&self) -> Identity {
        Identity::of(self.descriptor.platform.as_ref())
    }
}

/// The digest of the image that attestations are about.
pub(super) fn subject_of(descriptor: &Descriptor) -> Option<&str> {
    let is_unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    descriptor.annotations.get(ABOUT).filter(|_| is_unknown).map(String::as_str)
}

/// A platform, whichever way it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    os: String,
    architecture: String,
    variant: String,
    os_version: String,
    os_features: Vec<String>,
}

impl Identity {
    fn of(platform: Option<&Platform>) -> Self {
        let stated = platform.cloned().unwrap_or_else(|| Platform::new("", "", ""));
        let Platform { os, architecture, variant, .. } =
            Platform::new(&stated.os, &stated.architecture, &stated.variant);
        let Platform { os_version, mut os_features, .. } = stated;
        os_features.sort();
        Self { os, architecture, variant, os_version, os_features }
    }
}

impl IndexDraft {
    /// A draft without images.
    pub(crate) fn new(name: Reference) -> Self {
        Self { name, annotations: BTreeMap::new(), entries: Vec::new(), base: None, replace: false }
    }

    /// The index as it would be pushed now.
    pub fn index(&self) -> Index {
        let mut index = Index::new(self.entries.iter().map(|entry| entry.descriptor.clone()).collect());
        index.annotations = self.annotations.clone();
        index
    }

    /// Its bytes, which follow from what is in it and nothing else, and their descriptor.
    pub fn document(&self) -> (Descriptor, Vec<u8>) {
        let bytes = json::to_vec_pretty(&self.index()).expect("an index is plain data");
        (Descriptor::of(MediaType::ImageIndex, &bytes), bytes)
    }

    /// Takes entries in. A second image for a platform is an error, or with `replace` takes the place of the first.
    pub(crate) fn add(&mut self, entries: Vec<IndexEntry>, replace: bool) -> Result<(), Error> {
        for entry in entries {
            let identity = entry.identity();
            let is_same = |known: &IndexEntry| known.identity() == identity;
            let digest = &entry.descriptor.digest;
            let known = self.entries.iter_mut().find(|known| {
                is_same(known) && known.descriptor.digest == *digest && known.subject() == entry.subject()
            });
            if let Some(known) = known {
                known.is_of_base &= entry.is_of_base;
                continue;
            }
            let is_image = entry.subject().is_none();
            let other = self.entries.iter().position(|known| known.subject().is_none() && is_same(known));
            match other.filter(|_| is_image) {
                Some(at) if replace => drop(self.entries.remove(at)),
                Some(at) => return Err(self.twice(&self.entries[at], &entry)),
                None => {}
            }
            self.entries.push(entry);
        }
        self.tidy();
        Ok(())
    }

    fn twice(&self, one: &IndexEntry, other: &IndexEntry) -> Error {
        let shown = |entry: &IndexEntry| {
            let digest = &entry.descriptor.digest;
            let name = entry.name.familiar();
            if entry.name.digest() == Some(digest) { name } else { format!("{name} ({digest})") }
        };
        let platform = other.descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        let (name, first, second) = (self.name.clone(), shown(one), shown(other));
        IndexFailure::TwoImages { name, platform, first, second }.into()
    }

    /// Attestations go with their images; the order follows from what is listed.
    fn tidy(&mut self) {
        let images: BTreeMap<String, Identity> = self
            .entries
            .iter()
            .filter(|entry| entry.subject().is_none())
            .map(|entry| (entry.descriptor.digest.to_string(), entry.identity()))
            .collect();
        self.entries.retain(|entry| entry.subject().is_none_or(|subject| images.contains_key(subject)));
        self.entries.sort_by_cached_key(|entry| {
            let subject = entry.subject().and_then(|subject| images.get(subject).cloned());
            let is_attestation = subject.is_some();
            (is_attestation, subject.unwrap_or_else(|| entry.identity()), entry.descriptor.digest.clone())
        });
    }

    /// Goes on with what `entries` are now, instead of what the draft went on with before.
    pub(crate) fn rebase(
        &mut self,
        digest: Option<Digest>,
        entries: Vec<IndexEntry>,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.base = Some(Base { digest });
        self.entries.retain(|entry| !entry.is_of_base);
        for (key, value) in annotations {
            self.annotations.entry(key).or_insert(value);
        }
        let is_superseded = |entry: &IndexEntry| {
            let images = self.entries.iter().filter(|own| own.subject().is_none());
            // An image of which the draft says something else than the index is in it already.
            let same = |own: &IndexEntry| own.descriptor.digest == entry.descriptor.digest;
            let replaced = |own: &IndexEntry| self.replace && own.identity() == entry.identity();
            entry.subject().is_none() && images.into_iter().any(|own| same(own) || replaced(own))
        };
        let entries: Vec<IndexEntry> = entries.into_iter().filter(|entry| !is_superseded(entry)).collect();
        self.add(entries.into_iter().map(|entry| IndexEntry { is_of_base: true, ..entry }).collect(), false)
    }

    /// Whether an index lists all that is the draft's own.
    pub(crate) fn is_within(&self, index: &Index) -> bool {
        let own = self.entries.iter().filter(|entry| !entry.is_of_base);
        own.map(|entry| &entry.descriptor).all(|own| index.manifests.contains(own))
    }

    /// Changes platforms and annotations.
    pub fn change(&mut self, change: &IndexChange) -> Result<(), Error> {
        let selected = change.entry.as_ref().map(|entry| self.position(entry)).transpose()?;
        for annotation in &change.annotations {
            self.annotate(annotation, selected)?;
        }
        match selected {
            _ if !change.sets_platform() => Ok(()),
            Some(at) => self.set_platform(at, change),
            None => Err(IndexFailure::NoImageNamed.into()),
        }
    }

    fn position(&self, selector: &EntrySelector) -> Result<usize, Error> {
        let fits = |entry: &IndexEntry| match selector {
            EntrySelector::Image(name) => match name.digest() {
                Some(digest) => entry.descriptor.digest == *digest,
                None => entry.name == *name && entry.subject().is_none(),
            },
            EntrySelector::Platform(platform) => {
                entry.descriptor.platform.as_ref().is_some_and(|own| own.satisfies(platform))
            }
        };
        let found: Vec<usize> = (0..self.entries.len()).filter(|at| fits(&self.entries[*at])).collect();
        if let [one] = found[..] {
            return Ok(one);
        }
        let selector = match selector {
            EntrySelector::Image(name) => name.familiar(),
            EntrySelector::Platform(platform) => platform.to_string(),
        };
        let images = self.entries.iter().filter(|entry| entry.subject().is_none()).map(|entry| {
            let platform = entry.descriptor.platform.as_ref().map(ToString::to_string);
            (entry.name.clone(), platform.unwrap_or_default())
        });
        Err(IndexFailure::NotInDraft {
            selector,
            name: self.name.clone(),
            is_ambiguous: !found.is_empty(),
            images: images.collect(),
        }
        .into())
    }

    fn set_platform(&mut self, at: usize, change: &IndexChange) -> Result<(), Error> {
        let stated = self.entries[at].descriptor.platform.clone();
        let stated = stated.unwrap_or_else(|| Platform::new("", "", ""));
        let part = |new: &Option<String>, old: &str| new.clone().unwrap_or_else(|| old.to_owned());
        let mut platform = Platform::new(
            &part(&change.os, &stated.os),
            &part(&change.architecture, &stated.architecture),
            // A variant of another architecture says nothing about this one.
            &change.variant.clone().unwrap_or_else(|| match &change.architecture {
                Some(new) if *new != stated.architecture => String::new(),
                _ => stated.variant.clone(),
            }),
        );
        platform.os_version = part(&change.os_version, &stated.os_version);
        platform.os_features = match &change.os_features[..] {
            [] => stated.os_features,
            features => features.to_vec(),
        };
        // A slash in one of the names would make another platform of it.
        if !platform.to_string().parse::<Platform>().is_ok_and(|parsed| parsed.satisfies(&platform)) {
            return Err(IndexFailure::NotAPlatform { platform }.into());
        }
        let mut changed = IndexEntry { is_of_base: false, ..self.entries[at].clone() };
        changed.descriptor.platform = Some(platform);
        let mut others = self.entries.iter().enumerate().filter(|(other, _)| *other != at);
        if let Some((_, other)) = others.find(|(_, other)| other.identity() == changed.identity()) {
            return Err(self.twice(other, &changed));
        }
        self.entries[at] = changed;
        self.tidy();
        Ok(())
    }

    fn annotate(&mut self, annotation: &Annotation, selected: Option<usize>) -> Result<(), Error> {
        let Annotation { level, platform, key, value } = annotation;
        match level {
            AnnotationLevel::Index => {
                self.annotations.insert(key.clone(), value.clone());
                Ok(())
            }
            AnnotationLevel::ManifestDescriptor => {
                let chosen = match platform {
                    Some(platform) => {
                        vec![self.position(&EntrySelector::Platform(platform.clone()))?]
                    }
                    None => match selected {
                        Some(at) => vec![at],
                        None => (0..self.entries.len())
                            .filter(|at| self.entries[*at].subject().is_none())
                            .collect(),
                    },
                };
                for at in chosen {
                    let entry = &mut self.entries[at];
                    entry.is_of_base = false;
                    entry.descriptor.annotations.insert(key.clone(), value.clone());
                }
                Ok(())
            }
            AnnotationLevel::Manifest | AnnotationLevel::IndexDescriptor => {
                Err(IndexFailure::AnnotationLevel { level: *level }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
