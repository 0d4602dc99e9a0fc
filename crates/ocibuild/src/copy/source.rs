use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_dockerfile::IgnorePatterns;
use ocibuild_snapshot::{NodeKind, Origin, Tree};
use ocibuild_spec::{Metadata, Timestamp};
use ocibuild_sys::{DirHandle, FileType, RootDir};
use walkdir::WalkDir;

use super::missing::Hiding;
use super::select::Selected;
use crate::layers::LayerFiles;
use crate::{Error, ErrorKind};

/// Files that `COPY`, `ADD` and mounts read from. Paths are relative, clean and never followed: links are followed by
/// [`resolve`], the same way for every source.
pub(crate) trait Source: Send + Sync + std::fmt::Debug {
    /// What is at `path`; `None` when there is nothing.
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error>;

    /// The names in a directory, sorted.
    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error>;

    /// Opens a regular file.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error>;

    /// Whether BuildKit would transfer no more of it than what a step selects (7.14).
    fn is_sent_on_demand(&self) -> bool {
        false
    }

    /// The line of an ignore file that hides `path`, if that is why [`stat`](Self::stat) does not show it.
    fn hidden_by(&self, _path: &Path) -> Option<Hiding> {
        None
    }

    /// What an instruction probably means by `word`, outside of the source.
    fn beside(&self, _word: &str) -> Option<PathBuf> {
        None
    }

    /// How messages call the source.
    fn what(&self) -> &'static str {
        "the stage or image"
    }

    /// What to do about a path that is not there.
    fn advice(&self) -> &'static str {
        "the path is looked for in the stage or image that --from names: check it there, from its root on"
    }
}

/// A path of a source.
#[derive(Debug, Clone)]
pub(crate) struct SourceNode {
    pub(crate) metadata: Metadata,
    pub(crate) kind: SourceKind,
    /// Equal for the names of one file that has several.
    pub(crate) links: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Directory,
    File { size: u64 },
    Symlink(PathBuf),
    Fifo,
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
}

impl SourceNode {
    /// Where a link leads.
    pub(super) fn link_target(&self) -> Option<PathBuf> {
        match &self.kind {
            SourceKind::Symlink(target) => Some(PathBuf::from(target)),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == SourceKind::Directory
    }
}

const MAX_LINKS: usize = 255;

/// What a path leads to.
pub(crate) enum Lead {
    /// This path, which exists.
    Found(PathBuf, SourceNode),
    /// Nothing.
    Missing,
}

/// Follows the links of `path` inside the source: absolute targets start at its root, `..` ends there.
pub(crate) fn resolve(source: &dyn Source, path: &Path, follow_last: bool) -> Result<Lead, Error> {
    let mut links = 0;
    let mut todo: Vec<OsString> = parts(path).rev().collect();
    let mut at = PathBuf::new();
    while let Some(part) = todo.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(&part);
        match source.stat(&at)? {
            None => return Ok(Lead::Missing),
            Some(SourceNode { kind: SourceKind::Symlink(target), .. }) if follow_last || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::new(
                        ErrorKind::Dockerfile,
                        format!("\"/{}\": too many links in the source path", path.display()),
                    )
                    .id("too-many-links")
                    .word(path.display().to_string())
                    .hint("the links lead round in a circle: copy what they are meant to lead to"));
                }
                if target.is_absolute() {
                    at.clear();
                } else {
                    at.pop();
                }
                todo.extend(parts(&target).rev());
            }
            Some(node) if !todo.is_empty() && !node.is_directory() => return Ok(Lead::Missing),
            Some(_) => {}
        }
    }
    let node = source.stat(&at)?;
    Ok(node.map_or(Lead::Missing, |node| Lead::Found(at, node)))
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// A local directory seen through an ignore file, as BuildKit's client sends it (7.15): everything is root's, sockets
/// are empty files, capabilities are lost.
#[derive(Debug)]
pub(crate) struct LocalSource {
    root: RootDir,
    path: PathBuf,
    ignore: IgnorePatterns,
    /// The directory that was looked into last: walks ask for one name after the other of the same.
    last: Mutex<Option<(PathBuf, Arc<DirHandle>)>>,
}

impl LocalSource {
    pub(crate) fn new(root: RootDir, path: PathBuf, ignore: IgnorePatterns) -> Self {
        Self { root, path, ignore, last: Mutex::default() }
    }

    fn io(&self, path: &Path, error: &ocibuild_sys::Error) -> Error {
        let shown = self.path.join(path);
        let own = Error::new(ErrorKind::Host, format!("cannot read {}", shown.display()))
            .id("unreadable")
            .word(path.display().to_string())
            .caused_by(error.clone());
        if error.kind() != ocibuild_sys::ErrorKind::Denied {
            return own;
        }
        own.hint(format!(
            "let this user read it (chmod u+r, chown), or keep it out of the context with a line in {}",
            self.ignore.name()
        ))
    }

