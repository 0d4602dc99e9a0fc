//! What is begun before its step has come: base images are fetched and unpacked while contexts are read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};

use ocibuild_plan::{CopyStep, FileSource, StepKind};
use ocibuild_spec::CancelToken;

use super::{Platform, PlatformBuild, Session};
use crate::layers::Layer;

/// Work that steps without a result will need, and that depends on no other step; in the order of the plans.
pub(super) struct Prefetch<'a> {
    /// Layers below a `RUN` that are not unpacked.
    layers: Vec<(&'a Platform<'a>, Layer<'a>)>,
    /// Copies in front of such a `RUN`, whose files have to be read.
    copies: Vec<(&'a Platform<'a>, &'a CopyStep)>,
    next: AtomicUsize,
    /// Ends what is under way.
    cancel: &'a CancelToken,
    /// Half of the build's: a layer that comes slowly must not keep the steps from going on. A single thread is theirs.
    threads: usize,
}

/// What lies before the first `RUN` that a stage will carry out.
pub(super) struct BeforeRun<'a> {
    /// Copies that were not looked up yet.
    pub(super) copies: Vec<&'a CopyStep>,
    /// The layers that are there, which it needs unpacked.
    pub(super) stack: Vec<Layer<'a>>,
}

impl<'a> Prefetch<'a> {
    /// What the stages of the targets will need for certain.
    pub(super) fn of(
        session: &'a Session<'a>,
        platforms: &'a [Platform<'a>],
        builds: &[PlatformBuild<'a>],
    ) -> Self {
        let (mut layers, mut copies, mut known) = (Vec::new(), Vec::new(), HashSet::new());
        for (platform, build) in platforms.iter().zip(builds) {
            for before in build.needed().into_iter().filter_map(|index| build.before_run(index)) {
                copies.extend(before.copies.into_iter().map(|copy| (platform, copy)));
                for layer in before.stack {
                    // Whoever cannot be asked now is asked by the step once more.
                    let is_there = || build.backends.snapshots.contains(&layer.diff_id).unwrap_or(true);
                    if known.insert(layer.diff_id.clone()) && !is_there() {
                        layers.push((platform, layer));
                    }
                }
            }
        }
        let threads = session.threads.total() / 2;
        Self { layers, copies, next: AtomicUsize::new(0), cancel: &session.prefetch, threads }
    }

    /// Begins with the work, until [`end`](Self::end). Of threads that do not start the steps do the work, once they come to
    /// it.
    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let Some((first, _)) = self.layers.first() else { return };
        first.session.reads.expect_unpacked(self.layers.iter().map(|(_, layer)| &layer.diff_id));
        let name = || Builder::new().name("prefetch".to_owned());
        if self.threads == 0 {
            return;
        }
        if !self.copies.is_empty() && name().spawn_scoped(scope, || self.digest()).is_err() {
            return;
        }
        for _ in 0..self.threads.min(self.layers.len()) {
            if name().spawn_scoped(scope, || self.unpack()).is_err() {
                return;
            }
        }
    }

    /// Begins with nothing any more, and ends what is under way.
    pub(super) fn end(&self) {
        self.cancel.cancel();
    }

    /// Unpacks the layers. A failure is not told: the step that needs the layer tries again, and fails in its own place.
    fn unpack(&self) {
        while let Some((platform, layer)) = self.layers.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let build = platform.cancelled_by(self.cancel);
            if build.layers.unpack(std::slice::from_ref(layer)).is_err() {
                self.end();
            }
            if self.cancel.is_cancelled() {
                return;
            }
        }
    }

    /// Reads the files of the copies, so that their digests are known. What is wrong with them the step will tell.
    fn digest(&self) {
        for (platform, copy) in &self.copies {
            let build = platform.cancelled_by(self.cancel);
            if let Ok((source, selected)) = build.selection(copy)
                && source.digests().is_some()
            {
                let _ = build.digest(&source, &selected);
            }
            if self.cancel.is_cancelled() {
                return;
            }
        }
    }
}

impl<'a> PlatformBuild<'a> {
    /// What lies before the first `RUN` that a stage will carry out, if there is one for certain: a step of which there is no
    /// record makes what no later record builds on.
    fn before_run(&self, index: usize) -> Option<BeforeRun<'a>> {
        let stage = &self.plan.stages[index];
        let (first, key, stack) = self.first_missing(index)?;
        if key.is_some_and(|key| !matches!(self.recorded(&key), Ok(None))) {
            return None;
        }
        let steps = stage.steps.get(first..)?;
        let run = steps.iter().position(|step| matches!(step.kind, StepKind::Run(_)))?;
        // The first one was looked up already.
        let copies = steps[..run].iter().skip(1).filter_map(|step| match &step.kind {
            StepKind::Copy(copy)
                if matches!(copy.from, FileSource::Context | FileSource::LocalContext(_)) =>
            {
                Some(&**copy)
            }
            _ => None,
        });
        Some(BeforeRun { copies: copies.collect(), stack })
    }
}
