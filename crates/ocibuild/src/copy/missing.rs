//! Why a source of `COPY` or `ADD` does not exist, and what was probably meant.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use ocibuild_dockerfile::nearest;

use super::source::{Source, SourceNode};
use crate::error::Error;
use crate::failure::{CopyProblem, MissingSource, Siblings};

/// As many entries are looked at for a file of the same name elsewhere.
const MAX_LOOKED_AT: usize = 20_000;

/// Names of a directory that are told.
const MAX_NAMES: usize = 8;

/// The error about `word`, which as a clean path is `path` and leads to nothing in `source`.
pub(crate) fn not_found(source: &dyn Source, word: &str, path: &Path) -> Error {
    CopyProblem::SourceNotFound(Box::new(missing(source, word, path))).into()
}

/// The same for the directory before a wildcard.
pub(crate) fn prefix_not_found(source: &dyn Source, word: &str, prefix: &Path) -> Error {
    let missing = MissingSource { is_prefix: true, ..missing(source, word, prefix) };
    CopyProblem::SourceNotFound(Box::new(missing)).into()
}

/// What can be found out about a path that does not exist; no more than what decides it.
fn missing(source: &dyn Source, word: &str, path: &Path) -> MissingSource {
    let found = MissingSource {
        word: word.to_owned(),
        path: path.to_owned(),
        place: source.place(),
        is_prefix: false,
        ignored_by: source.hidden_by(path),
        is_state: false,
        leads_above: climbs(Path::new(word)),
        link: None,
        with_spaces: None,
        nearest: None,
        elsewhere: None,
        siblings: None,
    };
    if found.ignored_by.is_some() {
        return found;
    }
    if source.is_state(path) {
        return MissingSource { is_state: true, ..found };
    }
    if let Some(target) = exists(source, path).and_then(|node| node.link_target()) {
        return MissingSource { link: Some(target), ..found };
    }
    if let Some(name) = with_spaces(source, path) {
        return MissingSource { with_spaces: Some(name), ..found };
    }
    let nearest = near(source, path);
    let elsewhere = if nearest.is_none() { elsewhere(source, path) } else { None };
    MissingSource { nearest, elsewhere, siblings: siblings(source, path), ..found }
}

/// Whether a path leads above where it begins.
fn climbs(path: &Path) -> bool {
    let mut depth = 0_i32;
    path.components().any(|part| {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth < 0
    })
}

/// A name that begins with that of `path` and a space.
fn with_spaces(source: &dyn Source, path: &Path) -> Option<String> {
    let begin = format!("{} ", path.file_name()?.to_str()?);
    let directory = path.parent()?;
    let names = source.names(directory).ok()?;
    let name = names.iter().filter_map(|name| name.to_str()).find(|name| name.starts_with(&begin))?;
    Some(directory.join(name).to_str()?.to_owned())
}

/// What is in the directory where `path` would be.
fn siblings(source: &dyn Source, path: &Path) -> Option<Siblings> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty())?;
    let names = source.names(directory).ok()?;
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    (!names.is_empty()).then(|| Siblings {
        directory: directory.to_owned(),
        names: names.iter().take(MAX_NAMES).map(|name| (*name).to_owned()).collect(),
        has_more: names.len() > MAX_NAMES,
    })
}

/// The path with each part that does not exist replaced by the nearest that does.
fn near(source: &dyn Source, path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path {
        let direct = found.join(part);
        if exists(source, &direct).is_some() {
            found = direct;
            continue;
        }
        let names = source.names(&found).ok()?;
        let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
        found.push(nearest(part.to_str()?, names)?);
    }
    Some(found).filter(|found| found != path)
}

fn exists(source: &dyn Source, path: &Path) -> Option<SourceNode> {
    source.stat(path).ok().flatten()
}

/// A file of the same name in another directory.
fn elsewhere(source: &dyn Source, path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?;
    let mut looked_at = 0;
    let mut directories = std::collections::VecDeque::from([PathBuf::new()]);
    while let Some(directory) = directories.pop_front() {
        for name in source.names(&directory).ok()? {
            looked_at += 1;
            if looked_at > MAX_LOOKED_AT {
                return None;
            }
            let child = directory.join(&name);
            if name.as_bytes() == wanted.as_bytes() && child != path {
                return Some(child);
            }
            if exists(source, &child).is_some_and(|node| node.is_directory()) {
                directories.push_back(child);
            }
        }
    }
    None
}
