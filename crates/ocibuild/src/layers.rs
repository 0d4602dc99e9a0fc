//! Layers of base images and of finished steps: their indexes, their content, their unpacked directories.

mod decoded;
mod layer;
mod location;
mod reads;

use std::collections::{HashMap, hash_map};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocibuild_layer::{
    ApplyOptions, Cancellable, Devices, FileDigests, LayerListing, Limits, Owners, Times, WhiteoutFormat,
    decompress_layer,
};
use ocibuild_snapshot::{Hold, LayerNotes, NodeKind, Origin, Snapshotter, Tree, Whiteouts};
use ocibuild_spec::{CancelToken, Changeset, Content, ContentDigest, Descriptor, DiffId, Entry, EntryKind};
use ocibuild_store::{BlobSink, ImageLayout};
use ocibuild_sys::RootDir;

use crate::accounts::Accounts;
use crate::cache::LayerListings;
use crate::error::{Error, ErrorKind, class_below};
use crate::failure::{FileAction, HostFailure, HostOperation, LayerFailure};
use crate::threads::ThreadBudget;
pub(crate) use decoded::DecodedListings;
pub(crate) use layer::Layer;
pub(crate) use location::{BlobLocation, BlobLocations};
pub(crate) use reads::LayerReads;

/// What is done with layers, and what it takes.
pub(crate) struct Layers<'a> {
    pub(crate) store: &'a ImageLayout,
    pub(crate) snapshots: &'a dyn Snapshotter,
    /// What layers consist of.
    pub(crate) listings: &'a LayerListings,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) scratch: PathBuf,
    /// Threads that unpack.
    pub(crate) threads: Arc<ThreadBudget>,
    /// The listings that were decoded.
    pub(crate) decoded: Arc<DecodedListings>,
    /// The layers that are being read.
    pub(crate) reads: Arc<LayerReads>,
}

/// A file of a stack: the number of its layer, and the number of its content there.
pub(crate) type FileOfLayer = (u32, Content);

/// Blobs of layers that are smaller are unpacked before a second thread would have paid for itself.
const SMALLEST_READ_AHEAD: u64 = 256 << 10;

/// As much of `/etc/passwd` and `/etc/group` as is read (a limit on hostile images).
const MAX_ACCOUNTS: u64 = 10 << 20;

impl<'a> Layers<'a> {
    /// The layers that are in the store, to be looked at: nothing is spooled.
    pub(crate) fn of_store(
        store: &'a ImageLayout,
        snapshots: &'a dyn Snapshotter,
        listings: &'a LayerListings,
        cancel: &'a CancelToken,
    ) -> Self {
        let (scratch, decoded, reads) = (PathBuf::new(), Arc::default(), Arc::default());
        let threads = Arc::new(ThreadBudget::new(1));
        Self { store, snapshots, listings, cancel, scratch, threads, decoded, reads }
    }

    /// Reads a layer to see that it is the tar that its diff id names, unless this was seen before for the same blob.
    pub(crate) fn verify(&self, layer: &Layer<'_>) -> Result<(), Error> {
        let is_plain = layer.descriptor.digest == layer.diff_id.0;
        if is_plain && self.listings.has(&layer.diff_id) {
            return Ok(());
        }
        let (index, diff_id) = self.read_index(layer)?;
        check_diff_id(layer, &diff_id)?;
        if !self.listings.has(&layer.diff_id) {
            self.put_index(&layer.diff_id, index)?;
        }
        Ok(())
    }

    fn read_index(&self, layer: &Layer<'_>) -> Result<(LayerListing, DiffId), Error> {
        let limits = Limits::for_blob(layer.descriptor.size);
        let mut plain = self.open_plain(layer)?;
        LayerListing::read_tar(&mut plain, &limits, self.cancel).map_err(|error| broken_layer(layer, error))
    }

    /// The blob of a layer, from the first place that has it; verified while it is read.
    pub(crate) fn open_blob(&self, layer: &Layer<'_>) -> Result<Box<dyn Read + Send>, Error> {
        layer.open_blob(self.cancel)
    }

    pub(crate) fn is_stored(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        Ok(self.store.stat(&descriptor.digest)? == Some(descriptor.size))
    }

