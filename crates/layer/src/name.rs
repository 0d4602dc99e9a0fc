//! Names of entries in layers: from the bytes of a tar to paths below the root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What the name of an entry in a layer means (image-spec `layer.md`, "Whiteouts").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerName {
    /// The path itself, empty for the root directory.
    Path(PathBuf),
    /// The deletion of this path.
    Whiteout(PathBuf),
    /// The deletion of everything in this directory.
    Opaque(PathBuf),
    /// Book-keeping of AUFS, which Docker once left in layers.
    Aufs,
}

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Longer paths cannot be handed to the kernel.
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;

/// Whether a part of the path would be read as a deletion.
pub(crate) fn is_reserved(path: &Path) -> bool {
    path.iter().any(|part| part.as_bytes().starts_with(WHITEOUT))
}

/// The meaning of a name in a layer's tar.
pub(crate) fn layer_name(raw: &[u8]) -> Result<LayerName, &'static str> {
    if raw.is_empty() {
        return Err("its name is empty");
    }
    let path = plain_path(raw)?;
    let mut parts: Vec<&[u8]> = path.iter().map(OsStr::as_bytes).collect();
    if parts.first().is_some_and(|first| first.starts_with(META) && *first != OPAQUE) {
        return Ok(LayerName::Aufs);
    }
    let Some(last) = parts.pop() else { return Ok(LayerName::Path(path)) };
    if parts.iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err("it lies below a whiteout");
    }
    let Some(deleted) = last.strip_prefix(WHITEOUT) else { return Ok(LayerName::Path(path)) };
    let folder = path.parent().unwrap_or(Path::new(""));
    match deleted {
        b"" | b"." | b".." => Err("it is a whiteout of nothing"),
        _ if last == OPAQUE => Ok(LayerName::Opaque(folder.to_owned())),
        _ if last.starts_with(META) => Err("it is a whiteout of an unknown sort"),
        _ => Ok(LayerName::Whiteout(folder.join(OsStr::from_bytes(deleted)))),
    }
}

/// The target of a hard link in a layer; absolute ones start at the root as others do.
pub(crate) fn layer_target(raw: &[u8]) -> Result<PathBuf, &'static str> {
    let path = plain_path(raw)?;
    if path.as_os_str().is_empty() { Err("it is a hard link to the root directory") } else { Ok(path) }
}

/// The path below the root without `.` and repeated slashes; `..` is refused.
fn plain_path(raw: &[u8]) -> Result<PathBuf, &'static str> {
    if raw.contains(&0) {
        return Err("its name contains a NUL");
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("its name climbs by `..`"),
            // A name of 255 bytes can be deleted too.
            _ if part.strip_prefix(WHITEOUT).unwrap_or(part).len() > NAME_MAX => {
                return Err("a part of its name has more than 255 bytes");
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(part);
    }
    if path.len() > PATH_MAX {
        return Err("its name has more than 4095 bytes");
    }
    Ok(PathBuf::from(OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean() {
        let path = |text: &str| Ok(LayerName::Path(text.into()));
        let whiteout = |text: &str| Ok(LayerName::Whiteout(text.into()));
        let opaque = |text: &str| Ok(LayerName::Opaque(text.into()));
        for (raw, expected) in [
            ("a/b", path("a/b")),
            ("/a//b/.", path("a/b")),
            ("./", path("")),
            ("/", path("")),
            ("C:\\x", path("C:\\x")),
            ("a\\..\\b", path("a\\..\\b")),
            (".wh.a", whiteout("a")),
            ("a/.wh.b/", whiteout("a/b")),
            (".wh..wh", whiteout(".wh")),
            (".wh..wh..opq", opaque("")),
            ("a/.wh..wh..opq", opaque("a")),
            (".wh..wh.plnk/1.2", Ok(LayerName::Aufs)),
            (".wh..wh.aufs", Ok(LayerName::Aufs)),
            ("wh.a", path("wh.a")),
        ] {
            assert_eq!(layer_name(raw.as_bytes()), expected, "{raw}");
        }
        let longest = "x".repeat(255);
        assert_eq!(layer_name(format!(".wh.{longest}").as_bytes()), whiteout(&longest));
        let long = "x".repeat(256);
        let deep = "x/".repeat(2048) + "xx";
        for bad in
            ["", "..", "a/../b", ".wh.", "a/.wh..", ".wh...", "a/.wh..wh.x", ".wh.a/b", "a\0b", &long, &deep]
        {
            assert!(layer_name(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
