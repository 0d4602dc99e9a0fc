//! Mount points and working directories, made where the root file system is kept, before anything is mounted.

use std::path::{Path, PathBuf};

use ocibuild_spec::Owned;
use ocibuild_sys::{DirHandle, ErrorKind as SystemError, FileType, RootDir};

use crate::place::{Writer, keeping_time};
use crate::{Error, ErrorKind, MountPointKind, NodeKind, Tree};

/// Where the root file system of a step is made: all of it, or what stands above the layers of its stack.
#[derive(Debug)]
pub(crate) struct Top<'a> {
    /// The directory.
    pub(crate) host: &'a Path,
    /// The merged view of the layers below.
    pub(crate) base: &'a Tree,
    /// How directories are copied up.
    pub(crate) writer: Writer<'a>,
}

/// What was made to be mounted on, in this order.
#[derive(Debug, Default)]
pub(crate) struct MountPoints {
    made: Vec<(PathBuf, MountPointKind)>,
    /// Directories that were made to stay, and whom they belong to.
    owned: Vec<(PathBuf, Owned)>,
}

impl MountPoints {
    /// Makes a directory that stays.
    pub(crate) fn create_directory(
        &mut self,
        top: &Top<'_>,
        path: &Path,
        (uid, gid): (u32, u32),
    ) -> Result<(), Error> {
        let Some(path) = top.missing(path, MountPointKind::Directory)? else { return Ok(()) };
        let owned = &mut self.owned;
        let on_made = &mut |path: &Path| owned.push((path.to_owned(), Owned::by(uid, gid)));
        top.directories(&path, (uid, gid), on_made).map(|_| ())
    }

    /// The directories that stay.
    pub(crate) fn owned(&self) -> &[(PathBuf, Owned)] {
        &self.owned
    }

    pub(crate) fn create(&mut self, top: &Top<'_>, target: &Path, kind: MountPointKind) -> Result<(), Error> {
        let Some(path) = top.missing(target, kind)? else { return Ok(()) };
        let (parent, Some(name)) = (path.parent().unwrap_or(Path::new("")), path.file_name()) else {
            return Ok(());
        };
        let made = &mut self.made;
        if kind == MountPointKind::Directory {
            let on_made = &mut |path: &Path| made.push((path.to_owned(), MountPointKind::Directory));
            return top.directories(&path, (0, 0), on_made).map(|_| ());
        }
        let on_made = &mut |path: &Path| made.push((path.to_owned(), MountPointKind::Directory));
        let parent = top.directories(parent, (0, 0), on_made)?;
        let host = top.host.join(&path);
        match parent.try_stat(name).map_err(Error::system("look at", &host))? {
            Some(found) if found.is_dir() => Err(wrong_kind(path, "a directory")),
            Some(_) => Ok(()),
            None => {
                parent.create_file(name, 0o644).map_err(Error::system("make", &host))?;
                top.writer.owner(&parent, name, 0, 0, &host)?;
                self.made.push((path, MountPointKind::File));
                Ok(())
            }
        }
    }

    /// Removes what was made and is as empty as then.
    pub(crate) fn remove(&mut self, host: &Path) -> Result<(), Error> {
        let root = RootDir::open(host).map_err(Error::system("open", host))?;
        while let Some((path, kind)) = self.made.pop() {
            let host = host.join(&path);
            match remove(&root, &path, kind, &host) {
                Err(error) if is_gone(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// Whether the step put something else in the way, which is its good right.
fn is_gone(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::System { source, .. } => {
            use SystemError::{Link, NotADirectory, NotEmpty, NotFound};
            matches!(source.kind(), NotFound | NotADirectory | Link | NotEmpty | SystemError::Exists)
        }
        _ => false,
    }
}

fn remove(root: &RootDir, path: &Path, kind: MountPointKind, host: &Path) -> Result<(), Error> {
    let system = || Error::system("remove the mount point", host);
    let mut parent = root.top().map_err(system())?;
    // No link is followed: the path had none when it was made.
    for part in path.parent().into_iter().flat_map(Path::iter) {
        parent = parent.open_dir(part).map_err(system())?;
    }
    let Some(name) = path.file_name() else { return Ok(()) };
    let found = parent.stat(name).map_err(system())?;
    keeping_time(&parent, host, || match kind {
        MountPointKind::Directory if found.is_dir() => parent.rmdir(name).map_err(system()),
        MountPointKind::File if found.file_type == FileType::Regular && found.size == 0 => {
            parent.unlink(name).map_err(system())
        }
        _ => Ok(()),
    })
}

impl Top<'_> {
    /// The path, links followed, if the merged view has nothing there.
    fn missing(&self, target: &Path, kind: MountPointKind) -> Result<Option<PathBuf>, Error> {
        let resolved = self.base.resolve(target, true);
        let resolved = resolved.map_err(|source| ErrorKind::Resolve { path: target.to_owned(), source })?;
        let Some(node) = resolved.node else { return Ok(Some(resolved.path)) };
        match (&self.base.node(node).kind, kind) {
            (NodeKind::Directory(_), MountPointKind::File) => Err(wrong_kind(resolved.path, "a directory")),
            (NodeKind::Directory(_), MountPointKind::Directory) | (_, MountPointKind::File) => Ok(None),
            (_, MountPointKind::Directory) => Err(wrong_kind(resolved.path, "not a directory")),
        }
    }

    /// Opens a directory, made with all that is missing of it. What the layers below have is copied up; the rest is
    /// new, and reported.
    pub(crate) fn directories(
        &self,
        path: &Path,
        owner: (u32, u32),
        on_made: &mut dyn FnMut(&Path),
    ) -> Result<DirHandle, Error> {
        let root = RootDir::open(self.host).map_err(Error::system("open", self.host))?;
        let mut at = root.top().map_err(Error::system("open", self.host))?;
        let mut so_far = PathBuf::new();
        // What the merged view has there, as long as it has something.
        let mut merged = Some(self.base.root());
        for name in path {
            merged = merged.and_then(|id| self.base.child(id, name));
            let above = self.host.join(&so_far);
            so_far.push(name);
            let host = self.host.join(&so_far);
            match at.try_stat(name).map_err(Error::system("look at", &host))? {
                Some(found) if found.is_dir() => {}
                Some(_) => return Err(wrong_kind(so_far, "not a directory")),
                None => {
                    let below = merged.filter(|id| self.base.is_directory(*id));
                    if let Some(id) = below {
                        keeping_time(&at, &above, || {
                            at.mkdir(name, 0o700).map_err(Error::system("make", &host))?;
                            self.writer.metadata(&at, name, &self.base.node(id).metadata, false, &host)
                        })?;
                    } else {
                        if !self.writer.owners && owner != (0, 0) {
                            let (uid, gid) = owner;
                            return Err(ErrorKind::Owner { path: so_far, uid, gid }.into());
                        }
                        at.mkdir(name, 0o755).map_err(Error::system("make", &host))?;
                        self.writer.owner(&at, name, owner.0, owner.1, &host)?;
                        on_made(&so_far);
                    }
                }
            }
            at = at.open_dir(name).map_err(Error::system("open", &host))?;
        }
        Ok(at)
    }
}

fn wrong_kind(path: PathBuf, found: &'static str) -> Error {
    ErrorKind::WrongKind { path, found }.into()
}
