//! Files that a `RUN` mounts: where they are, and keys by what they are made from.

use std::sync::Arc;

use ocibuild_plan::FileSource;
use ocibuild_snapshot::{MountPointKind, Origin};
use ocibuild_spec::Digest;

use super::PlatformBuild;
use crate::copy::{Choice, Selected, Source, SourceKind, TreeSource, select};
use crate::error::Error;
use crate::failure::RunFailure;
use crate::keys::Inputs;
use crate::layers::{Layer, LayerFiles};
use crate::run::{Mounted, MountedFiles, MountedPath, Selection};

impl<'a> PlatformBuild<'a> {
    /// What is at a path of a source, with a way to read it.
    pub(super) fn mounted_files(&self, from: &FileSource, path: &str) -> Result<Selection, Error> {
        self.mounted(from, path, |stack, origins| self.layers.files(stack, origins))
    }

    /// The same for who needs the digests of the files, of which some cannot be opened then.
    pub(super) fn mounted_digests(&self, from: &FileSource, path: &str) -> Result<Selection, Error> {
        if let FileSource::Image(index) = from
            && self.backends.snapshots.mounts_layers()
        {
            // Who has to read them to know what is in them unpacks them at once.
            let stack = self.image_stack(*index)?;
            self.session.reads.expect_unpacked(stack.iter().map(|layer| &layer.diff_id));
        }
        self.mounted(from, path, |stack, origins| self.layers.files_to_digest(stack, origins))
    }

    fn mounted(
        &self,
        from: &FileSource,
        path: &str,
        files: impl FnOnce(&[Layer<'a>], &[(Origin, u64)]) -> Result<LayerFiles, Error>,
    ) -> Result<Selection, Error> {
        let Some((tree, stack)) = self.tree_of(from)? else {
            let source = self.local_source(from)?;
            let selected = selected(source.as_ref(), path)?;
            return Ok((source, vec![selected]));
        };
        let view = TreeSource::new(tree);
        let selected = selected(&view, path)?;
        let files = files(&stack, &view.origins(&selected)?)?;
        Ok((Arc::new(view.with_files(files)), vec![selected]))
    }

    /// What is at a path of a stage or image, to be mounted from its unpacked layers; `None` for contexts, and for what is
    /// neither a directory nor a regular file.
    pub(super) fn mounted_path(
        &self,
        from: &FileSource,
        path: &str,
    ) -> Result<Option<MountedPath<'a>>, Error> {
        let Some((tree, stack)) = self.tree_of(from)? else { return Ok(None) };
        let found = selected(&TreeSource::new(Arc::clone(&tree)), path)?.swap_remove(0);
        let point = match found.node.kind {
            SourceKind::Directory => MountPointKind::Directory,
            SourceKind::File { .. } => MountPointKind::File,
            _ => return Ok(None),
        };
        Ok(Some(MountedPath { tree, stack, path: found.path, point }))
    }

    /// The key of a `RUN` by what the stages and images it mounts are made from, if that is known without looking at
    /// files; `None` too when it mounts nothing of them.
    pub(super) fn quick_run_key(&self, operation: &Inputs, mounted: &Mounted<'_>) -> Option<Digest> {
        self.run_key_by_sources(operation, mounted, |ran| !ran)
    }

    /// The same where stages ran in this build.
    pub(super) fn ran_run_key(&self, operation: &Inputs, mounted: &Mounted<'_>) -> Option<Digest> {
        self.run_key_by_sources(operation, mounted, |_| true)
    }

    fn run_key_by_sources(
        &self,
        operation: &Inputs,
        mounted: &Mounted<'_>,
        counts: impl Fn(bool) -> bool,
    ) -> Option<Digest> {
        let mut inputs = operation.clone();
        for MountedFiles { mount, digest, .. } in &mounted.0 {
            let source = match &mount.from {
                Some(FileSource::Stage(index)) => {
                    self.finished(*index).filter(|finished| counts(finished.ran))?.state.chain.to_string()
                }
                Some(FileSource::Image(index)) => self.image_key(*index).to_string(),
                _ => digest.clone().unwrap_or_default(),
            };
            inputs.add("mounted", format!("{source} {}", mount.source));
        }
        (!mounted.is_local()).then(|| inputs.key("run by sources"))
    }
}

/// What is at a path: a pattern may match nothing, a path must be there.
fn selected(source: &dyn Source, path: &str) -> Result<Vec<Selected>, Error> {
    let selected = select(source, &literal(path), &Choice::default())?;
    if selected.is_empty() { Err(not_found(path)) } else { Ok(selected) }
}

fn not_found(path: &str) -> Error {
    RunFailure::MountSource { path: path.to_owned() }.into()
}

/// A path of a mount is not a pattern: its wildcards are matched by themselves.
fn literal(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, character| {
        match character {
            '*' | '?' | '[' => text.extend(['[', character, ']']),
            other => text.push(other),
        }
        text
    })
}
