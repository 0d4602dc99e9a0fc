use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{CancelToken, ContentDigest, ContentHasher, DiffId, Entry, EntryKind, Metadata};
use ocibuild_sys::{DirHandle, FileType, RootDir, Timestamp};
use rustix::io::Errno;

use crate::index::{LayerReader, refused};
use crate::tree::{Replaces, Step, Tree};
use crate::{Error, ErrorKind, LayerListing, Limits};

/// How deletions are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutFormat {
    /// As overlayfs keeps them: character devices 0:0, and `trusted.overlay.opaque`, which only root can set.
    OverlayTrusted,
    /// The same with `user.overlay.opaque`, for mounts with `userxattr`.
    OverlayUser,
    /// As empty files, `.wh.name` and `.wh..wh..opq`.
    Files,
}

/// Whether entries get the owners they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// They do; an owner that does not exist here is an error.
    #[default]
    Set,
    /// All belong to whoever unpacks, and attributes that only root can set are left out; the index knows.
    Ignore,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// They are made; not being allowed to is an error.
    #[default]
    Make,
    /// They are made where the kernel allows it, and left out where it does not, named in [`Applied::skipped`].
    MakeOrSkip,
    /// They are left out, named in [`Applied::skipped`].
    Skip,
}

/// Which modification times entries get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// Those of the tar. A time before the epoch, or one that does not fit in 64 bits of nanoseconds, becomes the epoch.
    #[default]
    Tar,
    /// Those of [`ApplyOptions::known`], which may have nanoseconds where the tar has whole seconds; without it, and for
    /// what it does not list, those of the tar as they are.
    Known,
}

/// How a layer is unpacked.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// How deletions are kept.
    pub whiteouts: WhiteoutFormat,
    /// Owners.
    pub owners: Owners,
    /// Device nodes.
    pub devices: Devices,
    /// Modification times.
    pub times: Times,
    /// The listing that was made earlier of the layer with the same diff id, if there is one: the content of files is then
    /// not hashed again. The caller compares diff ids.
    pub known: Option<Arc<LayerListing>>,
    /// What the tar may cost.
    pub limits: Limits,
    /// Stops the call between entries and within large files.
    pub cancel: CancelToken,
}

impl ApplyOptions {
    /// Owners set and devices made, without limits.
    pub fn new(whiteouts: WhiteoutFormat) -> Self {
        Self {
            whiteouts,
            owners: Owners::Set,
            devices: Devices::Make,
            times: Times::Tar,
            known: None,
            limits: Limits::UNLIMITED,
            cancel: CancelToken::new(),
        }
    }
}

/// What came out of [`apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// The entries. [`LayerListing::implied_directories`] are on disk as 0755 of root at the epoch: where a layer below
    /// has such a directory, its metadata are to be copied, because an overlay would show these. Digests of files are
    /// those of [`ApplyOptions::known`], where that was given.
    pub index: LayerListing,
    /// Hard links to files that this layer does not have: the name, and the target in the layers below.
    pub deferred_links: Vec<(PathBuf, PathBuf)>,
    /// What could not be kept on disk, and was not asked to be.
    pub skipped: Vec<Skipped>,
}

/// Something of an entry that is not on disk; the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The entry.
    pub path: PathBuf,
    /// The attribute that this file system does not keep; `None` for a whole device node.
    pub attribute: Option<String>,
}

/// Unpacks one layer, by itself, into the empty directory `root`, to become a lower directory of an overlay or the
/// source of a merge. Reads to the end of the stream, whose digest is the diff id.
///
/// Nothing outside `root` is touched whatever the layer says, and `root` itself keeps its metadata. An entry replaces
/// what an earlier one of the same path made, except that a directory over a directory only gets other metadata.
/// Deletions are about the layers below alone, before or after entries of the same name. Modes, owners and times of
/// directories are set last. Of attributes, `security.capability` and `user.*` are kept, those of overlayfs never.
///
/// After an error or a cancellation `root` holds a part of the layer, to be thrown away.
pub fn apply(tar: &mut dyn Read, root: &RootDir, options: &ApplyOptions) -> Result<Applied, Error> {
    apply_entries(LayerReader::new(tar, &options.limits, &options.cancel), root, options)
}

