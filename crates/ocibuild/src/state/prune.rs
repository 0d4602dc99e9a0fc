use std::collections::BTreeSet;
use std::path::Path;

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
    /// Blobs that no name reaches.
    pub reclaimable: u64,
    /// Unpacked layers.
    pub snapshots: u64,
    /// Records of finished steps and indexes of layers.
    pub cache: u64,
    /// Directories of cache mounts.
    pub cache_mounts: u64,
    /// Steps that failed and are kept.
    pub kept_steps: u64,
}

impl State<'_> {
    /// Gives back what no name and no running build needs: images without a name, blobs, unpacked layers, records of steps whose layers are
    /// in no named image, steps that failed and were kept, unless somebody is in them, and what killed builds left. With `all`, also every record, unpacked layer and cache mount;
    /// named images stay whole even then.
    pub fn prune(&self, all: bool) -> Result<Pruned, Error> {
        self.directory.privilege().run(|| self.prune_as_root(all))
    }

    fn prune_as_root(&self, all: bool) -> Result<Pruned, Error> {
        let leftovers = self.layout.sweep_dead_scratch()? + self.snapshots.sweep()?;
        let mut pruned = Pruned { leftovers: leftovers as u64, ..Pruned::default() };
        (pruned.kept_steps, pruned.bytes) = self.remove_kept()?;
        let layout = self.layout.apart();
        let diff_ids = State { layout: &layout, ..*self }.prune_documents(all, &mut pruned)?;
        self.prune_snapshots(|layer| !all && diff_ids.contains(layer), &mut pruned)?;
        pruned.leftovers += caches::remove_abandoned(self.layout)?;
        if all {
            pruned.bytes += self.remove_cache_mounts()?;
        }
        Ok(pruned)
    }

    /// Removes records, blobs and indexes, while no build looks for any; the layers of the named images.
    fn prune_documents(&self, all: bool, pruned: &mut Pruned) -> Result<BTreeSet<DiffId>, Error> {
        let collection = self.layout.collection()?;
        collection.forget_unnamed()?;
        let (blobs, diff_ids) = self.named()?;
        let is_needed = |record: &StepRecord| {
            !all && record.forms.iter().any(|form| blobs.contains(&form.descriptor.digest))
        };
        for record in self.cache.records().all()? {
            if !is_needed(&record) {
                self.cache.records().remove(&record)?;
                pruned.records += 1;
            }
        }
        let freed = collection.sweep(&self.drafted()?)?;
        pruned.blobs = freed.blobs;
        pruned.bytes += freed.bytes;
        // A build that made layers with these times goes on with them.
        pruned.bytes += self.cache.remove_unneeded(
            |layer| (!all && diff_ids.contains(layer)) || collection.is_protected(&layer.0),
            |blob| !all && blobs.contains(blob),
        )?;
        Ok(diff_ids)
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
    fn named(&self) -> Result<(BTreeSet<Digest>, BTreeSet<DiffId>), Error> {
        let (mut blobs, mut diff_ids) = (BTreeSet::new(), BTreeSet::new());
        for (_, descriptor) in self.layout.list()? {
            let details = match self.details(&descriptor) {
                // No step made what is not an image.
                Err(error) if error.kind() == ErrorKind::Refused => continue,
                other => other?,
            };
            blobs.extend(details.manifest.layers().iter().map(|layer| layer.digest.clone()));
            diff_ids.extend(details.config.rootfs.layers().iter().cloned());
        }
        Ok((blobs, diff_ids))
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
        let blobs = self.layout.usage(&self.drafted()?)?;
        let mut snapshots = 0;
        for layer in self.snapshots.list()? {
            snapshots += self.unpacked_size(&layer)?.unwrap_or(0);
        }
        Ok(DiskUsage {
            images: images.len() as u64,
            blobs: blobs.bytes,
            reclaimable: blobs.reclaimable.bytes,
            snapshots,
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
