//! What a `RUN` mounts without a copy: a path of the root file system of a stage or image, stacked as that of a step, and files
//! of a context where they are.
//!
//! ```text
//! mounts/<n>/root    that root file system, in the mount namespace of the step alone; what is written there is thrown away
//! mounts/<n>/shown   what is mounted: a directory or a file
//! mounts/<n>/below   a directory of a context, to which a step writes what is thrown away
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_executor::{Need, Outside, View};
use ocibuild_plan::{FileSource, StepMount};
use ocibuild_snapshot::{ActiveSnapshot, MountPointKind, Tree};
use ocibuild_spec::{CancelToken, DiffId, Timestamp};

use super::mounted::{Selection, copy_to};
use super::mounts::Mounts;
use super::mounts_at;
use crate::copy::Seen;
use crate::error::{Error, unusable};
use crate::layers::Layer;

/// A path of a stage or image, all links followed.
pub(crate) struct MountedPath<'a> {
    /// The merged view.
    pub(crate) tree: Arc<Tree>,
    /// Its layers.
    pub(crate) stack: Vec<Layer<'a>>,
    pub(crate) path: PathBuf,
    /// What is there.
    pub(crate) point: MountPointKind,
}

/// Finds a path of a stage or image; `None` for contexts, and for what cannot be mounted.
pub(crate) type PathOf<'a> = dyn Fn(&FileSource, &str) -> Result<Option<MountedPath<'a>>, Error> + 'a;

/// A path of a root file system that is mounted for a step.
#[derive(Debug)]
pub(super) struct StackView {
    active: Box<dyn ActiveSnapshot>,
    /// Path in the root file system.
    path: PathBuf,
    /// Where it is shown.
    pub(super) target: PathBuf,
}

impl Mounts<'_, '_> {
    /// Mounts what is at a path of a stage or image; whether that could be done.
    pub(super) fn view(&mut self, mount: &StepMount, from: &FileSource, place: &Path) -> Result<bool, Error> {
        let (layers, snapshots) = (self.context.layers, self.context.snapshots);
        if !snapshots.mounts_layers() {
            return Ok(false);
        }
        let Some(MountedPath { tree, stack, path, point }) = (self.context.path_of)(from, &mount.source)?
        else {
            return Ok(false);
        };
        let unpacked = layers.unpack(&stack)?;
        let stack: Vec<DiffId> = stack.into_iter().map(|layer| layer.diff_id).collect();
        let active = snapshots.prepare(&stack, Arc::clone(&tree), self.context.cancel)?;
        // The active snapshot holds the layers by itself.
        drop(unpacked);
        let root = place.join("root");
        fs::create_dir_all(&root).map_err(|error| unusable(&root, error))?;
        let target = make_target(&place.join("shown"), point)?;
        self.outside.extend(mounts_at(active.rootfs_mounts(), &root).into_iter().map(Outside::Mount));
        self.outside.push(Outside::View(View {
            directory: root,
            path: path.clone(),
            target: target.clone(),
            ..View::default()
        }));
        if !self.keeps_owners() {
            let below = |(owned, by): (PathBuf, _)| Some((owned.strip_prefix(&path).ok()?.to_owned(), by));
            let owners: Vec<_> = tree.unkept_without_owners().into_iter().filter_map(below).collect();
            self.note_owners(mount, owners);
        }
        self.bind(&target, &mount.target, mount.read_only, point);
        self.views.push(StackView { active, path, target });
        Ok(true)
    }

    /// Mounts files of a context where they are; whether that could be done.
    pub(super) fn view_context(&mut self, mount: &StepMount, place: &Path) -> Result<bool, Error> {
        let mounts = self.context.executor.offers().includes(Need::SharedMounts);
        let Some(selection) = self.mounted.selection(mount).filter(|_| mounts) else { return Ok(false) };
        let (source, selected) = &**selection;
        let [selected] = &selected.iter().flatten().collect::<Vec<_>>()[..] else { return Ok(false) };
        let Some(seen) = Seen::of(source.as_ref(), selected)? else { return Ok(false) };
        let below = place.join("below");
        let above = match mount.read_only {
            true => None,
            // A step that is kept has what it wrote, too, which copies are simpler for.
            false if !seen.fits_overlay || self.context.hold.is_some() => return Ok(false),
            false => match self.context.snapshots.prepare_above(&below)? {
                None => return Ok(false),
                above => above,
            },
        };
        let is_directory = selected.node.is_directory();
        let point = if is_directory { MountPointKind::Directory } else { MountPointKind::File };
        let target = make_target(&place.join("shown"), point)?;
        let view = View {
            directory: seen.directory.clone(),
            path: seen.path.clone(),
            inode: Some(seen.inode),
            target: target.clone(),
            // What is mounted below it is part of the context, too.
            options: ["rbind", "ro", "nodev"].map(str::to_owned).to_vec(),
        };
        if let Some(active) = &above {
            make_target(&below, point)?;
            self.outside.push(Outside::View(View { target: below, ..view }));
            self.outside.extend(mounts_at(active.rootfs_mounts(), &target).into_iter().map(Outside::Mount));
            self.bind(&target, &mount.target, false, point);
        } else {
            self.outside.push(Outside::View(view));
            match point {
                MountPointKind::Directory => self.bind_all(&target, &mount.target),
                MountPointKind::File => self.bind(&target, &mount.target, true, point),
            }
        }
        self.seen.push(ContextView { selection: Arc::clone(selection), seen, target, _above: above });
        Ok(true)
    }

    /// Fails if a context changed while it was mounted.
    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        self.seen.iter().try_for_each(|view| {
            let (source, selected) = &*view.selection;
            selected.iter().flatten().try_for_each(|one| view.seen.check_unchanged(source.as_ref(), one))
        })
    }
}

/// Makes the place for what is mounted.
fn make_target(target: &Path, point: MountPointKind) -> Result<PathBuf, Error> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(|error| unusable(parent, error))?;
    match point {
        MountPointKind::Directory => fs::create_dir(target),
        MountPointKind::File => fs::write(target, ""),
    }
    .map_err(|error| unusable(target, error))?;
    Ok(target.to_owned())
}

/// Files of a context that are mounted for a step.
#[derive(Debug)]
pub(super) struct ContextView {
    selection: Arc<Selection>,
    seen: Seen,
    /// Where they are shown.
    pub(super) target: PathBuf,
    /// What the step may write to.
    _above: Option<Box<dyn ActiveSnapshot>>,
}

impl ContextView {
    /// Copies them into a new directory; says where they are in there.
    pub(super) fn write_out(self, directory: &Path, cancel: &CancelToken) -> Result<PathBuf, Error> {
        let (point, _) = copy_to(directory, &self.selection, Timestamp::default(), cancel)?;
        Ok(if point == MountPointKind::File { PathBuf::from("file") } else { PathBuf::new() })
    }
}

impl StackView {
    /// Makes it ready to be mounted once more, as the step left it.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        Ok(self.active.renew()?)
    }

    /// Writes it, as the step left it, into a new directory; says where it is in there.
    pub(super) fn write_out(self, directory: &Path, cancel: &CancelToken) -> Result<PathBuf, Error> {
        let (mut after, _) = self.active.diff(None, cancel)?;
        after.retain(&self.path);
        self.active.write_out(&after, directory, cancel)?;
        Ok(self.path)
    }
}
