//! Verdicts over lines of paths, for other programs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{DirectoryMatches, IgnoreError, IgnoreFile, IgnorePatterns, without_slash};

/// Answers `kept` or `ignored`, a line each, for the lines of `paths`: whether they would be in the build context.
///
/// A trailing slash marks a directory, and directories come before what is in them. A directory is kept when anything
/// below it is.
pub fn ignore_protocol(ignore_file: &[u8], paths: &[u8]) -> Result<String, IgnoreError> {
    let patterns = IgnoreFile::parse(ignore_file)?.patterns;
    let paths: Vec<&[u8]> = paths.split_inclusive(|byte| *byte == b'\n').map(path_of).collect();
    let mut states: HashMap<&[u8], DirectoryMatches> = HashMap::new();
    let mut kept: HashSet<&[u8]> = HashSet::new();
    for path in &paths {
        let (ignored, state) = look(&patterns, &states, path);
        states.insert(path, state);
        if !ignored {
            kept.extend(std::iter::successors(Some(*path), |path| parent(path)));
        }
    }
    let answer = |path: &&[u8]| if kept.contains(path) { "kept\n" } else { "ignored\n" };
    Ok(paths.iter().map(answer).collect())
}

fn path_of(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    without_slash(line)
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').map(|end| &path[..end])
}

fn look(
    patterns: &IgnorePatterns,
    states: &HashMap<&[u8], DirectoryMatches>,
    path: &[u8],
) -> (bool, DirectoryMatches) {
    let directory = match parent(path) {
        None => Cow::Owned(patterns.root()),
        Some(parent) => {
            states.get(parent).map_or_else(|| Cow::Owned(patterns.directory(parent)), Cow::Borrowed)
        }
    };
    let (verdict, state) = patterns.visit(&directory, path);
    (verdict.ignored, state)
}
