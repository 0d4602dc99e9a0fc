//! Which stage is carried out when: on demand, and with a stack of our own, because as many stages as a file has lines may
//! depend on each other in a row.

use std::collections::HashMap;
use std::sync::Arc;

use ocibuild_spec::DiffId;

use super::mounted::Mounted;
use super::{Finished, Reach, Run, of_step};
use crate::Error;
use crate::plan::{FileSource, PlannedHistory, PlannedStage, PlannedStep, StageBase, StepKind};
use crate::stage::StageState;

/// What is known of the stages so far.
#[derive(Default)]
pub(super) struct Stages {
    finished: HashMap<usize, Arc<Finished>>,
    /// Those of which some step has no result yet: to have them, they must be carried out. The step is there if all that
    /// its result depends on is known, so that it is certain that there is none.
    missed: HashMap<usize, Option<usize>>,
}

/// A stage on its way.
struct Progress<'p> {
    index: usize,
    reach: Reach,
    stage: &'p PlannedStage,
    state: StageState,
    /// Some step of it, or of what it builds on, ran in this build.
    ran: bool,
    /// The step that comes next.
    next: usize,
    /// Entries of the history that are not in `state` yet.
    history: &'p [PlannedHistory],
    /// Steps whose results were found, and of which nobody was told yet.
    found: Vec<(usize, DiffId)>,
}

/// What came of an attempt to take a stage one step further.
enum Advance {
    /// It went on.
    Step,
    /// Another stage must be known first.
    Needs(usize, Reach),
    /// It would take more than its [`Reach`] allows.
    Missed,
    /// It is among the finished ones.
    Finished,
}

impl<'a> Run<'a> {
    /// A stage with all its layers. What it needs of other stages is carried out before the step that needs it.
    pub(super) fn finish_stage(&self, index: usize) -> Result<Arc<Finished>, Error> {
        self.take(index, Reach::Full)?;
        self.finished(index).ok_or_else(Error::cancelled)
    }

