use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ocibuild_dockerfile::{IgnorePatterns, glob_match};

use super::changed::Walked;
use super::missing::{not_found, prefix_not_found};
use super::source::{Item, Lead, Source, SourceKind, SourceNode, resolve};
use crate::error::Error;
use crate::failure::CopyProblem;
use crate::failure::{ChangedPath, PathChange};

/// What one source of an instruction, or one match of its wildcard, brings.
///
/// What is below a directory is not listed here: [`each_item`](Self::each_item) walks it whenever it is needed, so that a
/// copy of many files needs little more memory than what becomes of them. Walks of files that may change have to find
/// what the first one found.
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
    /// What the first walk found.
    walked: OnceLock<Walked>,
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

impl Selected {
    /// A file at the root of its source.
    pub(crate) fn file(name: &str, node: SourceNode) -> Self {
        let (name, path) = (OsString::from(name), PathBuf::from(name));
        let (chosen, excludes, walked) = (Chosen::All, Arc::default(), OnceLock::new());
        Self { name, path, node, keeps_parents: false, chosen, excludes, walked }
    }

    /// Hands on what is below a directory, parents first, in the order of the copy.
    pub(crate) fn each_item(
        &self,
        source: &dyn Source,
        visit: &mut dyn FnMut(&Item) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !source.may_change() {
            return self.walk(source, visit);
        }
        source.look_anew();
        // Paths are named as the source has them.
        let changed =
            |change: ChangedPath| Error::from(ChangedPath { path: self.path.join(change.path), ..change });
        let Some(walked) = self.walked.get() else {
            let (mut walked, mut last) = (Walked::default(), Vec::new());
            self.walk(source, &mut |item| {
                walked.add(item, &mut last);
                visit(item)
            })?;
            // Should two threads walk at once, the first one counts.
            let _ = self.walked.set(walked);
            return Ok(());
        };
        let mut replay = walked.replay();
        self.walk(source, &mut |item| {
            replay.expect(item).map_err(changed)?;
            visit(item)
        })?;
        replay.end().map_err(changed)
    }

    fn walk(
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
            _ if self.node.is_directory() => walk.directory(&self.path, Path::new("")),
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
        let excludes =
            IgnorePatterns::new(excludes).map_err(|source| CopyProblem::ExcludePattern { source })?;
        Ok(Self { excludes: Arc::new(excludes), parents })
    }
}

