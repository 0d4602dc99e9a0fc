use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use ocibuild_snapshot::ErrorKind as SnapshotErrorKind;
use ocibuild_spec::{DiffId, Digest};
use ocibuild_sys::DirHandle;

use super::State;
use crate::cache::StepRecord;
use crate::error::{Error, ErrorKind};
use crate::run::caches;

/// What [`State::prune`] gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Blobs removed.
    pub blobs: u64,
    /// Unpacked layers removed.
    pub snapshots: u64,
    /// Records of finished steps removed.
    pub records: u64,
    /// Steps that failed and were kept.
    pub kept_steps: u64,
    /// What killed builds had left.
    pub leftovers: u64,
    /// Bytes of all that, as far as they are known.
    pub bytes: u64,
}

/// What the parts of a state directory take up, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUsage {
    /// Images, however many names they have.
    pub images: u64,
    /// Blobs.
    pub blobs: u64,
    /// Blobs that neither a name nor the cache needs.
    pub reclaimable: u64,
    /// Blobs that the cache alone needs: layers of steps, and base images.
    pub cached_blobs: u64,
    /// Unpacked layers.
    pub snapshots: u64,
    /// Those that neither a named image nor the cache needs.
    pub unneeded_snapshots: u64,
    /// Records of finished steps and indexes of layers.
    pub cache: u64,
    /// Directories of cache mounts.
    pub cache_mounts: u64,
    /// Steps that failed and are kept.
    pub kept_steps: u64,
}

/// What [`State::prune`] takes away besides what nothing needs. What named images need stays in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// The whole cache: every record of a step, unpacked layer and cache mount.
    pub all: bool,
    /// Steps and base images that no build has used for this long.
    pub unused_for: Option<Duration>,
    /// Steps and base images, those first that were used longest ago, until what is left of them takes up no more than these bytes.
    pub keep_storage: Option<u64>,
}

/// Something that makes later builds quicker.
struct Cached {
    what: CachedWhat,
    used: SystemTime,
    /// Its blobs, or manifests that list them.
    roots: BTreeSet<Digest>,
    layers: BTreeSet<DiffId>,
}

enum CachedWhat {
    Step(Box<StepRecord>),
    Base(Digest),
}

/// What stays.
#[derive(Default)]
struct Needed {
    roots: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<DiffId>,
}

