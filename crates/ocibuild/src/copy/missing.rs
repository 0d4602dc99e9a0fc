//! Why a source of `COPY` or `ADD` is not there, and what was probably meant.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use ocibuild_dockerfile::nearest;

use super::source::{IgnoredBy, Source, SourceKind, SourceNode};
use crate::error::{Code, Error, ErrorKind};
use crate::report::Place;

/// As many entries are looked at for a file of the same name elsewhere.
const MAX_LOOKED_AT: usize = 20_000;

/// The error about `word`, which as a clean path is `path` and leads to nothing in `source`.
pub(crate) fn not_found(source: &dyn Source, word: &str, path: &Path) -> Error {
    let shown = path.display();
    let mut error = Error::new(ErrorKind::Dockerfile, format!("\"/{shown}\": not found"))
        .id(Code::SourceNotFound)
        .word(word);
    if let Some(hiding) = source.hidden_by(path) {
        let IgnoredBy { file, line, pattern, matched } = hiding;
        return error
            .cause(format!(
                "{file}:{line} keeps it out of the build context: the pattern \"{pattern}\" matches {}",
                matched.display()
            ))
            .hint(format!("remove line {line} of {file}, or add the line \"!{shown}\" below it"))
            .place(Place::Line { file, line, text: pattern });
    }
    if source.is_state(path) {
        return error
            .cause("the state directory of this build lies there, which is no part of any context")
            .hint("keep the state directory out of the build context");
    }
    if climbs(Path::new(word)) {
        error = error.cause(format!("{word} leads above the root of {}, where it ends", source.what()));
        if source.is_sent_on_demand() {
            error = error.hint("for files above it, build with a directory above as CONTEXT and the Dockerfile named with -f");
        }
    }
    if let Some(target) = exists(source, path).and_then(|node| node.link_target()) {
        return error
            .cause(format!("{shown} is a link to {}, which is not in {}", target.display(), source.what()))
            .hint("copy what the link leads to in its place, or make it lead to something that is there");
    }
    if let Some(name) = with_blanks(source, path) {
        return error.cause(format!("{} is there: a blank ends a source", ocibuild_plan::quote(&name))).hint(
            format!(
                "write names with blanks as a JSON list: [{}, \"/path/in/the/image\"]",
                ocibuild_plan::quote(&name)
            ),
        );
    }
    if let Some(SourceKind::Symlink(target)) = exists(source, path).map(|node| node.kind) {
        error = error.cause(format!("it is a link to {}, and nothing is there", target.display()));
    } else if let Some(meant) = near(source, path) {
        error = error.hint(format!("did you mean {}?", meant.display()));
    } else if let Some(other) = elsewhere(source, path) {
        error = error.hint(format!("did you mean {}? That is where a file of this name is", other.display()));
    }
    if word.contains('\\') {
        error = error.hint(format!("write paths with slashes: {}", word.replace('\\', "/")));
    }
    if let Some(hint) = broken_json(word) {
        error = error.hint(hint);
    }
    if word.starts_with('~') {
        error = error.hint("\"~\" means nothing here: put the file into the build context");
    }
    if let Some(alone) = word.strip_suffix(',') {
        error = error.hint(format!("sources are separated by blanks, not commas: {alone}"));
    }
    if error.reports()[0].hints.is_empty()
        && let Some(hint) = listed(source, path)
    {
        error = error.hint(hint);
    }
    error.hint(source.advice())
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

/// A name that begins with that of `path` and a blank.
fn with_blanks(source: &dyn Source, path: &Path) -> Option<String> {
    let begin = format!("{} ", path.file_name()?.to_str()?);
    let directory = path.parent()?;
    let names = source.names(directory).ok()?;
    let name = names.iter().filter_map(|name| name.to_str()).find(|name| name.starts_with(&begin))?;
    Some(directory.join(name).to_str()?.to_owned())
}

/// What is in the directory where `path` would be.
fn listed(source: &dyn Source, path: &Path) -> Option<String> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty())?;
    let names = source.names(directory).ok()?;
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    let shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 8 { ", …" } else { "" };
    (!names.is_empty()).then(|| format!("what there is in /{}: {shown}{more}", directory.display()))
}

/// What to do about a word that looks like a part of a JSON list which is none.
pub(crate) fn broken_json(word: &str) -> Option<&'static str> {
    const TYPOGRAPHIC: [char; 6] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}'];
    if word.contains(TYPOGRAPHIC) {
        return Some(
            "typographic quotes mean nothing here: write straight double quotes, as in [\"a\", \"b\"]",
        );
    }
    let is_like_json = word.starts_with('[') || word.ends_with(']') || word.starts_with(['"', '\'']);
    is_like_json.then_some(
        "this is no JSON list: write double quotes, with commas between the strings: [\"a\", \"b\"]",
    )
}

/// The path with each part that is not there replaced by the nearest that is.
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
