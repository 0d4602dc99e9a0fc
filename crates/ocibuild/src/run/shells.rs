//! Shells that there are in an image.

use std::path::Path;

use ocibuild_snapshot::{NodeKind, Tree};

/// Shells that images have, the best first.
const SHELLS: [&str; 4] = ["/bin/bash", "/bin/sh", "/bin/ash", "/bin/dash"];

/// The command line of a shell to be typed into: the one that the image names for its commands, or one of those that images
/// usually have. `None` if there is none.
pub(crate) fn shell_in(tree: &Tree, own: Option<&str>) -> Option<Vec<String>> {
    let mut shells = own.into_iter().chain(SHELLS);
    let found = shells.find(|path| is_program(tree, Path::new(path))).map(|shell| vec![shell.to_owned()]);
    let busybox = || {
        let has_it = is_program(tree, Path::new("/bin/busybox"));
        has_it.then(|| ["/bin/busybox", "sh"].map(str::to_owned).to_vec())
    };
    found.or_else(busybox)
}

fn is_program(tree: &Tree, path: &Path) -> bool {
    let found = tree.resolve(path, true).ok().and_then(|resolved| resolved.node);
    found.is_some_and(|id| {
        let node = tree.node(id);
        matches!(node.kind, NodeKind::File { .. }) && node.metadata.mode & 0o111 != 0
    })
}
