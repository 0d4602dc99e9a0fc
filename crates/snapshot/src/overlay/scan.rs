//! What a step left in the upper directory of its overlay.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use ocibuild_spec::{CancelToken, OwnershipRecord, Timestamp};
use ocibuild_sys::{ErrorKind as SystemError, FileType, Metadata, OverlayAttributes};

use crate::place::node_of;
use crate::step::{Step, check};
use crate::walk::{Found, walk};
use crate::{Error, Node, Tree};

/// The merged view below with everything in `upper` laid over it.
///
/// Of what was put there before the step, `corrected`, nothing may be below, and so nothing would be left to say that
/// the step deleted it.
pub(super) fn scan(
    step: &Step,
    upper: &Path,
    attributes: OverlayAttributes,
    corrected: &BTreeSet<PathBuf>,
    owners: Option<&OwnershipRecord>,
    cancel: &CancelToken,
) -> Result<Tree, Error> {
    let mut missing = corrected.clone();
    let mut new = Tree::clone(&step.base);
    let mut inodes = HashMap::new();
    let mut directories = Vec::new();
    // Times of directories are set at the end.
    let now = Timestamp::default();
    walk(upper, &mut |found| {
        check(cancel)?;
        missing.remove(found.path);
        if is_whiteout(&found.metadata) {
            new.remove(found.path, now);
            return Ok(());
        }
        let linked = found.metadata.nlink > 1 && !found.metadata.is_dir();
        if let Some(id) = inodes.get(&found.metadata.ino).filter(|_| linked) {
            new.link(found.path, *id, now);
            return Ok(());
        }
        let Some(mut node) = node_of(found, step.layer(), upper)? else { return Ok(()) };
        step.keep_owner(found.path, &mut node, owners)?;
        if found.metadata.is_dir() {
            directories.push(lay_directory(&mut new, found, node, upper, attributes)?);
        } else {
            let id = new.insert(found.path, node, now);
            if linked {
                inodes.insert(found.metadata.ino, id);
            }
        }
        Ok(())
    })?;
    for path in missing {
        new.remove(&path, now);
    }
    for (id, metadata) in directories {
        *new.metadata_mut(id) = metadata;
    }
    Ok(new)
}

fn lay_directory(
    new: &mut Tree,
    found: &Found<'_>,
    node: Node,
    upper: &Path,
    attributes: OverlayAttributes,
) -> Result<(crate::NodeId, ocibuild_spec::Metadata), Error> {
    let metadata = node.metadata.clone();
    let id = match new.lookup(found.path).filter(|id| new.is_directory(*id)) {
        Some(id) => {
            if is_opaque(found, upper, attributes)? {
                new.clear(id);
            }
            id
        }
        None => new.insert(found.path, node, Timestamp::default()),
    };
    Ok((id, metadata))
}

/// Overlayfs keeps deletions as devices 0:0.
pub(super) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type == FileType::CharDevice && metadata.rdev == 0
}

/// The attribute of a directory that hides what is below it.
pub(super) fn opaque(attributes: OverlayAttributes) -> &'static str {
    match attributes {
        OverlayAttributes::Trusted => "trusted.overlay.opaque",
        OverlayAttributes::User => "user.overlay.opaque",
    }
}

fn is_opaque(found: &Found<'_>, upper: &Path, attributes: OverlayAttributes) -> Result<bool, Error> {
    match found.parent.get_xattr(found.name, opaque(attributes)) {
        Ok(value) => Ok(value.is_some_and(|value| value == b"y")),
        Err(error) if error.kind() == SystemError::Unsupported => Ok(false),
        Err(error) => Err(Error::system("read attributes of", upper.join(found.path))(error)),
    }
}