    /// The plain tar of a layer.
    pub(crate) fn open_plain(&self, layer: &Layer<'_>) -> Result<Box<dyn Read + Send>, Error> {
        let blob = Box::new(Cancellable::new(self.open_blob(layer)?, self.cancel));
        decompress_layer(blob, &layer.descriptor.media_type).map_err(|error| broken_layer(layer, error))
    }

    /// What a layer consists of; read from its tar the first time it is seen, kept from then on.
    pub(crate) fn index(&self, layer: &Layer<'_>) -> Result<Arc<LayerListing>, Error> {
        if let Some(index) = self.known_index(layer) {
            return Ok(index);
        }
        if self.reads.is_to_be_unpacked(&layer.diff_id) {
            self.unpack_once(layer, true)?;
            if let Some(index) = self.known_index(layer) {
                return Ok(index);
            }
        }
        let mut made = None;
        let is_listed = || self.listings.has(&layer.diff_id);
        self.reads.once(&layer.diff_id, self.cancel, is_listed, || {
            made = Some(self.make_index(layer)?);
            Ok(())
        })?;
        // One that is damaged is made again.
        made.or_else(|| self.known_index(layer)).map_or_else(|| self.make_index(layer), Ok)
    }

    fn make_index(&self, layer: &Layer<'_>) -> Result<Arc<LayerListing>, Error> {
        let _share = self.threads.take(1, self.cancel)?;
        let (index, diff_id) = self.read_index(layer)?;
        check_diff_id(layer, &diff_id)?;
        self.put_index(&layer.diff_id, index)
    }

    /// What a layer consists of, if that was written down.
    fn known_index(&self, layer: &Layer<'_>) -> Option<Arc<LayerListing>> {
        if let Some(index) = self.decoded.get(&layer.diff_id) {
            return Some(index);
        }
        let index = self.listings.get(&layer.diff_id)?;
        self.decoded.put(&layer.diff_id, &index);
        Some(index)
    }

    /// Keeps what a layer consists of.
    pub(crate) fn put_index(
        &self,
        diff_id: &DiffId,
        index: LayerListing,
    ) -> Result<Arc<LayerListing>, Error> {
        self.listings.put(diff_id, &index)?;
        let index = Arc::new(index);
        self.decoded.put(diff_id, &index);
        Ok(index)
    }