/// As [`apply`], with the tar read, and what is in front of it decompressed and verified, in a thread of its own, half a
/// mebibyte ahead at most; without one where none can be started. The thread has ended when this returns, after one more
/// read of `tar` if it failed.
pub fn apply_ahead(
    tar: Box<dyn Read + Send>,
    root: &RootDir,
    options: &ApplyOptions,
) -> Result<Applied, Error> {
    apply_entries(LayerReader::ahead(tar, &options.limits, &options.cancel), root, options)
}

fn apply_entries(
    mut reader: LayerReader<'_>,
    root: &RootDir,
    options: &ApplyOptions,
) -> Result<Applied, Error> {
    let mut tree = Tree::default();
    let mut unpacker = Unpacker::new(root, options)?;
    while let Some(found) = reader.next_entry()? {
        unpacker.entry(&mut tree, &mut reader, &found.entry, found.offset)?;
    }
    let (diff_id, tar_size) = reader.finish()?;
    let deferred_links = tree.deferred_links();
    let mut index = tree.finish(tar_size);
    if let Some(known) = &options.known {
        index.digests = Arc::clone(&known.digests);
    }
    unpacker.deletions(&index)?;
    unpacker.directories(&index)?;
    Ok(Applied { diff_id, index, deferred_links, skipped: unpacker.skipped })
}

const BUFFER: usize = 128 * 1024;

/// Shorter runs of zeros are written.
const SMALLEST_HOLE: usize = 16 * 1024;

static ZEROS: [u8; BUFFER] = [0; BUFFER];

/// As many directories are open at a time.
const MAX_OPEN: usize = 64;

/// Directories have this mode until everything in them is made.
const PRIVATE: u32 = 0o700;

