use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ocibuild_layer::SparseMap;
use ocibuild_plan::Chmod;
use ocibuild_snapshot::{Node, NodeId, NodeKind, Origin, ResolveError, Tree};
use ocibuild_spec::{Content, Metadata, Timestamp};

use super::select::Selected;
use super::source::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{CopyProblem, DestinationProblem, WrongDestination};

/// The layer number of files that this step brings.
pub(crate) const NEW_LAYER: u32 = u32::MAX;

/// Where the bytes of placed files come from; their [`Content`] is an index in the list of these.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    /// A file of the step's source.
    Source {
        /// Which source.
        part: usize,
        /// The path in it.
        path: PathBuf,
    },
    /// The files of a directory of a source, which are below `target` where they are below `source` there.
    Below {
        /// Which source.
        part: usize,
        /// The directory in it.
        source: PathBuf,
        /// Where that is placed.
        target: PathBuf,
    },
    /// The text of a heredoc.
    Inline(String),
    /// A range of an unpacked archive, with holes between its parts if it is a sparse file.
    Archive { archive: usize, offset: u64, sparse: Option<SparseMap> },
    /// A file of the layers below.
    Base { origin: Origin, size: u64 },
}

/// Carries out copies on a [`Tree`] the way a kernel and BuildKit would on files (6.2, 6.3).
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) tree: Tree,
    pub(crate) bytes: Vec<Bytes>,
    /// Owner of everything placed; without, entries keep theirs and what is made is root's.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) chmod: Option<Chmod>,
    pub(crate) now: Timestamp,
    /// Which of the sources it is that is copied from.
    pub(crate) part: usize,
}

impl Bytes {
    /// Which source the file that is placed at `placed` is from, and its path there; `None` for what is from none.
    pub(crate) fn source_path(&self, placed: &Path) -> Option<(usize, PathBuf)> {
        match self {
            Self::Source { part, path } => Some((*part, path.clone())),
            Self::Below { part, source, target } => {
                placed.strip_prefix(target).ok().map(|below| (*part, source.join(below)))
            }
            Self::Inline(_) | Self::Archive { .. } | Self::Base { .. } => None,
        }
    }
}

/// A file that this step brings.
pub(crate) fn new_file(content: Content, size: u64) -> NodeKind {
    NodeKind::File { size, origin: Origin { layer: NEW_LAYER, path: PathBuf::new(), content } }
}

fn refuse(path: impl Into<PathBuf>, problem: DestinationProblem) -> Error {
    CopyProblem::destination(path, problem).into()
}

/// The same about the destination as it is written.
fn refuse_word(path: impl Into<PathBuf>, problem: DestinationProblem, word: &str) -> Error {
    let wrong = WrongDestination { path: path.into(), problem, word: Some(word.to_owned()) };
    CopyProblem::Destination(Box::new(wrong)).into()
}

impl From<ResolveError> for Error {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Loop(path) => refuse(path, DestinationProblem::Loop),
            ResolveError::NotDirectory(path) => refuse(path, DestinationProblem::NotDirectory),
        }
    }
}

impl Placement {
    pub(crate) fn new(tree: Tree, now: Timestamp) -> Self {
        Self { tree, bytes: Vec::new(), owner: None, chmod: None, now, part: 0 }
    }

    /// Copies what was selected of `source` to `destination`, which is absolute and ends in `/` when it must be a
    /// directory.
    pub(crate) fn copy(
        &mut self,
        source: &dyn Source,
        selected: &Selected,
        destination: &str,
    ) -> Result<(), Error> {
        if selected.keeps_parents {
            let target = self.destination_directory(destination)?;
            return self.items(source, selected, &target);
        }
        if selected.node.is_directory() {
            let target = self.destination_directory(destination)?;
            self.items(source, selected, &target)?;
            let id = self.directory_at(&target)?;
            // How old the root of a source is, nothing tells, unless an archive did.
            let is_root = selected.path.as_os_str().is_empty();
            let known =
                Some(selected.node.metadata.mtime).filter(|mtime| !is_root || *mtime != Timestamp::default());
            self.tree.metadata_mut(id).mtime = known.unwrap_or(self.now);
            return Ok(());
        }
        let target = self.file_target(destination, &selected.name)?;
        let content = self.content(Bytes::Source { part: self.part, path: selected.path.clone() });
        self.leaf(&selected.node, content, &target).map(|_| ())
    }

