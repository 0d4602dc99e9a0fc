use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use ocibuild_spec::Timestamp;
use ocibuild_sys::{DirHandle, RootDir};

use crate::copy::{LocalSource, Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::GitFailure;

/// The files of a checkout: what git knows of them, and nothing of how they lie on this disk (6.81).
#[derive(Debug)]
pub(super) struct GitSource {
    inner: LocalSource,
    mtime: Timestamp,
    /// The repository itself is among the files.
    keeps_git_dir: bool,
}

impl GitSource {
    /// The directory `subdirectory` of the checkout in `tree`; each part of it must be a directory, not a link to one.
    pub(super) fn open(
        tree: &Path,
        subdirectory: Option<&str>,
        mtime: Timestamp,
        keeps_git_dir: bool,
    ) -> Result<Self, Error> {
        let mut directory = DirHandle::open(tree)?;
        let mut path = tree.to_owned();
        for part in subdirectory.unwrap_or_default().split('/').filter(|part| !part.is_empty()) {
            let missing = |error: &ocibuild_sys::Error| {
                let subdirectory = subdirectory.unwrap_or_default().to_owned();
                let (part, reason) = (part.to_owned(), error.to_string().into());
                GitFailure::NoSubdirectory { subdirectory, part, reason }
            };
            directory = directory.open_dir(part).map_err(|error| missing(&error))?;
            path.push(part);
        }
        let root = RootDir::from_fd(directory.into_fd());
        Ok(Self { inner: LocalSource::private(root, path), mtime, keeps_git_dir })
    }

    fn is_hidden(&self, path: &Path) -> bool {
        !self.keeps_git_dir && path.iter().any(|part| part == ".git")
    }
}

impl Source for GitSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        if self.is_hidden(path) {
            return Ok(None);
        }
        let Some(mut node) = self.inner.stat(path)? else { return Ok(None) };
        let mode = node.metadata.mode;
        node.metadata.mode = match &node.kind {
            SourceKind::Directory => 0o755,
            SourceKind::Symlink(_) => 0o777,
            _ if mode & 0o100 != 0 => 0o755,
            // Objects of a repository.
            _ if mode & 0o200 == 0 => 0o444,
            _ => 0o644,
        };
        node.metadata.mtime = self.mtime;
        node.metadata.xattrs.clear();
        Ok(Some(node))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let mut names = self.inner.names(path)?;
        names.retain(|name| !self.is_hidden(Path::new(name)));
        Ok(names)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        self.inner.open(path)
    }
}