struct Unpacker<'a> {
    root: &'a RootDir,
    options: &'a ApplyOptions,
    /// Open directories, each in the one before. The last is the one worked in last.
    folders: Vec<(PathBuf, DirHandle)>,
    buffer: Vec<u8>,
    /// Owner that new files have by themselves.
    own: Option<(u32, u32)>,
    times: TimesOfEntries<'a>,
    skipped: Vec<Skipped>,
    /// Nodes that were left out, by all their names.
    missing: HashSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    fn new(root: &'a RootDir, options: &'a ApplyOptions) -> Result<Self, Error> {
        let failed = |source| ErrorKind::Unpack { entry: PathBuf::from("/"), source };
        let metadata = root.top().and_then(|top| top.metadata()).map_err(failed)?;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // Below a set-gid directory new files have its group.
        let own = (metadata.mode & 0o2000 == 0).then_some(own);
        let (buffer, missing) = (vec![0; BUFFER], HashSet::new());
        let times = TimesOfEntries::new(options);
        Ok(Self { root, options, folders: Vec::new(), buffer, own, times, skipped: Vec::new(), missing })
    }

    fn entry(
        &mut self,
        tree: &mut Tree,
        reader: &mut LayerReader<'_>,
        entry: &Entry,
        offset: u64,
    ) -> Result<(), Error> {
        let whiteout_device = EntryKind::CharacterDevice { major: 0, minor: 0 };
        if self.options.whiteouts != WhiteoutFormat::Files && entry.kind == whiteout_device {
            return Err(refused(entry, offset, "a character device 0:0 would be a deletion on disk"));
        }
        let step = tree.insert(entry).map_err(|reason| refused(entry, offset, reason))?;
        reader.count_implied(step.implied())?;
        match step {
            Step::Later { implied } => self.make_implied(&implied),
            Step::Make { implied, path, replaces } => {
                self.make_implied(&implied)?;
                self.make_room(&path, replaces)?;
                if let EntryKind::File { size, content } = entry.kind {
                    let (digest, text) = self.file(reader, &entry.metadata, &path, size)?;
                    if let Some(digest) = digest {
                        tree.keep_digest(content, digest);
                    }
                    if let Some(text) = text {
                        tree.keep_text(&path, text);
                    }
                    return Ok(());
                }
                self.make(entry, &path, replaces)
            }
            Step::Link { implied, path, replaces, target } => {
                self.make_implied(&implied)?;
                self.make_room(&path, replaces)?;
                self.link(&path, &target)
            }
            Step::Defer { implied, path, replaces } => {
                self.make_implied(&implied)?;
                self.make_room(&path, replaces)
            }
        }
    }

    fn make_implied(&mut self, implied: &[PathBuf]) -> Result<(), Error> {
        implied.iter().try_for_each(|path| self.at(path, |folder, name| folder.mkdir(name, PRIVATE)))
    }

    fn make_room(&mut self, path: &Path, replaces: Replaces) -> Result<(), Error> {
        if replaces != Replaces::Tree {
            return Ok(());
        }
        self.folders.retain(|(folder, _)| rest_below(folder, path).is_none());
        self.at(path, |folder, name| folder.remove_tree(name))
    }

    /// Makes what an entry describes, unless that is a file.
    fn make(&mut self, entry: &Entry, path: &Path, replaces: Replaces) -> Result<(), Error> {
        let mode = entry.metadata.mode;
        match &entry.kind {
            EntryKind::Directory if replaces == Replaces::Itself => return Ok(()),
            EntryKind::Directory => {
                return self.at(path, |folder, name| folder.mkdir(name, PRIVATE));
            }
            EntryKind::Symlink { target } => self.at(path, |folder, name| folder.symlink(target, name))?,
            EntryKind::Fifo => self.at(path, |folder, name| folder.mkfifo(name, mode))?,
            EntryKind::CharacterDevice { major, minor } => {
                if !self.device(path, FileType::CharDevice, mode, (*major, *minor))? {
                    return Ok(());
                }
            }
            EntryKind::BlockDevice { major, minor } => {
                if !self.device(path, FileType::BlockDevice, mode, (*major, *minor))? {
                    return Ok(());
                }
            }
            EntryKind::File { .. }
            | EntryKind::Hardlink { .. }
            | EntryKind::Whiteout
            | EntryKind::OpaqueWhiteout => return Ok(()),
        }
        self.finish_node(&entry.kind, &entry.metadata, path)
    }

    fn device(
        &mut self,
        path: &Path,
        file_type: FileType,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<bool, Error> {
        if self.options.devices == Devices::Skip {
            self.skip_node(path);
            return Ok(false);
        }
        let device = ocibuild_sys::device(major, minor);
        let made = self.at(path, |folder, name| folder.mknod(name, file_type, mode, device));
        if self.options.devices == Devices::MakeOrSkip && made.as_ref().is_err_and(is_not_permitted) {
            self.skip_node(path);
            return Ok(false);
        }
        made.map(|()| true)
    }

    fn skip_node(&mut self, path: &Path) {
        self.skipped.push(Skipped { path: path.to_owned(), attribute: None });
        self.missing.insert(path.to_owned());
    }

    /// Makes a file. Gives its digest, unless that is known, and the content if the tree wants it.
    fn file(
        &mut self,
        reader: &mut LayerReader<'_>,
        metadata: &Metadata,
        path: &Path,
        size: u64,
    ) -> Result<(Option<ContentDigest>, Option<Vec<u8>>), Error> {
        let mut file = self.at(path, |folder, name| folder.create_private_file(name))?;
        let text = if Tree::wants_text(path, size) { Some(reader.read_text(size)?) } else { None };
        let failed = |source| ErrorKind::UnpackContent { entry: path.to_owned(), source };
        let mut hasher = self.options.known.is_none().then(ContentHasher::default);
        let mut hash = |bytes: &[u8]| {
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
        };
        if let Some(text) = &text {
            hash(text);
            file.write_all(text).map_err(failed)?;
        } else {
            let mut ends_in_hole = false;
            loop {
                let count = reader.read_content(&mut self.buffer)?;
                if count == 0 {
                    break;
                }
                let bytes = &self.buffer[..count];
                hash(bytes);
                // A file that was sparse once takes no room here either.
                ends_in_hole = count >= SMALLEST_HOLE && bytes == &ZEROS[..count];
                if ends_in_hole {
                    file.seek_relative(count as i64).map_err(failed)?;
                } else {
                    file.write_all(bytes).map_err(failed)?;
                }
            }
            if ends_in_hole {
                file.set_len(size).map_err(failed)?;
            }
        }
        self.finish_file(&file, metadata, path)?;
        Ok((hasher.map(ContentHasher::finish), text))
    }

    /// Owner first, because a change of owner drops capabilities and set-id bits; time last.
    fn finish_file(&mut self, file: &File, metadata: &Metadata, path: &Path) -> Result<(), Error> {
        use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
        if let Some((uid, gid)) = self.owner(metadata) {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| not_owned(path, (uid, gid), errno.into()))?;
        }
        for (name, value) in kept_attributes(metadata) {
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(errno) => self.skip_attribute(path, name, errno).map_err(|source| {
                    ErrorKind::UnpackContent { entry: path.to_owned(), source: source.into() }
                })?,
            }
        }
        let mtime = self.times.of(path, metadata);
        let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
        rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode))
            .and_then(|()| {
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::futimens(file, &times)
            })
            .map_err(|errno| ErrorKind::UnpackContent { entry: path.to_owned(), source: errno.into() }.into())
    }

    /// Owner, attributes, mode and times of something that is not opened: all but files.
    fn finish_node(&mut self, kind: &EntryKind, metadata: &Metadata, path: &Path) -> Result<(), Error> {
        let directory = *kind == EntryKind::Directory;
        if let Some((uid, gid)) = self.owner(metadata) {
            self.at(path, |folder, name| folder.chown(name, uid, gid)).map_err(|error| {
                match error.kind() {
                    ErrorKind::Unpack { source, .. } => {
                        not_owned(path, (uid, gid), io::Error::from_raw_os_error(source.raw_os_error()))
                    }
                    _ => error,
                }
            })?;
        }
        for (attribute, value) in kept_attributes(metadata) {
            let set = if directory {
                self.at(path, |folder, name| folder.set_xattr(name, attribute, value))
            } else {
                // Only files and directories can have them.
                self.skipped.push(Skipped { path: path.to_owned(), attribute: Some(attribute.to_owned()) });
                continue;
            };
            if let Err(error) = set {
                let ErrorKind::Unpack { source, .. } = error.kind() else { return Err(error) };
                let errno = Errno::from_raw_os_error(source.raw_os_error());
                if self.skip_attribute(path, attribute, errno).is_err() {
                    return Err(error);
                }
            }
        }
        let mtime = self.times.of(path, metadata);
        self.at(path, |folder, name| {
            if !matches!(kind, EntryKind::Symlink { .. }) {
                folder.chmod(name, metadata.mode)?;
            }
            folder.set_times(name, Some(mtime), Some(mtime))
        })
    }

    /// The owner to set, unless it is there already.
    fn owner(&self, metadata: &Metadata) -> Option<(u32, u32)> {
        let owner = (metadata.uid, metadata.gid);
        (self.options.owners == Owners::Set && self.own != Some(owner)).then_some(owner)
    }

    /// Notes an attribute that the file system does not keep, if the layer is the same to programs without it.
    fn skip_attribute(&mut self, path: &Path, name: &str, errno: Errno) -> Result<(), Errno> {
        let free = name.starts_with("user.") || self.options.owners == Owners::Ignore;
        if !free || !matches!(errno, Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) {
            return Err(errno);
        }
        self.skipped.push(Skipped { path: path.to_owned(), attribute: Some(name.to_owned()) });
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        let (target_folder, target_name) = self.root.parent(target).map_err(|source| unpack(path, source))?;
        let linked = self.at(path, |folder, name| target_folder.hardlink(&target_name, folder, name));
        match linked {
            Err(error) if is_missing(&error) && self.missing.contains(target) => {
                self.skip_node(path);
                Ok(())
            }
            result => result,
        }
    }

    /// Deletions, once it is known what the layer itself has.
    fn deletions(&mut self, index: &LayerListing) -> Result<(), Error> {
        for entry in &index.entries {
            self.check_cancelled()?;
            match entry.kind {
                EntryKind::Whiteout => self.whiteout(&entry.path)?,
                EntryKind::OpaqueWhiteout => self.opaque(&entry.path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &Path) -> Result<(), Error> {
        let files = self.options.whiteouts == WhiteoutFormat::Files;
        self.at(path, |folder, name| {
            if files {
                let mut marker = OsString::from(".wh.");
                marker.push(name);
                folder.create_private_file(&marker).map(|_| ())
            } else {
                folder.mknod(name, FileType::CharDevice, 0, 0)
            }
        })
    }

    fn opaque(&mut self, path: &Path) -> Result<(), Error> {
        let attribute = match self.options.whiteouts {
            WhiteoutFormat::Files => {
                return self.at(&path.join(".wh..wh..opq"), |folder, name| {
                    folder.create_private_file(name).map(|_| ())
                });
            }
            WhiteoutFormat::OverlayTrusted => "trusted.overlay.opaque",
            WhiteoutFormat::OverlayUser => "user.overlay.opaque",
        };
        if path.as_os_str().is_empty() {
            // The root has no parent to reach it from; its descriptor's link in /proc does the same.
            return self.opaque_root(attribute);
        }
        self.at(path, |folder, name| folder.set_xattr(name, attribute, b"y"))
    }

    fn opaque_root(&self, attribute: &str) -> Result<(), Error> {
        use rustix::fs::{Mode, OFlags, XattrFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self.root, ".", flags, Mode::empty())
            .and_then(|fd| rustix::fs::fsetxattr(fd, attribute, b"y", XattrFlags::empty()))
            .map_err(|errno| {
                ErrorKind::UnpackContent { entry: PathBuf::from("/"), source: errno.into() }.into()
            })
    }

    /// Metadata of directories, children first: nothing is made in them any more, and they may deny us entry.
    fn directories(&mut self, index: &LayerListing) -> Result<(), Error> {
        let of_implied = Metadata::of_implied_directory();
        let implied = index.implied_directories.iter().map(|path| (path, &of_implied));
        let own = index.entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
        let mut all: Vec<(&PathBuf, &Metadata)> =
            own.map(|entry| (&entry.path, &entry.metadata)).chain(implied).collect();
        all.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        for (path, metadata) in all {
            self.check_cancelled()?;
            self.finish_node(&EntryKind::Directory, metadata, path)?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.options.cancel.is_cancelled() { Err(ErrorKind::Cancelled.into()) } else { Ok(()) }
    }

    /// Acts on a path of the tree by the descriptor of its directory.
    fn at<T>(
        &mut self,
        path: &Path,
        act: impl FnOnce(&DirHandle, &OsStr) -> Result<T, ocibuild_sys::Error>,
    ) -> Result<T, Error> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        self.enter(parent).and_then(|folder| act(folder, name)).map_err(|source| unpack(path, source))
    }

    /// The directory `path` of the tree, which has no links in it. Consecutive entries are mostly in one directory, or in
    /// one below or above it: it is reached from the nearest directory that is open, so that depth costs nothing.
    fn enter(&mut self, path: &Path) -> Result<&DirHandle, ocibuild_sys::Error> {
        while self.folders.last().is_some_and(|(folder, _)| rest_below(path, folder).is_none()) {
            self.folders.pop();
        }
        if self.folders.is_empty() {
            let above = path.ancestors().take(MAX_OPEN).last().unwrap_or(path);
            let handle =
                if above.as_os_str().is_empty() { self.root.top()? } else { self.root.dir(above)? };
            self.folders.push((above.to_owned(), handle));
        }
        while let Some((folder, handle)) = self.folders.last()
            && let Some(below) = rest_below(path, folder)
            && let Some(name) = below.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
        {
            let name = OsStr::from_bytes(name);
            let next = (folder.join(name), handle.open_dir(name)?);
            if self.folders.len() == MAX_OPEN {
                self.folders.remove(0);
            }
            self.folders.push(next);
        }
        Ok(&self.folders.last().expect("one was pushed above").1)
    }
}

/// What a path has beyond that of a directory, which it is or is below. Both are relative and clean; `Path`'s own way goes
/// through them name by name, which is what deep layers would spend their time on.
fn rest_below<'p>(path: &'p Path, directory: &Path) -> Option<&'p [u8]> {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_os_str().as_bytes())?;
    match rest {
        _ if directory.as_os_str().is_empty() => Some(rest),
        [] => Some(rest),
        [b'/', below @ ..] => Some(below),
        _ => None,
    }
}

