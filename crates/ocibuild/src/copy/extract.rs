use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ocibuild_layer::TarEntry;
use ocibuild_snapshot::{Node, NodeId, NodeKind};
use ocibuild_spec::{Entry, EntryKind, Metadata, Timestamp};

use super::place::{Bytes, NEW_LAYER, Placement, new_file};
use super::select::clean;
use crate::error::Error;
use crate::failure::{CopyProblem, DestinationProblem, EntryProblem};

/// The entries of an archive, as stored, each file's content number being the offset of its bytes in the plain tar.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) entries: Vec<TarEntry>,
    /// Number by which the content is found again.
    pub(crate) number: usize,
}

impl Placement {
    /// Unpacks an archive below `destination`, as a process would whose root that directory is (6.61 to 6.63).
    pub(crate) fn extract(&mut self, archive: &Archive, destination: &str) -> Result<(), Error> {
        let chmod = self.chmod.take();
        let base = self.destination_directory(destination);
        self.chmod = chmod;
        let base = base?;
        let root = self.directory_at(&base)?;
        for found in &archive.entries {
            self.extract_entry(archive.number, &base, root, found)?;
        }
        // Times are set by name, when nothing is put into directories any more: whatever has the name by then gets them.
        for TarEntry { entry, .. } in &archive.entries {
            let Some(path) = place_of(&entry.path).filter(|_| entry.kind == EntryKind::Directory) else {
                continue;
            };
            let named = self.tree.resolve_below(root, &path, true)?;
            let id = named.node.ok_or_else(|| broken(&path, EntryProblem::NotFound))?;
            let id = self.own(&base.join(named.path), id);
            self.tree.metadata_mut(id).mtime = bounded(entry.metadata.mtime);
        }
        Ok(())
    }

    fn extract_entry(
        &mut self,
        archive: usize,
        base: &Path,
        root: NodeId,
        TarEntry { entry, sparse, .. }: &TarEntry,
    ) -> Result<(), Error> {
        let Some(path) = place_of(&entry.path) else { return Ok(()) };
        check_attributes(entry)?;
        let mut metadata = entry.metadata.clone();
        if let Some((uid, gid)) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        metadata.mtime = bounded(metadata.mtime);
        if let Some(value) = metadata.xattrs.get_mut(CAPABILITY) {
            of_the_host(value);
        }
        let is_directory = entry.kind == EntryKind::Directory;
        let Some(name) = path.file_name() else {
            if !is_directory {
                return Err(broken(&entry.path, EntryProblem::ReplacesDestination));
            }
            set_directory(self.tree.metadata_mut(root), metadata);
            return Ok(());
        };
        let parent = self.extraction_parent(base, root, path.parent().unwrap_or(Path::new("")))?;
        let target = parent.join(name);
        match self.tree.lookup(&target) {
            Some(id) if is_directory && self.tree.is_directory(id) => {
                set_directory(self.tree.metadata_mut(id), metadata);
                return Ok(());
            }
            Some(_) => self.tree.remove(&target, self.now),
            None => {}
        }
        let kind = match &entry.kind {
            EntryKind::Directory => NodeKind::Directory(BTreeMap::new()),
            EntryKind::Hardlink { target: linked } => {
                let (place, id) = self.linked(base, root, linked)?;
                let id = self.own(&place, id);
                self.tree.link(&target, id, self.now);
                self.set_linked(id, metadata);
                return Ok(());
            }
            EntryKind::File { size, content } => {
                let sparse = sparse.clone();
                let content = self.content(Bytes::Archive { archive, offset: content.0, sparse });
                new_file(content, *size)
            }
            EntryKind::Symlink { target } => {
                metadata.mode = 0o777;
                NodeKind::Symlink(target.clone())
            }
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::CharacterDevice { major: 0, minor: 0 } => {
                return Err(broken(&entry.path, EntryProblem::Deletion));
            }
            EntryKind::CharacterDevice { major, minor } => NodeKind::CharacterDevice(*major, *minor),
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice(*major, *minor),
            // An archive is read without a notion of deletions: such names are ordinary files.
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return Ok(()),
        };
        keep_owner(&mut metadata, (0, 0));
        self.tree.insert(&target, Node { metadata, kind }, self.now);
        Ok(())
    }

    /// Gives a file the metadata that an entry has which is another name of it. A link has no mode or time that could be
    /// set this way.
    fn set_linked(&mut self, id: NodeId, mut metadata: Metadata) {
        let is_link = matches!(self.tree.node(id).kind, NodeKind::Symlink(_));
        let own = self.tree.metadata_mut(id);
        keep_owner(&mut metadata, (own.uid, own.gid));
        (own.uid, own.gid) = (metadata.uid, metadata.gid);
        // The kernel takes the capabilities of a file that gets an owner, even the one it has.
        own.xattrs.remove(CAPABILITY);
        own.xattrs.extend(metadata.xattrs);
        if !is_link {
            (own.mode, own.mtime) = (metadata.mode, metadata.mtime);
        }
    }

    /// The node at `path`, to be changed: a file of the layers below becomes one of this layer, as overlayfs has it, and
    /// other names of it stay with what is below.
    fn own(&mut self, path: &Path, id: NodeId) -> NodeId {
        let Node { metadata, kind: NodeKind::File { size, origin } } = self.tree.node(id) else { return id };
        if origin.layer == NEW_LAYER {
            return id;
        }
        let (metadata, size, origin) = (metadata.clone(), *size, origin.clone());
        let content = self.content(Bytes::Base { origin, size });
        let parent = path.parent().and_then(|parent| self.tree.lookup(parent));
        let mtime = parent.map_or(self.now, |parent| self.tree.node(parent).metadata.mtime);
        self.tree.insert(path, Node { metadata, kind: new_file(content, size) }, mtime)
    }

