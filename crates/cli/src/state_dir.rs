//! Where the state directory is when nobody says so.

use std::path::{Path, PathBuf};

use ocibuild::{Error, Place};

use crate::failure::usage;
use crate::privilege::is_root;

/// `--root`, else `OCIBUILD_ROOT`, else by user. Others must not be able to exchange a directory on the way; later, in a
/// user namespace, that could not be told.
pub(crate) fn state_dir(flag: Option<&Path>) -> Result<PathBuf, Error> {
    let path = named(flag)?;
    let place = || Place::Argument(format!("--root {}", path.display()));
    ocibuild::store::check_way(&path).map_err(|error| Error::from(error).place(place()))?;
    Ok(path)
}

fn named(flag: Option<&Path>) -> Result<PathBuf, Error> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match flag {
        Some(path) if path.as_os_str().is_empty() => Err(usage("--root is empty")),
        Some(path) => absolute(path),
        None => match env("OCIBUILD_ROOT") {
            Some(path) => absolute(&path),
            None => default(is_root(), env("XDG_DATA_HOME"), env("HOME")),
        },
    }
}

/// Child processes and mounts have other working directories.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| usage(format!("cannot use {}", path.display())).caused_by(error))
}

/// A relative `XDG_DATA_HOME` is ignored, as its specification wants.
fn default(root: bool, data: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, Error> {
    if root {
        return Ok(PathBuf::from("/var/lib/ocibuild"));
    }
    let data = data.filter(|data| data.is_absolute());
    let data = data.or_else(|| home.filter(|home| home.is_absolute()).map(|home| home.join(".local/share")));
    let data = data.ok_or_else(|| {
        usage("no location for the state directory: neither XDG_DATA_HOME nor HOME is set")
            .hint("name one with --root DIR before the verb")
    })?;
    Ok(data.join("ocibuild"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_depend_on_the_user() {
        let path = |text: &str| Some(PathBuf::from(text));
        let of = |root, data, home| default(root, data, home).ok();
        assert_eq!(of(true, path("/d"), path("/h")), path("/var/lib/ocibuild"));
        assert_eq!(of(false, path("/d"), path("/h")), path("/d/ocibuild"));
        assert_eq!(of(false, path("d"), path("/h")), path("/h/.local/share/ocibuild"));
        assert_eq!(of(false, None, None), None);
    }
}
