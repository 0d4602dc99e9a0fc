use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ocibuild_spec::{CancelToken, Digest, Hasher, Metadata};

use super::select::Selected;
use super::source::{Source, SourceKind, SourceNode};
use crate::keys::Framed;
use crate::{Error, ErrorKind};

/// Digest of what a step selects: names, types, modes, owners, contents, links, devices, attributes; no times, no
/// hard links, no folders above the source (9.05, 9.06).
pub(crate) fn content_digest(
    source: &dyn Source,
    selected: &[Selected],
    cancel: &CancelToken,
) -> Result<Digest, Error> {
    let mut framed = Framed::new("ocibuild selection v1");
    for one in selected {
        framed.field(b"source");
        node(source, &mut framed, Path::new(""), &one.path, &one.node)?;
        one.each_item(source, &mut |item| {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            node(source, &mut framed, &item.path, &one.path.join(&item.path), &item.node)
        })?;
    }
    Ok(framed.finish())
}

fn node(
    source: &dyn Source,
    framed: &mut Framed,
    name: &Path,
    path: &Path,
    node: &SourceNode,
) -> Result<(), Error> {
    framed.field(name.as_os_str().as_bytes());
    metadata(framed, &node.metadata);
    match &node.kind {
        SourceKind::Directory => framed.field(b"directory"),
        SourceKind::File { size } => {
            framed.field(b"file");
            framed.field(file_digest(source, path, *size)?.as_str().as_bytes());
        }
        SourceKind::Symlink(target) => {
            framed.field(b"symlink");
            framed.field(target.as_os_str().as_bytes());
        }
        SourceKind::Fifo => framed.field(b"fifo"),
        SourceKind::CharacterDevice(major, minor) => framed.field(format!("c {major} {minor}").as_bytes()),
        SourceKind::BlockDevice(major, minor) => framed.field(format!("b {major} {minor}").as_bytes()),
    }
    Ok(())
}

fn metadata(framed: &mut Framed, metadata: &Metadata) {
    framed.field(format!("{:o} {} {}", metadata.mode, metadata.uid, metadata.gid).as_bytes());
    framed.number(metadata.xattrs.len() as u64);
    for (name, value) in &metadata.xattrs {
        framed.field(name.as_bytes());
        framed.field(value);
    }
}

fn file_digest(source: &dyn Source, path: &Path, size: u64) -> Result<Digest, Error> {
    let mut reader = source.open(path)?.take(size);
    let mut hasher = Hasher::new();
    std::io::copy(&mut reader, &mut hasher).map_err(|error| {
        Error::new(ErrorKind::Host, format!("cannot read /{}", path.display())).caused_by(error)
    })?;
    Ok(hasher.finish())
}
