//! Every path of a directory, parents first.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ocibuild_sys::{DirHandle, Metadata, RootDir};

use crate::Error;

/// One path that a walk came to.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// The directory it is in.
    pub(crate) parent: &'a DirHandle,
    /// Its name there.
    pub(crate) name: &'a OsStr,
    /// Its path below the top.
    pub(crate) path: &'a Path,
    /// What it is.
    pub(crate) metadata: Metadata,
}

/// Names and metadata of a directory, sorted by name.
pub(crate) fn list(directory: &DirHandle, host: &Path) -> Result<Vec<(OsString, Metadata)>, Error> {
    let mut names = Vec::new();
    for entry in directory.read_dir().map_err(Error::system("list", host))? {
        let name = entry.map_err(Error::system("list", host))?.name;
        // Nobody else is at work here; what is gone all the same is gone.
        if let Some(metadata) =
            directory.try_stat(&name).map_err(Error::system("look at", host.join(&name)))?
        {
            names.push((name, metadata));
        }
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

/// Opens directories one after the other, each from its parent if that was the one before: the kernel need not go all
/// the way from the top to each level of a deep tree.
pub(crate) struct Folders<'r> {
    root: &'r RootDir,
    last: Option<(PathBuf, DirHandle)>,
}

impl<'r> Folders<'r> {
    pub(crate) fn new(root: &'r RootDir) -> Self {
        Self { root, last: None }
    }

    /// The directory at `path`, on which there are no links.
    pub(crate) fn open(&mut self, path: &Path) -> Result<&DirHandle, ocibuild_sys::Error> {
        let handle = match (&self.last, path.parent().zip(path.file_name())) {
            (Some((above, handle)), Some((parent, name))) if above == parent => handle.open_dir(name)?,
            _ => self.root.dir(path)?,
        };
        Ok(&self.last.insert((path.to_owned(), handle)).1)
    }
}

/// Calls `visit` for everything below `top`. Each directory is opened by its path, so that no number of levels costs
/// more than one descriptor.
pub(crate) fn walk(top: &Path, visit: &mut dyn FnMut(&Found<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let root = RootDir::open(top).map_err(Error::system("open", top))?;
    let mut folders = Folders::new(&root);
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let host = top.join(&folder);
        let parent = folders.open(&folder).map_err(Error::system("open", &host))?;
        let start = todo.len();
        for (name, metadata) in list(parent, &host)? {
            let path = folder.join(&name);
            visit(&Found { parent, name: &name, path: &path, metadata })?;
            if metadata.is_dir() {
                todo.push(path);
            }
        }
        todo[start..].reverse();
    }
    Ok(())
}
