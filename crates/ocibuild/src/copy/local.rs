//! A directory of this machine as a source.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_dockerfile::IgnorePatterns;
use ocibuild_spec::{Metadata, Timestamp};
use ocibuild_sys::{DirHandle, FileType, RootDir};

use super::content::SparseFile;
use super::in_place::InPlace;
use super::known::{ContextDigests, DigestIndex, FileVersion};
use super::own::{Inode, OwnFile, OwnFiles};
use super::source::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{ChangedPath, PathChange};
use crate::failure::{CopyProblem, IgnoredBy, SourcePlace};

/// A local directory seen through an ignore file, as BuildKit's client sends it (7.15): everything is root's, sockets
/// are empty files, capabilities are lost.
///
/// Every path is walked from the directory's descriptor, name by name, and no name is followed: neither a link that
/// takes a directory's place nor the length of a path leads anywhere else.
#[derive(Debug)]
pub(crate) struct LocalSource {
    root: Arc<RootDir>,
    /// How messages call the directory.
    path: PathBuf,
    ignore: IgnorePatterns,
    own: OwnFiles,
    open: Mutex<OpenDirectories>,
    /// It is this build's alone, and stays as it is.
    is_private: bool,
    /// Bytes of the holes of the files that were read.
    holes: Arc<AtomicU64>,
    /// What the build has read of it.
    digests: Option<Arc<DigestIndex>>,
}

/// Why a directory could not be opened.
enum NoDirectory {
    /// The kernel says so.
    Sys(ocibuild_sys::Error),
    /// Another one has its name than a moment before.
    Replaced,
}

/// The directories on the way to the one that was looked into last. Walks ask for one name after the other of the same,
/// and come back to those above: these are then the same ones, whatever has their names by now.
#[derive(Debug, Default)]
struct OpenDirectories {
    path: Vec<u8>,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// Where its part of the path ends.
    end: usize,
    inode: Inode,
    /// Only the last ones are held open.
    handle: Option<Arc<DirHandle>>,
}

/// As many directories are held open, however deep a context is.
const MAX_OPEN: usize = 64;

impl OpenDirectories {
    fn get(&mut self, root: &RootDir, path: &Path) -> Result<(Arc<DirHandle>, Inode), NoDirectory> {
        let bytes = path.as_os_str().as_bytes();
        self.keep_shared(bytes);
        let held = self.levels.iter().rposition(|level| level.handle.is_some());
        // The root is the first of the levels.
        let mut at = held.unwrap_or(0);
        let mut current = match held.and_then(|held| self.levels[held].handle.clone()) {
            Some(handle) => handle,
            None => self.keep(0, 0, root.top().map_err(NoDirectory::Sys)?)?,
        };
        let mut end = self.levels[at].end;
        while end < bytes.len() {
            let begin = if end == 0 { 0 } else { end + 1 };
            end = bytes[begin..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |at| begin + at);
            let name = OsStr::from_bytes(&bytes[begin..end]);
            let next = current.open_dir(name).map_err(NoDirectory::Sys)?;
            at += 1;
            current = self.keep(at, end, next)?;
        }
        Ok((current, self.levels[at].inode))
    }

    /// Forgets the levels that do not lead to `path`, which is the one to look into now.
    fn keep_shared(&mut self, path: &[u8]) {
        let shared = if path.starts_with(&self.path) {
            self.path.len()
        } else if self.path.starts_with(path) {
            path.len()
        } else {
            self.path.iter().zip(path).take_while(|(old, new)| old == new).count()
        };
        let leads_on = |level: &Level| {
            level.end <= shared && (level.end == 0 || path.get(level.end).is_none_or(|next| *next == b'/'))
        };
        while self.levels.last().is_some_and(|level| !leads_on(level)) {
            self.levels.pop();
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(&path[shared..]);
    }

    /// Holds a directory, and lets go of one that is further up.
    fn keep(&mut self, at: usize, end: usize, handle: DirHandle) -> Result<Arc<DirHandle>, NoDirectory> {
        let found = handle.metadata().map_err(NoDirectory::Sys)?;
        let (inode, handle) = ((found.dev, found.ino), Arc::new(handle));
        match self.levels.get_mut(at) {
            Some(level) if level.inode != inode => return Err(NoDirectory::Replaced),
            Some(level) => level.handle = Some(Arc::clone(&handle)),
            None => self.levels.push(Level { end, inode, handle: Some(Arc::clone(&handle)) }),
        }
        if let Some(above) = at.checked_sub(MAX_OPEN) {
            self.levels[above].handle = None;
        }
        Ok(handle)
    }
}

impl LocalSource {
    pub(crate) fn new(root: RootDir, path: PathBuf, ignore: IgnorePatterns) -> Self {
        let (own, open, holes) = (OwnFiles::default(), Mutex::default(), Arc::default());
        Self { root: Arc::new(root), path, ignore, own, open, is_private: false, holes, digests: None }
    }

