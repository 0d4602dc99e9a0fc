//! Files written out of a view into a directory of the host.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ocibuild_snapshot::{Tree, changes};
use ocibuild_spec::{CancelToken, Entry, EntryKind, Metadata};
use ocibuild_sys::{DirHandle, ErrorKind as SystemError, FileType, RootDir};
use rustix::io::Errno;

use crate::copy::{Placement, Source};
use crate::error::Error;
use crate::failure::{ChangedPath, FileAction, HostFailure, OutputFailure};

type Open<'a> = dyn Fn(&Entry) -> Result<Box<dyn Read + Send>, Error> + 'a;

/// What becomes of device nodes that the kernel does not let this process make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// They are an error, which names the first.
    Required,
    /// They are left out.
    WherePossible,
}

/// Writes the result of a placement, whose files are those of `source` or inline, into a directory that a step sees: it
/// has no use for device nodes, which it could not open.
pub(crate) fn write_tree(
    directory: &Path,
    placement: &Placement,
    source: &dyn Source,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let entries = changes(&Tree::new(), &placement.tree, &mut |_, _, _| false).entries;
    let open = |entry: &Entry| placement.open(entry, source);
    write_entries(directory, &entries, &open, Nodes::WherePossible, cancel)?;
    let root = &placement.tree.node(placement.tree.root()).metadata;
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    let parent = DirHandle::open(parent)?;
    Ok(finish(&parent, name, root, false, gives_away())?)
}

/// Whether files can belong to whom they should.
fn gives_away() -> bool {
    rustix::process::geteuid().is_root() && !ocibuild_sys::id_map().is_single()
}

/// Writes entries over what is in a directory; links in it lead nowhere outside. Without privilege everything belongs
/// to the caller.
pub(crate) fn write_entries(
    directory: &Path,
    entries: &[Entry],
    open: &Open<'_>,
    nodes: Nodes,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let root = RootDir::open(directory).map_err(|error| written(directory, &error))?;
    let owns = gives_away();
    let mut missing = HashSet::new();
    for entry in entries {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if !write_entry(&root, entry, open, owns, &missing)? {
            if nodes == Nodes::Required {
                return Err(not_made(&entry.path));
            }
            missing.insert(&entry.path);
        }
    }
    for entry in entries.iter().rev().filter(|entry| entry.kind == EntryKind::Directory) {
        let (parent, name) = root.parent(&entry.path).map_err(|error| written(directory, &error))?;
        finish(&parent, &name, &entry.metadata, false, owns).map_err(|error| written(directory, &error))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    HostFailure::file(FileAction::Write, path, error).into()
}

fn written(path: &Path, error: &ocibuild_sys::Error) -> Error {
    cannot_write(path, error.clone())
}

fn not_made(path: &Path) -> Error {
    OutputFailure::DeviceNode { path: path.to_owned() }.into()
}

/// Whether the entry could be made: a device node, or another name of one that is `missing`, may be kept for those with
/// more privilege.
fn write_entry(
    root: &RootDir,
    entry: &Entry,
    open: &Open<'_>,
    owns: bool,
    missing: &HashSet<&PathBuf>,
) -> Result<bool, Error> {
    let failed = |error: ocibuild_sys::Error| written(&entry.path, &error);
    let (parent, name) = root.parent(&entry.path).map_err(failed)?;
    let existing = parent.try_stat(&name).map_err(failed)?;
    if entry.kind == EntryKind::Directory {
        // Its mode comes last, so that what is in it can be written first.
        match existing {
            Some(found) if found.is_dir() => {}
            Some(_) => parent.unlink(&name).and_then(|()| parent.mkdir(&name, 0o755)).map_err(failed)?,
            None => parent.mkdir(&name, 0o755).map_err(failed)?,
        }
        return Ok(true);
    }
    match existing {
        Some(found) if found.is_dir() => parent.remove_tree(&name).map_err(failed)?,
        Some(_) => parent.unlink(&name).map_err(failed)?,
        None => {}
    }
    match &entry.kind {
        EntryKind::File { .. } => {
            let mut file = parent.create_file(&name, 0o600).map_err(failed)?;
            let copied = io::copy(&mut open(entry)?, &mut file);
            copied.map_err(|error| ChangedPath::or(error, |error| cannot_write(&entry.path, error)))?;
        }
        EntryKind::Symlink { target } => parent.symlink(target, &name).map_err(failed)?,
        EntryKind::Hardlink { target } => {
            let (other, other_name) = root.parent(target).map_err(failed)?;
            return match other.hardlink(&other_name, &parent, &name) {
                Err(error) if error.kind() == SystemError::NotFound && missing.contains(target) => Ok(false),
                result => result.map(|()| true).map_err(failed),
            };
        }
        EntryKind::Fifo => parent.mkfifo(&name, 0o600).map_err(failed)?,
        EntryKind::CharacterDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            let block = matches!(entry.kind, EntryKind::BlockDevice { .. });
            let file_type = if block { FileType::BlockDevice } else { FileType::CharDevice };
            match parent.mknod(&name, file_type, 0o600, ocibuild_sys::device(*major, *minor)) {
                Err(error) if error.raw_os_error() == Errno::PERM.raw_os_error() => return Ok(false),
                result => result.map_err(failed)?,
            }
        }
        EntryKind::Directory | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return Ok(true),
    }
    let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
    finish(&parent, &name, &entry.metadata, is_link, owns).map(|()| true).map_err(failed)
}

/// Owner, mode and time of a written path. Without privilege everything stays the caller's.
fn finish(
    parent: &DirHandle,
    name: &std::ffi::OsStr,
    metadata: &Metadata,
    is_link: bool,
    owns: bool,
) -> Result<(), ocibuild_sys::Error> {
    if owns {
        parent.chown(name, metadata.uid, metadata.gid)?;
    }
    if !is_link {
        parent.chmod(name, metadata.mode)?;
    }
    let mtime = metadata.mtime;
    let time = ocibuild_sys::Timestamp { seconds: mtime.seconds, nanoseconds: mtime.nanoseconds };
    parent.set_times(name, None, Some(time))
}
