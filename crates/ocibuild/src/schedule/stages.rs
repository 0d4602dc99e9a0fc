//! The stages of a platform: what is known of each, and what takes it further.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ocibuild_plan::{FileSource, Plan, PlannedHistory, PlannedStage, PlannedStep, StageBase, StepKind};
use ocibuild_spec::{DiffId, Digest};

use super::look_ahead::LookAhead;
use super::look_up::{Found, LookUp, Missing};
use super::queue::Outcome;
use super::results::StepResult;
use super::{PlatformBuild, Reach, context_step, of_step};
use crate::error::Error;
use crate::event::Event;
use crate::failure::CacheFailure;
use crate::keys;
use crate::layers::Layer;
use crate::run::Mounted;
use crate::stage::StageState;

/// A stage whose steps all have a layer.
pub(super) struct FinishedStage<'p> {
    pub(super) state: StageState<'p>,
    /// Some step of it, or of what it builds on, ran in this build.
    pub(super) ran: bool,
}

/// What is known of the stages of a plan so far, each by its place in the plan.
pub(super) struct Stages<'p> {
    stages: Vec<Mutex<Known<'p>>>,
}

/// What is known of a stage.
#[derive(Default)]
struct Known<'p> {
    /// Somebody was there to look up what exists of it.
    is_looked_up: bool,
    /// How far it is, while nobody takes it further.
    progress: Option<Progress<'p>>,
    /// The first step that has no result for certain: all that its key is made of is known.
    missing: Option<usize>,
    finished: Option<Arc<FinishedStage<'p>>>,
}

/// A stage on its way.
struct Progress<'p> {
    stage: &'p PlannedStage,
    state: StageState<'p>,
    /// Some step of it, or of what it builds on, ran in this build.
    ran: bool,
    /// What it starts from is there: a local directory has to become a layer first.
    has_base: bool,
    /// The step that comes next.
    next: usize,
    /// That this one, or the base, has no result was found out already, and what it takes to make it.
    missing: Option<Box<Missing<'p>>>,
    /// Entries of the history that are not in `state` yet.
    history: &'p [PlannedHistory],
    /// Steps whose results were found, and of which nobody was told yet.
    found: Vec<(usize, DiffId)>,
}

impl<'p> Stages<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        Self { stages: plan.stages.iter().map(|_| Mutex::default()).collect() }
    }

    fn get(&self, index: usize) -> MutexGuard<'_, Known<'p>> {
        self.stages[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage that was carried out, or whose results were all found.
    pub(super) fn finished(&self, index: usize) -> Option<Arc<FinishedStage<'p>>> {
        self.get(index).finished.clone()
    }
}

