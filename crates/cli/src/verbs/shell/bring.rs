//! This program as files that can be brought into a step: itself, and unless it is static, its loader and its libraries.

use std::path::{Path, PathBuf};

use ocibuild::Error;

use crate::args::STEP_SHELL;
use crate::failure::host;

/// What this program is called in a step.
const NAME: &str = "ocibuild";

/// Files by their names in one directory.
pub(super) struct Brought {
    pub(super) files: Vec<(String, PathBuf)>,
    loader: Option<String>,
}

impl Brought {
    /// What this process is made of.
    pub(super) fn of_this_program() -> Result<Self, Error> {
        let cannot = |error| host("cannot find the files of this program", error);
        let maps = fs_err::read_to_string("/proc/self/maps").map_err(cannot)?;
        let own = fs_err::read_link("/proc/self/exe").map_err(cannot)?;
        let mut files = vec![(NAME.to_owned(), PathBuf::from("/proc/self/exe"))];
        for path in libraries(&maps, &own) {
            files.extend(names_of(&path).into_iter().map(|name| (name, path.clone())));
        }
        let is_loader = |name: &&String| name.starts_with("ld-") || name.starts_with("ld64.");
        let loader = files.iter().map(|(name, _)| name).find(is_loader).cloned();
        Ok(Self { files, loader })
    }

    /// How it is started as a shell, from the directory where it is.
    pub(super) fn command(&self, directory: &Path) -> Vec<String> {
        let path = |name: &str| directory.join(name).display().to_string();
        let start = match &self.loader {
            Some(loader) => {
                vec![path(loader), "--library-path".to_owned(), directory.display().to_string(), path(NAME)]
            }
            None => vec![path(NAME)],
        };
        start.into_iter().chain([STEP_SHELL.to_owned()]).collect()
    }
}

/// Files that a process has mapped besides its program and that are libraries by their names.
fn libraries(maps: &str, own: &Path) -> Vec<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let is_library = |path: &&Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        *path != own && (path.extension().is_some_and(|extension| extension == "so") || name.contains(".so."))
    };
    let mut found: Vec<PathBuf> = paths.filter(is_library).map(Path::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

/// The names that a library has in its directory: programs ask for it by one that may be a link.
fn names_of(path: &Path) -> Vec<String> {
    let entries = path.parent().and_then(|parent| fs_err::read_dir(parent).ok());
    let is_it = |other: &PathBuf| other == path || fs_err::canonicalize(other).is_ok_and(|real| real == path);
    let libraries = entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let named = libraries.filter(|other| other.to_string_lossy().contains(".so"));
    named.filter(is_it).filter_map(|other| Some(other.file_name()?.to_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_a_process_has_mapped() {
        let maps = "55d0-55d1 r--p 00000000 fe:01 1 /usr/bin/ocibuild\n7f00-7f01 r-xp 0 fe:01 2 /lib/libc.so.6\n\
                    7f02-7f03 r-xp 0 fe:01 2 /lib/libc.so.6\n7f04-7f05 r--p 0 fe:01 3 /lib64/ld-linux-x86-64.so.2\n\
                    7f06-7f07 rw-p 0 00:00 0\n7ffd-7ffe rw-p 0 00:00 0 [stack]\n7f08-7f09 r--s 0 fe:01 9 /etc/locale\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(maps, Path::new("/usr/bin/ocibuild")), expected);
    }

    #[test]
    fn a_program_with_a_loader_is_started_by_it() {
        let files = Vec::new();
        let dynamic = Brought { files: files.clone(), loader: Some("ld-linux.so.2".to_owned()) };
        let command = dynamic.command(Path::new("/d")).join(" ");
        assert_eq!(command, format!("/d/ld-linux.so.2 --library-path /d /d/ocibuild {STEP_SHELL}"));
        let fixed = Brought { files, loader: None };
        assert_eq!(fixed.command(Path::new("/d")), ["/d/ocibuild", STEP_SHELL]);
    }
}
