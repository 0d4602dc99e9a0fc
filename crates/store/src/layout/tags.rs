use std::path::Path;

use ocibuild_spec::{Descriptor, Digest, Index, Reference, json};

use super::{ImageLayout, read_capped, sync_directory};
use crate::blob::{BlobSink as _, BlobStore as _, reachable};
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
        let name = reference.to_string();
        let mut entry = descriptor.clone();
        entry.annotations.insert(REF_NAME.to_owned(), name.clone());
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.clone());
        self.enter(&reference.familiar(), entry, |other, entry| {
            full_name(other).is_some_and(|other| other.to_string() == name)
                || (is_unnamed(other) && other.digest == entry.digest)
        })
    }

    /// Keeps an image that has no name, under the same conditions, until it gets one or is [forgotten](Self::forget).
    pub fn keep(&self, descriptor: &Descriptor) -> Result<(), Error> {
        if self.is_named(descriptor)? {
            return Ok(());
        }
        let entry = without_name(descriptor.clone());
        self.enter(descriptor.digest.as_str(), entry, |_, _| false)
    }

    /// Forgets an image without a name; tells whether it was there. The blobs stay until they are collected.
    pub fn forget(&self, digest: &Digest) -> Result<bool, Error> {
        self.update(|entries| {
            let before = entries.len();
            entries.retain(|entry| !(is_unnamed(entry) && entry.digest == *digest));
            entries.len() != before
        })
    }

    /// The images that are kept without a name.
    pub fn unnamed(&self) -> Result<Vec<Descriptor>, Error> {
        let mut entries = read_index(self.root())?.manifests;
        entries.retain(is_unnamed);
        Ok(entries)
    }

    /// Enters an image of which all blobs are here, in place of the entries that it `replaces`.
    fn enter(
        &self,
        what: &str,
        entry: Descriptor,
        replaces: impl Fn(&Descriptor, &Descriptor) -> bool,
    ) -> Result<(), Error> {
        let _nobody_collects = self.lock_blobs_shared()?;
        let incomplete = |error: Error| match error.kind() {
            ErrorKind::NotFound => {
                let text = format!("{what} is not complete in {}", self.root().display());
                Error::new(ErrorKind::Incomplete, text).caused_by(error)
            }
            _ => error,
        };
        let blobs = reachable(self, &entry).map_err(incomplete)?;
        if self.is_named(&entry)? {
            // They were flushed when the image got its first name.
            self.require(&blobs).map_err(incomplete)?;
        } else {
            self.flush(&blobs).map_err(incomplete)?;
        }
        self.update(|entries| {
            entries.retain(|other| !replaces(other, &entry));
            entries.push(entry);
            true
        })?;
        Ok(())
    }

    fn is_named(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let index = read_index(self.root())?;
        Ok(index
            .manifests
            .iter()
            .any(|entry| entry.digest == descriptor.digest && entry.size == descriptor.size))
    }

    /// Fails when one of the blobs is not here in its full size; none is opened.
    fn require(&self, blobs: &[Descriptor]) -> Result<(), Error> {
        for blob in blobs {
            if self.stat(&blob.digest)? != Some(blob.size) {
                return Err(Error::missing(&blob.digest, self.root()));
            }
        }
        Ok(())
    }

    /// Takes a name away; tells whether it was there. The blobs stay until they are collected.
    pub fn untag(&self, reference: &Reference) -> Result<bool, Error> {
        self.update(|entries| {
            let before = entries.len();
            entries.retain(|entry| full_name(entry).is_none_or(|name| name != *reference));
            entries.len() != before
        })
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

/// Whether nobody gave the entry a name, not even one that means something to another tool alone.
fn is_unnamed(entry: &Descriptor) -> bool {
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
