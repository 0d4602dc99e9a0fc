//! What a build writes itself: it is not part of the context, even where it lies in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;

/// What a file or directory of the build itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnFile {
    /// The state directory: no step gets anything of it.
    State,
    /// Something that the build writes. A step that names it gets it, one that copies what is around it does not.
    Output,
}

/// The paths that a build writes, by the directory that holds them: names lead there however they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnFiles {
    files: Vec<(Inode, OsString, OwnFile)>,
}

/// Device and number.
pub(crate) type Inode = (u64, u64);

/// How files are called that are not complete.
pub(crate) const TEMPORARY: &str = ".ocibuild-";

impl OwnFiles {
    /// Adds a path. What is in no directory cannot lie in a context.
    pub(crate) fn add(&mut self, path: &Path, kind: OwnFile) {
        // What a link leads to is written, if it leads to something.
        let real = fs::canonicalize(path).ok();
        let path = real.as_deref().unwrap_or(path);
        let Some(name) = path.file_name() else { return };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(found) = fs::metadata(parent) else { return };
        self.files.push(((found.dev(), found.ino()), name.to_owned(), kind));
    }

    /// What `name` in this directory is, if it is one of them, or one of them under a temporary name.
    pub(crate) fn find(&self, directory: Inode, name: &OsStr) -> Option<OwnFile> {
        let mut here = self.files.iter().filter(|(parent, ..)| *parent == directory);
        here.find(|(_, own, kind)| own == name || (*kind == OwnFile::Output && is_temporary(own, name)))
            .map(|(.., kind)| *kind)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Whether `name` is what `own` is called before it is complete.
fn is_temporary(own: &OsStr, name: &OsStr) -> bool {
    let (own, name) = (own.as_encoded_bytes(), name.as_encoded_bytes());
    let beside = |rest: &[u8]| rest.starts_with(b".") && rest.ends_with(b".tmp");
    name.starts_with(TEMPORARY.as_bytes()) || name.strip_prefix(own).is_some_and(beside)
}
