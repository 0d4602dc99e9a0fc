//! Nodes of a merged view, and files of a disk.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use ocibuild_spec::{Metadata, Timestamp};
use ocibuild_sys::{DirHandle, ErrorKind as SystemError, FileType, RootDir};

use crate::known::LayerRoots;
use crate::walk::Found;
use crate::{Error, ErrorKind, Node, NodeKind, Origin};

/// The only attribute that a layer keeps (11.10).
pub(crate) const CAPABILITY: &str = "security.capability";

/// What is on disk, as a node of the layer with this number; `None` for a socket, which no layer has.
pub(crate) fn node_of(found: &Found<'_>, layer: u32, host: &Path) -> Result<Option<Node>, Error> {
    let rdev = ocibuild_sys::device_numbers(found.metadata.rdev);
    let kind = match found.metadata.file_type {
        FileType::Regular => {
            let origin = Origin { layer, path: found.path.to_owned(), content: ocibuild_spec::Content(0) };
            NodeKind::File { size: found.metadata.size, origin }
        }
        FileType::Directory => NodeKind::Directory(std::collections::BTreeMap::new()),
        FileType::Symlink => {
            let target = found.parent.read_link(found.name);
            NodeKind::Symlink(target.map_err(Error::system("read the link", host.join(found.path)))?.into())
        }
        FileType::CharDevice => NodeKind::CharacterDevice(rdev.0, rdev.1),
        FileType::BlockDevice => NodeKind::BlockDevice(rdev.0, rdev.1),
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => return Ok(None),
    };
    Ok(Some(Node { metadata: metadata_of(found, host)?, kind }))
}

fn metadata_of(found: &Found<'_>, host: &Path) -> Result<Metadata, Error> {
    let disk = &found.metadata;
    let mut metadata = Metadata {
        // Of links the kernel says 0777, and so do tars of BuildKit.
        mode: disk.mode,
        uid: disk.uid,
        gid: disk.gid,
        mtime: Timestamp { seconds: disk.mtime.seconds, nanoseconds: disk.mtime.nanoseconds },
        xattrs: std::collections::BTreeMap::new(),
    };
    if disk.file_type == FileType::Regular {
        match found.parent.get_xattr(found.name, CAPABILITY) {
            Ok(Some(value)) => {
                metadata.xattrs.insert(CAPABILITY.to_owned(), value);
            }
            Ok(None) => {}
            Err(error) if error.kind() == SystemError::Unsupported => {}
            Err(error) => return Err(Error::system("read attributes of", host.join(found.path))(error)),
        }
    }
    Ok(metadata)
}

/// Opens a file of a layer or root file system at rest.
pub(crate) fn open_content(root: &RootDir, path: &Path) -> Result<File, ocibuild_sys::Error> {
    match root.open_read(path) {
        // An owner without privilege can still let itself in.
        Err(error) if error.kind() == SystemError::Denied => {
            let (parent, name) = root.parent(path)?;
            let mode = parent.stat(&name)?.mode;
            parent.chmod(&name, mode | 0o400)?;
            let file = parent.open_read(&name);
            parent.chmod(&name, mode)?;
            file
        }
        result => result,
    }
}

/// Writes nodes to a disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// The layers of the stack, the lowest first.
    pub(crate) layers: &'a LayerRoots,
    /// Whether files are given to their owners.
    pub(crate) owners: bool,
}

