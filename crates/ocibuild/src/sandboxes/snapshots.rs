//! Whether overlays work where the state directory is or would be.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use ocibuild_snapshot::{ErrorKind, Overlay};
use ocibuild_sys::{OverlayAttributes, OverlayError};

use super::SnapshotSupport;
use crate::privilege::Privilege;

/// The temporary files of a state directory are removed by the next build, whoever left them there.
fn nearest(root: &Path) -> PathBuf {
    let temporary = root.join("tmp");
    if temporary.is_dir() {
        return temporary;
    }
    let existing = root.ancestors().find(|path| path.is_dir());
    existing.unwrap_or(Path::new("/")).to_owned()
}

/// Tries an overlay in a temporary directory, with the privilege that a build has.
pub(super) fn snapshots(root: &Path, privilege: &Privilege) -> SnapshotSupport {
    let parent = nearest(root);
    let unusable =
        |error: &dyn StdError| SnapshotSupport::Unusable { path: parent.clone(), reason: error.to_string() };
    let directory = match tempfile::Builder::new().prefix(".ocibuild-probe-").tempdir_in(&parent) {
        Ok(directory) => directory,
        Err(error) => return unusable(&error),
    };
    let path = directory.path();
    // What keeps the privilege from being used keeps the build from using overlays, too.
    let tried = match privilege.run(|| Ok(Overlay::probe(path))) {
        Ok(tried) => tried.map_err(|error| reason(&error)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = directory.close() {
        return unusable(&error);
    }
    match tried {
        Ok(OverlayAttributes::Trusted) => SnapshotSupport::Overlay { path: parent },
        Ok(OverlayAttributes::User) => SnapshotSupport::OverlayUser { path: parent },
        Err(reason) => SnapshotSupport::Copy { reason, path: parent },
    }
}

/// Without the path of the temporary directory, which is gone.
fn reason(error: &ocibuild_snapshot::Error) -> String {
    match error.kind() {
        ErrorKind::UnsuitablePath { .. } => "the path has a comma, a colon or a backslash".to_owned(),
        ErrorKind::NoOverlay { source: OverlayError::Mount { source, .. }, .. } => {
            format!("the mount fails: {source}")
        }
        ErrorKind::NoOverlay { source: OverlayError::Attributes { attributes, .. }, .. } => {
            let class = match attributes {
                OverlayAttributes::Trusted => "trusted",
                OverlayAttributes::User => "user",
            };
            format!("the file system takes no extended attributes of the class {class} from this process")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_nearest_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        assert_eq!(nearest(&root), directory.path());
        fs_err::create_dir_all(&root).unwrap();
        assert_eq!(nearest(&root), root);
        fs_err::create_dir(root.join("tmp")).unwrap();
        assert_eq!(nearest(&root), root.join("tmp"));
    }
}
