use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Changeset, DiffId, Entry, Mount, Owned, OwnershipRecord};

use crate::{Error, Hold, LayerTarget, Tree};

/// Keeps unpacked layers, and makes from stacks of them the root file systems that steps run on.
///
/// # Vocabulary
///
/// A *layer* is known by its [`DiffId`] and is unpacked once, by itself, into a directory of its own, whatever
/// images it belongs to. Deletions in it are kept as [`whiteouts`](Self::whiteouts) says. A *stack* is a list of
/// layers, the lowest first; its *merged view* is a [`Tree`] whose files are numbered
/// ([`Origin::layer`](crate::Origin::layer)) by position in the stack. An *active snapshot* is a stack with something
/// writable above: what one step runs on.
///
/// # Lifecycle
///
/// ```text
/// prepare_layer ─► LayerTarget ── commit ─► layer          (drop: nothing happened)
/// prepare(stack) ─► ActiveSnapshot ─ run ─ diff ─ commit ─► layer      (drop: nothing happened)
/// remove ─► no layer
/// ```
///
/// # Example
///
/// One layer is unpacked, a step changes something, and the change becomes the next layer:
///
/// ```
/// use ocibuild_snapshot::{CopySnapshots, LayerNotes, Snapshotter, Tree};
/// use ocibuild_spec::{CancelToken, Content, DiffId, Digest, Entry, EntryKind, Metadata};
/// use std::sync::Arc;
///
/// # let state = tempfile::tempdir()?;
/// let snapshots = CopySnapshots::open(state.path().join("snapshots"))?;
/// let layer = DiffId(Digest::of("the layer's plain tar"));
/// if !snapshots.contains(&layer)? {
///     let target = snapshots.prepare_layer(&layer)?;
///     fs_err::write(target.path().join("motd"), "hello")?; // `layer` unpacks here
///     target.commit(&LayerNotes::default())?;
/// }
/// let kind = EntryKind::File { size: 5, content: Content(0) };
/// let metadata = Metadata { mode: 0o644, ..Metadata::default() };
/// let mut base = Tree::new();
/// base.apply_layer(0, &[Entry { path: "motd".into(), metadata, kind }]);
///
/// let snapshot = snapshots.prepare(&[layer], Arc::new(base), &CancelToken::new())?;
/// let mounts = snapshot.rootfs_mounts(); // the executor carries them out in a mount namespace of its own
/// # let rootfs = mounts[0].source().as_ref().unwrap();
/// fs_err::write(rootfs.join("new"), "by the step")?;
/// let (after, changeset) = snapshot.diff(None, &CancelToken::new())?;
/// assert_eq!(changeset.entries.len(), 1); // `layer` writes this as a tar, whose digest is:
/// let next = DiffId(Digest::of("the new layer's plain tar"));
/// snapshot.commit(&next, &changeset.entries)?;
/// assert!(snapshots.contains(&next)?);
/// # assert!(after.lookup("new".as_ref()).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Atomicity and durability
///
/// A layer is there whole or not at all: it is made in a working directory and renamed. It is only sure to survive a
/// crash of the machine after [`sync`](Self::sync); until then it carries the id of the boot it was made in, and
/// after another boot it counts as absent and is replaced when someone unpacks it again. (So nothing waits for a disk
/// while a build runs.)
///
/// # Concurrency
///
/// Any number of threads and processes may use one directory. When several make the same layer at once, all succeed
/// and one result stays. [`remove`](Self::remove) refuses what an active snapshot or a [`Hold`] of anybody uses.
///
/// # What a crash leaves behind
///
/// Working directories, which are locked while their owner lives. [`sweep`](Self::sweep) removes the others; opening
/// a driver does so too. No mount is ever made in this process.
pub trait Snapshotter: Send + Sync + Debug {
    /// How deletions must be written into the directory of an unpacked layer.
    fn whiteouts(&self) -> Whiteouts;

    /// Whether unpacked files belong to whom they should belong to. With a single id, all of them are the caller's.
    fn keeps_owners(&self) -> bool;

    /// Whether root file systems are mounted, at a cost that does not depend on how many files they have, rather than copied.
    fn mounts_layers(&self) -> bool;

    /// Whether the layer is unpacked.
    fn contains(&self, layer: &DiffId) -> Result<bool, Error>;

    /// An empty directory to unpack the layer into. It is fine if somebody else does the same at this moment.
    fn prepare_layer(&self, layer: &DiffId) -> Result<LayerTarget, Error>;

    /// The directory of an unpacked layer, to read the files of a merged view from
    /// ([`Origin::path`](crate::Origin::path)). Whoever reads there [holds](Self::hold) the layer. Links in it are to
    /// be resolved nowhere but in the merged view.
    fn layer_dir(&self, layer: &DiffId) -> PathBuf;

    /// A root file system of these layers, the lowest first, with something writable above. `base` is their merged
    /// view. A layer that is not unpacked is [`ErrorKind::MissingLayer`](crate::ErrorKind::MissingLayer).
    fn prepare(
        &self,
        stack: &[DiffId],
        base: Arc<Tree>,
        cancel: &CancelToken,
    ) -> Result<Box<dyn ActiveSnapshot>, Error>;