/// All that one source word selects (6.1).
pub(crate) fn select(source: &dyn Source, word: &str, choice: &Choice) -> Result<Vec<Selected>, Error> {
    source.look_anew();
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
        walked: OnceLock::new(),
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
            Lead::Found(at, node) => Ok(vec![Found { name: last_name(&path), path: at, node: *node }]),
            Lead::Missing => Err(not_found(source, word, &path)),
        };
    };
    let base = match resolve(source, &prefix, true)? {
        Lead::Found(at, node) if node.is_directory() => at,
        // Nothing is below a file. Of a context it would not even be sent, and so BuildKit does not find it.
        Lead::Found(..) if !source.is_sent_on_demand() => return Ok(Vec::new()),
        _ => {
            return Err(prefix_not_found(source, word, &prefix));
        }
    };
    let mut matches = Vec::new();
    match_below(source, &base, &pattern, &mut matches)?;
    matches
        .into_iter()
        .map(|found| match resolve(source, &base.join(&found), true)? {
            Lead::Found(at, node) => Ok(Found { name: last_name(&found), path: at, node: *node }),
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
    let names = names.iter().filter_map(|name| name.to_str()).take(8).map(str::to_owned).collect();
    CopyProblem::NothingMatches { word: word.to_owned(), directory: directory.to_owned(), names }.into()
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
fn match_below(
    source: &dyn Source,
    base: &Path,
    pattern: &[OsString],
    matches: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    // Directories whose names are still to be compared, the next one last.
    let mut todo = vec![(PathBuf::new(), pattern)];
    while let Some((relative, pattern)) = todo.pop() {
        let Some((first, rest)) = pattern.split_first() else {
            matches.push(relative);
            continue;
        };
        if !relative.as_os_str().is_empty()
            && !source.stat(&base.join(&relative))?.is_some_and(|node| node.is_directory())
        {
            continue;
        }
        let from = todo.len();
        // Joined with nothing, a path would end with a slash.
        let directory = if relative.as_os_str().is_empty() { base.to_owned() } else { base.join(&relative) };
        for name in source.names(&directory)? {
            if glob_match(first.as_bytes(), name.as_bytes()).map_err(|_| malformed(pattern))? {
                todo.push((relative.join(&name), rest));
            }
        }
        todo[from..].reverse();
    }
    Ok(())
}

fn malformed(pattern: &[OsString]) -> Error {
    let pattern = pattern.join(OsStr::new("/")).to_string_lossy().into_owned();
    CopyProblem::Pattern { pattern }.into()
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
struct Open {
    path: PathBuf,
    relative: PathBuf,
    names: std::vec::IntoIter<OsString>,
    /// How many directories waited for something below them when it was found.
    pending: usize,
}

/// The longest path that a file may have, in bytes: no kernel opens one that is longer, so no container could use it.
const MAX_PATH: usize = 4095;

/// Fails for a path that nobody could open.
pub(crate) fn check_length(path: &Path) -> Result<(), Error> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok(());
    }
    Err(CopyProblem::PathTooLong { path: path.to_owned(), maximum: MAX_PATH }.into())
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, relative: &Path) -> Result<(), Error> {
        let mut open = vec![self.opened(path.to_owned(), relative.to_owned(), self.pending.len())?];
        while let Some(directory) = open.last_mut() {
            let Some(name) = directory.names.next() else {
                // Unless something below took them along, directories that only led here are left out.
                self.pending.truncate(directory.pending);
                open.pop();
                continue;
            };
            let (path, relative) = (directory.path.join(&name), directory.relative.join(&name));
            check_length(&path)?;
            let pending = self.pending.len();
            match self.source.stat(&path)? {
                Some(node) => {
                    let below = self.entry(&relative, node)?;
                    if below {
                        open.push(self.opened(path, relative, pending)?);
                    }
                }
                // It was listed.
                None if self.source.may_change() => {
                    return Err(ChangedPath::new(&path, PathChange::Gone).into());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn opened(&self, path: PathBuf, relative: PathBuf, pending: usize) -> Result<Open, Error> {
        let names = self.source.names(&path)?.into_iter();
        Ok(Open { path, relative, names, pending })
    }

    /// Hands on what is chosen; whether something below may be.
    fn entry(&mut self, relative: &Path, node: SourceNode) -> Result<bool, Error> {
        let bytes = relative.as_os_str().as_bytes();
        let excluded = !self.excludes.is_empty() && self.excludes.matches(bytes);
        let included = self.include.is_none_or(|include| include.matches(bytes));
        let chosen = included && !excluded;
        let path = relative.to_owned();
        if !node.is_directory() {
            if chosen {
                self.choose(&Item { path, node, is_intermediate: false })?;
            }
            return Ok(false);
        }
        if excluded && !self.excludes.may_have_exceptions_below(bytes) {
            return Ok(false);
        }
        let item = Item { path, node, is_intermediate: !chosen };
        if chosen {
            self.choose(&item)?;
        } else {
            self.pending.push(item);
        }
        Ok(true)
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
    let owned = || word.to_owned();
    let text = String::from_utf8(pattern.as_os_str().as_bytes().to_vec())
        .map_err(|_| CopyProblem::NotUtf8 { word: owned() })?;
    let include = IgnorePatterns::new([&text])
        .map_err(|source| CopyProblem::ParentsPattern { word: owned(), source })?;
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
            return Err(CopyProblem::Excluded { word: owned(), path: path.join(&pattern) }.into());
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
            walked: OnceLock::new(),
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
        if let Some(node) = self.source.stat(&base.join(path))?
            && self.entry(path, node)?
        {
            self.directory(&base.join(path), path)?;
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
                let (word, path) = (word.to_owned(), path.to_owned());
                return Err(CopyProblem::LinkNotFollowed { word, path, link: at, target }.into());
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
pub(crate) fn name_in_key(word: &str) -> String {
    last_name(&clean(OsStr::new(word))).to_string_lossy().into_owned()
}
