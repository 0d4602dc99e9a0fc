//! The upper directory of a step becomes the directory of a layer.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ocibuild_spec::{Entry, EntryKind};
use ocibuild_sys::{DirHandle, FileType, OverlayAttributes, RootDir};

use super::scan::{is_whiteout, opaque};
use crate::Error;
use crate::place::keeping_time;
use crate::walk::{Folders, list};

/// Reduces `upper` to what `entries` name, for the layer will also lie on other layers than the step ran on: what was
/// copied up and not changed must not hide anything there, and nothing may be hidden by wholesale.
pub(super) fn reduce(
    root: &RootDir,
    upper: &Path,
    entries: &[Entry],
    attributes: OverlayAttributes,
) -> Result<(), Error> {
    let kept = entries.iter().filter(|entry| entry.kind != EntryKind::Whiteout);
    let kept: HashSet<&Path> = kept.map(|entry| entry.path.as_path()).collect();
    let mut deleted: HashMap<&Path, Vec<&OsStr>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Whiteout) {
        if let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) {
            deleted.entry(parent).or_default().push(name);
        }
    }
    let mut folders = Folders::new(root);
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let host = upper.join(&folder);
        let directory = folders.open(&folder).map_err(Error::system("open", &host))?;
        let deleted = deleted.remove(folder.as_path()).unwrap_or_default();
        keeping_time(directory, &host, || {
            reduce_names(directory, &folder, &host, &kept, &deleted, attributes, &mut todo)
        })?;
    }
    Ok(())
}

fn reduce_names(
    directory: &DirHandle,
    folder: &Path,
    host: &Path,
    kept: &HashSet<&Path>,
    deleted: &[&OsStr],
    attributes: OverlayAttributes,
    todo: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let mut missing: HashSet<&OsStr> = deleted.iter().copied().collect();
    for (name, metadata) in list(directory, host)? {
        let path = folder.join(&name);
        let system = || Error::system("reduce", host.join(&name));
        if is_whiteout(&metadata) && missing.remove(name.as_os_str()) {
            continue;
        }
        if !kept.contains(path.as_path()) {
            directory.remove_tree(&name).map_err(system())?;
            continue;
        }
        if metadata.is_dir() {
            let attribute = opaque(attributes);
            if directory.get_xattr(&name, attribute).map_err(system())?.is_some() {
                directory.remove_xattr(&name, attribute).map_err(system())?;
            }
            todo.push(path);
        }
    }
    for name in missing {
        let made = directory.mknod(name, FileType::CharDevice, 0, 0);
        made.map_err(Error::system("make a whiteout at", host.join(name)))?;
    }
    Ok(())
}
