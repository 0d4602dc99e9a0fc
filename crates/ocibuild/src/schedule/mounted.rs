//! Files that a `RUN` mounts: where they are, and keys by what they are made from.

use std::sync::Arc;

use ocibuild_plan::FileSource;
use ocibuild_spec::Digest;

use super::PlatformBuild;
use crate::copy::{Choice, Selected, TreeSource, select};
use crate::error::Error;
use crate::failure::RunFailure;
use crate::keys::Inputs;
use crate::run::{Mounted, MountedFiles, Selection};

impl PlatformBuild<'_> {
    /// What is at a path of a source, with a way to read it.
    pub(super) fn mounted_files(&self, from: &FileSource, path: &str) -> Result<Selection, Error> {
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

/// A pattern may match nothing, a path must be there.
fn some(selected: Vec<Selected>) -> Option<Vec<Selected>> {
    (!selected.is_empty()).then_some(selected)
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