    /// Puts a heredoc at `destination`, by the rules for files.
    pub(crate) fn heredoc(&mut self, name: &str, content: &str, destination: &str) -> Result<(), Error> {
        let target = self.file_target(destination, &OsString::from(name))?;
        let metadata = Metadata { mode: 0o644, mtime: self.now, ..Metadata::default() };
        let size = content.len() as u64;
        let content = self.content(Bytes::Inline(content.to_owned()));
        let kind = new_file(content, size);
        let metadata = self.adapted(&metadata, false);
        self.replace(&target, Node { metadata, kind })?;
        Ok(())
    }

    /// The directory that `destination` leads to, made with its parents when it is missing.
    pub(crate) fn destination_directory(&mut self, destination: &str) -> Result<PathBuf, Error> {
        let resolved = self.tree.resolve(Path::new(destination), true)?;
        match resolved.node {
            Some(id) if !self.tree.is_directory(id) => {
                Err(refuse_word(resolved.path, DestinationProblem::FileForDirectory, destination))
            }
            Some(_) => Ok(resolved.path),
            None => {
                self.make_directories(&resolved.path)?;
                Ok(resolved.path)
            }
        }
    }

    /// The path at which a file called `name` arrives.
    fn file_target(&mut self, destination: &str, name: &OsString) -> Result<PathBuf, Error> {
        let must_be_directory = destination.ends_with('/');
        let resolved = self.tree.resolve(Path::new(destination), true)?;
        match resolved.node {
            Some(id) if self.tree.is_directory(id) => Ok(resolved.path.join(name)),
            Some(_) if must_be_directory => {
                Err(refuse_word(resolved.path, DestinationProblem::FileWithSlash, destination))
            }
            Some(_) => Ok(resolved.path),
            None if must_be_directory => {
                self.make_directories(&resolved.path)?;
                Ok(resolved.path.join(name))
            }
            None => {
                self.make_directories(resolved.path.parent().unwrap_or(Path::new("")))?;
                Ok(resolved.path)
            }
        }
    }

    /// Makes the missing directories of a path without links (6.22).
    pub(crate) fn make_directories(&mut self, path: &Path) -> Result<(), Error> {
        let mode = self.chmod.as_ref().map_or(0o755, Chmod::created_directory);
        self.make_directories_with(path, mode, self.now)
    }

    pub(crate) fn make_directories_with(
        &mut self,
        path: &Path,
        mode: u32,
        mtime: Timestamp,
    ) -> Result<(), Error> {
        let mut at = PathBuf::new();
        let mut parent = self.tree.root();
        for part in path {
            at.push(part);
            parent = match self.tree.child(parent, part) {
                Some(id) if self.tree.is_directory(id) => id,
                Some(_) => return Err(refuse(at, DestinationProblem::NotDirectory)),
                None => {
                    let above = &self.tree.node(parent).metadata;
                    // Below a set-gid directory the kernel hands on the bit and the group.
                    let inherits = above.mode & 0o2000 != 0;
                    let (uid, gid) = self.owner.unwrap_or((0, if inherits { above.gid } else { 0 }));
                    let mode = mode | (above.mode & 0o2000);
                    let metadata = Metadata { mode, uid, gid, mtime, xattrs: BTreeMap::new() };
                    let node = Node { metadata, kind: NodeKind::Directory(BTreeMap::new()) };
                    self.tree.insert(&at, node, self.now)
                }
            };
        }
        Ok(())
    }

