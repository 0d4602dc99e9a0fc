use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use ocibuild_spec::{CancelToken, ContentDigest, ContentHasher, Digest, Metadata};

use super::changed::{CheckedSource, SourceDigests};
use super::in_place::InPlace;
use super::known::KnownFile;
use super::select::Selected;
use super::source::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{ChangedPath, PathChange};
use crate::failure::{CopyProblem, FileAction, HostFailure};
use crate::keys::Framed;

/// The digest of everything selected, source by source, and the source to copy it from: what is read there is what the
/// digest was made of, or an error that names what changed.
pub(crate) fn digest_all(
    source: &Arc<dyn Source>,
    selected: &[Vec<Selected>],
    cancel: &CancelToken,
) -> Result<(Digest, Arc<dyn Source>), Error> {
    let mut framed = Framed::new("ocibuild selections v1");
    let mut reading =
        Reading { source: source.as_ref(), files: SourceDigests::default(), buffer: Vec::new(), cancel };
    for one in selected {
        framed.field(reading.content_digest(one)?.as_str().as_bytes());
    }
    let (source, files) = (Arc::clone(source), reading.files);
    let checked: Arc<dyn Source> =
        if source.may_change() { Arc::new(CheckedSource::new(source, files)) } else { source };
    Ok((framed.finish(), checked))
}

/// A source that is read from one end to the other.
struct Reading<'a> {
    source: &'a dyn Source,
    /// What was found in its files, if it matters later.
    files: SourceDigests,
    buffer: Vec<u8>,
    cancel: &'a CancelToken,
}

impl Reading<'_> {
    /// Digest of what a step selects: names, types, modes, owners, contents, links, devices, attributes; no times, no
    /// hard links, no folders above the source (9.05, 9.06).
    fn content_digest(&mut self, selected: &[Selected]) -> Result<Digest, Error> {
        let source = self.source;
        let mut framed = Framed::new("ocibuild selection v1");
        for one in selected {
            framed.field(b"source");
            self.node(&mut framed, Path::new(""), &one.path, &one.node)?;
            one.each_item(source, &mut |item| {
                self.node(&mut framed, &item.path, &one.path.join(&item.path), &item.node)
            })?;
        }
        Ok(framed.finish())
    }

    fn node(
        &mut self,
        framed: &mut Framed,
        name: &Path,
        path: &Path,
        node: &SourceNode,
    ) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        framed.field(name.as_os_str().as_bytes());
        metadata(framed, &node.metadata);
        let SourceKind::File { size } = node.kind else {
            other(framed, &node.kind);
            return Ok(());
        };
        let content = self.file_digest(path, node, size)?;
        framed.field(b"file");
        framed.field(Digest::from(content).as_str().as_bytes());
        if self.source.may_change() {
            self.files.add(path, size, content);
        }
        Ok(())
    }

    /// The digest of the content of a file, which has `size` bytes and no others.
    fn file_digest(&mut self, path: &Path, node: &SourceNode, size: u64) -> Result<ContentDigest, Error> {
        const PIECE: usize = 64 << 10;

        if let Some(known) = self.source.known_digest(path) {
            return Ok(known);
        }
        if let Some(known) = node.known {
            return Ok(known);
        }
        let (mut reader, version) = self.source.open_version(path)?;
        let mut hasher = ContentHasher::default();
        self.buffer.resize(PIECE, 0);
        while hasher.size() <= size {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.check_holes(path)?;
                    hasher.update(&self.buffer[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ChangedPath::or(error, |error| unreadable(path, error))),
            }
        }
        if hasher.size() != size {
            return Err(ChangedPath::new(path, PathChange::Content).into());
        }
        let content = hasher.finish();
        if let (Some(digests), Some(version)) = (self.source.digests(), version) {
            // Its attributes were read after the times of the one that was found, and so are those of this one if it has the same.
            let has_none = |found: InPlace| {
                found.version() == version && !found.has_other_attributes() && node.metadata.xattrs.is_empty()
            };
            let is_bare = node.in_place.is_some_and(has_none);
            digests.put(path, &version, KnownFile { content, is_bare });
        }
        Ok(content)
    }
}

/// The most bytes that the holes of all files of a step may have. A layer spells them out as zeros: a file that takes no
/// space at all would keep a processor busy for as long as it likes.
const MAX_HOLES: u64 = 8 << 30;

impl Reading<'_> {
    /// Fails once what was read has more holes than a layer may have zeros for them.
    fn check_holes(&self, path: &Path) -> Result<(), Error> {
        let holes = self.source.hole_bytes();
        if holes <= MAX_HOLES {
            return Ok(());
        }
        Err(CopyProblem::TooManyHoles { path: path.to_owned(), maximum: MAX_HOLES }.into())
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    HostFailure::file(FileAction::Read, Path::new("/").join(path), error).into()
}

/// What is at a path that is not a regular file.
fn other(framed: &mut Framed, kind: &SourceKind) {
    match kind {
        SourceKind::Directory => framed.field(b"directory"),
        SourceKind::File { .. } => framed.field(b"file"),
        SourceKind::Symlink(target) => {
            framed.field(b"symlink");
            framed.field(target.as_os_str().as_bytes());
        }
        SourceKind::Fifo => framed.field(b"fifo"),
        SourceKind::CharacterDevice(major, minor) => framed.field(format!("c {major} {minor}").as_bytes()),
        SourceKind::BlockDevice(major, minor) => framed.field(format!("b {major} {minor}").as_bytes()),
    }
}

fn metadata(framed: &mut Framed, metadata: &Metadata) {
    framed.field(format!("{:o} {} {}", metadata.mode, metadata.uid, metadata.gid).as_bytes());
    framed.number(metadata.xattrs.len() as u64);
    for (name, value) in &metadata.xattrs {
        framed.field(name.as_bytes());
        framed.field(value);
    }
}
