use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ocibuild_dockerfile::{IgnorePatterns, glob_match};

use super::missing::{broken_json, not_found};
use super::source::{Lead, Source, SourceKind, SourceNode, resolve};
use crate::{Error, ErrorKind};

/// What one source of an instruction, or one match of its wildcard, brings.
///
/// What is below a directory is not listed here: [`each_item`](Self::each_item) walks it whenever it is needed, so that a
/// copy of many files needs no more memory than what becomes of them.
#[derive(Debug)]
pub(crate) struct Selected {
    /// The name the file gets in a directory: that of the source as written, of a link its own.
    pub(crate) name: OsString,
    /// Where it is, links followed.
    pub(crate) path: PathBuf,
    /// What is there.
    pub(crate) node: SourceNode,
    /// The source is a root whose chosen part keeps its directories (`--parents`).
    pub(crate) keeps_parents: bool,
    chosen: Chosen,
    excludes: Arc<IgnorePatterns>,
}

/// What of a selected directory is copied, excludes aside.
#[derive(Debug)]
enum Chosen {
    /// Everything.
    All,
    /// What a pattern matches.
    Matching(IgnorePatterns),
    /// This path, and what is below it.
    Literal(PathBuf, IgnorePatterns),
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

impl Selected {
    /// A file at the root of its source.
    pub(crate) fn file(name: &str, node: SourceNode) -> Self {
        let (name, path) = (OsString::from(name), PathBuf::from(name));
        Self { name, path, node, keeps_parents: false, chosen: Chosen::All, excludes: Arc::default() }
    }

    /// Hands on what is below a directory, parents first, in the order of the copy.
    pub(crate) fn each_item(
        &self,
        source: &dyn Source,
        visit: &mut dyn FnMut(&Item) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let include = match &self.chosen {
            Chosen::All => None,
            Chosen::Matching(include) | Chosen::Literal(_, include) => Some(include),
        };
        let mut walk = Walk { source, include, excludes: &self.excludes, visit, pending: Vec::new() };
        match &self.chosen {
            Chosen::Literal(path, _) => walk.literal(&self.path, path),
            _ if self.node.is_directory() => walk.directory(self.path.clone(), PathBuf::new(), 0),
            _ => Ok(()),
        }
    }
}

/// What to leave out and what to keep.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) excludes: Arc<IgnorePatterns>,
    pub(crate) parents: bool,
}

impl Choice {
    pub(crate) fn new(excludes: &[String], parents: bool) -> Result<Self, Error> {
        let excludes = IgnorePatterns::new(excludes).map_err(|error| {
            Error::new(ErrorKind::Dockerfile, format!("--exclude: {error}"))
                .id("invalid-pattern")
                .word(error.pattern.clone())
                .hint("write a pattern as in .dockerignore; a literal '[' needs a backslash in front")
                .caused_by(error)
        })?;
        Ok(Self { excludes: Arc::new(excludes), parents })
    }
}

/// All that one source word selects (6.1).
pub(crate) fn select(source: &dyn Source, word: &str, choice: &Choice) -> Result<Vec<Selected>, Error> {
    if choice.parents {
        return select_with_parents(source, word, choice);
    }
    let whole = |Found { name, path, node }| Selected {
        name,
        path,
        node,
        keeps_parents: false,
        chosen: Chosen::All,
        excludes: Arc::clone(&choice.excludes),
    };
    Ok(find(source, word)?.into_iter().map(whole).collect())
}

/// A file or directory that a source word leads to.
struct Found {
    name: OsString,
    path: PathBuf,
    node: SourceNode,
}

fn find(source: &dyn Source, word: &str) -> Result<Vec<Found>, Error> {
    let path = clean(OsStr::new(word));
    let Some((prefix, pattern)) = split_wildcards(&path) else {
        return match resolve(source, &path, true)? {
            Lead::Found(at, node) => Ok(vec![Found { name: last_name(&path), path: at, node }]),
            Lead::Missing => Err(not_found(source, word, &path)),
        };
    };
    let base = match resolve(source, &prefix, true)? {
        Lead::Found(at, node) if node.is_directory() => at,
        // Nothing is below a file. Of a context it would not even be sent, and so BuildKit does not find it.
        Lead::Found(..) if !source.is_sent_on_demand() => return Ok(Vec::new()),
        _ => {
            let message = format!("lstat /{}: no such file or directory", prefix.display());
            let missing = not_found(source, word, &prefix);
            return Err(missing.headline(message));
        }
    };
    match_below(source, &base, &pattern)?
        .into_iter()
        .map(|found| match resolve(source, &base.join(&found), true)? {
            Lead::Found(at, node) => Ok(Found { name: last_name(&found), path: at, node }),
            Lead::Missing => Err(not_found(source, word, &prefix.join(&found))),
        })
        .collect()
}

