//! What is in a build context, and which line of the ignore file decided.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::context::LocalContext;
use crate::copy::{SourceKind, SourceNode};
use crate::error::Error;

/// Something in a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextEntry {
    /// Relative to the root of the context.
    pub path: PathBuf,
    /// What it is.
    pub kind: ContextEntryKind,
    /// Bytes of a file; 0 of anything else.
    pub size: u64,
}

/// What an entry of a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextEntryKind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Symlink,
    /// A pipe or a device.
    Special,
}

/// Whether a path is in a build context, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextVerdict {
    /// Relative to the root of the context.
    pub path: PathBuf,
    /// Something is at the path.
    pub exists: bool,
    /// The ignore file lets it through.
    pub kept: bool,
    /// It is a directory that is ignored itself and there for what is kept below it.
    pub for_what_is_below: bool,
    /// The line that decided; `None` when no pattern matches.
    pub decided: Option<DecidingLine>,
}

/// A line of an ignore file, and what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecidingLine {
    /// The ignore file's name.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// The pattern.
    pub pattern: String,
    /// What it matches: the path, or a directory above it.
    pub matched: PathBuf,
}

impl LocalContext {
    /// Everything in the context, as `COPY . .` would take it: directories before what is in them, names in order.
    pub fn entries(&self, visit: &mut dyn FnMut(ContextEntry) -> Result<(), Error>) -> Result<(), Error> {
        let source = self.source();
        let mut todo = vec![PathBuf::new()];
        while let Some(path) = todo.pop() {
            let Some(node) = source.stat(&path)? else { continue };
            if node.is_directory() {
                todo.extend(source.names(&path)?.into_iter().rev().map(|name| path.join(name)));
            }
            if !path.as_os_str().is_empty() {
                visit(entry(path, &node))?;
            }
        }
        Ok(())
    }

    /// Whether `path` is in the context, and which line decided. What is not there is judged as if it were.
    pub fn why(&self, path: impl AsRef<Path>) -> Result<ContextVerdict, Error> {
        let path = crate::copy::clean(path.as_ref().as_os_str());
        let ignore = self.ignore();
        let source = self.source();
        let node = source.stat(&path)?;
        let verdict = ignore.verdict(path.as_os_str().as_bytes());
        let decided = verdict.line.map(|line| {
            let decides = |above: &&Path| ignore.verdict(above.as_os_str().as_bytes()).line == Some(line);
            let above =
                path.ancestors().filter(|above| !above.as_os_str().is_empty()).take_while(decides).last();
            DecidingLine {
                file: ignore.name().to_owned(),
                line,
                pattern: ignore.text_of(line).unwrap_or_default(),
                matched: above.unwrap_or(&path).to_owned(),
            }
        });
        let for_what_is_below = verdict.ignored && node.is_some();
        let kept = !verdict.ignored || for_what_is_below;
        let exists = node.is_some() || self.has(&path);
        Ok(ContextVerdict { path, exists, kept, for_what_is_below, decided })
    }
}

fn entry(path: PathBuf, node: &SourceNode) -> ContextEntry {
    let (kind, size) = match node.kind {
        SourceKind::Directory => (ContextEntryKind::Directory, 0),
        SourceKind::File { size } => (ContextEntryKind::File, size),
        SourceKind::Symlink(_) => (ContextEntryKind::Symlink, 0),
        _ => (ContextEntryKind::Special, 0),
    };
    ContextEntry { path, kind, size }
}
