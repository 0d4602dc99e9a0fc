//! `COPY`, `ADD` and `WORKDIR` carried out on merged views: nothing is unpacked, and what a layer consists of is known
//! before its first byte is written.

mod archive;
mod changed;
mod content;
mod digest;
mod extract;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod in_place;
mod known;
mod local;
mod missing;
pub(crate) mod mistakes;
mod own;
mod place;
mod same;
mod select;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use ocibuild_layer::SparseMap;
use ocibuild_snapshot::{Changes, Origin, Tree};
use ocibuild_spec::{Changeset, Content, ContentDigest, Entry, Timestamp};

pub(crate) use archive::Archives;
pub(crate) use digest::digest_all;
pub(crate) use extract::Archive;
pub(crate) use in_place::Seen;
pub(crate) use known::ContextDigests;
pub(crate) use local::LocalSource;
pub(crate) use own::{OwnFile, OwnFiles, TEMPORARY};
pub(crate) use place::{Bytes, NEW_LAYER, Placement};
pub(crate) use select::{
    Choice, Selected, check_length, clean, literal_prefix, name_in_key, nothing_matches, select,
};
pub(crate) use source::{Lead, Source, SourceKind, SourceNode, resolve};
pub(crate) use tree::TreeSource;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::failure::CopyProblem;
use crate::layers::{FileOfLayer, FileRange, LayerFiles};
use ocibuild_plan::{Chmod, CopyStep, WorkdirStep};

/// What sources of a step bring, all from one place.
pub(crate) struct Part {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) selected: Vec<Selected>,
    /// Archives among the files are unpacked.
    pub(crate) unpacks: bool,
}

/// Looks up the sources of a step.
pub(crate) fn select_all(source: &dyn Source, step: &CopyStep) -> Result<Vec<Vec<Selected>>, Error> {
    let choice = Choice::new(&step.excludes, step.parents)?;
    step.sources.iter().map(|word| select(source, word, &choice)).collect()
}

/// Finds the content of files of the base, each with its size.
type BaseFiles<'a> = dyn Fn(&[(Origin, u64)]) -> Result<LayerFiles, Error> + 'a;

/// The digests of files of the base.
type BaseDigests<'a> = dyn Fn(&[FileOfLayer]) -> Result<Vec<Option<ContentDigest>>, Error> + 'a;

/// What a copy is carried out on and with.
pub(crate) struct CopyContext<'a> {
    pub(crate) base: &'a Tree,
    pub(crate) accounts: &'a Accounts,
    /// The stage has no layer at all yet: users have no names (5.206).
    pub(crate) base_is_empty: bool,
    pub(crate) now: Timestamp,
    pub(crate) archives: Archives<'a>,
    pub(crate) base_digests: &'a BaseDigests<'a>,
    pub(crate) base_files: &'a BaseFiles<'a>,
}

/// Carries out a `COPY` or `ADD` and gives what its layer consists of.
pub(crate) fn copy(
    step: &CopyStep,
    parts: Vec<Part>,
    context: &mut CopyContext<'_>,
) -> Result<Changeset, Error> {
    let tree = if step.link { Tree::new() } else { context.base.clone() };
    let mut placement = Placement::new(tree, context.now);
    placement.chmod = step.chmod.as_deref().map(parse_chmod).transpose()?;
    placement.owner = step.chown.as_deref().map(|text| owner(text, step.link, context)).transpose()?;
    let mut archives = Vec::new();
    let mut sources = Vec::with_capacity(parts.len());
    for Part { source, selected, unpacks } in parts {
        placement.part = sources.len();
        for one in selected {
            let number = archives.len();
            let archive = if unpacks { context.archives.open(source.as_ref(), &one, number)? } else { None };
            if let Some(archive) = archive {
                placement.extract(&archive.0, &step.destination)?;
                archives.push(archive.1);
            } else {
                placement.copy(source.as_ref(), &one, &step.destination)?;
            }
        }
        sources.push(source);
    }
    for (name, content) in &step.heredocs {
        placement.heredoc(name, content, &step.destination)?;
    }
    let taken = taken_from_base(&placement);
    let base_files = if taken.is_empty() { None } else { Some((context.base_files)(&taken)?) };
    let contents = Contents { bytes: placement.bytes, sources, archives, base_files };
    let empty = Tree::new();
    let base = if step.link { &empty } else { context.base };
    changeset(base, &placement.tree, contents, context)
}

