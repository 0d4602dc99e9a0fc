//! Files that a `RUN` mounts, in its key (9.04): by what they are, however they came to be.

use std::sync::Arc;

use ocibuild_spec::Digest;

use super::PlatformBuild;
use crate::Error;
use crate::copy::{Selected, Source};
use crate::keys::Inputs;
use crate::plan::{FileSource, MountKind, RunStep, StepMount};

/// The mounts of a `RUN` whose files count in its key.
pub(crate) struct Mounted<'a>(pub(super) Vec<MountedFiles<'a>>);

/// One of them.
pub(super) struct MountedFiles<'a> {
    pub(super) mount: &'a StepMount,
    /// The digest of its files, as far as it is known.
    pub(super) digest: Option<String>,
    /// The files of a context: what is mounted is what the digest was made of.
    selection: Option<Selection>,
}

/// A source and what is mounted of it.
pub(crate) type Selection = (Arc<dyn Source>, Vec<Vec<Selected>>);

impl<'a> Mounted<'a> {
    pub(super) fn of(step: &'a RunStep) -> Self {
        let counts = |mount: &&StepMount| match mount.kind {
            MountKind::Bind => mount.from.is_some(),
            // What a cache begins with counts, what it has become does not (9.03).
            MountKind::Cache => mount.from.is_some() && !mount.starts_empty,
            _ => false,
        };
        let files = |mount| MountedFiles { mount, digest: None, selection: None };
        Self(step.mounts.iter().filter(counts).map(files).collect())
    }

    /// Where the files are from.
    pub(super) fn sources(&self) -> impl Iterator<Item = &'a FileSource> {
        self.0.iter().filter_map(|files| files.mount.from.as_ref())
    }

    /// The files that the key knows of this mount of the step.
    pub(crate) fn selection(&self, mount: &StepMount) -> Option<&Selection> {
        self.find(mount)?.selection.as_ref()
    }

    /// Their digest.
    pub(crate) fn digest(&self, mount: &StepMount) -> Option<&str> {
        self.find(mount)?.digest.as_deref()
    }

    fn find(&self, mount: &StepMount) -> Option<&MountedFiles<'a>> {
        self.0.iter().find(|files| std::ptr::eq(files.mount, mount))
    }

    fn is_of_layers(mount: &StepMount) -> bool {
        matches!(mount.from, Some(FileSource::Stage(_) | FileSource::Image(_)))
    }

    /// Whether nothing is taken from stages and images.
    pub(super) fn is_local(&self) -> bool {
        !self.0.iter().any(|files| Self::is_of_layers(files.mount))
    }

    pub(super) fn read_local(&mut self, run: &PlatformBuild<'_>) -> Result<(), Error> {
        self.read(run, |mount| !Self::is_of_layers(mount))
    }

    pub(super) fn read_all(&mut self, run: &PlatformBuild<'_>) -> Result<(), Error> {
        self.read(run, |_| true)
    }

    fn read(&mut self, run: &PlatformBuild<'_>, wanted: impl Fn(&StepMount) -> bool) -> Result<(), Error> {
        let unknown = self.0.iter_mut().filter(|files| files.digest.is_none() && wanted(files.mount));
        for files in unknown {
            let Some(from) = &files.mount.from else { continue };
            let (digest, selection) = run.mounted_digest(from, &files.mount.source)?;
            files.digest = Some(digest);
            // Layers stay as they are, and what was fetched of them may be large.
            files.selection = Some(selection).filter(|_| !Self::is_of_layers(files.mount));
        }
        Ok(())
    }
}

impl PlatformBuild<'_> {
    /// The key of a `RUN` by what the stages and images it mounts are made from, if that is known without looking at
    /// files; `None` too when it mounts nothing of them.
    pub(super) fn quick_run_key(&self, operation: &Inputs, mounted: &Mounted<'_>) -> Option<Digest> {
        let mut inputs = operation.clone();
        for MountedFiles { mount, digest, .. } in &mounted.0 {
            let source = match (mount.from.as_ref(), digest) {
                (Some(FileSource::Stage(index)), _) => {
                    self.finished(*index).filter(|finished| !finished.ran)?.state.chain.to_string()
                }
                (Some(FileSource::Image(index)), _) => self.image_key(*index).to_string(),
                (_, digest) => digest.clone().unwrap_or_default(),
            };
            inputs.add("mounted", format!("{source} {}", mount.source));
        }
        (!mounted.is_local()).then(|| inputs.key("run by sources"))
    }

    /// The same where stages ran in this build.
    pub(super) fn ran_run_key(&self, operation: &Inputs, mounted: &Mounted<'_>) -> Option<Digest> {
        let mut inputs = operation.clone();
        for MountedFiles { mount, digest, .. } in &mounted.0 {
            let source = match (mount.from.as_ref(), digest) {
                (Some(FileSource::Stage(index)), _) => self.finished(*index)?.state.chain.to_string(),
                (Some(FileSource::Image(index)), _) => self.image_key(*index).to_string(),
                (_, digest) => digest.clone().unwrap_or_default(),
            };
            inputs.add("mounted", format!("{source} {}", mount.source));
        }
        (!mounted.is_local()).then(|| inputs.key("run by sources"))
    }
}
