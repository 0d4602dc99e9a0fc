//! Files that a `RUN` mounts, in its key (9.04): by what they are, however they came to be.

use ocibuild_spec::Digest;

use super::Run;
use crate::Error;
use crate::keys::Inputs;
use crate::plan::{FileSource, MountKind, RunStep, StepMount};

/// The mounts of a `RUN` whose files count in its key, with the digests of these files as far as they are known.
pub(super) struct Mounted<'a>(pub(super) Vec<(&'a StepMount, Option<String>)>);

impl<'a> Mounted<'a> {
    pub(super) fn of(step: &'a RunStep) -> Self {
        let counts = |mount: &&StepMount| match mount.kind {
            MountKind::Bind => mount.from.is_some(),
            // What a cache begins with counts, what it has become does not (9.03).
            MountKind::Cache => mount.from.is_some() && !mount.starts_empty,
            _ => false,
        };
        Self(step.mounts.iter().filter(counts).map(|mount| (mount, None)).collect())
    }

    fn is_of_layers(mount: &StepMount) -> bool {
        matches!(mount.from, Some(FileSource::Stage(_) | FileSource::Image(_)))
    }

    /// Whether nothing is taken from stages and images.
    pub(super) fn is_local(&self) -> bool {
        !self.0.iter().any(|(mount, _)| Self::is_of_layers(mount))
    }

    pub(super) fn read_local(&mut self, run: &Run<'_>) -> Result<(), Error> {
        self.read(run, |mount| !Self::is_of_layers(mount))
    }

    pub(super) fn read_all(&mut self, run: &Run<'_>) -> Result<(), Error> {
        self.read(run, |_| true)
    }

    fn read(&mut self, run: &Run<'_>, wanted: impl Fn(&StepMount) -> bool) -> Result<(), Error> {
        for (mount, digest) in self.0.iter_mut().filter(|(mount, digest)| digest.is_none() && wanted(mount)) {
            if let Some(from) = &mount.from {
                *digest = Some(run.mounted_digest(from, &mount.source)?);
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The key of a `RUN` by what the stages and images it mounts are made from, if that is known without looking at
    /// files; `None` too when it mounts nothing of them.
    pub(super) fn quick_run_key(&self, operation: &Inputs, mounted: &Mounted<'_>) -> Option<Digest> {
        let mut inputs = operation.clone();
        for (mount, digest) in &mounted.0 {
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
        for (mount, digest) in &mounted.0 {
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
