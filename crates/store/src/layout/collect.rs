use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;

use ocibuild_spec::{Descriptor, Digest, Document, MAX_DOCUMENT, is_document, parse_manifest_or_index};
use ocibuild_sys::FileLock;

use super::blobs::{blob_path, open_blob, open_expecting};
use super::{ImageLayout, is_unnamed, read_index};
use crate::blob::read_small;
use crate::{Error, ErrorKind, Fault};

/// A garbage collection in progress.
///
/// While it exists nobody puts or looks up a blob (they wait), so read the references that live outside of
/// `index.json` *after* starting it: a build that ends in between has then written its own.
#[derive(Debug)]
#[must_use = "nothing is removed before `sweep`, and what builds do waits until this is dropped"]
pub struct Collection {
    layout: ImageLayout,
    pinned: BTreeSet<Digest>,
    _lock: FileLock,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the blobs of a layout take up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What a collection would remove.
    pub reclaimable: Freed,
}

impl ImageLayout {
    /// Removes every blob that neither a tag, nor `keep`, nor a running build reaches: [`Collection`] in one call,
    /// for callers whose references do not change meanwhile.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> Result<Freed, Error> {
        self.collection()?.sweep(keep)
    }

    /// Starts a garbage collection.
    pub fn collection(&self) -> Result<Collection, Error> {
        self.sweep_dead_scratch()?;
        let lock = self.lock_blobs_exclusive()?;
        Ok(Collection { pinned: self.pinned()?, layout: self.clone(), _lock: lock })
    }

    /// What the blobs take up, and how much of it a collection with these references would free.
    pub fn usage(&self, keep: &BTreeSet<Digest>) -> Result<Usage, Error> {
        self.collection()?.usage(keep)
    }
}

impl Collection {
    /// Whether a running build has announced that it needs this, be it a blob or something else that a digest stands
    /// for ([`ImageLayout::protect`]).
    pub fn is_protected(&self, digest: &Digest) -> bool {
        self.pinned.contains(digest)
    }

    /// Forgets all images without a name, but for referrers of those that stay: what has a name, what a running build has
    /// announced, and what they list.
    pub fn forget_unnamed(&self) -> Result<(), Error> {
        let named = read_index(self.layout.root())?.manifests.into_iter().filter(|entry| !is_unnamed(entry));
        let kept = self.reached_from(named.collect(), &BTreeSet::new())?;
        self.layout.forget_entries(|entry| is_unnamed(entry) && !kept.referrers.contains(&entry.digest))
    }

    /// Removes what neither a tag, nor `keep`, nor a running build reaches. A digest in `keep` that is a manifest
    /// or an index keeps what it lists. What is kept keeps its referrers: every manifest and index here whose `subject`
    /// it is, and what they list.
    pub fn sweep(&self, keep: &BTreeSet<Digest>) -> Result<Freed, Error> {
        let reached = self.reached(keep)?.all;
        let mut freed = Freed::default();
        for (digest, size) in self.blobs()? {
            if !reached.contains(&digest) {
                fs_err::remove_file(blob_path(self.layout.root(), &digest)).map_err(Error::fs)?;
                freed.add(size);
            }
        }
        Ok(freed)
    }

    fn usage(&self, keep: &BTreeSet<Digest>) -> Result<Usage, Error> {
        let reached = self.reached(keep)?.all;
        let (mut all, mut reclaimable) = (Freed::default(), Freed::default());
        for (digest, size) in self.blobs()? {
            all.add(size);
            if !reached.contains(&digest) {
                reclaimable.add(size);
            }
        }
        Ok(Usage { blobs: all.blobs, bytes: all.bytes, reclaimable })
    }

    /// The blobs that are here, with their sizes in bytes.
    pub fn sizes(&self) -> Result<BTreeMap<Digest, u64>, Error> {
        Ok(self.blobs()?.into_iter().collect())
    }

