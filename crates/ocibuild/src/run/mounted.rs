//! What a `RUN` mounts of contexts, stages and images: the files, their digest, their copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_plan::{FileSource, MountKind, RunStep, StepMount};
use ocibuild_snapshot::{MountPointKind, Tree};
use ocibuild_spec::{CancelToken, Owned, Timestamp};

use crate::copy::{Placement, Selected, Source, digest_all};
use crate::error::{Error, unusable};
use crate::threads::ThreadBudget;
use crate::unpacked::write_tree;

/// A source and what is mounted of it.
pub(crate) type Selection = (Arc<dyn Source>, Vec<Vec<Selected>>);

/// Finds what is at a path of a source.
pub(crate) type Files<'a> = dyn Fn(&FileSource, &str) -> Result<Selection, Error> + 'a;

/// The mounts of a `RUN` whose files count in its key (9.04): by what they are, however they came to be.
pub(crate) struct Mounted<'a>(pub(crate) Vec<MountedFiles<'a>>);

/// One of them.
pub(crate) struct MountedFiles<'a> {
    pub(crate) mount: &'a StepMount,
    /// The digest of its files, as far as it is known.
    pub(crate) digest: Option<String>,
    /// The files of a context: what is mounted is what the digest was made of.
    selection: Option<Arc<Selection>>,
}

impl<'a> Mounted<'a> {
    pub(crate) fn of(step: &'a RunStep) -> Self {
        let counts = |mount: &&StepMount| match mount.kind {
            MountKind::Bind => mount.from.is_some(),
            // What a cache begins with counts, what it has become does not (9.03).
            MountKind::Cache => mount.from.is_some() && !mount.starts_empty,
            _ => false,
        };
        let files = |mount| MountedFiles { mount, digest: None, selection: None };
        Self(step.mounts.iter().filter(counts).map(files).collect())
    }

    /// Where the files are from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &'a FileSource> {
        self.0.iter().filter_map(|files| files.mount.from.as_ref())
    }

    /// The files that the key knows of this mount of the step.
    pub(super) fn selection(&self, mount: &StepMount) -> Option<&Arc<Selection>> {
        self.find(mount)?.selection.as_ref()
    }

    /// Their digest.
    pub(super) fn digest(&self, mount: &StepMount) -> Option<&str> {
        self.find(mount)?.digest.as_deref()
    }

    fn find(&self, mount: &StepMount) -> Option<&MountedFiles<'a>> {
        self.0.iter().find(|files| std::ptr::eq(files.mount, mount))
    }

    fn is_of_layers(mount: &StepMount) -> bool {
        matches!(mount.from, Some(FileSource::Stage(_) | FileSource::Image(_)))
    }

    /// Whether nothing is taken from stages and images.
    pub(crate) fn is_local(&self) -> bool {
        !self.0.iter().any(|files| Self::is_of_layers(files.mount))
    }

    /// Finds out the digests of what is mounted of contexts.
    pub(crate) fn read_local(
        &mut self,
        files: &Files<'_>,
        threads: &ThreadBudget,
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        self.read(files, (threads, cancel), |mount| !Self::is_of_layers(mount))
    }

    /// Finds out the digests of everything that is mounted.
    pub(crate) fn read_all(
        &mut self,
        files: &Files<'_>,
        threads: &ThreadBudget,
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        self.read(files, (threads, cancel), |_| true)
    }

    fn read(
        &mut self,
        files: &Files<'_>,
        (threads, cancel): (&ThreadBudget, &CancelToken),
        wanted: impl Fn(&StepMount) -> bool,
    ) -> Result<(), Error> {
        let unknown = self.0.iter_mut().filter(|known| known.digest.is_none() && wanted(known.mount));
        for known in unknown {
            let Some(from) = &known.mount.from else { continue };
            let (digest, selection) = digest_of(files(from, &known.mount.source)?, threads, cancel)?;
            known.digest = Some(digest);
            // Layers stay as they are, and what was fetched of them may be large.
            known.selection = (!Self::is_of_layers(known.mount)).then(|| Arc::new(selection));
        }
        Ok(())
    }
}

/// Digest of what is mounted: the selected path alone, whatever it is part of (9.04). With the files themselves, to be
/// copied as the digest has them.
pub(super) fn digest_of(
    (source, selected): Selection,
    threads: &ThreadBudget,
    cancel: &CancelToken,
) -> Result<(String, Selection), Error> {
    let _share = threads.take(1, cancel)?;
    let (digest, source) = digest_all(&source, &selected, cancel)?;
    Ok((digest.to_string(), (source, selected)))
}

/// Copies what is mounted into the new directory `place`, a file under the name `file`; gives what of it a disk without owners
/// does not have.
pub(super) fn copy_to(
    place: &Path,
    (source, selected): &Selection,
    now: Timestamp,
    cancel: &CancelToken,
) -> Result<(MountPointKind, Vec<(PathBuf, Owned)>), Error> {
    fs::create_dir_all(place).map_err(|error| unusable(place, error))?;
    let mut placement = Placement::new(Tree::new(), now);
    let mut point = MountPointKind::Directory;
    for one in selected.iter().flatten() {
        if one.node.is_directory() {
            placement.copy(source.as_ref(), one, "/")?;
            *placement.tree.metadata_mut(placement.tree.root()) = one.node.metadata.clone();
        } else {
            point = MountPointKind::File;
            placement.copy(source.as_ref(), one, "/file")?;
        }
    }
    write_tree(place, &placement, source.as_ref(), cancel)?;
    Ok((point, placement.tree.unkept_without_owners()))
}