/// Whether the kernel keeps this for those with more privilege. (That a directory cannot be written to is another error.)
fn is_not_permitted(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unpack { source, .. } if source.raw_os_error() == Errno::PERM.raw_os_error())
}

fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unpack { source, .. } if source.raw_os_error() == Errno::NOENT.raw_os_error())
}

fn unpack(path: &Path, source: ocibuild_sys::Error) -> Error {
    ErrorKind::Unpack { entry: path.to_owned(), source }.into()
}

fn not_owned(path: &Path, (uid, gid): (u32, u32), source: io::Error) -> Error {
    ErrorKind::UnmappedOwner { entry: path.to_owned(), uid, gid, source }.into()
}

/// What of an entry's attributes goes to disk.
fn kept_attributes(metadata: &Metadata) -> impl Iterator<Item = (&str, &[u8])> {
    let kept = |name: &str| {
        name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.")
    };
    let has_no_nul = |name: &str| !name.as_bytes().contains(&0);
    metadata
        .xattrs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .filter(move |(name, _)| kept(name) && has_no_nul(name))
}

/// The modification times that entries get.
struct TimesOfEntries<'a> {
    times: Times,
    /// What is known of the layer, in the order of paths; empty if the tar tells the times.
    known: &'a [Entry],
    /// Where the entry after the one found last is: a tar that was made here has the same order.
    next: usize,
}