impl Writer<'_> {
    /// Makes anything but a directory. A device that may not be made is left out.
    pub(crate) fn leaf(
        &self,
        parent: &DirHandle,
        name: &OsStr,
        node: &Node,
        host: &Path,
    ) -> Result<(), Error> {
        let system = || Error::system("make", host);
        let mode = node.metadata.mode;
        match &node.kind {
            NodeKind::Directory(_) => return Ok(()),
            NodeKind::File { origin, .. } => {
                let source = self.open(origin, host)?;
                let target = parent.create_private_file(name).map_err(system())?;
                ocibuild_sys::copy_contents(&source, &target).map_err(Error::system("copy to", host))?;
            }
            NodeKind::Symlink(target) => parent.symlink(target, name).map_err(system())?,
            NodeKind::Fifo => parent.mkfifo(name, mode).map_err(system())?,
            NodeKind::CharacterDevice(major, minor) | NodeKind::BlockDevice(major, minor) => {
                let block = matches!(node.kind, NodeKind::BlockDevice(..));
                let file_type = if block { FileType::BlockDevice } else { FileType::CharDevice };
                match parent.mknod(name, file_type, mode, ocibuild_sys::device(*major, *minor)) {
                    Err(error) if error.kind() == SystemError::Denied => return Ok(()),
                    result => result.map_err(system())?,
                }
            }
        }
        self.metadata(parent, name, &node.metadata, matches!(node.kind, NodeKind::Symlink(_)), host)
    }

    fn open(&self, origin: &Origin, host: &Path) -> Result<File, Error> {
        let Some(root) = self.layers.get(origin.layer) else {
            let (path, layer, count) = (host.to_owned(), origin.layer, self.layers.len());
            return Err(ErrorKind::ForeignTree { path, layer, count }.into());
        };
        open_content(root?, &origin.path).map_err(Error::system("read the content of", host))
    }

    /// Sets everything that metadata says.
    pub(crate) fn metadata(
        &self,
        parent: &DirHandle,
        name: &OsStr,
        metadata: &Metadata,
        is_link: bool,
        host: &Path,
    ) -> Result<(), Error> {
        let system = || Error::system("set owner, mode and time of", host);
        self.owner(parent, name, metadata.uid, metadata.gid, host)?;
        for (attribute, value) in metadata.xattrs.iter().filter(|(attribute, _)| is_kept(attribute)) {
            match parent.set_xattr(name, attribute, value) {
                // Whoever unpacked the layer has reported those that cannot be kept here.
                Err(error) if !matches!(error.kind(), SystemError::Denied | SystemError::Unsupported) => {
                    return Err(system()(error));
                }
                _ => {}
            }
        }
        if !is_link {
            parent.chmod(name, metadata.mode).map_err(system())?;
        }
        parent.set_times(name, None, Some(bound_time(metadata.mtime))).map_err(system())
    }

    /// Gives a file away, if that is done here.
    pub(crate) fn owner(
        &self,
        parent: &DirHandle,
        name: &OsStr,
        uid: u32,
        gid: u32,
        host: &Path,
    ) -> Result<(), Error> {
        if !self.owners {
            return Ok(());
        }
        let now = parent.stat(name).map_err(Error::system("look at", host))?;
        if (now.uid, now.gid) == (uid, gid) {
            return Ok(());
        }
        parent.chown(name, uid, gid).map_err(Error::system("set the owner of", host))
    }
}

/// Whether an attribute of a merged view belongs on a disk: the notes of an overlay never do.
fn is_kept(attribute: &str) -> bool {
    attribute == CAPABILITY || attribute.starts_with("user.") && !attribute.starts_with("user.overlay.")
}

/// Times that file systems cannot hold become the epoch, as where layers are unpacked.
fn bound_time(time: Timestamp) -> ocibuild_sys::Timestamp {
    if (0..=i64::MAX / 1_000_000_000).contains(&time.seconds) {
        ocibuild_sys::Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds }
    } else {
        ocibuild_sys::Timestamp::default()
    }
}

/// Does something to the names in a directory, whose time stays as it is.
pub(crate) fn keeping_time<T>(
    directory: &DirHandle,
    host: &Path,
    action: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let system = || Error::system("keep the time of", host);
    let before = directory.metadata().map_err(system())?.mtime;
    let result = action()?;
    if directory.metadata().map_err(system())?.mtime != before {
        directory.set_own_times(None, Some(before)).map_err(system())?;
    }
    Ok(result)
}