    /// A `RUN` that has to be carried out for the target, as far as that shows without carrying anything out.
    pub(super) fn run_that_is_needed(&self) -> Result<Option<&'a PlannedStep>, Error> {
        self.take(self.plan.target, Reach::Cached)?;
        // A stage that misses something is carried out to its end, and so it needs all that its steps take files from.
        while let Some(source) = self.source_of_a_missed_stage() {
            self.take(source, Reach::Cached)?;
        }
        let stages = self.stages.borrow();
        let mut missed: Vec<(usize, usize)> =
            stages.missed.iter().filter_map(|(index, step)| Some((*index, (*step)?))).collect();
        missed.sort_unstable();
        let rest = missed.into_iter().flat_map(|(index, step)| &self.plan.stages[index].steps[step..]);
        Ok(rest.into_iter().find(|step| matches!(step.kind, StepKind::Run(_))))
    }

    /// A stage that one of the missed stages takes files from, and of which nothing is known.
    fn source_of_a_missed_stage(&self) -> Option<usize> {
        let stages = self.stages.borrow();
        let steps = stages.missed.keys().flat_map(|index| &self.plan.stages[*index].steps);
        let mut sources = steps.flat_map(|step| stage_sources(&step.kind));
        sources.find(|source| !stages.finished.contains_key(source) && !stages.missed.contains_key(source))
    }

    /// Takes a stage as far as `reach` allows, and before it whatever it turns out to need.
    fn take(&self, index: usize, reach: Reach) -> Result<(), Error> {
        let mut waiting: Vec<(usize, Reach, Option<Progress<'a>>)> = vec![(index, reach, None)];
        while let Some((index, reach, progress)) = waiting.last_mut() {
            self.check_cancelled()?;
            match self.advance(*index, *reach, progress)? {
                Advance::Step => {}
                Advance::Needs(index, reach) => waiting.push((index, reach, None)),
                Advance::Missed => {
                    let step = progress.as_ref().and_then(|progress| {
                        let step = progress.stage.steps.get(progress.next)?;
                        (!reads_layers(&step.kind)).then_some(progress.next)
                    });
                    self.stages.borrow_mut().missed.insert(*index, step);
                    waiting.pop();
                }
                Advance::Finished => {
                    waiting.pop();
                }
            }
        }
        Ok(())
    }

    /// A stage that was carried out, or whose results were all found.
    pub(super) fn finished(&self, index: usize) -> Option<Arc<Finished>> {
        self.stages.borrow().finished.get(&index).cloned()
    }

    fn advance(
        &self,
        index: usize,
        reach: Reach,
        progress: &mut Option<Progress<'a>>,
    ) -> Result<Advance, Error> {
        let Some(progress) = progress else {
            let stage = &self.plan.stages[index];
            if let StageBase::Stage(base) = stage.base
                && let Some(advance) = self.unknown_base(base, reach)
            {
                return Ok(advance);
            }
            let base = self.base(stage, reach).map_err(|error| match stage.location {
                Some(location) => error.at(location),
                None => error,
            })?;
            let Some((state, ran)) = base else { return Ok(Advance::Missed) };
            let (history, found) = (&stage.history[..], Vec::new());
            *progress = Some(Progress { index, reach, stage, state, ran, next: 0, history, found });
            return Ok(Advance::Step);
        };
        let Some(step) = progress.stage.steps.get(progress.next) else {
            self.end(progress);
            return Ok(Advance::Finished);
        };
        if let Some((index, reach)) = self.unknown_source(step, reach) {
            return Ok(Advance::Needs(index, reach));
        }
        let is_done = self.next_step(progress, step).map_err(|error| of_step(error, step))?;
        Ok(if is_done { Advance::Step } else { Advance::Missed })
    }

    /// What must happen before the stage that another starts from is known.
    fn unknown_base(&self, base: usize, reach: Reach) -> Option<Advance> {
        let stages = self.stages.borrow();
        if stages.finished.contains_key(&base) {
            None
        } else if reach == Reach::Cached && stages.missed.contains_key(&base) {
            Some(Advance::Missed)
        } else {
            Some(Advance::Needs(base, reach))
        }
    }

    /// The next stage to look at before a step: each that it takes files from is looked up; if some result is missing, and
    /// the step is to be carried out, all of them are needed in full.
    fn unknown_source(&self, step: &PlannedStep, reach: Reach) -> Option<(usize, Reach)> {
        let sources = stage_sources(&step.kind);
        let stages = self.stages.borrow();
        let open = || sources.iter().copied().filter(|index| !stages.finished.contains_key(index));
        if let Some(index) = open().find(|index| !stages.missed.contains_key(index)) {
            return Some((index, Reach::Cached));
        }
        open().next().filter(|_| reach == Reach::Full).map(|index| (index, Reach::Full))
    }

    /// Whether the next step of a stage was found or made.
    fn next_step(&self, progress: &mut Progress<'_>, step: &PlannedStep) -> Result<bool, Error> {
        let (stage, number) = (progress.stage, progress.next);
        progress.tell_until(Some(number));
        let Some(result) = self.step(stage, &progress.state, step, number, progress.reach)? else {
            return Ok(false);
        };
        if let Some((entry, rest)) = progress.history.split_first() {
            progress.state.history.push((entry.clone(), Some(result.created)));
            progress.history = rest;
        }
        if !result.ran {
            progress.found.push((number, result.layer.diff_id.clone()));
            if progress.reach == Reach::Full {
                self.announce(stage, progress.found.drain(..));
            }
        }
        progress.ran |= result.ran;
        // An image does not tell for how many platforms it was built.
        progress.state.made.push((self.short_title(stage, number), result.created));
        progress.state.push(result.layer, result.chain);
        progress.next += 1;
        Ok(true)
    }

    fn end(&self, progress: &mut Progress<'_>) {
        progress.tell_until(None);
        self.announce(progress.stage, progress.found.drain(..));
        let finished = Finished { state: progress.state.clone(), ran: progress.ran };
        self.stages.borrow_mut().finished.insert(progress.index, Arc::new(finished));
    }
}

impl Progress<'_> {
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

/// Whether a step takes files from stages or images: what they are is not known before they are unpacked.
fn reads_layers(step: &StepKind) -> bool {
    match step {
        StepKind::Copy(copy) => matches!(copy.from, FileSource::Stage(_) | FileSource::Image(_)),
        StepKind::Run(run) => !Mounted::of(run).is_local(),
        StepKind::Workdir(_) => false,
    }
}

/// The stages that a step takes files from.
fn stage_sources(step: &StepKind) -> Vec<usize> {
    let stage = |from: &FileSource| match from {
        FileSource::Stage(index) => Some(*index),
        _ => None,
    };
    match step {
        StepKind::Copy(copy) => stage(&copy.from).into_iter().collect(),
        StepKind::Run(run) => {
            let mounts = Mounted::of(run).0;
            mounts.iter().filter_map(|files| files.mount.from.as_ref().and_then(stage)).collect()
        }
        StepKind::Workdir(_) => Vec::new(),
    }
}