    /// The digests of files of a stack, from the listings of their layers: none of the files is opened.
    pub(crate) fn digests(
        &self,
        stack: &[Layer<'_>],
        files: &[FileOfLayer],
    ) -> Result<Vec<Option<ContentDigest>>, Error> {
        let known = self.digests_of_layers(stack, files.iter().map(|(layer, _)| *layer))?;
        Ok(files.iter().map(|(layer, content)| known.get(layer)?.get(*content)).collect())
    }

    /// The digests of all files of these layers of a stack.
    fn digests_of_layers(
        &self,
        stack: &[Layer<'_>],
        numbers: impl Iterator<Item = u32>,
    ) -> Result<HashMap<u32, Arc<FileDigests>>, Error> {
        let mut known = HashMap::new();
        for number in numbers {
            if let hash_map::Entry::Vacant(place) = known.entry(number) {
                let layer = stack.get(number as usize).ok_or_else(|| unknown_layer(number))?;
                place.insert(Arc::clone(&self.index(layer)?.digests));
            }
        }
        Ok(known)
    }

    /// The merged view of a stack; a file's origin is its layer's place in it.
    pub(crate) fn tree(&self, stack: &[Layer<'_>]) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        self.extend_tree(&mut tree, stack, 0)?;
        Ok(tree)
    }

    /// Makes the view of the first `known` layers of a stack that of all of them.
    pub(crate) fn extend_tree(
        &self,
        tree: &mut Tree,
        stack: &[Layer<'_>],
        known: usize,
    ) -> Result<(), Error> {
        for (number, layer) in (0..).zip(stack).skip(known) {
            self.check_cancelled()?;
            let index = self.index(layer)?;
            if let Some(link) = tree.dangling_link(&index.entries) {
                return Err(dangling_link(layer, link));
            }
            tree.apply_layer(number, &index.entries);
            tree.share(&index.entries, &index.shared);
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Unpacks what is not unpacked yet, several layers at once. As long as the result lives nobody removes any of them:
    /// they are held before it is looked what is there.
    pub(crate) fn unpack(&self, stack: &[Layer<'_>]) -> Result<Hold, Error> {
        let diff_ids: Vec<DiffId> = stack.iter().map(|layer| layer.diff_id.clone()).collect();
        let hold = self.snapshots.hold(&diff_ids)?;
        let mut missing: Vec<&Layer<'_>> = Vec::new();
        for layer in stack {
            let is_known = missing.iter().any(|known| known.diff_id == layer.diff_id);
            if !is_known && !self.snapshots.contains(&layer.diff_id)? {
                missing.push(layer);
            }
        }
        if missing.is_empty() {
            return Ok(hold);
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Error> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = missing.get(number) else { return Ok(()) };
                // A thread that another layer could have is not taken for reading ahead.
                let is_last = number + 1 == missing.len();
                if let Err(error) = self.unpack_once(layer, is_last) {
                    next.store(missing.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        std::thread::scope(|scope| {
            // Of those that do not start, this one does the work.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let threads: Vec<_> = (1..missing.len().min(self.threads.total())).map_while(start).collect();
            let own = work();
            threads.into_iter().fold(own, |result, thread| {
                result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })?;
        Ok(hold)
    }

    /// Unpacks a layer, unless somebody else does so at this moment; then that is waited for. If it may, and is large
    /// enough, it is decompressed in another thread as long as one is free.
    fn unpack_once(&self, layer: &Layer<'_>, may_read_ahead: bool) -> Result<(), Error> {
        let is_unpacked = || self.snapshots.contains(&layer.diff_id).unwrap_or(false);
        self.reads.once(&layer.diff_id, self.cancel, is_unpacked, || {
            let _share = self.threads.take(1, self.cancel)?;
            let is_worth_it = may_read_ahead && layer.descriptor.size >= SMALLEST_READ_AHEAD;
            let another = if is_worth_it { self.threads.try_take() } else { None };
            self.unpack_one(layer, another.is_some())
        })
    }

    fn unpack_one(&self, layer: &Layer<'_>, ahead: bool) -> Result<(), Error> {
        let target = self.snapshots.prepare_layer(&layer.diff_id)?;
        let root = target.root()?;
        let known = self.known_index(layer);
        let is_known = known.is_some();
        let options = ApplyOptions {
            whiteouts: match self.snapshots.whiteouts() {
                Whiteouts::OverlayTrusted => WhiteoutFormat::OverlayTrusted,
                Whiteouts::OverlayUser => WhiteoutFormat::OverlayUser,
                Whiteouts::Files => WhiteoutFormat::Files,
            },
            // Where the disk cannot have them, the index of the layer has them, and whoever runs a step pretends them.
            owners: if self.snapshots.keeps_owners() { Owners::Set } else { Owners::Ignore },
            // The blob and the index of the layer have those that an ordinary user cannot make.
            devices: Devices::MakeOrSkip,
            times: if layer.has_exact_times_in_listing() { Times::Known } else { Times::Tar },
            known,
            limits: Limits::for_blob(layer.descriptor.size),
            cancel: self.cancel.clone(),
        };
        let mut plain = self.open_plain(layer)?;
        let applied = if ahead {
            ocibuild_layer::apply_ahead(plain, &root, &options)
        } else {
            ocibuild_layer::apply(&mut plain, &root, &options)
        };
        let applied = applied.map_err(|error| broken_layer(layer, error))?;
        check_diff_id(layer, &applied.diff_id)?;
        let notes = LayerNotes {
            implied_directories: applied.index.implied_directories.clone(),
            deferred_links: applied.deferred_links,
        };
        // Another process may have put down a better one meanwhile.
        if !is_known && self.known_index(layer).is_none() {
            self.put_index(&layer.diff_id, applied.index)?;
        }
        Ok(target.commit(&notes)?)
    }

    /// A way to open these files: unpacked layers are read in place, of others the files are picked out of the tar.
    pub(crate) fn files(&self, stack: &[Layer<'_>], origins: &[(Origin, u64)]) -> Result<LayerFiles, Error> {
        let unpacked: Vec<DiffId> = stack.iter().map(|layer| layer.diff_id.clone()).collect();
        let hold = self.snapshots.hold(&unpacked)?;
        let digests = self.digests_of_layers(stack, origins.iter().map(|(origin, _)| origin.layer))?;
        let (directories, spool, places) = (Vec::new(), None, HashMap::new());
        let mut files = LayerFiles { directories, spool, places, digests, _hold: hold };
        for layer in stack {
            let is_unpacked = self.snapshots.contains(&layer.diff_id)?;
            files.directories.push(is_unpacked.then(|| self.snapshots.layer_dir(&layer.diff_id)));
        }
        let mut wanted: Vec<(u32, u64, u64)> = origins
            .iter()
            .filter(|(origin, _)| files.directory(origin.layer).is_none())
            .map(|(origin, size)| (origin.layer, origin.content.0, *size))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(files);
        }
        let _share = self.threads.take(1, self.cancel)?;
        let mut spool = tempfile::tempfile_in(&self.scratch).map_err(|error| self.no_spool(error))?;
        let mut written = 0;
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            let layer = stack.get(group[0].0 as usize).ok_or_else(|| unknown_layer(group[0].0))?;
            let mut plain = self.open_plain(layer)?;
            let mut at = 0;
            for (number, offset, size) in group {
                let skipped = io::copy(&mut plain.by_ref().take(offset - at), &mut io::sink());
                let copied = skipped.and_then(|_| io::copy(&mut plain.by_ref().take(*size), &mut spool));
                if copied.map_err(|error| broken_layer(layer, error))? != *size {
                    return Err(broken_layer(layer, io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                at = offset + size;
                files.places.insert((*number, *offset), written);
                written += size;
            }
        }
        spool.flush().map_err(|error| self.no_spool(error))?;
        files.spool = Some(spool);
        Ok(files)
    }

    /// A way to the digests of these files; only those can be opened whose digests are not known.
    pub(crate) fn files_to_digest(
        &self,
        stack: &[Layer<'_>],
        origins: &[(Origin, u64)],
    ) -> Result<LayerFiles, Error> {
        let digests = self.digests_of_layers(stack, origins.iter().map(|(origin, _)| origin.layer))?;
        let is_known = |origin: &Origin| digests.get(&origin.layer)?.get(origin.content);
        let unknown: Vec<_> =
            origins.iter().filter(|(origin, _)| is_known(origin).is_none()).cloned().collect();
        Ok(LayerFiles { digests, ..self.files(stack, &unknown)? })
    }

    /// The users and groups of a stack.
    pub(crate) fn accounts(&self, stack: &[Layer<'_>], tree: &Tree) -> Result<Accounts, Error> {
        let text = |path: &str| -> Result<Option<String>, Error> {
            let Some(bytes) = self.read_small(stack, tree, Path::new(path))? else { return Ok(None) };
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Accounts { passwd: text("etc/passwd")?, group: text("etc/group")? })
    }

    fn read_small(&self, stack: &[Layer<'_>], tree: &Tree, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let Ok(resolved) = tree.resolve(path, true) else { return Ok(None) };
        let Some(NodeKind::File { size, origin }) = resolved.node.map(|id| &tree.node(id).kind) else {
            return Ok(None);
        };
        if *size > MAX_ACCOUNTS {
            return Err(LayerFailure::AccountsTooLarge { path: path.to_owned(), size: *size }.into());
        }
        let layer = stack.get(origin.layer as usize).ok_or_else(|| unknown_layer(origin.layer))?;
        let index = self.index(layer)?;
        let kept = match origin.path.to_str() {
            Some("etc/passwd") => index.passwd.clone(),
            Some("etc/group") => index.group.clone(),
            _ => None,
        };
        if kept.is_some() {
            return Ok(kept);
        }
        let files = self.files(stack, &[(origin.clone(), *size)])?;
        let mut bytes = Vec::new();
        files.open(origin, *size)?.read_to_end(&mut bytes).map_err(|error| broken_layer(layer, error))?;
        Ok(Some(bytes))
    }

    /// A layer as what it was written from, with the times of its index.
    pub(crate) fn changeset(&self, layer: &Layer<'_>) -> Result<Changeset, Error> {
        let index = self.index(layer)?;
        let share = self.threads.take(1, self.cancel)?;
        let mut spool = tempfile::tempfile_in(&self.scratch).map_err(|error| self.no_spool(error))?;
        io::copy(&mut self.open_plain(layer)?, &mut spool).map_err(|error| broken_layer(layer, error))?;
        drop(share);
        let open =
            move |entry: &Entry, content: ocibuild_spec::Content| -> io::Result<Box<dyn Read + Send>> {
                let EntryKind::File { size, .. } = entry.kind else { return Ok(Box::new(io::empty())) };
                Ok(Box::new(FileRange { file: spool.try_clone()?, at: content.0, left: size }))
            };
        Ok(Changeset::new(index.entries.clone(), open).with_shared(index.shared.clone()))
    }

    fn no_spool(&self, error: io::Error) -> Error {
        HostFailure::file(FileAction::WriteBelow, &self.scratch, error).into()
    }
}

/// Files of a stack's layers, ready to be opened.
#[derive(Debug)]
pub(crate) struct LayerFiles {
    directories: Vec<Option<PathBuf>>,
    spool: Option<File>,
    places: HashMap<(u32, u64), u64>,
    /// Of the layers that have them.
    digests: HashMap<u32, Arc<FileDigests>>,
    /// The unpacked layers stay while they are read.
    _hold: Hold,
}

impl LayerFiles {
    fn directory(&self, layer: u32) -> Option<&Path> {
        self.directories.get(layer as usize)?.as_deref()
    }

    /// The digest of a file, which its layer's listing has.
    pub(crate) fn digest(&self, origin: &Origin) -> Option<ContentDigest> {
        self.digests.get(&origin.layer)?.get(origin.content)
    }

    pub(crate) fn open(&self, origin: &Origin, size: u64) -> Result<Box<dyn Read + Send>, Error> {
        if let Some(directory) = self.directory(origin.layer) {
            let root = RootDir::open(directory).map_err(|error| host(&error))?;
            let (parent, name) = root.parent(&origin.path).map_err(|error| host(&error))?;
            return Ok(Box::new(parent.open_read(&name).map_err(|error| host(&error))?));
        }
        let place = self.places.get(&(origin.layer, origin.content.0));
        match (place, &self.spool) {
            (Some(at), Some(spool)) => {
                let file = spool
                    .try_clone()
                    .map_err(|error| HostFailure::operation(HostOperation::ReadLayerAgain, error))?;
                Ok(Box::new(FileRange { file, at: *at, left: size }))
            }
            _ => Err(LayerFailure::NotFetched { path: origin.path.clone() }.into()),
        }
    }
}

/// A part of a file, read without moving the file's own position.
#[derive(Debug)]
pub(crate) struct FileRange {
    pub(crate) file: File,
    pub(crate) at: u64,
    pub(crate) left: u64,
}

impl Read for FileRange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

pub(crate) fn check_diff_id(layer: &Layer<'_>, actual: &DiffId) -> Result<(), Error> {
    if *actual == layer.diff_id {
        return Ok(());
    }
    let (blob, expected) = (layer.descriptor.digest.clone(), layer.diff_id.clone());
    Err(LayerFailure::OtherDiffId { blob, found: actual.clone(), expected }.into())
}

fn dangling_link(layer: &Layer<'_>, link: &Entry) -> Error {
    let target = match &link.kind {
        EntryKind::Hardlink { target } => target.clone(),
        _ => PathBuf::new(),
    };
    let (blob, link) = (layer.descriptor.digest.clone(), link.path.clone());
    LayerFailure::DanglingLink { blob, link, target }.into()
}

fn unknown_layer(number: u32) -> Error {
    LayerFailure::NotInStack { number }.into()
}

/// A layer that could not be read: it is damaged, unless it did not come at all, or this host cannot have it.
pub(crate) fn broken_layer(
    layer: &Layer<'_>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let class = class_below(&error).unwrap_or(ErrorKind::Refused);
    if class == ErrorKind::Cancelled {
        return Error::cancelled();
    }
    let blob = layer.descriptor.digest.clone();
    LayerFailure::Unreadable { blob, class, source: error.into() }.into()
}

fn host(error: &ocibuild_sys::Error) -> Error {
    Error::from(error.clone())
}