impl<'a> TimesOfEntries<'a> {
    fn new(options: &'a ApplyOptions) -> Self {
        let known = match (options.times, &options.known) {
            (Times::Known, Some(known)) => known.entries.as_slice(),
            _ => &[],
        };
        Self { times: options.times, known, next: 0 }
    }

    /// The time of the entry at `path` of the tree.
    fn of(&mut self, path: &Path, metadata: &Metadata) -> Timestamp {
        if self.times == Times::Tar {
            return bound_time(metadata.mtime);
        }
        let is_it =
            |at: &usize| self.known.get(*at).is_some_and(|entry| entry.path.as_os_str() == path.as_os_str());
        let search = || self.known.partition_point(|entry| entry.path.as_path() < path);
        let Some(at) = Some(self.next).filter(is_it).or_else(|| Some(search()).filter(is_it)) else {
            return timestamp(metadata.mtime);
        };
        self.next = at + 1;
        timestamp(self.known[at].metadata.mtime)
    }
}

/// Times that file systems cannot hold become the epoch, as in containerd.
fn bound_time(time: ocibuild_spec::Timestamp) -> Timestamp {
    // The last second of which the nanoseconds since the epoch are a 64-bit number.
    let possible = 0..=i64::MAX / 1_000_000_000;
    if possible.contains(&time.seconds) { timestamp(time) } else { Timestamp::default() }
}

fn timestamp(time: ocibuild_spec::Timestamp) -> Timestamp {
    Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds }
}