fn last_name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}

/// The directory that stands in front of the first wildcard of a source, if it has both.
pub(crate) fn literal_prefix(word: &str) -> Option<PathBuf> {
    let (prefix, _) = split_wildcards(&clean(OsStr::new(word)))?;
    Some(prefix).filter(|prefix| !prefix.as_os_str().is_empty())
}

/// The error about a pattern that matches nothing in `directory`.
pub(crate) fn nothing_matches(source: &dyn Source, word: &str, directory: &Path) -> Error {
    let names = source.names(directory).unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).take(8).collect();
    let message = format!("lstat /{}: no such file or directory", directory.display());
    let error = Error::new(ErrorKind::Dockerfile, message)
        .id("source-not-found")
        .word(word)
        .cause(format!("nothing in {} matches {word}", directory.display()));
    let error = if names.is_empty() {
        error
    } else {
        error.hint(format!("what there is in /{}: {}", directory.display(), names.join(", ")))
    };
    error.hint(
        "make the file before the image is built, or check the pattern; a literal '[' is matched by '[[]'",
    )
}

/// The path as text without `.`, `..` and doubled slashes, relative to the root (6.01).
pub(crate) fn clean(path: &OsStr) -> PathBuf {
    let mut out = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// The parts before the first with a live wildcard, and the rest; `None` without any wildcard (6.05).
fn split_wildcards(path: &Path) -> Option<(PathBuf, Vec<OsString>)> {
    let parts: Vec<&OsStr> = path.iter().collect();
    let first = parts.iter().position(|part| has_wildcard(part.as_bytes()))?;
    let prefix = parts[..first].iter().collect();
    Some((prefix, parts[first..].iter().map(|part| (*part).to_owned()).collect()))
}

pub(crate) fn has_wildcard(text: &[u8]) -> bool {
    let mut escaped = false;
    text.iter().any(|byte| {
        let live = !escaped && matches!(byte, b'*' | b'?' | b'[');
        escaped = !escaped && *byte == b'\\';
        live
    })
}

/// Collects what matches the parts of a pattern, in the order of a sorted walk that follows no link.
fn match_below(source: &dyn Source, base: &Path, pattern: &[OsString]) -> Result<Vec<PathBuf>, Error> {
    let mut matches = Vec::new();
    // The directories that match the first parts, one below the other.
    let mut levels = vec![(PathBuf::new(), source.names(base)?.into_iter())];
    while let Some((relative, names)) = levels.last_mut() {
        let Some(name) = names.next() else {
            levels.pop();
            continue;
        };
        let path = relative.join(&name);
        let rest = &pattern[levels.len() - 1..];
        if !part_matches(rest, &name)? {
            continue;
        }
        if rest.len() == 1 {
            matches.push(path);
        } else if source.stat(&base.join(&path))?.is_some_and(|node| node.is_directory()) {
            let names = source.names(&base.join(&path))?.into_iter();
            levels.push((path, names));
        }
    }
    Ok(matches)
}

/// Whether a name matches the first part of a pattern.
fn part_matches(pattern: &[OsString], name: &OsStr) -> Result<bool, Error> {
    let Some(first) = pattern.first() else { return Ok(false) };
    glob_match(first.as_bytes(), name.as_bytes()).map_err(|_| {
        let text = pattern.join(OsStr::new("/"));
        let message = format!("syntax error in pattern {}", text.display());
        let error =
            Error::new(ErrorKind::Dockerfile, message).id("invalid-pattern").word(text.to_string_lossy());
        let error = match broken_json(&text.to_string_lossy()) {
            Some(hint) => error.hint(hint),
            None => error,
        };
        error.hint("a literal '[' is matched by '[[]'")
    })
}

/// Walks a directory and hands on what is chosen, each directory just before the first thing chosen below it.
struct Walk<'a> {
    source: &'a dyn Source,
    /// Without, everything is chosen that is not excluded.
    include: Option<&'a IgnorePatterns>,
    excludes: &'a IgnorePatterns,
    visit: &'a mut dyn FnMut(&Item) -> Result<(), Error>,
    /// Directories that are handed on once something below them is.
    pending: Vec<Item>,
}

