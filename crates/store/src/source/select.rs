use std::collections::BTreeSet;
use std::fmt::Display;

use ocibuild_spec::{
    Descriptor, Digest, FetchDocument, Index, MediaType, Platform, Reference, ResolvedImage, SourceError,
    SourceErrorKind, parse_manifest_or_index, resolve_image, resolve_in_index,
};

use crate::layout::{CONTAINERD_NAME, REF_NAME};

/// Which image of a layout is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The tag asked for.
    pub(crate) tag: Option<String>,
    /// The digest asked for, which decides.
    pub(crate) digest: Option<Digest>,
    /// The full name asked for, where a source holds several images.
    pub(crate) reference: Option<Reference>,
}

/// Resolves the image that `selection` means in a layout with this `index.json`.
pub(crate) fn resolve(
    what: &dyn Display,
    index: &Index,
    selection: &Selection,
    platform: &Platform,
    fetch: &mut FetchDocument<'_>,
) -> Result<ResolvedImage, SourceError> {
    if let Some(digest) = &selection.digest {
        let root = by_digest(what, index, digest)?;
        return resolve_image(what, &root, platform, fetch);
    }
    let entries = candidates(index, selection);
    match entries.as_slice() {
        [] => Err(not_found(what, index, selection)),
        [root] => resolve_image(what, root, platform, fetch),
        several if several.iter().all(|entry| is_unnamed(entry) && entry.platform.is_some()) => {
            let platforms = Index::new(entries);
            resolve_in_index(what, &platforms, platform, fetch)
        }
        _ => Err(not_found(what, index, selection)),
    }
}

fn by_digest(what: &dyn Display, index: &Index, digest: &Digest) -> Result<Descriptor, SourceError> {
    index.manifests.iter().find(|entry| entry.digest == *digest).cloned().ok_or_else(|| {
        let text = format!("{what}: index.json does not list {digest}");
        SourceError::new(SourceErrorKind::NotFound, text)
    })
}

/// The entries that may be meant, each image once.
fn candidates(index: &Index, selection: &Selection) -> Vec<Descriptor> {
    let all = &index.manifests;
    // One image with several names has several entries.
    let distinct = |entries: Vec<&Descriptor>| {
        let mut seen = BTreeSet::new();
        let kept = entries.into_iter().filter(|entry| seen.insert(&entry.digest));
        kept.cloned().collect::<Vec<_>>()
    };
    let tagged = |tag: &str| distinct(all.iter().filter(|entry| has_tag(entry, tag)).collect());
    if let Some(tag) = &selection.tag {
        return tagged(tag);
    }
    let everything = distinct(all.iter().collect());
    if everything.len() <= 1 {
        return everything;
    }
    if let Some(reference) = &selection.reference {
        let full = reference.to_string();
        let named = distinct(
            all.iter().filter(|entry| names(entry).into_iter().flatten().any(|name| *name == full)).collect(),
        );
        if !named.is_empty() {
            return named;
        }
    }
    let latest = tagged("latest");
    if latest.is_empty() { everything } else { latest }
}

fn names(entry: &Descriptor) -> [Option<&String>; 2] {
    [CONTAINERD_NAME, REF_NAME].map(|key| entry.annotations.get(key))
}

/// The name of an entry, if one of its annotations is a full one.
pub(crate) fn full_name(entry: &Descriptor) -> Option<Reference> {
    let full = |text: &String| text.parse::<Reference>().ok().filter(|name| name.to_string() == *text);
    names(entry).into_iter().flatten().find_map(full)
}

fn is_unnamed(entry: &Descriptor) -> bool {
    names(entry) == [None, None]
}

/// Whether a name of the entry is this tag, or a full name with this tag.
fn has_tag(entry: &Descriptor, tag: &str) -> bool {
    let fits = |name: &String| {
        name == tag
            || (name.contains('/') || name.contains(':'))
                && name.parse::<Reference>().is_ok_and(|name| name.tag() == Some(tag))
    };
    names(entry).into_iter().flatten().any(fits)
}

fn not_found(what: &dyn Display, index: &Index, selection: &Selection) -> SourceError {
    let mut offered: Vec<&str> = index
        .manifests
        .iter()
        .filter_map(|entry| names(entry).into_iter().flatten().next())
        .map(String::as_str)
        .collect();
    offered.sort_unstable();
    offered.dedup();
    let text = match (&selection.tag, index.manifests.is_empty()) {
        (_, true) => format!("{what}: the layout holds no image"),
        (Some(tag), _) => format!("{what}: no image has the tag {tag:?}, or several have it"),
        (None, _) => format!("{what}: several images, and none is chosen"),
    };
    let shown = offered.into_iter().take(20).collect::<Vec<_>>().join(", ");
    let hint = if shown.is_empty() {
        "choose one by digest, as in DIR@sha256:…".to_owned()
    } else {
        format!("the images here: {shown}")
    };
    SourceError::new(SourceErrorKind::NotFound, text).hint(hint)
}

/// The descriptor of a document of which only bytes and digest are known.
pub(crate) fn descriptor_of(bytes: &[u8], digest: &Digest) -> Option<Descriptor> {
    let document = parse_manifest_or_index(bytes, None).ok()?;
    let (own, usual) = match document {
        ocibuild_spec::Document::Manifest(manifest) => (manifest.media_type, MediaType::ImageManifest),
        ocibuild_spec::Document::Index(index) => (index.media_type, MediaType::ImageIndex),
    };
    Some(Descriptor::new(own.unwrap_or(usual), digest.clone(), bytes.len() as u64))
}