impl<'a> PlatformBuild<'a> {
    pub(super) fn finished(&self, index: usize) -> Option<Arc<FinishedStage<'a>>> {
        self.platform.stages.finished(index)
    }

    /// The stages that must be carried out for the target.
    pub(super) fn needed(&self) -> Vec<usize> {
        let mut is_needed = vec![false; self.plan.stages.len()];
        let mut todo = vec![self.plan.target];
        while let Some(index) = todo.pop() {
            if is_needed[index] || self.finished(index).is_some() {
                continue;
            }
            is_needed[index] = true;
            todo.extend(stages_below(&self.plan.stages[index]));
        }
        (0..is_needed.len()).filter(|index| is_needed[*index]).collect()
    }

    /// A `RUN` that has to be carried out for the target, as far as that shows without carrying anything out.
    pub(super) fn run_that_is_needed(&self) -> Option<&'a PlannedStep> {
        let steps = self.needed().into_iter().flat_map(|index| {
            let stage = &self.plan.stages[index];
            let first = self.platform.stages.get(index).missing;
            first.map_or(&[][..], |first| &stage.steps[first..])
        });
        steps.into_iter().find(|step| matches!(step.kind, StepKind::Run(_)))
    }

    /// Whether every step that must be cached is, as far as that shows without carrying anything out.
    pub(super) fn check_cached(&self) -> Result<(), Error> {
        self.needed().into_iter().try_for_each(|index| {
            let known = self.platform.stages.get(index);
            let missing = known.progress.as_ref().filter(|_| known.missing.is_some());
            missing.map_or(Ok(()), |progress| self.check_may_make(progress))
        })
    }

    /// Whether the next step of a stage, or its base, may be made if it has no result.
    fn check_may_make(&self, progress: &Progress<'a>) -> Result<(), Error> {
        let stage = progress.stage;
        if !self.requires_cache(stage) {
            return Ok(());
        }
        let not_cached = |step| Error::from(CacheFailure::NotCached { step });
        match (progress.next_step(), &stage.base) {
            (_, StageBase::LocalContext(name)) if !progress.has_base => {
                Err(at_from(not_cached(local_source(name)), stage))
            }
            (Some(step), _) => Err(not_cached(self.title(stage, progress.next)).at(step.location)),
            (None, _) => Ok(()),
        }
    }

    /// The first step of a stage that has no result for certain, its key where there might be one, and the layers below it.
    pub(super) fn first_missing(&self, index: usize) -> Option<(usize, Option<Digest>, Vec<Layer<'a>>)> {
        let known = self.platform.stages.get(index);
        let progress = known.progress.as_ref().filter(|progress| progress.has_base)?;
        let missing = progress.missing.as_ref()?;
        Some((known.missing?, missing.key(), progress.state.stack.clone()))
    }

    /// Tells of all results that were looked up.
    pub(super) fn announce_found(&self) {
        for (index, stage) in self.plan.stages.iter().enumerate() {
            let mut known = self.platform.stages.get(index);
            let found = known.progress.as_mut().map(|progress| std::mem::take(&mut progress.found));
            drop(known);
            self.announce(stage, found.unwrap_or_default().into_iter());
        }
    }

    /// Takes a stage to the first step that has no result, with nothing pulled or unpacked for that.
    pub(super) fn look_up(&self, index: usize) -> Result<Outcome, Error> {
        let stage = &self.plan.stages[index];
        let is_open = |other: &usize| !self.platform.stages.get(*other).is_looked_up;
        if let Some(other) = stages_below(stage).into_iter().find(is_open) {
            return Ok(Outcome::Needs(other));
        }
        let mut missing = None;
        let mut progress = self.begin(stage)?;
        if let Some(progress) = &mut progress {
            missing = self.look_up_steps(progress)?;
            if progress.is_at_end() {
                self.end(index, progress);
            }
        }
        let mut known = self.platform.stages.get(index);
        known.missing = missing;
        known.progress = progress;
        known.is_looked_up = true;
        Ok(Outcome::Done)
    }

    /// Takes over the results that exist; gives the step that certainly has none, if it ended there.
    fn look_up_steps(&self, progress: &mut Progress<'a>) -> Result<Option<usize>, Error> {
        let ahead = LookAhead::default();
        loop {
            self.check_cancelled()?;
            let reads =
                progress.next_step().filter(|_| progress.has_base).map(|step| stage_sources(&step.kind));
            if reads.unwrap_or_default().into_iter().any(|index| self.finished(index).is_none()) {
                return Ok(None);
            }
            match self.look_up_next(progress, Reach::Cached, &ahead)? {
                Some(Found::Result(result)) => {
                    let found = (progress.next, result.layer.diff_id.clone());
                    if progress.has_base {
                        progress.found.push(found);
                    }
                    self.push(progress, *result);
                }
                Some(Found::Missing(missing)) => {
                    progress.missing = Some(missing);
                    return Ok(Some(progress.next));
                }
                Some(Found::Unknown) | None => return Ok(None),
            }
        }
    }

    /// Takes a stage to its end, or to a step that needs another stage first.
    pub(super) fn carry_on(&self, index: usize) -> Result<Outcome, Error> {
        let stage = &self.plan.stages[index];
        let known = self.platform.stages.get(index).progress.take();
        let mut progress = match (known, &stage.base) {
            (Some(progress), _) => progress,
            (None, StageBase::Stage(base)) if self.finished(*base).is_none() => {
                return Ok(Outcome::Needs(*base));
            }
            (None, _) => self.begin(stage)?.ok_or_else(Error::cancelled)?,
        };
        while !progress.is_at_end() {
            self.check_cancelled()?;
            let reads =
                progress.next_step().filter(|_| progress.has_base).map(|step| stage_sources(&step.kind));
            let open = reads.unwrap_or_default().into_iter().find(|index| self.finished(*index).is_none());
            if let Some(other) = open {
                self.platform.stages.get(index).progress = Some(progress);
                return Ok(Outcome::Needs(other));
            }
            self.carry_out_next(&mut progress)?;
        }
        self.end(index, &mut progress);
        Ok(Outcome::Done)
    }

    /// A stage with what it starts from, which is not there as long as the stage below is not finished.
    fn begin(&self, stage: &'a PlannedStage) -> Result<Option<Progress<'a>>, Error> {
        let history = stage.config.history.clone();
        let (mut ran, mut has_base) = (false, true);
        let state = match &stage.base {
            StageBase::Scratch => StageState::new(Vec::new(), keys::of_scratch(), history),
            StageBase::Stage(index) => {
                let Some(below) = self.finished(*index) else { return Ok(None) };
                ran = below.ran;
                below.state.clone()
            }
            StageBase::Image(index) => {
                let stack = self.image_stack(*index).map_err(|error| at_from(error, stage))?;
                StageState::new(stack, self.image_key(*index), history)
            }
            StageBase::LocalContext(_) => {
                has_base = false;
                StageState::new(Vec::new(), keys::of_local_context(), history)
            }
        };
        let (missing, found) = (None, Vec::new());
        let history = &stage.history[..];
        Ok(Some(Progress { stage, state, ran, has_base, next: 0, missing, history, found }))
    }

    /// What is known of the next step of a stage, or of its base; `None` at its end.
    fn look_up_next(
        &self,
        progress: &Progress<'a>,
        reach: Reach,
        ahead: &LookAhead,
    ) -> Result<Option<Found<'a>>, Error> {
        let stage = progress.stage;
        let look = |fresh, first: usize| LookUp {
            state: &progress.state,
            platform: &stage.platform,
            reach,
            fresh,
            behind: stage.steps.get(first..).unwrap_or_default(),
            ahead,
        };
        if let (false, StageBase::LocalContext(name)) = (progress.has_base, &stage.base) {
            let found = self.look_up_copy(look(false, 0), Cow::Owned(context_step(name)));
            return found.map(Some).map_err(|error| at_from(error, stage));
        }
        let Some(step) = progress.next_step() else { return Ok(None) };
        let look = look(self.is_uncached(stage), progress.next + 1);
        let found = match &step.kind {
            StepKind::Run(run) => self.look_up_run(look, run),
            StepKind::Copy(copy) => self.look_up_copy(look, Cow::Borrowed(copy)),
            StepKind::Workdir(workdir) => self.look_up_workdir(look, workdir),
        };
        if found.is_err() {
            let (id, title) = (self.number(stage, progress.next), self.title(stage, progress.next));
            if reach == Reach::Cached {
                self.emit(Event::StepStarted { step: id, title: title.clone() });
            }
            self.emit(Event::StepFailed { step: id, title });
        }
        found.map(Some).map_err(|error| of_step(error, step))
    }

    /// Finds or makes the result of the next step.
    fn carry_out_next(&self, progress: &mut Progress<'a>) -> Result<(), Error> {
        let (stage, number) = (progress.stage, progress.next);
        let id = self.number(stage, number);
        let (started, is_step) = (Instant::now(), progress.has_base);
        if is_step {
            self.emit(Event::StepStarted { step: id, title: self.title(stage, number) });
        }
        let known = progress.missing.take().map(Found::Missing);
        let found = match known {
            Some(found) => Some(found),
            None => self.look_up_next(progress, Reach::Full, &LookAhead::default())?,
        };
        let result = match found {
            Some(Found::Result(result)) => *result,
            Some(Found::Missing(missing)) => self.make_next(progress, *missing, id)?,
            // All is looked at, and there is a step.
            Some(Found::Unknown) | None => return Err(Error::cancelled()),
        };
        let diff_id = result.layer.diff_id.clone();
        if is_step && result.ran {
            self.emit(Event::StepDone {
                step: id,
                title: self.title(stage, number),
                diff_id,
                size: result.layer.descriptor.size,
                duration: started.elapsed(),
            });
        } else if is_step {
            self.announce(stage, std::iter::once((number, diff_id)));
        }
        self.push(progress, result);
        Ok(())
    }

    /// Makes the result of the next step, or of the base.
    fn make_next(
        &self,
        progress: &Progress<'a>,
        missing: Missing<'a>,
        id: usize,
    ) -> Result<StepResult<'a>, Error> {
        let stage = progress.stage;
        self.check_may_make(progress).inspect_err(|_| {
            if progress.has_base {
                self.emit(Event::StepFailed { step: id, title: self.title(stage, progress.next) });
            }
        })?;
        let made = self.make(&progress.state, &stage.platform, missing, id);
        match progress.next_step().filter(|_| progress.has_base) {
            None => made.map_err(|error| at_from(error, stage)),
            Some(step) => made.map_err(|error| {
                self.emit(Event::StepFailed { step: id, title: self.title(stage, progress.next) });
                of_step(error, step)
            }),
        }
    }

    /// Takes over the result of the next step, or of the base.
    fn push(&self, progress: &mut Progress<'a>, result: StepResult<'a>) {
        progress.ran |= result.ran;
        if let (false, StageBase::LocalContext(name)) = (progress.has_base, &progress.stage.base) {
            progress.has_base = true;
            // A layer of this build, of which only the exporter's entry of the history will tell (11.06).
            progress.state.made.push((local_source(name), result.created));
        } else {
            progress.tell_until(Some(progress.next));
            if let Some((entry, rest)) = progress.history.split_first() {
                progress.state.history.push((entry.clone(), Some(result.created)));
                progress.history = rest;
            }
            // An image does not tell for how many platforms it was built.
            progress.state.made.push((self.short_title(progress.stage, progress.next), result.created));
            progress.next += 1;
        }
        progress.state.push(result.layer, result.chain);
    }

    fn end(&self, index: usize, progress: &mut Progress<'a>) {
        progress.tell_until(None);
        let finished = FinishedStage { state: progress.state.clone(), ran: progress.ran };
        self.platform.stages.get(index).finished = Some(Arc::new(finished));
    }
}

