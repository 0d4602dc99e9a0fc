use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ocibuild_spec::{CancelToken, Descriptor, Digest, Index, Reference, json};

use super::{ImageLayout, open_expecting, read_capped, sync_directory};
use crate::blob::{BlobSink as _, reachable};
use crate::source::full_name;
use crate::{Error, ErrorKind};

/// The annotation by which the image specification names an entry of `index.json`.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same for containerd and docker, which expect the full name.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// When the image was made.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";

/// An index of a hundred thousand tags has about forty megabytes.
pub(crate) const MAX_INDEX: u64 = 128 << 20;

impl ImageLayout {
    /// Names an image, replacing what had the name. Its blobs, and those of all images of an index, have to be here;
    /// they are flushed first. Processes that tag at once do not lose each other's names.
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<(), Error> {
        self.tag_all(&[(reference.clone(), descriptor.clone())], &CancelToken::new())
    }

    /// The same for many names at once, all of them or none: `index.json` is read and written once. Of equal names the
    /// last one counts.
    pub fn tag_all(&self, names: &[(Reference, Descriptor)], cancel: &CancelToken) -> Result<(), Error> {
        let named = names.iter().map(|(name, descriptor)| (Some(name), descriptor));
        self.enter(named, cancel)
    }

    /// Keeps an image that has no name, under the same conditions, until it gets one or is [forgotten](Self::forget).
    pub fn keep(&self, descriptor: &Descriptor) -> Result<(), Error> {
        self.enter(std::iter::once((None, descriptor)), &CancelToken::new())
    }

    /// Names many images, and keeps those without a name, all of them or none.
    pub fn enter_all(
        &self,
        images: &[(Option<Reference>, Descriptor)],
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        self.enter(images.iter().map(|(name, descriptor)| (name.as_ref(), descriptor)), cancel)
    }

    /// Forgets an image without a name; tells whether it was there. The blobs stay until they are collected.
    pub fn forget(&self, digest: &Digest) -> Result<bool, Error> {
        self.update(|entries| {
            let before = entries.len();
            entries.retain(|entry| !(is_unnamed(entry) && entry.digest == *digest));
            entries.len() != before
        })
    }

    /// Removes the entries that are not wanted.
    pub(super) fn forget_entries(&self, is_forgotten: impl Fn(&Descriptor) -> bool) -> Result<(), Error> {
        let forget = |entries: &mut Vec<Descriptor>| {
            let before = entries.len();
            entries.retain(|entry| !is_forgotten(entry));
            entries.len() != before
        };
        self.update(forget).map(drop)
    }

    /// The images that are kept without a name.
    pub fn unnamed(&self) -> Result<Vec<Descriptor>, Error> {
        let mut entries = read_index(self.root())?.manifests;
        entries.retain(is_unnamed);
        Ok(entries)
    }

    /// Enters images of which all blobs are here, instead of what had their names.
    fn enter<'i>(
        &self,
        images: impl Iterator<Item = (Option<&'i Reference>, &'i Descriptor)> + Clone,
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        let _nobody_collects = self.lock_blobs_shared()?;
        // What has a name was flushed when it got its first one.
        let known = read_index(self.root())?;
        let mut flushed: BTreeSet<(&Digest, u64)> =
            known.manifests.iter().map(|entry| (&entry.digest, entry.size)).collect();
        let mut seen = BTreeSet::new();
        let mut blobs = Blobs::default();
        for (name, descriptor) in images.clone() {
            if cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
            if seen.insert((&descriptor.digest, descriptor.size)) {
                let is_new = flushed.insert((&descriptor.digest, descriptor.size));
                self.complete(descriptor, is_new, &mut blobs).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => {
                        let what = name.map_or_else(|| descriptor.digest.to_string(), Reference::familiar);
                        let text = format!("{what} is not complete in {}", self.root().display());
                        Error::new(ErrorKind::Incomplete, text).caused_by(error)
                    }
                    _ => error,
                })?;
            }
        }
        self.flush(&blobs.new.into_values().collect::<Vec<_>>())?;
        self.update(|entries| enter_entries(entries, images))?;
        Ok(())
    }

    /// Sees that all blobs of an image are here, and notes those that are to be flushed because the image is new.
    fn complete(&self, root: &Descriptor, is_new: bool, blobs: &mut Blobs) -> Result<(), Error> {
        for blob in reachable(self, root)? {
            if blobs.new.contains_key(&blob.digest) {
                continue;
            }
            if is_new {
                open_expecting(self.root(), &blob)?;
                blobs.new.insert(blob.digest.clone(), blob);
            } else if blobs.present.insert(blob.digest.clone()) {
                self.require(&blob)?;
            }
        }
        Ok(())
    }

    /// Fails when a blob is not here in its full size; it is not opened.
    fn require(&self, blob: &Descriptor) -> Result<(), Error> {
        if self.stat(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        Err(Error::missing(&blob.digest, self.root()))
    }

    /// Takes a name away; tells whether it was there. The blobs stay until they are collected.
    pub fn untag(&self, reference: &Reference) -> Result<bool, Error> {
        Ok(!self.untag_all(std::slice::from_ref(reference))?.is_empty())
    }

    /// Takes many names away at once; those that were there. `index.json` is read and written once.
    pub fn untag_all(&self, names: &[Reference]) -> Result<BTreeSet<Reference>, Error> {
        let names: BTreeSet<&Reference> = names.iter().collect();
        let mut found = BTreeSet::new();
        self.update(|entries| {
            entries.retain(|entry| match full_name(entry) {
                Some(name) if names.contains(&name) => {
                    found.insert(name);
                    false
                }
                _ => true,
            });
            !found.is_empty()
        })?;
        Ok(found)
    }

    /// What a name stands for. A reference with a digest is found under any tag of the same repository, and under the
    /// digest of an index of which one platform was kept.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let mut named = self.list()?;
        let is_repository = |other: &Reference| {
            other.registry() == reference.registry() && other.repository() == reference.repository()
        };
        let found = match reference.digest() {
            Some(digest) => {
                let is_it =
                    |(name, entry): &(Reference, Descriptor)| entry.digest == *digest && is_repository(name);
                named.iter().position(is_it).or_else(|| named.iter().position(|(name, _)| name == reference))
            }
            None => named.iter().position(|(name, _)| name == reference),
        };
        Ok(found.map(|at| named.swap_remove(at).1))
    }

    /// All names and what they stand for, sorted by name. Entries of other tools without a full name are left out.
    pub fn list(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        let index = read_index(self.root())?;
        let mut named: Vec<_> = index
            .manifests
            .into_iter()
            .filter_map(|entry| Some((full_name(&entry)?, without_name(entry))))
            .collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(named)
    }

    fn update(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> bool) -> Result<bool, Error> {
        let _lock = self.lock_index()?;
        let mut index = read_index(self.root())?;
        let changed = change(&mut index.manifests);
        if changed {
            let bytes = json::to_vec(&index)
                .map_err(|error| Error::corrupt("index.json cannot be written").caused_by(error))?;
            replace(self.root(), "index.json", &self.root().join("tmp/index.json.new"), &bytes)?;
        }
        Ok(changed)
    }
}