    /// The files of a directory that nobody else writes to.
    pub(crate) fn private(root: RootDir, path: PathBuf) -> Self {
        Self { is_private: true, ..Self::new(root, path, IgnorePatterns::default()) }
    }

    /// The same directory without what the build writes itself, and with what the build has read of it.
    pub(crate) fn of_build(&self, own: &OwnFiles, digests: &ContextDigests) -> Self {
        let root = self.root.top().and_then(|top| top.metadata());
        Self {
            root: Arc::clone(&self.root),
            path: self.path.clone(),
            ignore: self.ignore.clone(),
            own: own.clone(),
            open: Mutex::default(),
            is_private: self.is_private,
            holes: Arc::default(),
            // Without them, everything is read once more.
            digests: root.ok().map(|root| digests.of((root.dev, root.ino), &self.path)),
        }
    }

    /// Whether something is at a path, ignored or not; links on the way are not followed.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return true };
        let parent = self.directory(path.parent().unwrap_or(Path::new("")));
        parent.is_ok_and(|(directory, _)| directory.try_stat(name).is_ok_and(|found| found.is_some()))
    }

    fn io(&self, path: &Path, error: &ocibuild_sys::Error) -> Error {
        CopyProblem::Unreadable {
            path: path.to_owned(),
            host_path: self.path.join(path),
            is_denied: error.kind() == ocibuild_sys::ErrorKind::Denied,
            ignore_file: self.ignore.name().to_owned(),
            source: error.clone(),
        }
        .into()
    }

    /// The error about a path that was there a moment ago.
    fn lost(&self, path: &Path, error: &NoDirectory) -> Error {
        match error {
            NoDirectory::Sys(error) if !is_missing(error) => self.io(path, error),
            _ => ChangedPath::new(path, PathChange::Gone).into(),
        }
    }