    fn parent(&self, path: &Path) -> Result<Arc<DirHandle>, ocibuild_sys::Error> {
        let path = path.parent().unwrap_or(Path::new(""));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, directory)) = last.as_ref()
            && known == path
        {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(self.root.dir(path)?);
        *last = Some((path.to_owned(), Arc::clone(&directory)));
        Ok(directory)
    }

    /// The directory itself is not part of a context: how old it is does not count.
    fn stat_root(&self) -> Result<SourceNode, Error> {
        let found = self.root.top().and_then(|top| top.metadata());
        let found = found.map_err(|error| self.io(Path::new(""), &error))?;
        let metadata = metadata_of(&found, BTreeMap::new());
        Ok(SourceNode {
            metadata: Metadata { mtime: Timestamp::default(), ..metadata },
            kind: SourceKind::Directory,
            links: None,
        })
    }

    /// Whether the ignore file lets the path through, were it no directory.
    fn is_kept(&self, path: &Path) -> bool {
        self.ignore.is_empty() || !self.ignore.matches(path.as_os_str().as_bytes())
    }

    /// Whether anything below an ignored directory is let through by an exception (7.09).
    fn has_kept_below(&self, path: &Path) -> Result<bool, Error> {
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            if !self.ignore.may_have_exceptions_below(path.as_os_str().as_bytes()) {
                continue;
            }
            let directory = self.root.dir(&path).map_err(|error| self.io(&path, &error))?;
            for entry in directory.read_dir().map_err(|error| self.io(&path, &error))? {
                let entry = entry.map_err(|error| self.io(&path, &error))?;
                let child = path.join(&entry.name);
                let found = directory.stat(&entry.name).map_err(|error| self.io(&child, &error))?;
                if self.is_kept(&child) {
                    return Ok(true);
                }
                if found.is_dir() {
                    todo.push(child);
                }
            }
        }
        Ok(false)
    }

    fn is_visible(&self, path: &Path, is_directory: bool) -> Result<bool, Error> {
        Ok(path.as_os_str().is_empty()
            || self.is_kept(path)
            || (is_directory && self.has_kept_below(path)?))
    }

    fn xattrs(directory: &DirHandle, name: &OsStr) -> BTreeMap<String, Vec<u8>> {
        let names = directory.list_xattrs(name).unwrap_or_default();
        let user = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("user."));
        user.filter_map(|attribute| {
            let value = directory.get_xattr(name, attribute).ok()??;
            Some((attribute.to_owned(), value))
        })
        .collect()
    }
}

impl Source for LocalSource {
    fn is_sent_on_demand(&self) -> bool {
        true
    }

    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        let Some(name) = path.file_name() else { return self.stat_root().map(Some) };
        let directory = match self.parent(path) {
            Ok(directory) => directory,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.io(path, &error)),
        };
        let found = match directory.try_stat(name) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.io(path, &error)),
        };
        if !self.is_visible(path, found.is_dir())? {
            return Ok(None);
        }
        let kind = match found.file_type {
            FileType::Directory => SourceKind::Directory,
            FileType::Symlink => {
                let target = directory.read_link(name).map_err(|error| self.io(path, &error))?;
                SourceKind::Symlink(target.into())
            }
            FileType::Regular => SourceKind::File { size: found.size },
            FileType::Fifo => SourceKind::Fifo,
            FileType::CharDevice => {
                let (major, minor) = ocibuild_sys::device_numbers(found.rdev);
                SourceKind::CharacterDevice(major, minor)
            }
            FileType::BlockDevice => {
                let (major, minor) = ocibuild_sys::device_numbers(found.rdev);
                SourceKind::BlockDevice(major, minor)
            }
            FileType::Socket => SourceKind::File { size: 0 },
        };
        let is_regular = matches!(kind, SourceKind::File { .. });
        let xattrs =
            if is_regular || found.is_dir() { Self::xattrs(&directory, name) } else { BTreeMap::new() };
        let metadata = metadata_of(&found, xattrs);
        let links = (is_regular && found.nlink > 1).then_some((found.dev, found.ino));
        Ok(Some(SourceNode { metadata, kind, links }))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        // What is listed here is opened below the context's descriptor, should the path have changed meanwhile.
        let listing = WalkDir::new(self.path.join(path)).min_depth(1).max_depth(1);
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|error| {
                let shown = self.path.join(path);
                Error::new(ErrorKind::Host, format!("cannot read {}", shown.display())).caused_by(error)
            })?;
            let child = path.join(entry.file_name());
            if self.ignore.is_empty() || self.is_visible(&child, entry.file_type().is_dir())? {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn hidden_by(&self, path: &Path) -> Option<Hiding> {
        let is_there = self.parent(path).ok()?.try_stat(path.file_name()?).ok()?.is_some();
        let line = self.ignore.verdict(path.as_os_str().as_bytes()).line.filter(|_| is_there)?;
        // The pattern may be about a directory above.
        let above: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        let decided = |path: &&&Path| self.ignore.verdict(path.as_os_str().as_bytes()).line == Some(line);
        let matched = above.iter().rev().find(decided).map_or(path, |path| *path);
        Some(Hiding {
            file: self.ignore.name().to_owned(),
            line,
            pattern: self.ignore.text_of(line).unwrap_or_default(),
            matched: matched.to_owned(),
        })
    }

    fn beside(&self, word: &str) -> Option<PathBuf> {
        // Only whether something is there is asked, to be told to whoever wrote the path.
        let found = |path: PathBuf| fs_err::symlink_metadata(&path).is_ok().then_some(path);
        let relative = word.trim_start_matches('/');
        found(self.path.join(relative)).or_else(|| found(self.path.join("..").join(relative)))
    }

    fn what(&self) -> &'static str {
        "the build context"
    }

    fn advice(&self) -> &'static str {
        "paths are relative to the build context, which ends at its root: '..' leads nowhere above it"
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let name = path.file_name().unwrap_or_default();
        let directory = self.parent(path).map_err(|error| self.io(path, &error))?;
        let found = directory.stat(name).map_err(|error| self.io(path, &error))?;
        if found.file_type == FileType::Socket {
            return Ok(Box::new(std::io::empty()));
        }
        Ok(Box::new(directory.open_read(name).map_err(|error| self.io(path, &error))?))
    }
}