/// Carries out a `WORKDIR`; `epoch` is the time its directories get if there is one (11.41).
pub(crate) fn workdir(
    step: &WorkdirStep,
    epoch: Option<Timestamp>,
    context: &mut CopyContext<'_>,
) -> Result<Changeset, Error> {
    let mut placement = Placement::new(context.base.clone(), context.now);
    if !step.user.is_empty() {
        placement.owner = Some(owner(&step.user, false, context)?);
    }
    extract::workdir(&mut placement, &step.path, epoch.unwrap_or(context.now))?;
    let contents =
        Contents { bytes: placement.bytes, sources: Vec::new(), archives: Vec::new(), base_files: None };
    changeset(context.base, &placement.tree, contents, context)
}

/// The files of the base that an archive links to, and so changes.
fn taken_from_base(placement: &Placement) -> Vec<(Origin, u64)> {
    placement
        .bytes
        .iter()
        .filter_map(|bytes| match bytes {
            Bytes::Base { origin, size } => Some((origin.clone(), *size)),
            _ => None,
        })
        .collect()
}

fn parse_chmod(text: &str) -> Result<Chmod, Error> {
    Chmod::parse(text).map_err(|source| CopyProblem::Mode { text: text.to_owned(), source }.into())
}

/// Owner of a step, where names can be looked up; without a file system to look in, names fail (5.206).
fn owner(text: &str, link: bool, context: &CopyContext<'_>) -> Result<(u32, u32), Error> {
    let is_id =
        |part: &str| part.is_empty() || part == "root" || part.bytes().all(|byte| byte.is_ascii_digit());
    if (link || context.base_is_empty) && !text.split(':').all(is_id) {
        return Err(CopyProblem::OwnerName { text: text.to_owned(), is_link: link }.into());
    }
    Ok(context.accounts.owner(text))
}

fn changeset(
    base: &Tree,
    after: &Tree,
    contents: Contents,
    context: &mut CopyContext<'_>,
) -> Result<Changeset, Error> {
    let Changes { entries, shared } = same::changes(base, after, &contents, context)?;
    entries.iter().try_for_each(|entry| check_length(&entry.path))?;
    Ok(Changeset::new(entries, move |entry: &Entry, content| {
        let size = match entry.kind {
            ocibuild_spec::EntryKind::File { size, .. } => size,
            _ => 0,
        };
        contents.open(&entry.path, content, size)
    })
    .with_shared(shared))
}

/// Opens the files of a layer that a copy makes.
struct Contents {
    bytes: Vec<Bytes>,
    sources: Vec<Arc<dyn Source>>,
    archives: Vec<File>,
    base_files: Option<LayerFiles>,
}

impl Contents {
    fn open(&self, placed: &Path, content: Content, size: u64) -> io::Result<Box<dyn Read + Send>> {
        let place = usize::try_from(content.0).ok().and_then(|number| self.bytes.get(number));
        if let Some((part, path)) = place.and_then(|bytes| bytes.source_path(placed)) {
            return self.sources[part].open(&path).map_err(io::Error::other);
        }
        match place {
            Some(Bytes::Inline(text)) => Ok(Box::new(io::Cursor::new(text.clone().into_bytes()))),
            Some(Bytes::Archive { archive, offset, sparse }) => {
                let file = self.archives[*archive].try_clone()?;
                Ok(archived(file, *offset, size, sparse.as_ref()))
            }
            Some(Bytes::Base { origin, .. }) => match &self.base_files {
                Some(files) => files.open(origin, size).map_err(io::Error::other),
                None => Err(io::Error::other("a file of the base without content")),
            },
            _ => Err(io::Error::other("a file without content")),
        }
    }
}

/// The content of a file of `size` bytes in a tar, which begins at `offset`.
pub(crate) fn archived(
    file: File,
    offset: u64,
    size: u64,
    sparse: Option<&SparseMap>,
) -> Box<dyn Read + Send> {
    match sparse {
        Some(map) => Box::new(map.clone().expand(FileRange { file, at: offset, left: map.stored() })),
        None => Box::new(FileRange { file, at: offset, left: size }),
    }
}

/// The source of a step that has none.
#[derive(Debug)]
pub(crate) struct NoSource;

impl Source for NoSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        let metadata = ocibuild_spec::Metadata { mode: 0o755, xattrs: BTreeMap::new(), ..Default::default() };
        let is_root = path.as_os_str().is_empty();
        Ok(is_root.then_some(SourceNode {
            metadata,
            kind: SourceKind::Directory,
            links: None,
            in_place: None,
            known: None,
        }))
    }

    fn names(&self, _: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
        Ok(Vec::new())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        Err(CopyProblem::NotFound { path: path.to_owned() }.into())
    }
}
