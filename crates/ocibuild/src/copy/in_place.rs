//! Files of a directory of this machine that a step sees where they are, without a copy of them.
//!
//! That can be done where what the step sees is what a copy would be: nothing is left out, everything is root's, and there is
//! nothing but directories, regular files and links. What is there is compared with what the key was made of before the step
//! begins, and once more when it has ended.

use std::io;
use std::path::{Path, PathBuf};

use ocibuild_sys::{FileType, Metadata};

use super::known::{FileVersion, Name};
use super::own::Inode;
use super::select::Selected;
use super::source::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{ChangedPath, FileAction, HostFailure, PathChange};

/// What is at a path of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace {
    version: FileVersion,
    /// Whether it has attributes that a copy of it does not have.
    has_others: bool,
    /// Whether a copy of it would be the same.
    is_plain: bool,
}

impl InPlace {
    pub(super) fn of(found: &Metadata, has_others: bool) -> Self {
        let is_known = match found.file_type {
            // A mount may take the meaning of these bits away.
            FileType::Regular => found.mode & 0o6000 == 0,
            FileType::Directory | FileType::Symlink => true,
            // A step could talk to somebody outside.
            _ => false,
        };
        let is_plain = is_known && !has_others && (found.uid, found.gid) == (0, 0);
        Self { version: FileVersion::of(found), has_others, is_plain }
    }

    pub(super) fn has_other_attributes(&self) -> bool {
        self.has_others
    }

    pub(super) fn version(&self) -> FileVersion {
        self.version
    }
}

/// A directory or regular file that a step can see where it is, and what was found there.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The directory that is the root of the context.
    pub(crate) directory: PathBuf,
    /// Path below it.
    pub(crate) path: PathBuf,
    /// Device and number of what is there.
    pub(crate) inode: Inode,
    /// Whether it is a directory that an overlay can be mounted above.
    pub(crate) fits_overlay: bool,
    /// In the order of the walk.
    versions: Vec<Name>,
}

impl Seen {
    /// What was selected of a source whose digest is known, where it is; `None` if it has to be copied.
    pub(crate) fn of(source: &dyn Source, selected: &Selected) -> Result<Option<Self>, Error> {
        let Some(local) = source.as_local() else { return Ok(None) };
        if !local.can_be_shown()? {
            return Ok(None);
        }
        let (mut versions, mut inode, mut is_plain) = (Vec::new(), None, true);
        each(source, selected, &mut |path, node| {
            let Some(found) = node.in_place.filter(|found| is_plain && found.is_plain) else {
                is_plain = false;
                return Ok(());
            };
            let (device, _) = *inode.get_or_insert(found.version.inode());
            is_plain = found.version.inode().0 == device
                && is_as_in_key(source, path, node)
                && !(node.is_directory() && local.hides_names_in(path)?);
            versions.push(found.version.fingerprint());
            Ok(())
        })?;
        let (Some(inode), true) = (inode, is_plain) else { return Ok(None) };
        let Ok(directory) = std::path::absolute(local.path()) else { return Ok(None) };
        let path = selected.path.clone();
        let fits_overlay = selected.node.is_directory() && local.can_be_below_overlay(&path)?;
        Ok(Some(Self { directory, path, inode, fits_overlay, versions }))
    }

    /// Fails if something is not what it was.
    pub(crate) fn check_unchanged(&self, source: &dyn Source, selected: &Selected) -> Result<(), Error> {
        if !source.may_change() {
            return Ok(());
        }
        let mut versions = self.versions.iter();
        each(source, selected, &mut |path, node| {
            let now = node.in_place.map(|found| found.version.fingerprint());
            if versions.next().copied() != now {
                return Err(ChangedPath::new(path, PathChange::WhileMounted).into());
            }
            let is_file = matches!(node.kind, SourceKind::File { .. });
            if is_file && !is_at_rest(source, node) { read_to_end(source, path) } else { Ok(()) }
        })
    }
}

/// Hands on what was selected, as it is now, and everything below it.
fn each(
    source: &dyn Source,
    selected: &Selected,
    visit: &mut dyn FnMut(&Path, &SourceNode) -> Result<(), Error>,
) -> Result<(), Error> {
    source.look_anew();
    let changed = |change| Error::from(ChangedPath::new(&selected.path, change));
    let node = source.stat(&selected.path)?.ok_or_else(|| changed(PathChange::Gone))?;
    if (node.metadata.mode, &node.kind) != (selected.node.metadata.mode, &selected.node.kind) {
        return Err(changed(PathChange::Attributes));
    }
    visit(&selected.path, &node)?;
    selected.each_item(source, &mut |item| visit(&selected.path.join(&item.path), &item.node))
}

/// Whether the content of a file is what the key was made of; of anything else the walk has seen to that.
fn is_as_in_key(source: &dyn Source, path: &Path, node: &SourceNode) -> bool {
    let is_file = matches!(node.kind, SourceKind::File { .. });
    if !is_file || !source.may_change() {
        return true;
    }
    node.known.is_some() && node.known == source.known_digest(path)
}

/// Whether a file cannot have changed without another version. A clock may not have moved on since others were read.
fn is_at_rest(source: &dyn Source, node: &SourceNode) -> bool {
    let digests = source.as_local().and_then(Source::digests);
    digests.zip(node.version()).is_some_and(|(digests, version)| digests.is_at_rest(&version))
}

/// Reads a file of which the source knows the digest: other content is an error.
fn read_to_end(source: &dyn Source, path: &Path) -> Result<(), Error> {
    let read = io::copy(&mut source.open(path)?, &mut io::sink());
    let unreadable = |error| HostFailure::file(FileAction::Read, Path::new("/").join(path), error).into();
    read.map(|_| ()).map_err(|error| ChangedPath::or(error, unreadable))
}
