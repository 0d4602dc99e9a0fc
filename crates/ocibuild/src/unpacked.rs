//! Files written out of a view into a directory of the host.

use std::io::{self, Read};
use std::path::Path;

use ocibuild_snapshot::{Tree, changes};
use ocibuild_spec::{CancelToken, Entry, EntryKind, Metadata};
use ocibuild_sys::{DirHandle, RootDir};

use crate::copy::{Changed, Placement, Source};
use crate::{Error, ErrorKind};

type Open<'a> = dyn Fn(&Entry) -> Result<Box<dyn Read + Send>, Error> + 'a;

/// Writes the result of a placement, whose files are those of `source` or inline, into a directory.
pub(crate) fn write_tree(
    directory: &Path,
    placement: &Placement,
    source: &dyn Source,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let entries = changes(&Tree::new(), &placement.tree, &mut |_, _, _| false).entries;
    let open = |entry: &Entry| placement.open(entry, source);
    write_entries(directory, &entries, &open, cancel)?;
    let root = &placement.tree.node(placement.tree.root()).metadata;
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    let parent = DirHandle::open(parent)?;
    Ok(finish(&parent, name, root, false, rustix::process::geteuid().is_root())?)
}

/// Writes entries over what is in a directory; links in it lead nowhere outside. Without privilege everything belongs
/// to the caller.
pub(crate) fn write_entries(
    directory: &Path,
    entries: &[Entry],
    open: &Open<'_>,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let root = RootDir::open(directory).map_err(|error| written(directory, &error))?;
    let owns = rustix::process::geteuid().is_root();
    for entry in entries {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        write_entry(&root, entry, open, owns)?;
    }
    for entry in entries.iter().rev().filter(|entry| entry.kind == EntryKind::Directory) {
        let (parent, name) = root.parent(&entry.path).map_err(|error| written(directory, &error))?;
        finish(&parent, &name, &entry.metadata, false, owns).map_err(|error| written(directory, &error))?;
    }
    Ok(())
}

fn cannot_write(path: &Path) -> Error {
    Error::new(ErrorKind::Host, format!("cannot write {}", path.display()))
}

fn written(path: &Path, error: &ocibuild_sys::Error) -> Error {
    cannot_write(path).caused_by(error.to_string())
}

fn write_entry(root: &RootDir, entry: &Entry, open: &Open<'_>, owns: bool) -> Result<(), Error> {
    let failed = |error: ocibuild_sys::Error| written(&entry.path, &error);
    let (parent, name) = root.parent(&entry.path).map_err(failed)?;
    let existing = parent.try_stat(&name).map_err(failed)?;
    if entry.kind == EntryKind::Directory {
        // Its mode comes last, so that what is in it can be written first.
        return match existing {
            Some(found) if found.is_dir() => Ok(()),
            Some(_) => parent.unlink(&name).and_then(|()| parent.mkdir(&name, 0o755)).map_err(failed),
            None => parent.mkdir(&name, 0o755).map_err(failed),
        };
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
            copied.map_err(|error| Changed::or(error, |error| cannot_write(&entry.path).caused_by(error)))?;
        }
        EntryKind::Symlink { target } => parent.symlink(target, &name).map_err(failed)?,
        EntryKind::Hardlink { target } => {
            let (other, other_name) = root.parent(target).map_err(failed)?;
            return other.hardlink(&other_name, &parent, &name).map_err(failed);
        }
        EntryKind::Fifo => parent.mkfifo(&name, 0o600).map_err(failed)?,
        EntryKind::CharacterDevice { major, minor } => {
            let device = ocibuild_sys::FileType::CharDevice;
            parent.mknod(&name, device, 0o600, ocibuild_sys::device(*major, *minor)).map_err(failed)?;
        }
        EntryKind::BlockDevice { major, minor } => {
            let device = ocibuild_sys::FileType::BlockDevice;
            parent.mknod(&name, device, 0o600, ocibuild_sys::device(*major, *minor)).map_err(failed)?;
        }
        EntryKind::Directory | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return Ok(()),
    }
    let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
    finish(&parent, &name, &entry.metadata, is_link, owns).map_err(failed)
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
