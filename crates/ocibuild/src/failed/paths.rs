//! Paths that a command says are not there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::FailedStep;
use crate::failure::{SearchedPlace, StepFact};

/// As many files are looked at for one of the same name elsewhere.
const MAX_LOOKED_AT: usize = 20_000;

impl FailedStep<'_> {
    /// What is missing, and where something of its name is.
    pub(super) fn missing_path(&self) -> Option<StepFact> {
        let path = missing_path(self.output)?;
        // What a mount brings is not in the tree.
        let absolute = Path::new(&self.step.cwd).join(&path);
        let is_mounted = self.step.mounts.iter().any(|mount| absolute.starts_with(&mount.target));
        let is_there = self.tree.resolve(&absolute, true).ok().and_then(|found| found.node).is_some();
        if is_mounted || is_there {
            return Some(StepFact::PathNotFound { path });
        }
        let lower = self.output.to_lowercase();
        if let Some(parent) = absolute.parent().filter(|_| lower.contains("create directory")) {
            return Some(StepFact::ParentMissing { path, parent: parent.to_owned() });
        }
        let place = if path.starts_with('/') {
            SearchedPlace::Image
        } else if self.step.command.contains("cd ") {
            SearchedPlace::Elsewhere
        } else {
            SearchedPlace::Directory(self.step.cwd.clone())
        };
        let in_context = self.context_path(&absolute);
        let nearest = match in_context {
            Some(_) => None,
            None => self.near_path(&absolute).or_else(|| self.same_name(&absolute)),
        };
        Some(StepFact::PathMissing { path, place, in_context, nearest })
    }

    /// The path in the build context of what has this path in the image, if it is there.
    pub(super) fn context_path(&self, absolute: &Path) -> Option<String> {
        let own = absolute.strip_prefix(&self.step.cwd).or_else(|_| absolute.strip_prefix("/")).ok()?;
        let own: PathBuf = own.components().filter(|part| *part != std::path::Component::CurDir).collect();
        (self.in_context)(&own).then(|| own.display().to_string())
    }

    /// A name like it in the same directory.
    pub(super) fn near_path(&self, path: &Path) -> Option<PathBuf> {
        let directory = self.tree.resolve(path.parent()?, true).ok()?;
        let above = Path::new("/").join(&directory.path);
        let id = directory.node.filter(|id| self.tree.is_directory(*id))?;
        let names: Vec<&str> = self.tree.children(id).filter_map(|(name, _)| name.to_str()).collect();
        let near = ocibuild_dockerfile::nearest(path.file_name()?.to_str()?, names)?;
        Some(above.join(near))
    }

    /// A file of that name in another directory, the nearest to the root.
    pub(super) fn same_name(&self, path: &Path) -> Option<PathBuf> {
        let wanted = path.file_name()?;
        let mut open = VecDeque::from([(PathBuf::from("/"), self.tree.root())]);
        let mut looked_at = 0;
        while let Some((place, id)) = open.pop_front() {
            for (name, child) in self.tree.children(id) {
                looked_at += 1;
                if looked_at > MAX_LOOKED_AT {
                    return None;
                }
                if name == wanted {
                    return Some(place.join(name));
                }
                if self.tree.is_directory(child) {
                    open.push_back((place.join(name), child));
                }
            }
        }
        None
    }
}

/// The path in the last line that says that there is none.
fn missing_path(output: &str) -> Option<String> {
    const ENDS: [&str; 2] = [": no such file or directory", ": no such file"];
    output.lines().rev().find_map(|line| {
        let line = line.trim();
        let lower = line.to_lowercase();
        let begin = if lower.contains("no such file") {
            match ENDS.iter().find_map(|end| lower.strip_suffix(end)) {
                Some(begin) => line.get(..begin.len()).unwrap_or(line),
                None => return quoted(line).map(str::to_owned),
            }
        } else if lower.contains("can't cd to ") || lower.contains("can't open ") {
            line
        } else {
            return None;
        };
        let path = match quoted(begin) {
            Some(path) => path,
            None => begin.rsplit_once(": ")?.1.rsplit(' ').next()?,
        };
        let is_path = !path.is_empty() && !path.contains(char::is_whitespace) && !path.ends_with(':');
        is_path.then(|| path.to_owned())
    })
}

/// The last text in quotes.
fn quoted(line: &str) -> Option<&str> {
    [('\'', '\''), ('\u{2018}', '\u{2019}'), ('"', '"')].into_iter().find_map(|(open, close)| {
        let end = line.rfind(close)?;
        let begin = line[..end].rfind(open)? + open.len_utf8();
        Some(&line[begin..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_outputs() {
        for (output, path) in [
            ("ls: /nowhere: No such file or directory\n", Some("/nowhere")),
            ("ls: cannot access '/nowhere': No such file or directory", Some("/nowhere")),
            ("cat: can't open 'a.txt': No such file or directory", Some("a.txt")),
            ("cp: can't stat 'app.py': No such file or directory", Some("app.py")),
            ("/bin/sh: 1: .: cannot open venv/bin/activate: No such file", Some("venv/bin/activate")),
            ("/bin/sh: cd: line 0: can't cd to /x: No such file or directory", Some("/x")),
            ("/bin/sh: 1: cd: can't cd to /x", Some("/x")),
            ("python: can't open file '/app.py': [Errno 2] No such file or directory", Some("/app.py")),
            ("[Errno 2] No such file or directory: 'requirements.txt'", Some("requirements.txt")),
            ("E: no list (2: No such file or directory)", None),
            ("error: No such file or directory", None),
            ("all is well", None),
        ] {
            assert_eq!(missing_path(output).as_deref(), path, "{output}");
        }
    }
}