impl State<'_> {
    /// Gives back what nothing needs: images without a name, blobs and unpacked layers of no image and no step that is known, steps
    /// that failed and were kept, unless somebody is in them, and what killed builds left. The cache stays, but for what `options`
    /// say; named images stay whole in any case.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned, Error> {
        self.directory.privilege().run(|| self.prune_as_root(options))
    }

    fn prune_as_root(&self, options: &PruneOptions) -> Result<Pruned, Error> {
        let leftovers = self.layout.sweep_dead_scratch()? + self.snapshots.sweep()?;
        let mut pruned = Pruned { leftovers: leftovers as u64, ..Pruned::default() };
        (pruned.kept_steps, pruned.bytes) = self.remove_kept()?;
        let layout = self.layout.apart();
        let needed = State { layout: &layout, ..*self }.prune_documents(options, &mut pruned)?;
        self.prune_snapshots(|layer| !options.all && needed.contains(layer), &mut pruned)?;
        pruned.leftovers += caches::remove_abandoned(self.layout)?;
        if options.all {
            pruned.bytes += self.remove_cache_mounts()?;
        }
        Ok(pruned)
    }

    /// Removes records, blobs and indexes, while no build looks for any; the layers that are needed.
    fn prune_documents(
        &self,
        options: &PruneOptions,
        pruned: &mut Pruned,
    ) -> Result<BTreeSet<DiffId>, Error> {
        let collection = self.layout.collection()?;
        collection.forget_unnamed()?;
        let mut needed = self.named()?;
        needed.roots = self.drafted()?;
        let sizes = collection.sizes()?;
        for gone in self.keep_cached(options, &sizes, &mut needed)? {
            match gone.what {
                CachedWhat::Step(record) => {
                    self.cache.records().remove(&record)?;
                    pruned.records += 1;
                }
                CachedWhat::Base(name) => pruned.bytes += self.cache.forget_base_image(&name)?,
            }
        }
        let freed = collection.sweep(&needed.roots)?;
        pruned.blobs = freed.blobs;
        pruned.bytes += freed.bytes;
        // A build that made layers with these times goes on with them.
        pruned.bytes += self.cache.remove_unneeded(
            |layer| (!options.all && needed.layers.contains(layer)) || collection.is_protected(&layer.0),
            |blob| !options.all && needed.blobs.contains(blob),
            options.all,
        )?;
        Ok(needed.layers)
    }

    /// Adds what stays of the cache to what is needed, and gives the rest.
    fn keep_cached(
        &self,
        options: &PruneOptions,
        sizes: &BTreeMap<Digest, u64>,
        needed: &mut Needed,
    ) -> Result<Vec<Cached>, Error> {
        let now = SystemTime::now();
        let mut cached = self.cached()?;
        cached.sort_by_key(|one| std::cmp::Reverse(one.used));
        let mut left = options.keep_storage.unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        for one in cached {
            // What was used after now was used by a build that goes on.
            let age = now.duration_since(one.used).unwrap_or_default();
            let is_old = options.unused_for.is_some_and(|limit| age > limit);
            let size =
                if options.keep_storage.is_some() { self.size_beside(&one, sizes, needed)? } else { 0 };
            let fits = size <= left;
            // Nothing that is older stays instead of what does not fit.
            left = if fits { left - size } else { 0 };
            let is_whole = one.roots.iter().any(|blob| sizes.contains_key(blob));
            if options.all || is_old || !fits || !is_whole {
                gone.push(one);
                continue;
            }
            needed.blobs.extend(one.roots.iter().cloned());
            needed.roots.extend(one.roots);
            needed.layers.extend(one.layers);
        }
        Ok(gone)
    }

    /// All that makes later builds quicker.
    fn cached(&self) -> Result<Vec<Cached>, Error> {
        let mut cached = Vec::new();
        for (record, used) in self.cache.records().all()? {
            let roots = record.forms.iter().map(|form| form.descriptor.digest.clone()).collect();
            let layers = record.forms.iter().map(|form| form.diff_id.clone()).collect();
            cached.push(Cached { what: CachedWhat::Step(Box::new(record)), used, roots, layers });
        }
        for (name, root, used) in self.cache.base_images()? {
            // That of another platform, or not all of it, has none.
            let details = self.details(&root).ok();
            let mut roots = BTreeSet::from([root.digest]);
            roots.extend(
                details.iter().flat_map(|details| details.manifest.layers()).map(|blob| blob.digest.clone()),
            );
            let layers = details.iter().flat_map(|details| details.config.rootfs.layers()).cloned().collect();
            cached.push(Cached { what: CachedWhat::Base(name), used, roots, layers });
        }
        Ok(cached)
    }

    /// Bytes that something takes up, but for what others need as well.
    fn size_beside(
        &self,
        cached: &Cached,
        sizes: &BTreeMap<Digest, u64>,
        needed: &Needed,
    ) -> Result<u64, Error> {
        let blobs = cached.roots.difference(&needed.blobs);
        let mut bytes = blobs.filter_map(|blob| sizes.get(blob)).sum();
        for layer in cached.layers.difference(&needed.layers) {
            bytes += self.unpacked_size(layer)?.unwrap_or(0);
        }
        Ok(bytes)
    }

    /// Removes unpacked layers that nobody uses. Others may prune at the same time: what is gone is removed.
    fn prune_snapshots(&self, keep: impl Fn(&DiffId) -> bool, pruned: &mut Pruned) -> Result<(), Error> {
        for layer in self.snapshots.list()? {
            if keep(&layer) {
                continue;
            }
            let Some(size) = self.unpacked_size(&layer)? else { continue };
            match self.snapshots.remove(&layer) {
                Ok(()) => {
                    pruned.snapshots += 1;
                    pruned.bytes += size;
                }
                Err(error) if matches!(error.kind(), SnapshotErrorKind::InUse { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Bytes of an unpacked layer; `None` when somebody has removed it by now.
    fn unpacked_size(&self, layer: &DiffId) -> Result<Option<u64>, Error> {
        match self.snapshots.usage(layer) {
            Ok(usage) => Ok(Some(usage.bytes)),
            Err(error) if matches!(error.kind(), SnapshotErrorKind::MissingLayer { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The manifests that drafts of indexes list.
    fn drafted(&self) -> Result<BTreeSet<Digest>, Error> {
        let drafts = self.drafts().list()?;
        Ok(drafts.into_iter().flat_map(|draft| draft.entries).map(|entry| entry.descriptor.digest).collect())
    }

    /// The blobs and layers of all named images.
    fn named(&self) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        for (_, descriptor) in self.layout.list()? {
            let details = match self.details(&descriptor) {
                // No step made what is not an image.
                Err(error) if error.kind() == ErrorKind::Refused => continue,
                other => other?,
            };
            needed.blobs.extend(details.manifest.layers().iter().map(|layer| layer.digest.clone()));
            needed.layers.extend(details.config.rootfs.layers().iter().cloned());
        }
        Ok(needed)
    }

    /// Directories of cache mounts go only while no build runs. Builds that begin meanwhile wait for the renames alone.
    fn remove_cache_mounts(&self) -> Result<u64, Error> {
        let scratch = self.layout.scratch()?;
        {
            let Some(_alone) = self.layout.try_exclusive()? else { return Ok(0) };
            let mounts = self.layout.private_dir("mounts");
            let (from, to) = (DirHandle::open(&mounts)?, DirHandle::open(scratch.path())?);
            for entry in from.read_dir()? {
                let name = entry?.name;
                from.rename(&name, &to, &name)?;
            }
        }
        Ok(size_below(scratch.path()))
    }

    /// What everything takes up.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.directory.privilege().run(|| self.disk_usage_as_root())
    }

    fn disk_usage_as_root(&self) -> Result<DiskUsage, Error> {
        let images: BTreeSet<Digest> =
            self.all()?.into_iter().map(|(_, descriptor)| descriptor.digest).collect();
        let mut needed = self.named()?;
        let mut roots = self.drafted()?;
        let without_cache = self.layout.usage(&roots)?;
        for one in self.cached()? {
            roots.extend(one.roots);
            needed.layers.extend(one.layers);
        }
        let blobs = self.layout.usage(&roots)?;
        let (mut snapshots, mut unneeded) = (0, 0);
        for layer in self.snapshots.list()? {
            let size = self.unpacked_size(&layer)?.unwrap_or(0);
            snapshots += size;
            unneeded += if needed.layers.contains(&layer) { 0 } else { size };
        }
        Ok(DiskUsage {
            images: images.len() as u64,
            blobs: blobs.bytes,
            reclaimable: blobs.reclaimable.bytes,
            // Others may have removed some between the two looks.
            cached_blobs: without_cache.reclaimable.bytes.saturating_sub(blobs.reclaimable.bytes),
            snapshots,
            unneeded_snapshots: unneeded,
            cache: self.cache.size(),
            cache_mounts: size_below(&self.layout.private_dir("mounts")),
            kept_steps: self.size_of_kept(),
        })
    }
}

pub(super) fn size_below(path: &Path) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().filter_map(Result::ok);
    let metadata = files.filter_map(|entry| fs::symlink_metadata(entry.path()).ok());
    metadata.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}
