use std::ffi::OsString;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::{ContentDigest, Metadata};

use super::in_place::InPlace;
use super::known::{DigestIndex, FileVersion};
use super::local::LocalSource;
use crate::error::Error;
use crate::failure::{CopyProblem, IgnoredBy, SourcePlace};

/// Files that `COPY`, `ADD` and mounts read from. Paths are relative, clean and never followed: links are followed by
/// [`resolve`], the same way for every source.
pub(crate) trait Source: Send + Sync + std::fmt::Debug {
    /// What is at `path`; `None` when there is nothing.
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error>;

    /// The names in a directory, sorted.
    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error>;

    /// Opens a regular file.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error>;

    /// The digest of a regular file, where it is known without reading the file.
    fn known_digest(&self, _path: &Path) -> Option<ContentDigest> {
        None
    }

    /// Opens a regular file, and tells which version of it that is where files may become others.
    fn open_version(&self, path: &Path) -> Result<(Box<dyn Read + Send>, Option<FileVersion>), Error> {
        Ok((self.open(path)?, None))
    }

    /// What was read of its files so far.
    fn digests(&self) -> Option<Arc<DigestIndex>> {
        None
    }

    /// Whether BuildKit would transfer no more of it than what a step selects (7.14).
    fn is_sent_on_demand(&self) -> bool {
        false
    }

    /// The line of an ignore file that hides `path`, if that is why [`stat`](Self::stat) does not show it.
    fn hidden_by(&self, _path: &Path) -> Option<IgnoredBy> {
        None
    }

    /// Whether somebody else may change the files while they are read.
    fn may_change(&self) -> bool {
        false
    }

    /// The directory of this machine that it is.
    fn as_local(&self) -> Option<&LocalSource> {
        None
    }

    /// Forgets the directories that are held open: a walk begins, and is to find what is there now.
    fn look_anew(&self) {}

    /// How many bytes the holes have of the files that were read so far: they are on no disk, and in a layer they are.
    fn hole_bytes(&self) -> u64 {
        0
    }

    /// Whether the path is the state directory of the build, or in it.
    fn is_state(&self, _path: &Path) -> bool {
        false
    }

    /// Where its paths are looked for.
    fn place(&self) -> SourcePlace {
        SourcePlace::StageOrImage
    }
}

/// A path of a source.
#[derive(Debug, Clone)]
pub(crate) struct SourceNode {
    pub(crate) metadata: Metadata,
    pub(crate) kind: SourceKind,
    /// Equal for the names of one file that has several.
    pub(crate) links: Option<(u64, u64)>,
    /// Of what is on this machine.
    pub(crate) in_place: Option<InPlace>,
    /// The digest of this version of a file, if it was read before.
    pub(crate) known: Option<ContentDigest>,
}

/// Something below a selected directory.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Path relative to the selected directory.
    pub(crate) path: PathBuf,
    /// What is there.
    pub(crate) node: SourceNode,
    /// A directory that is there only because of what is below it.
    pub(crate) is_intermediate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Directory,
    File { size: u64 },
    Symlink(PathBuf),
    Fifo,
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
}

impl SourceNode {
    /// Where a link leads.
    pub(super) fn link_target(&self) -> Option<PathBuf> {
        match &self.kind {
            SourceKind::Symlink(target) => Some(PathBuf::from(target)),
            _ => None,
        }
    }

    /// The version of a file of this machine.
    pub(super) fn version(&self) -> Option<FileVersion> {
        self.in_place.map(|found| found.version())
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == SourceKind::Directory
    }
}

const MAX_LINKS: usize = 255;

/// What a path leads to.
pub(crate) enum Lead {
    /// This path, which exists.
    Found(PathBuf, Box<SourceNode>),
    /// Nothing.
    Missing,
}

/// Follows the links of `path` inside the source: absolute targets start at its root, `..` ends there.
pub(crate) fn resolve(source: &dyn Source, path: &Path, follow_last: bool) -> Result<Lead, Error> {
    let mut links = 0;
    let mut todo: Vec<OsString> = parts(path).rev().collect();
    let mut at = PathBuf::new();
    // Looked at once: a second look could find the link that took a directory's place.
    let mut last = None;
    while let Some(part) = todo.pop() {
        last = None;
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(&part);
        match source.stat(&at)? {
            None => return Ok(Lead::Missing),
            Some(SourceNode { kind: SourceKind::Symlink(target), .. }) if follow_last || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(CopyProblem::TooManyLinks { path: path.to_owned() }.into());
                }
                if target.is_absolute() {
                    at.clear();
                } else {
                    at.pop();
                }
                todo.extend(parts(&target).rev());
            }
            Some(node) if !todo.is_empty() && !node.is_directory() => return Ok(Lead::Missing),
            Some(node) => last = Some(node),
        }
    }
    let node = match last {
        Some(node) => Some(node),
        None => source.stat(&at)?.filter(|node| !follow_last || node.link_target().is_none()),
    };
    Ok(node.map_or(Lead::Missing, |node| Lead::Found(at, Box::new(node))))
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}