impl<'p> Progress<'p> {
    fn next_step(&self) -> Option<&'p PlannedStep> {
        self.stage.steps.get(self.next)
    }

    fn is_at_end(&self) -> bool {
        self.has_base && self.next == self.stage.steps.len()
    }

    /// Takes over the entries of the history before that of a step.
    fn tell_until(&mut self, step: Option<usize>) {
        while let Some((entry, rest)) = self.history.split_first() {
            if step.is_some() && entry.step == step {
                break;
            }
            self.state.history.push((entry.clone(), None));
            self.history = rest;
        }
    }
}

/// What makes a layer of a local directory, as the history calls it.
fn local_source(name: &str) -> String {
    format!("local source for {name}")
}

/// An error of what a stage starts from.
fn at_from(error: Error, stage: &PlannedStage) -> Error {
    match stage.location {
        Some(location) => error.at(location),
        None => error,
    }
}

/// The stages that a stage starts or takes files from.
fn stages_below(stage: &PlannedStage) -> Vec<usize> {
    let mut below: Vec<usize> = match stage.base {
        StageBase::Stage(index) => vec![index],
        _ => Vec::new(),
    };
    below.extend(stage.steps.iter().flat_map(|step| stage_sources(&step.kind)));
    below.sort_unstable();
    below.dedup();
    below
}

/// The stages that a step takes files from.
fn stage_sources(step: &StepKind) -> Vec<usize> {
    let stage = |from: &FileSource| match from {
        FileSource::Stage(index) => Some(*index),
        _ => None,
    };
    match step {
        StepKind::Copy(copy) => stage(&copy.from).into_iter().collect(),
        StepKind::Run(run) => Mounted::of(run).sources().filter_map(stage).collect(),
        StepKind::Workdir(_) => Vec::new(),
    }
}
