use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ocibuild_layer::TarEntry;
use ocibuild_snapshot::{Node, NodeId, NodeKind};
use ocibuild_spec::EntryKind;

use super::place::{Bytes, Placement, new_file};
use super::select::clean;
use crate::{Error, ErrorKind};

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
        let mut directories = Vec::new();
        for found in &archive.entries {
            if let Some(id) = self.extract_entry(archive.number, &base, root, found)? {
                directories.push((id, found.entry.metadata.mtime));
            }
        }
        for (id, mtime) in directories {
            self.tree.metadata_mut(id).mtime = mtime;
        }
        Ok(())
    }

    /// The node of a directory, whose time must be set in the end.
    fn extract_entry(
        &mut self,
        archive: usize,
        base: &Path,
        root: NodeId,
        TarEntry { entry, sparse, .. }: &TarEntry,
    ) -> Result<Option<NodeId>, Error> {
        let path = clean(entry.path.as_os_str());
        let Some(name) = path.file_name() else { return Ok(None) };
        let parent = self.extraction_parent(base, root, path.parent().unwrap_or(Path::new("")))?;
        let target = parent.join(name);
        let mut metadata = entry.metadata.clone();
        if let Some((uid, gid)) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        let existing = self.tree.lookup(&target);
        let kind = match &entry.kind {
            EntryKind::Directory => {
                if let Some(id) = existing.filter(|id| self.tree.is_directory(*id)) {
                    *self.tree.metadata_mut(id) = metadata;
                    return Ok(Some(id));
                }
                let node = Node { metadata, kind: NodeKind::Directory(BTreeMap::new()) };
                return Ok(Some(self.tree.insert(&target, node, self.now)));
            }
            EntryKind::Hardlink { target: linked } => {
                let id = self.linked(base, root, linked)?;
                self.tree.link(&target, id, self.now);
                return Ok(None);
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
            EntryKind::CharacterDevice { major, minor } => NodeKind::CharacterDevice(*major, *minor),
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice(*major, *minor),
            // An archive is read without a notion of deletions: such names are ordinary files.
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return Ok(None),
        };
        self.tree.insert(&target, Node { metadata, kind }, self.now);
        Ok(None)
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
                        Some(_) => return Err(broken(&walked, "not a directory")),
                        None => return Err(broken(&walked, "no such file or directory")),
                    }
                }
                None => {
                    let owner = self.owner.take();
                    let made = self.make_directories_with(&direct, 0o755, self.now);
                    self.owner = owner;
                    made?;
                    direct
                }
            };
        }
        Ok(at)
    }

    fn linked(&self, base: &Path, root: NodeId, linked: &Path) -> Result<NodeId, Error> {
        let path = clean(linked.as_os_str());
        let missing = || broken(&path, "no such file or directory");
        let name = path.file_name().ok_or_else(missing)?;
        let parent = self.tree.resolve_below(root, path.parent().unwrap_or(Path::new("")), true)?;
        let target = base.join(parent.path).join(name);
        self.tree.lookup(&target).filter(|id| !self.tree.is_directory(*id)).ok_or_else(missing)
    }
}

fn relative(path: &Path, base: &Path) -> PathBuf {
    path.strip_prefix(base).map(Path::to_owned).unwrap_or_default()
}

fn broken(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Dockerfile, format!("archive entry {}: {what}", path.display()))
        .id("broken-archive")
        .hint("make the archive again, or copy it as it is with COPY or ADD --unpack=false")
}

/// Metadata of the directory `WORKDIR` makes.
pub(crate) fn workdir(
    placement: &mut Placement,
    path: &Path,
    mtime: ocibuild_spec::Timestamp,
) -> Result<(), Error> {
    let resolved = placement.tree.resolve(path, true)?;
    match resolved.node {
        Some(id) if placement.tree.is_directory(id) => Ok(()),
        Some(_) => Err(broken_workdir(resolved.path.as_os_str())),
        None => placement.make_directories_with(&resolved.path, 0o755, mtime),
    }
}

fn broken_workdir(path: &OsStr) -> Error {
    Error::new(ErrorKind::Dockerfile, format!("/{}: not a directory", path.display()))
        .id("destination")
        .word(path.to_string_lossy())
        .cause("WORKDIR makes a directory, but the image has something else at that path")
        .hint("choose another directory, or remove the file in an earlier RUN")
}
