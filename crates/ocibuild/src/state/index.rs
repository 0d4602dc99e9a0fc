use std::collections::BTreeMap;

use ocibuild_registry::Registry;
use ocibuild_spec::{CancelToken, Descriptor, Document, Reference};

use super::State;
use crate::error::Error;
use crate::failure::StateFailure;
use crate::index::{
    Drafts, ImageLookup, IndexChange, IndexDraft, IndexEntry, JoinOptions, JoinOutcome, Publishing,
    check_name,
};
use crate::transfer::{Pushed, Watcher};

/// How an index is begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexOptions {
    /// Goes on with the draft of this name, or else with what the name stands for at its registry.
    pub append: bool,
    /// Images take the place of earlier ones for the same platform.
    pub replace: bool,
    /// What else is said in the index.
    pub change: IndexChange,
}

/// A draft that was made or gone on with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreatedIndex {
    /// The draft.
    pub draft: IndexDraft,
    /// What the indexes given list beside images and attestations about these; it is not in the draft.
    pub left_out: Vec<Descriptor>,
}

/// Where an index was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexPlace {
    /// It is a draft, and not pushed.
    Draft,
    /// It is in the state directory.
    State,
    /// It is at its registry.
    Registry,
}

/// An index, looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectedIndex {
    /// Where it was found; nothing from elsewhere is in it.
    pub place: IndexPlace,
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its bytes; of a draft, as they would be pushed.
    pub bytes: Vec<u8>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// What it lists.
    pub entries: Vec<IndexEntry>,
}

impl State<'_> {
    /// Drafts an index of images: those that have these names in the state directory, or else at their registries. Of
    /// names that stand for an index all images are taken, with the attestations about them.
    pub fn create_index(
        &self,
        name: &Reference,
        images: &[Reference],
        options: &IndexOptions,
        registry: &Registry,
        cancel: &CancelToken,
    ) -> Result<CreatedIndex, Error> {
        check_name(name)?;
        let _lease = self.layout.lease()?;
        let publishing = self.publishing(registry, cancel, &|_| {});
        let lookup = publishing.lookup;
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        for image in images {
            let gathered = lookup.gather(image, &lookup.find(image)?)?;
            entries.extend(gathered.entries);
            left_out.extend(gathered.left_out);
        }
        let draft = self.drafts().edit(name, |draft| {
            let mut draft = match draft {
                Some(draft) if options.append => draft,
                Some(_) => {
                    return Err(StateFailure::DraftExists { name: name.clone() }.into());
                }
                None => {
                    let mut draft = IndexDraft::new(name.clone());
                    if options.append {
                        let current = registry.tagged_manifest(name, cancel).map_err(Error::of_registry)?;
                        let current = current.map(|current| (current.descriptor, current.bytes));
                        left_out.extend(publishing.rebase(&mut draft, current)?);
                    }
                    draft
                }
            };
            draft.replace |= options.replace;
            draft.add(entries, options.replace)?;
            draft.change(&options.change)?;
            Ok(draft)
        })?;
        Ok(CreatedIndex { draft, left_out })
    }

    /// Changes the draft of an index.
    pub fn annotate_index(&self, name: &Reference, change: &IndexChange) -> Result<IndexDraft, Error> {
        self.drafts().edit(name, |draft| {
            let mut draft = draft.ok_or_else(|| no_draft(name))?;
            draft.change(change)?;
            Ok(draft)
        })
    }

    /// The draft of an index, or else the index that has the name here, or else the one at the registry.
    pub fn inspect_index(
        &self,
        name: &Reference,
        registry: &Registry,
        cancel: &CancelToken,
    ) -> Result<InspectedIndex, Error> {
        if let Some(draft) = self.drafts().read(name)? {
            let (descriptor, bytes) = draft.document();
            let IndexDraft { annotations, entries, .. } = draft;
            return Ok(InspectedIndex { place: IndexPlace::Draft, descriptor, bytes, annotations, entries });
        }
        let lookup = ImageLookup { layout: self.layout, registry, cancel };
        let (place, found) = match lookup.find_here(name)? {
            Some(found) => (IndexPlace::State, found),
            None => (IndexPlace::Registry, lookup.find(name)?),
        };
        let annotations = match crate::index::parse(name, &found.descriptor, &found.bytes)? {
            Document::Index(index) => index.annotations,
            Document::Manifest(_) => BTreeMap::new(),
        };
        let entries = lookup.gather(name, &found)?.entries;
        Ok(InspectedIndex { place, descriptor: found.descriptor, bytes: found.bytes, annotations, entries })
    }

    /// Removes the draft of an index.
    pub fn remove_index_draft(&self, name: &Reference) -> Result<(), Error> {
        if self.drafts().remove(name)? { Ok(()) } else { Err(no_draft(name)) }
    }

    /// Puts the drafted index under its name at its registry, once all its images are in that repository.
    pub fn push_index(
        &self,
        name: &Reference,
        registry: &Registry,
        cancel: &CancelToken,
        watcher: &Watcher<'_>,
    ) -> Result<Pushed, Error> {
        let _lease = self.layout.lease()?;
        let mut draft = self.drafts().read(name)?.ok_or_else(|| no_draft(name))?;
        if draft.entries.is_empty() {
            return Err(StateFailure::EmptyDraft { name: name.clone() }.into());
        }
        self.publishing(registry, cancel, watcher).run(&mut draft)
    }

    /// Brings images of some platforms of an index, and puts the index under its name if no other is missing. Any
    /// number of jobs may do so at once, each with the image that it built: before the last one comes the name is not
    /// touched, and from then on it stands for all of them.
    pub fn meet_in_index(
        &self,
        name: &Reference,
        images: &[Reference],
        options: &JoinOptions,
        registry: &Registry,
        cancel: &CancelToken,
        watcher: &Watcher<'_>,
    ) -> Result<JoinOutcome, Error> {
        let _lease = self.layout.lease()?;
        let publishing = self.publishing(registry, cancel, watcher);
        crate::index::PlatformJoin::new(publishing, name.clone(), options)?.meet(images)
    }

    pub(super) fn drafts(&self) -> Drafts {
        Drafts::at(self.cache.drafts())
    }

    fn publishing<'a>(
        &'a self,
        registry: &'a Registry,
        cancel: &'a CancelToken,
        watcher: &'a Watcher<'a>,
    ) -> Publishing<'a> {
        let lookup = ImageLookup { layout: self.layout, registry, cancel };
        Publishing { lookup, origins: self.cache.origins(), watcher }
    }
}

fn no_draft(name: &Reference) -> Error {
    StateFailure::NoDraft { name: name.clone() }.into()
}