    /// The directory an entry goes into, made where the archive only implies it; links lead nowhere but below `base`.
    fn extraction_parent(&mut self, base: &Path, root: NodeId, path: &Path) -> Result<PathBuf, Error> {
        let mut at = base.to_owned();
        let mut walked = PathBuf::new();
        for part in path {
            walked.push(part);
            let direct = at.join(part);
            at = match self.tree.lookup(&direct) {
                Some(id) if self.tree.is_directory(id) => direct,
                Some(_) => {
                    let below = self.tree.resolve_below(root, &relative(&at, base).join(part), true)?;
                    match below.node {
                        Some(id) if self.tree.is_directory(id) => base.join(below.path),
                        Some(_) => return Err(broken(&walked, EntryProblem::NotDirectory)),
                        None => return Err(broken(&walked, EntryProblem::NotFound)),
                    }
                }
                None => {
                    let owner = self.owner.replace((0, 0));
                    let made = self.make_directories_with(&direct, 0o755, self.now);
                    self.owner = owner;
                    made?;
                    direct
                }
            };
        }
        Ok(at)
    }

    /// Where the file is that a hard link names, and its node.
    fn linked(&self, base: &Path, root: NodeId, linked: &Path) -> Result<(PathBuf, NodeId), Error> {
        let path = clean(linked.as_os_str());
        let missing = || broken(&path, EntryProblem::NotFound);
        let name = path.file_name().ok_or_else(missing)?;
        let parent = self.tree.resolve_below(root, path.parent().unwrap_or(Path::new("")), true)?;
        let target = base.join(parent.path).join(name);
        let id = self.tree.lookup(&target).filter(|id| !self.tree.is_directory(*id));
        id.map(|id| (target, id)).ok_or_else(missing)
    }
}

/// Where below the destination an entry goes, empty for the destination itself; `None` for an archive's own root, of which
/// nothing is taken.
fn place_of(name: &Path) -> Option<PathBuf> {
    let mut depth = 0_usize;
    let mut is_elsewhere = name.is_absolute();
    for part in name.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => is_elsewhere = true,
            Component::ParentDir => depth -= 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    (depth > 0 || is_elsewhere).then(|| clean(name.as_os_str()))
}

/// A directory that exists gets an entry's metadata.
fn set_directory(own: &mut Metadata, mut metadata: Metadata) {
    keep_owner(&mut metadata, (own.uid, own.gid));
    *own = metadata;
}

/// To the kernel an id of all ones means the one that the file has.
fn keep_owner(metadata: &mut Metadata, (uid, gid): (u32, u32)) {
    for (id, own) in [(&mut metadata.uid, uid), (&mut metadata.gid, gid)] {
        if *id == u32::MAX {
            *id = own;
        }
    }
}

/// Times that a Go program cannot set are the epoch: those before it, and those that have too many nanoseconds.
fn bounded(mtime: Timestamp) -> Timestamp {
    let last =
        Timestamp { seconds: i64::MAX / 1_000_000_000, nanoseconds: (i64::MAX % 1_000_000_000) as u32 };
    if mtime < Timestamp::default() || mtime > last { Timestamp::default() } else { mtime }
}

const CAPABILITY: &str = "security.capability";

/// Capabilities that are root's own, as the kernel gives them back: in version 2, which names no root.
fn of_the_host(value: &mut Vec<u8>) {
    if value.len() == 24 && value[20..] == [0; 4] {
        value[3] = 2;
        value.truncate(20);
    }
}

const ACL: &str = "system.posix_acl_";

/// Attributes that no file system takes are errors; those that some take are set where they can be.
fn check_attributes(entry: &Entry) -> Result<(), Error> {
    for (name, value) in &entry.metadata.xattrs {
        let problem = match name.len() {
            0 | 256.. => "numerical result out of range",
            _ if value.len() > 1 << 16 => "argument list too long",
            _ if name == CAPABILITY && !is_capability(value) => "invalid argument",
            _ if name.starts_with(ACL) && !is_acl(value) => "invalid argument",
            _ => continue,
        };
        return Err(broken(&entry.path, EntryProblem::Attribute { name: name.clone(), problem }));
    }
    Ok(())
}

/// Whether the kernel takes these for capabilities of a file (`linux/capability.h`): those of versions 2 and 3.
fn is_capability(value: &[u8]) -> bool {
    let version = value.get(..4).map(|magic| magic[3]);
    matches!((value.len(), version), (20, Some(2)) | (24, Some(3)))
}

fn relative(path: &Path, base: &Path) -> PathBuf {
    path.strip_prefix(base).map(Path::to_owned).unwrap_or_default()
}

fn broken(path: &Path, problem: EntryProblem) -> Error {
    CopyProblem::ArchiveEntry { entry: path.to_owned(), problem }.into()
}

/// Whether this has the form of an access control list (`linux/posix_acl_xattr.h`).
fn is_acl(value: &[u8]) -> bool {
    value.starts_with(&[2, 0, 0, 0]) && value.len() % 8 == 4
}

/// Metadata of the directory `WORKDIR` makes.
pub(crate) fn workdir(placement: &mut Placement, path: &Path, mtime: Timestamp) -> Result<(), Error> {
    let resolved = placement.tree.resolve(path, true)?;
    match resolved.node {
        Some(id) if placement.tree.is_directory(id) => Ok(()),
        Some(_) => Err(CopyProblem::destination(resolved.path, DestinationProblem::WorkingDirectory).into()),
        None => placement.make_directories_with(&resolved.path, 0o755, mtime),
    }
}