    fn directory(&self, path: &Path) -> Result<(Arc<DirHandle>, Inode), NoDirectory> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&self.root, path)
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
            in_place: Some(InPlace::of(&found, self.root_has_others())),
            known: None,
        })
    }

    /// Where the directory is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether who has the directory mounted elsewhere sees there what is here.
    pub(super) fn can_be_shown(&self) -> Result<bool, Error> {
        let top = self.root.top().map_err(|error| self.io(Path::new(""), &error))?;
        Ok(ocibuild_sys::can_be_shown(&top))
    }

    /// Whether who has an overlay above a directory sees there what is here.
    pub(super) fn can_be_below_overlay(&self, path: &Path) -> Result<bool, Error> {
        let (directory, _) = self.directory(path).map_err(|error| self.lost(path, &error))?;
        Ok(ocibuild_sys::can_be_below_overlay(&directory))
    }

    fn root_has_others(&self) -> bool {
        let top = self.root.top().ok();
        let names = top.and_then(|top| top.list_own_xattrs().ok()).unwrap_or_default();
        names.iter().any(|name| is_other(name))
    }

    /// Whether something in a directory is not part of the context.
    pub(super) fn hides_names_in(&self, path: &Path) -> Result<bool, Error> {
        if self.ignore.is_empty() && self.own.is_empty() {
            return Ok(false);
        }
        let (directory, _) = self.directory(path).map_err(|error| self.lost(path, &error))?;
        let entries = directory.read_dir().map_err(|error| self.lost(path, &NoDirectory::Sys(error)))?;
        let mut count = 0;
        for entry in entries {
            entry.map_err(|error| self.io(path, &error))?;
            count += 1;
        }
        Ok(count != self.names(path)?.len())
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
            let (directory, _) = self.directory(&path).map_err(|error| self.lost(&path, &error))?;
            for entry in directory.read_dir().map_err(|error| self.io(&path, &error))? {
                let entry = entry.map_err(|error| self.io(&path, &error))?;
                let child = path.join(&entry.name);
                if self.is_kept(&child) {
                    return Ok(true);
                }
                if self.is_directory(&directory, &entry, &child)? {
                    todo.push(child);
                }
            }
        }
        Ok(false)
    }

    /// Whether an entry is a directory; what is gone since it was listed is none.
    fn is_directory(
        &self,
        directory: &DirHandle,
        entry: &ocibuild_sys::DirEntry,
        path: &Path,
    ) -> Result<bool, Error> {
        if let Some(known) = entry.file_type {
            return Ok(known == FileType::Directory);
        }
        let found = directory.try_stat(&entry.name).map_err(|error| self.io(path, &error))?;
        Ok(found.is_some_and(|found| found.is_dir()))
    }

    fn is_visible(&self, path: &Path, is_directory: bool) -> Result<bool, Error> {
        Ok(path.as_os_str().is_empty()
            || self.is_kept(path)
            || (is_directory && self.has_kept_below(path)?))
    }

    /// The attributes that a context has, and whether there are others that say something of the file.
    fn xattrs(directory: &DirHandle, name: &OsStr) -> (BTreeMap<String, Vec<u8>>, bool) {
        let names = directory.list_xattrs(name).unwrap_or_default();
        let is_user = |name: &&str| name.starts_with("user.");
        let user = names.iter().filter_map(|name| name.to_str()).filter(is_user);
        let user: BTreeMap<_, _> = user
            .filter_map(|attribute| {
                let value = directory.get_xattr(name, attribute).ok()??;
                Some((attribute.to_owned(), value))
            })
            .collect();
        (user, names.iter().any(|name| is_other(name)))
    }
}

impl Source for LocalSource {
    fn is_sent_on_demand(&self) -> bool {
        true
    }

    fn may_change(&self) -> bool {
        !self.is_private
    }

    fn as_local(&self) -> Option<&LocalSource> {
        Some(self)
    }

