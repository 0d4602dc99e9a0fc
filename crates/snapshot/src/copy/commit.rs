//! What a step changed becomes the directory of a layer.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use ocibuild_spec::{Entry, EntryKind};
use ocibuild_sys::{DirHandle, ErrorKind as SystemError, RootDir};

use crate::Error;
use crate::place::{Writer, open_content};

/// Moves what `entries` name from `rootfs` into the empty directory `layer`.
pub(super) fn gather(
    rootfs: &Path,
    layer: &Path,
    entries: &[Entry],
    writer: Writer<'_>,
) -> Result<(), Error> {
    let mut gather = Gather {
        from: RootDir::open(rootfs).map_err(Error::system("open", rootfs))?,
        to: RootDir::open(layer).map_err(Error::system("open", layer))?,
        layer,
        writer,
        moved: HashSet::new(),
    };
    for entry in entries {
        gather.entry(entry)?;
    }
    // Last, and from the bottom, for what is made in a directory changes its time, and may not be allowed.
    for entry in entries.iter().rev().filter(|entry| entry.kind == EntryKind::Directory) {
        let host = layer.join(&entry.path);
        let (parent, name) = gather.to.parent(&entry.path).map_err(Error::system("open", &host))?;
        writer.metadata(&parent, &name, &entry.metadata, false, &host)?;
    }
    Ok(())
}

struct Gather<'a> {
    from: RootDir,
    to: RootDir,
    layer: &'a Path,
    writer: Writer<'a>,
    moved: HashSet<u64>,
}

impl Gather<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let host = self.layer.join(&entry.path);
        let system = || Error::system("make", &host);
        let (parent, name) = self.to.parent(&entry.path).map_err(system())?;
        match &entry.kind {
            EntryKind::Directory => parent.mkdir(name, 0o700).map_err(system()),
            EntryKind::Whiteout => {
                let mut marker = OsString::from(".wh.");
                marker.push(name);
                parent.create_file(marker, 0o600).map(drop).map_err(system())
            }
            EntryKind::OpaqueWhiteout => {
                let inside = parent.open_dir(name).map_err(system())?;
                inside.create_file(".wh..wh..opq", 0o600).map(drop).map_err(system())
            }
            EntryKind::Hardlink { target } => {
                let (first, first_name) = self.to.parent(target).map_err(system())?;
                first.hardlink(first_name, &parent, name).map_err(system())
            }
            EntryKind::File { .. } => self.file(entry, &parent, &name, &host),
            _ => {
                let (source, source_name) = self.from.parent(&entry.path).map_err(system())?;
                source.rename(source_name, &parent, name).map_err(system())
            }
        }
    }

    fn file(&mut self, entry: &Entry, parent: &DirHandle, name: &OsStr, host: &Path) -> Result<(), Error> {
        let system = || Error::system("make", host);
        let (source, source_name) = self.from.parent(&entry.path).map_err(system())?;
        let metadata = source.stat(&source_name).map_err(system())?;
        // Two files of the layer may be one on disk (see the scan), but must not stay so.
        if metadata.nlink < 2 || self.moved.insert(metadata.ino) {
            match source.rename(&source_name, parent, name) {
                // A directory that its owner may not write to.
                Err(error) if error.kind() == SystemError::Denied => {}
                result => return result.map_err(system()),
            }
        }
        let content = open_content(&self.from, &entry.path).map_err(system())?;
        let target = parent.create_private_file(name).map_err(system())?;
        ocibuild_sys::copy_contents(&content, &target).map_err(system())?;
        self.writer.metadata(parent, name, &entry.metadata, false, host)
    }
}