/// A directory that is being walked.
struct Level {
    path: PathBuf,
    /// The same below the selected directory.
    relative: PathBuf,
    names: std::vec::IntoIter<OsString>,
    /// How many directories were pending before it.
    pending: usize,
}

impl Walk<'_> {
    /// Everything below a directory. Trees may be as deep as paths are long, and so this has a stack of its own.
    fn directory(&mut self, path: PathBuf, relative: PathBuf, pending: usize) -> Result<(), Error> {
        let level = |source: &dyn Source, path: PathBuf, relative, pending| -> Result<Level, Error> {
            let names = source.names(&path)?.into_iter();
            Ok(Level { path, relative, names, pending })
        };
        let mut levels = vec![level(self.source, path, relative, pending)?];
        while let Some(top) = levels.last_mut() {
            let Some(name) = top.names.next() else {
                // Unless something below took them along, directories that only led here are left out.
                self.pending.truncate(top.pending);
                levels.pop();
                continue;
            };
            let (path, relative) = (top.path.join(&name), top.relative.join(&name));
            let Some(node) = self.source.stat(&path)? else { continue };
            let pending = self.pending.len();
            if let Some(relative) = self.entry(relative, node)? {
                levels.push(level(self.source, path, relative, pending)?);
            }
        }
        Ok(())
    }

    /// Hands on one path if it is chosen; gives it back if it is a directory to be walked.
    fn entry(&mut self, relative: PathBuf, node: SourceNode) -> Result<Option<PathBuf>, Error> {
        let bytes = relative.as_os_str().as_bytes();
        let excluded = !self.excludes.is_empty() && self.excludes.matches(bytes);
        let included = self.include.is_none_or(|include| include.matches(bytes));
        let chosen = included && !excluded;
        let is_directory = node.is_directory();
        if is_directory && excluded && !self.excludes.may_have_exceptions_below(bytes) {
            return Ok(None);
        }
        let item = Item { path: relative, node, is_intermediate: is_directory && !chosen };
        if chosen {
            self.choose(&item)?;
            return Ok(is_directory.then_some(item.path));
        }
        if !is_directory {
            return Ok(None);
        }
        let relative = item.path.clone();
        self.pending.push(item);
        Ok(Some(relative))
    }

    fn choose(&mut self, item: &Item) -> Result<(), Error> {
        for above in self.pending.drain(..) {
            (self.visit)(&above)?;
        }
        (self.visit)(item)
    }
}

