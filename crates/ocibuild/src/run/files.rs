//! Files of contexts, stages and images that a `RUN` mounts: their digest and their copy.

use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use ocibuild_snapshot::{MountPointKind, Tree};

use super::unusable;
use crate::copy::{Choice, Placement, Selected, TreeSource, digest_all, select};
use crate::plan::{FileSource, quote};
use crate::schedule::{PlatformBuild, Selection};
use crate::unpacked::write_tree;
use crate::{Error, ErrorKind};

impl PlatformBuild<'_> {
    /// What is at a path of a source, with a way to read it.
    fn mounted(&self, from: &FileSource, path: &str) -> Result<Selection, Error> {
        let (word, missing) = (literal(path), || not_found(path));
        let Some((tree, stack)) = self.tree_of(from)? else {
            let source = self.local_source(from)?;
            let selected = some(select(source.as_ref(), &word, &Choice::default())?).ok_or_else(missing)?;
            return Ok((source, vec![selected]));
        };
        let view = TreeSource::new(tree);
        let selected = some(select(&view, &word, &Choice::default())?).ok_or_else(missing)?;
        let files = self.layers.files(&stack, &view.origins(&selected)?)?;
        Ok((Arc::new(view.with_files(files)), vec![selected]))
    }

    /// Digest of what is mounted: the selected path alone, whatever it is part of (9.04). With the files themselves, to
    /// be copied as the digest has them.
    pub(crate) fn mounted_digest(&self, from: &FileSource, path: &str) -> Result<(String, Selection), Error> {
        let (source, selected) = self.mounted(from, path)?;
        let (digest, source) = digest_all(&source, &selected, self.cancel)?;
        Ok((digest.to_string(), (source, selected)))
    }

    /// Copies a path of a source into the new directory `place`, a file under the name `file`. `known` is what the key
    /// of the step has of it.
    pub(super) fn copy_of(
        &self,
        from: &FileSource,
        path: &str,
        known: Option<&Selection>,
        place: &Path,
    ) -> Result<MountPointKind, Error> {
        fs::create_dir_all(place).map_err(|error| unusable(place, error))?;
        let found;
        let (source, selected) = if let Some(known) = known {
            known
        } else {
            found = self.mounted(from, path)?;
            &found
        };
        let mut placement = Placement::new(Tree::new(), self.now());
        let mut point = MountPointKind::Directory;
        for one in selected.iter().flatten() {
            if one.node.is_directory() {
                placement.copy(source.as_ref(), one, "/")?;
                *placement.tree.metadata_mut(placement.tree.root()) = one.node.metadata.clone();
            } else {
                point = MountPointKind::File;
                placement.copy(source.as_ref(), one, "/file")?;
            }
        }
        write_tree(place, &placement, source.as_ref(), self.cancel)?;
        Ok(point)
    }
}

/// A pattern may match nothing, a path must be there.
fn some(selected: Vec<Selected>) -> Option<Vec<Selected>> {
    (!selected.is_empty()).then_some(selected)
}

fn not_found(path: &str) -> Error {
    Error::new(ErrorKind::Dockerfile, format!("{}: not found", quote(path)))
}

/// A path of a mount is no pattern: its wildcards are matched by themselves.
fn literal(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, character| {
        match character {
            '*' | '?' | '[' => text.extend(['[', character, ']']),
            other => text.push(other),
        }
        text
    })
}