    fn blobs(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let directory = self.layout.root().join("blobs").join(algorithm);
            if !directory.is_dir() {
                continue;
            }
            for entry in fs_err::read_dir(directory).map_err(Error::fs)? {
                let entry = entry.map_err(Error::fs)?;
                let name = entry.file_name();
                // What is not called like a blob is not ours to remove.
                if let Ok(digest) = format!("{algorithm}:{}", name.to_string_lossy()).parse() {
                    found.push((digest, entry.metadata().map_err(Error::fs)?.len()));
                }
            }
        }
        Ok(found)
    }

    fn reached(&self, keep: &BTreeSet<Digest>) -> Result<Reached, Error> {
        self.reached_from(read_index(self.layout.root())?.manifests, keep)
    }

    /// What these entries, `keep` and running builds reach.
    fn reached_from(&self, mut pending: Vec<Descriptor>, keep: &BTreeSet<Digest>) -> Result<Reached, Error> {
        let mut by_subject = self.referrers()?;
        let mut reached = Reached::default();
        let mut add = |digest: &Digest, reached: &mut Reached, pending: &mut Vec<Descriptor>| {
            reached.all.insert(digest.clone());
            for referrer in by_subject.remove(digest).into_iter().flatten() {
                reached.referrers.insert(referrer.digest.clone());
                pending.push(referrer);
            }
        };
        for digest in keep.union(&self.pinned) {
            add(digest, &mut reached, &mut pending);
            pending.extend(self.children_of_unknown(digest));
        }
        let mut expanded = BTreeSet::new();
        while let Some(descriptor) = pending.pop() {
            if is_document(&descriptor.media_type) && expanded.insert(descriptor.digest.clone()) {
                pending.extend(self.children(&descriptor)?);
            }
            add(&descriptor.digest, &mut reached, &mut pending);
        }
        Ok(reached)
    }

    /// All manifests and indexes here that have a subject, by that. They are looked for among the blobs, since who stores
    /// one by its digest need not list it anywhere.
    fn referrers(&self) -> Result<BTreeMap<Digest, Vec<Descriptor>>, Error> {
        let mut by_subject = BTreeMap::<Digest, Vec<Descriptor>>::new();
        for (digest, size) in self.blobs()? {
            let Some(document) = self.document(&digest) else { continue };
            if let Some(subject) = document.subject() {
                let referrer = Descriptor::new(document.media_type(), digest, size);
                by_subject.entry(subject.digest.clone()).or_default().push(referrer);
            }
        }
        Ok(by_subject)
    }

    /// What a document lists. One that is damaged ends the collection: what it kept alive is not known any more.
    fn children(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Error> {
        let fault = || Fault::DamagedDocument { digest: descriptor.digest.clone() };
        let file = match open_expecting(self.layout.root(), descriptor) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| error.with_fault(fault()))?,
        };
        let bytes = read_small(file, descriptor).map_err(|error| error.with_fault(fault()))?;
        let document: Document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
            .map_err(|error| Error::document(&descriptor.digest, error).with_fault(fault()))?;
        Ok(document.children().cloned().collect())
    }

    /// What a blob lists if it happens to be a document; whoever only has a digest does not know.
    fn children_of_unknown(&self, digest: &Digest) -> Vec<Descriptor> {
        let document = self.document(digest);
        document.map(|document| document.children().cloned().collect()).unwrap_or_default()
    }

    /// A blob as the document that it may be. One that is damaged is none: it reaches nothing.
    fn document(&self, digest: &Digest) -> Option<Document> {
        let (file, size) = open_blob(self.layout.root(), digest).ok()??;
        let mut first = [0];
        // Layers are many, and none begins like JSON.
        if size > MAX_DOCUMENT || file.read_at(&mut first, 0).is_err() || !b"{ \t\r\n".contains(&first[0]) {
            return None;
        }
        let stated = Descriptor::new(ocibuild_spec::MediaType::EmptyJSON, digest.clone(), size);
        let bytes = read_small(file, &stated).ok()?;
        parse_manifest_or_index(&bytes, None).ok()
    }
}

/// What a collection keeps.
#[derive(Debug, Default)]
struct Reached {
    all: BTreeSet<Digest>,
    /// Those of them that are about another one.
    referrers: BTreeSet<Digest>,
}

impl Freed {
    fn add(&mut self, size: u64) {
        self.blobs += 1;
        self.bytes += size;
    }
}