/// Blobs of images that are entered, so that what they share is looked at once.
#[derive(Default)]
struct Blobs {
    /// To be flushed.
    new: BTreeMap<Digest, Descriptor>,
    /// Flushed when they were new.
    present: BTreeSet<Digest>,
}

/// Puts entries instead of those that had their names. An image without a name is left out where it has one, and a name
/// takes the place of an entry of the same image without one.
fn enter_entries<'i>(
    entries: &mut Vec<Descriptor>,
    images: impl Iterator<Item = (Option<&'i Reference>, &'i Descriptor)> + Clone,
) -> bool {
    let names: BTreeMap<String, &Descriptor> =
        images.clone().filter_map(|(name, image)| Some((name?.to_string(), image))).collect();
    let named: BTreeSet<&Digest> = names.values().map(|image| &image.digest).collect();
    entries.retain(|entry| match full_name(entry) {
        Some(name) => !names.contains_key(&name.to_string()),
        None => !(is_unnamed(entry) && named.contains(&entry.digest)),
    });
    let mut there: BTreeSet<(Digest, u64)> =
        entries.iter().map(|entry| (entry.digest.clone(), entry.size)).collect();
    there.extend(names.values().map(|image| (image.digest.clone(), image.size)));
    for (name, image) in &names {
        let mut entry = (*image).clone();
        entry.annotations.insert(REF_NAME.to_owned(), name.clone());
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.clone());
        entries.push(entry);
    }
    for (_, image) in images.filter(|(name, _)| name.is_none()) {
        if there.insert((image.digest.clone(), image.size)) {
            entries.push(without_name(image.clone()));
        }
    }
    true
}

/// Whether nobody gave the entry a name, not even one that means something to another tool alone.
pub(super) fn is_unnamed(entry: &Descriptor) -> bool {
    [REF_NAME, CONTAINERD_NAME].iter().all(|name| !entry.annotations.contains_key(*name))
}

fn without_name(mut entry: Descriptor) -> Descriptor {
    entry.annotations.remove(REF_NAME);
    entry.annotations.remove(CONTAINERD_NAME);
    entry
}

/// The `index.json` of a layout.
pub(crate) fn read_index(root: &Path) -> Result<Index, Error> {
    const HINT: &str =
        "restore the file from a copy, or write `{\"schemaVersion\":2,\"manifests\":[]}` into it";
    let path = root.join("index.json");
    parse_index(&read_capped(&path, MAX_INDEX)?, &path.display()).map_err(|error| error.with_hint(HINT))
}

pub(crate) fn parse_index(bytes: &[u8], place: &dyn std::fmt::Display) -> Result<Index, Error> {
    let index: Index = json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("{place} is malformed")).caused_by(error))?;
    if index.schema_version != 2 {
        return Err(Error::corrupt(format!("{place} has schemaVersion {}, not 2", index.schema_version)));
    }
    Ok(index)
}

/// Replaces a small file whole and durably; `temporary` is on the same file system and nobody else's.
pub(crate) fn replace(root: &Path, name: &str, temporary: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;

    let mut file = fs_err::File::create(temporary).map_err(Error::fs)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs_err::remove_file(temporary);
        return Err(Error::fs(error));
    }
    fs_err::rename(temporary, root.join(name)).map_err(Error::fs)?;
    sync_directory(root)
}