    /// Copies what is below a selected directory into the directory `target`.
    fn items(&mut self, source: &dyn Source, selected: &Selected, target: &Path) -> Result<(), Error> {
        let bytes =
            Bytes::Below { part: self.part, source: selected.path.clone(), target: target.to_owned() };
        let content = self.content(bytes);
        let mut links = HashMap::new();
        let mut directories = Vec::new();
        selected.each_item(source, &mut |item| {
            let path = target.join(&item.path);
            if item.node.is_directory() {
                if item.is_intermediate && selected.keeps_parents {
                    self.passed_directory(&path, &item.node)?;
                } else {
                    let id = self.directory(&path, &item.node)?;
                    directories.push((id, item.node.metadata.mtime));
                }
                return Ok(());
            }
            let known = item.node.links.and_then(|links_key| links.get(&links_key).copied());
            if let Some(id) = known {
                self.refuse_directory(&path)?;
                self.tree.link(&path, id, self.now);
                return Ok(());
            }
            let id = self.leaf(&item.node, content, &path)?;
            if let Some(key) = item.node.links {
                links.insert(key, id);
            }
            Ok(())
        })?;
        // Their times are set when nothing is put into them any more.
        for (id, mtime) in directories {
            self.tree.metadata_mut(id).mtime = mtime;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, node: &SourceNode) -> Result<NodeId, Error> {
        let metadata = self.adapted(&node.metadata, true);
        match self.tree.lookup(path) {
            Some(id) if self.tree.is_directory(id) => {
                *self.tree.metadata_mut(id) = metadata;
                Ok(id)
            }
            Some(_) => Err(refuse(path, DestinationProblem::DirectoryOntoFile)),
            None => {
                let node = Node { metadata, kind: NodeKind::Directory(BTreeMap::new()) };
                Ok(self.tree.insert(path, node, self.now))
            }
        }
    }

    /// A directory that only leads to what `--parents` copies: one that exists takes the source's mode and keeps the
    /// rest, a new one has the source's mode and owner and the time of its making (5.207).
    fn passed_directory(&mut self, path: &Path, node: &SourceNode) -> Result<NodeId, Error> {
        let existing = self.tree.lookup(path).filter(|id| self.tree.is_directory(*id));
        let Some(id) = existing else {
            let id = self.directory(path, node)?;
            self.tree.metadata_mut(id).mtime = self.now;
            return Ok(id);
        };
        let mode = self.adapted(&node.metadata, true).mode;
        self.tree.metadata_mut(id).mode = mode;
        Ok(id)
    }

    /// Puts anything but a directory at `target`, instead of what is there.
    fn leaf(&mut self, node: &SourceNode, content: Content, target: &Path) -> Result<NodeId, Error> {
        let kind = match &node.kind {
            SourceKind::File { size } => new_file(content, *size),
            SourceKind::Symlink(target) => NodeKind::Symlink(target.clone()),
            SourceKind::Fifo => NodeKind::Fifo,
            SourceKind::CharacterDevice(0, 0) => {
                return Err(refuse(target, DestinationProblem::Deletion));
            }
            SourceKind::CharacterDevice(major, minor) => NodeKind::CharacterDevice(*major, *minor),
            SourceKind::BlockDevice(major, minor) => NodeKind::BlockDevice(*major, *minor),
            SourceKind::Directory => NodeKind::Directory(BTreeMap::new()),
        };
        let mut metadata = self.adapted(&node.metadata, false);
        if matches!(kind, NodeKind::Symlink(_)) {
            metadata.mode = 0o777;
        }
        self.replace(target, Node { metadata, kind })
    }

    fn refuse_directory(&self, path: &Path) -> Result<(), Error> {
        match self.tree.lookup(path) {
            Some(id) if self.tree.is_directory(id) => {
                Err(refuse(path, DestinationProblem::FileOntoDirectory))
            }
            _ => Ok(()),
        }
    }

    fn replace(&mut self, path: &Path, node: Node) -> Result<NodeId, Error> {
        self.refuse_directory(path)?;
        Ok(self.tree.insert(path, node, self.now))
    }

    /// The number under which these bytes are found again.
    pub(crate) fn content(&mut self, bytes: Bytes) -> Content {
        self.bytes.push(bytes);
        Content(self.bytes.len() as u64 - 1)
    }

    /// Opens a placed file; archives are no concern of whoever uses this.
    pub(crate) fn open(
        &self,
        entry: &ocibuild_spec::Entry,
        source: &dyn Source,
    ) -> Result<Box<dyn std::io::Read + Send>, Error> {
        let ocibuild_spec::EntryKind::File { content, .. } = &entry.kind else {
            return Err(CopyProblem::NotRegular { path: entry.path.clone() }.into());
        };
        let bytes = usize::try_from(content.0).ok().and_then(|number| self.bytes.get(number));
        match (bytes.and_then(|bytes| bytes.source_path(&entry.path)), bytes) {
            (Some((_, path)), _) => source.open(&path),
            (None, Some(Bytes::Inline(text))) => {
                Ok(Box::new(std::io::Cursor::new(text.clone().into_bytes())))
            }
            _ => Err(CopyProblem::NotRegular { path: entry.path.clone() }.into()),
        }
    }

    /// Metadata as `--chown` and `--chmod` leave it.
    fn adapted(&self, metadata: &Metadata, is_directory: bool) -> Metadata {
        let mut metadata = metadata.clone();
        if let Some((uid, gid)) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        if let Some(chmod) = &self.chmod {
            metadata.mode = chmod.apply(metadata.mode, is_directory);
        }
        metadata
    }

    pub(crate) fn directory_at(&self, path: &Path) -> Result<NodeId, Error> {
        self.tree
            .lookup(path)
            .filter(|id| self.tree.is_directory(*id))
            .ok_or_else(|| refuse(path, DestinationProblem::NotDirectory))
    }
}