/// What a context says about a file: everything is root's.
fn metadata_of(found: &ocibuild_sys::Metadata, xattrs: BTreeMap<String, Vec<u8>>) -> Metadata {
    let mtime = Timestamp { seconds: found.mtime.seconds, nanoseconds: found.mtime.nanoseconds };
    Metadata { mode: found.mode & 0o7777, uid: 0, gid: 0, mtime, xattrs }
}

fn is_missing(error: &ocibuild_sys::Error) -> bool {
    matches!(error.kind(), ocibuild_sys::ErrorKind::NotFound | ocibuild_sys::ErrorKind::NotADirectory)
}

/// The merged view of a stack of layers.
#[derive(Debug, Clone)]
pub(crate) struct TreeSource {
    tree: Arc<Tree>,
    files: Option<Arc<LayerFiles>>,
}

impl TreeSource {
    /// A source that can be looked at, but whose files cannot be opened.
    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        Self { tree, files: None }
    }

    /// The same with the content of its files.
    pub(crate) fn with_files(mut self, files: LayerFiles) -> Self {
        self.files = Some(Arc::new(files));
        self
    }

    /// The content number and size of the file at a path.
    pub(crate) fn content(&self, path: &Path) -> Option<(usize, u64)> {
        match &self.tree.node(self.tree.lookup(path)?).kind {
            NodeKind::File { size, origin } => Some((usize::try_from(origin.content.0).ok()?, *size)),
            _ => None,
        }
    }

    /// Where the content of what was selected is.
    pub(crate) fn origins(&self, selected: &[Selected]) -> Result<Vec<(Origin, u64)>, Error> {
        let mut origins = Vec::new();
        let mut add = |path: &Path| {
            let node = self.tree.lookup(path).map(|id| &self.tree.node(id).kind);
            if let Some(NodeKind::File { size, origin }) = node {
                origins.push((origin.clone(), *size));
            }
        };
        for one in selected {
            add(&one.path);
            one.each_item(self, &mut |item| {
                add(&one.path.join(&item.path));
                Ok(())
            })?;
        }
        Ok(origins)
    }

    /// Where the content of the file at a path is.
    pub(crate) fn origin_of(&self, path: &Path) -> Vec<(Origin, u64)> {
        let node = self.tree.lookup(path).map(|id| &self.tree.node(id).kind);
        match node {
            Some(NodeKind::File { size, origin }) => vec![(origin.clone(), *size)],
            _ => Vec::new(),
        }
    }
}

impl Source for TreeSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        let Some(id) = self.tree.lookup(path) else { return Ok(None) };
        let node = self.tree.node(id);
        let kind = match &node.kind {
            NodeKind::Directory(_) => SourceKind::Directory,
            NodeKind::File { size, .. } => SourceKind::File { size: *size },
            NodeKind::Symlink(target) => SourceKind::Symlink(target.clone()),
            NodeKind::Fifo => SourceKind::Fifo,
            NodeKind::CharacterDevice(major, minor) => SourceKind::CharacterDevice(*major, *minor),
            NodeKind::BlockDevice(major, minor) => SourceKind::BlockDevice(*major, *minor),
        };
        let links = matches!(kind, SourceKind::File { .. }).then_some((0, id.number()));
        Ok(Some(SourceNode { metadata: node.metadata.clone(), kind, links }))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let id = self.tree.lookup(path);
        Ok(id.map(|id| self.tree.children(id).map(|(name, _)| name.to_owned()).collect()).unwrap_or_default())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let node = self.tree.lookup(path).map(|id| self.tree.node(id));
        match node.map(|node| &node.kind) {
            Some(NodeKind::File { size, origin }) => match &self.files {
                Some(files) => files.open(origin, *size),
                None => {
                    Err(Error::new(ErrorKind::Host, format!("\"/{}\" has no content here", path.display())))
                }
            },
            _ => {
                Err(Error::new(ErrorKind::Dockerfile, format!("\"/{}\": not a regular file", path.display())))
            }
        }
    }
}