/// `COPY --parents` (5.207, 5.212): the part behind the pivot is a pattern below the part before it.
fn select_with_parents(source: &dyn Source, word: &str, choice: &Choice) -> Result<Vec<Selected>, Error> {
    let (before, after) = match word.split_once("/./") {
        Some((before, after)) => (if before.is_empty() { "/" } else { before }, after),
        None => ("/", word.strip_prefix("./").unwrap_or(word)),
    };
    let pattern = clean(OsStr::new(after));
    if pattern.as_os_str().is_empty() {
        return Err(not_found(source, word, &clean(OsStr::new(before)).join(&pattern)));
    }
    let is_literal = !has_wildcard(before.as_bytes()) && !has_wildcard(after.as_bytes());
    let text = String::from_utf8(pattern.as_os_str().as_bytes().to_vec()).map_err(|_| {
        Error::new(ErrorKind::Dockerfile, format!("source {word:?} is not valid UTF-8"))
            .hint("give the file a name in UTF-8")
    })?;
    let include = IgnorePatterns::new([&text]).map_err(|error| {
        Error::new(ErrorKind::Dockerfile, error.to_string())
            .word(word)
            .hint("a literal '[' is matched by '[[]'")
            .caused_by(error)
    })?;
    let mut out = Vec::new();
    // What is excluded as a whole is not there (5.208).
    let excluded = is_literal
        && choice.excludes.matches(pattern.as_os_str().as_bytes())
        && !choice.excludes.may_have_exceptions_below(pattern.as_os_str().as_bytes());
    if is_literal {
        require_without_links(source, word, &clean(OsStr::new(before)).join(&pattern))?;
    }
    for Found { path, node, .. } in find(source, before)? {
        if path.as_os_str().is_empty() {
            require_links_to_lead(source, word, &pattern, &include, choice)?;
        }
        if excluded {
            let message = format!("\"/{}\": not found", path.join(&pattern).display());
            return Err(Error::new(ErrorKind::Dockerfile, message)
                .word(word)
                .hint("--exclude leaves it out as a whole: change the pattern, or remove the instruction"));
        }
        out.push(Selected {
            name: OsString::new(),
            path,
            node,
            keeps_parents: true,
            chosen: if is_literal {
                Chosen::Literal(pattern.clone(), include.clone())
            } else {
                Chosen::Matching(include.clone())
            },
            excludes: Arc::clone(&choice.excludes),
        });
    }
    Ok(out)
}

impl Walk<'_> {
    /// Hands on one path and what is below it, without looking at its neighbours.
    fn literal(&mut self, base: &Path, path: &Path) -> Result<(), Error> {
        let mut relative = PathBuf::new();
        for part in path.parent().unwrap_or(Path::new("")) {
            relative.push(part);
            if let Some(node) = self.source.stat(&base.join(&relative))? {
                self.pending.push(Item { path: relative.clone(), node, is_intermediate: true });
            }
        }
        if let Some(node) = self.source.stat(&base.join(path))? {
            let pending = self.pending.len();
            if let Some(relative) = self.entry(path.to_owned(), node)? {
                self.directory(base.join(path), relative, pending)?;
            }
        }
        self.pending.clear();
        Ok(())
    }
}

/// The path must be there, and no part of it but the last may be a link, on either side of the pivot.
fn require_without_links(source: &dyn Source, word: &str, path: &Path) -> Result<(), Error> {
    let mut at = PathBuf::new();
    let count = path.iter().count();
    for (number, part) in path.iter().enumerate() {
        at.push(part);
        match source.stat(&at)? {
            Some(node) if number + 1 == count || node.is_directory() => {}
            Some(SourceNode { kind: SourceKind::Symlink(target), .. }) => {
                let message = format!("\"/{}\": not found", path.display());
                return Err(Error::new(ErrorKind::Dockerfile, message)
                    .id("source-not-found")
                    .word(word)
                    .cause(format!(
                        "--parents does not follow /{}, a link to {}",
                        at.display(),
                        target.display()
                    ))
                    .hint("name the directory that the link leads to, or copy without --parents"));
            }
            _ => return Err(not_found(source, word, path)),
        }
    }
    Ok(())
}

/// Links at the top of the source are copied as links, and yet they must lead somewhere: BuildKit looks for what changes
/// behind them.
fn require_links_to_lead(
    source: &dyn Source,
    word: &str,
    pattern: &Path,
    include: &IgnorePatterns,
    choice: &Choice,
) -> Result<(), Error> {
    let is_one_name = pattern.iter().count() == 1 && !has_wildcard(pattern.as_os_str().as_bytes());
    let names =
        if is_one_name { vec![pattern.as_os_str().to_owned()] } else { source.names(Path::new(""))? };
    for name in names {
        let chosen = include.matches(name.as_bytes()) && !choice.excludes.matches(name.as_bytes());
        let path = Path::new(&name);
        if !chosen || !source.stat(path)?.is_some_and(|node| matches!(node.kind, SourceKind::Symlink(_))) {
            continue;
        }
        if let Lead::Missing = resolve(source, path, true)? {
            return Err(not_found(source, word, path));
        }
    }
    Ok(())
}

/// The name under which a source enters the key of its step (9.05): its last part as written.
pub(crate) fn name_in_key(word: &str) -> Vec<u8> {
    last_name(&clean(OsStr::new(word))).into_vec()
}