    /// Something writable above a directory that is no layer and that nobody changes meanwhile, for a mount of a step: only to be
    /// mounted, and to be dropped with all that was written. `None` where layers are not [mounted](Self::mounts_layers).
    fn prepare_above(&self, directory: &Path) -> Result<Option<Box<dyn ActiveSnapshot>>, Error>;

    /// Keeps everybody from removing these layers, unpacked already or not, until the hold is dropped or this
    /// process ends.
    fn hold(&self, layers: &[DiffId]) -> Result<Hold, Error>;

    /// Removes an unpacked layer. One that is not there is fine; one in use is
    /// [`ErrorKind::InUse`](crate::ErrorKind::InUse).
    fn remove(&self, layer: &DiffId) -> Result<(), Error>;

    /// All unpacked layers, sorted.
    fn list(&self) -> Result<Vec<DiffId>, Error>;

    /// What an unpacked layer takes.
    fn usage(&self, layer: &DiffId) -> Result<Usage, Error>;

    /// Flushes the file system once; every layer committed before survives a crash of the machine from then on.
    fn sync(&self) -> Result<(), Error>;

    /// Removes what processes that are gone left half done; says how many working directories there were.
    fn sweep(&self) -> Result<usize, Error>;
}

/// A root file system that one step may change.
///
/// First mount points are made, then the executor carries out [`rootfs_mounts`](Self::rootfs_mounts) in a mount
/// namespace of the step and runs it, then [`remove_mount_points`](Self::remove_mount_points), then
/// [`diff`](Self::diff), then [`commit`](Self::commit). Nothing else may write to the root file system from
/// `remove_mount_points` on: all processes of the step must be gone. Dropping it removes it.
pub trait ActiveSnapshot: Send + Debug {
    /// How the root file system comes to be at a directory: the mounts, in order, of which the destination `/`
    /// stands for that directory.
    ///
    /// It is either a bind mount of a directory that already is the root file system, or an overlay. All paths in the
    /// options of an overlay are absolute, short, and below one directory of this snapshot: whoever mounts more layers
    /// than fit into the page that the kernel takes goes there first and leaves that directory out.
    fn rootfs_mounts(&self) -> Vec<Mount>;

    /// Makes what is missing of the path to a mount point, the parents 0755 and root's, and remembers what it made
    /// (8.20). Links are followed inside the root, dangling ones too.
    fn create_mount_point(&mut self, target: &Path, kind: MountPointKind) -> Result<(), Error>;

    /// Makes what is missing of a directory, each part 0755 with this owner, to stay: the working directory (8.13),
    /// and `/proc`, `/sys` and `/dev` (8.20). What was made as a mount point before still goes if it stays empty.
    fn create_directory(&mut self, path: &Path, uid: u32, gid: u32) -> Result<(), Error>;

    /// What the root file system should have and its disk cannot: owners and groups that are not root's, and devices, each by
    /// its path below the root. Nothing where owners [are kept](Snapshotter::keeps_owners). Whoever runs the step pretends it.
    fn unkept(&mut self) -> Vec<(PathBuf, Owned)>;

    /// Removes what [`create_mount_point`](Self::create_mount_point) made and the step left as it was: empty
    /// directories and files without a byte. Each parent keeps the time it has at that moment.
    fn remove_mount_points(&mut self) -> Result<(), Error>;

    /// What the step changed: the merged view with the new layer on top, numbered as the next of the stack, and that
    /// layer. Times have all their nanoseconds; sockets are left out. The changeset reads from this snapshot, also
    /// while it is committed, but not once it was dropped.
    ///
    /// `owners` says whom files belong to where the disk cannot. Without it, what the step left alone keeps the owner that the
    /// merged view has, and the rest is root's.
    fn diff(
        &self,
        owners: Option<&OwnershipRecord>,
        cancel: &CancelToken,
    ) -> Result<(Tree, Changeset), Error>;

    /// Makes the root file system ready to be mounted once more after a step on it has ended, as it was left then. What was
    /// made to be mounted on stays.
    fn renew(&mut self) -> Result<(), Error>;

    /// Makes of the root file system as the step left it a directory of its own, which needs no mount and shares no file with
    /// the layers: `directory`, which must not exist, on the file system of the snapshots. `after` is the merged view that
    /// [`diff`](Self::diff) gives. A driver that has such a directory moves it; otherwise everything is copied, by reference
    /// where the file system can. Sockets are left out, and so are attributes that no layer keeps.
    fn write_out(self: Box<Self>, after: &Tree, directory: &Path, cancel: &CancelToken) -> Result<(), Error>;

    /// Makes of what `entries` (those of [`diff`](Self::diff)) name the unpacked layer `layer`, no different from one
    /// that was unpacked from the layer's tar, but for the nanoseconds of times.
    fn commit(self: Box<Self>, layer: &DiffId, entries: &[Entry]) -> Result<(), Error>;
}

/// How deletions are kept in the directory of an unpacked layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// As overlayfs keeps them: character devices 0:0, and the attribute `trusted.overlay.opaque`.
    OverlayTrusted,
    /// The same with `user.overlay.opaque`.
    OverlayUser,
    /// As in the layer's tar: empty files `.wh.name` and `.wh..wh..opq`.
    Files,
}

/// What a mount point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPointKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
}

/// What an unpacked layer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and everything else, hard links once.
    pub inodes: u64,
}