    fn look_anew(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = OpenDirectories::default();
    }

    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        let Some(name) = path.file_name() else { return self.stat_root().map(Some) };
        let (directory, inode) = match self.directory(path.parent().unwrap_or(Path::new(""))) {
            Ok(found) => found,
            Err(NoDirectory::Sys(error)) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.lost(path, &error)),
        };
        let found = match directory.try_stat(name) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            // No file system has a name of this length.
            Err(error) if is_missing(&error) || error.kind() == ocibuild_sys::ErrorKind::InvalidInput => {
                return Ok(None);
            }
            Err(error) => return Err(self.io(path, &error)),
        };
        let is_state = self.own.find(inode, name) == Some(OwnFile::State);
        if is_state || !self.is_visible(path, found.is_dir())? {
            return Ok(None);
        }
        let kind = match found.file_type {
            FileType::Directory => SourceKind::Directory,
            FileType::Symlink => match directory.read_link(name) {
                Ok(target) => SourceKind::Symlink(target.into()),
                // It was a link a moment ago.
                Err(error) if error.kind() == ocibuild_sys::ErrorKind::InvalidInput => {
                    return Err(ChangedPath::new(path, PathChange::Gone).into());
                }
                Err(error) => return Err(self.lost(path, &NoDirectory::Sys(error))),
            },
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
        let version = (found.file_type == FileType::Regular).then(|| FileVersion::of(&found));
        let known = self.digests.as_ref().zip(version.as_ref());
        let known = known.and_then(|(digests, version)| digests.get(path, version));
        let may_have = (is_regular || found.is_dir()) && !known.is_some_and(|known| known.is_bare);
        let (xattrs, has_others) = if may_have { Self::xattrs(&directory, name) } else { Default::default() };
        let metadata = metadata_of(&found, xattrs);
        let links = (is_regular && found.nlink > 1).then_some((found.dev, found.ino));
        let in_place = Some(InPlace::of(&found, has_others));
        Ok(Some(SourceNode { metadata, kind, links, in_place, known: known.map(|known| known.content) }))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let (directory, inode) = self.directory(path).map_err(|error| self.lost(path, &error))?;
        let mut names = Vec::new();
        for entry in directory.read_dir().map_err(|error| self.lost(path, &NoDirectory::Sys(error)))? {
            let entry = entry.map_err(|error| self.io(path, &error))?;
            if !self.own.is_empty() && self.own.find(inode, &entry.name).is_some() {
                continue;
            }
            if !self.ignore.is_empty() {
                let child = path.join(&entry.name);
                let is_kept = self.is_kept(&child);
                if !is_kept && !self.is_visible(&child, self.is_directory(&directory, &entry, &child)?)? {
                    continue;
                }
            }
            names.push(entry.name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn hidden_by(&self, path: &Path) -> Option<IgnoredBy> {
        let line = self.ignore.verdict(path.as_os_str().as_bytes()).line.filter(|_| self.has(path))?;
        // The pattern may be about a directory above.
        let above: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        let decided = |path: &&&Path| self.ignore.verdict(path.as_os_str().as_bytes()).line == Some(line);
        let matched = above.iter().rev().find(decided).map_or(path, |path| *path);
        Some(IgnoredBy {
            file: self.ignore.name().to_owned(),
            line,
            pattern: self.ignore.text_of(line).unwrap_or_default(),
            matched: matched.to_owned(),
        })
    }

    fn hole_bytes(&self) -> u64 {
        self.holes.load(Ordering::Relaxed)
    }

    fn is_state(&self, path: &Path) -> bool {
        let is_own = |path: &Path| {
            let parent = self.directory(path.parent()?).ok()?;
            self.own.find(parent.1, path.file_name()?)
        };
        path.ancestors().any(|above| is_own(above) == Some(OwnFile::State))
    }

    fn place(&self) -> SourcePlace {
        SourcePlace::Context
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        self.open_version(path).map(|(reader, _)| reader)
    }

    fn digests(&self) -> Option<Arc<DigestIndex>> {
        self.digests.clone()
    }

    fn open_version(&self, path: &Path) -> Result<(Box<dyn Read + Send>, Option<FileVersion>), Error> {
        use ocibuild_sys::ErrorKind::{InvalidInput, IsADirectory, Link};

        let name = path.file_name().unwrap_or_default();
        let parent = self.directory(path.parent().unwrap_or(Path::new("")));
        let (directory, _) = parent.map_err(|error| self.lost(path, &error))?;
        let lost = |error| self.lost(path, &NoDirectory::Sys(error));
        let opened = match directory.open_known(name) {
            Ok(opened) => opened,
            Err(error) => {
                return match directory.stat(name).map_err(lost)?.file_type {
                    FileType::Socket => Ok((Box::new(std::io::empty()), None)),
                    // It was a regular file when it was looked at.
                    _ if matches!(error.kind(), Link | InvalidInput | IsADirectory) => {
                        Err(ChangedPath::new(path, PathChange::Gone).into())
                    }
                    _ => Err(lost(error)),
                };
            }
        };
        if opened.is_sparse {
            // Each step is to count its holes.
            return Ok((Box::new(SparseFile::new(opened.file, Arc::clone(&self.holes))), None));
        }
        Ok((Box::new(opened.file), Some(FileVersion::of(&opened.metadata))))
    }
}

/// What a context says about a file: everything is root's.
fn metadata_of(found: &ocibuild_sys::Metadata, xattrs: BTreeMap<String, Vec<u8>>) -> Metadata {
    let mtime = Timestamp { seconds: found.mtime.seconds, nanoseconds: found.mtime.nanoseconds };
    Metadata { mode: found.mode & 0o7777, uid: 0, gid: 0, mtime, xattrs }
}

/// Whether an attribute says something of a file that a context does not: its capabilities, who may open it, what an overlay
/// has in its place. Copies have labels of their own.
fn is_other(name: &OsStr) -> bool {
    name != "security.selinux"
        && (!name.as_bytes().starts_with(b"user.") || name.as_bytes().starts_with(b"user.overlay."))
}

fn is_missing(error: &ocibuild_sys::Error) -> bool {
    matches!(error.kind(), ocibuild_sys::ErrorKind::NotFound | ocibuild_sys::ErrorKind::NotADirectory)
}
