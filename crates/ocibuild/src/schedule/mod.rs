//! Carries out a plan: stage after stage as they are needed, each step found or made.

mod inputs;
mod mounted;
mod remote;
mod results;
mod steps;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ocibuild_spec::{CancelToken, ChainId, Digest, Timestamp};
use ocibuild_store::{BlobSink, Lease, ScratchDir};

use crate::build::{Backends, PlannedBuild, image_source};
use crate::image::{BuiltImage, assemble};
use crate::layers::{ImageHandle, Layer, Layers};
use crate::output::{Output, export};
use crate::plan::{CopyStep, FileSource, PlannedStage, PlannedStep, StageBase, StepKind};
use crate::ssh::Agents;
use crate::stage::StageState;
use crate::{Error, ErrorKind, Event};
use inputs::base_key;
pub(crate) use results::NewLayer;
use results::StepResult;

/// An error of a step, at its instruction: for one that a base brought, that is the `FROM` line.
fn of_step(error: Error, step: &PlannedStep) -> Error {
    let error = error.at(step.location);
    if step.text.starts_with("ONBUILD ") {
        return error
            .cause(format!("the trigger of the base image is: {}", step.text))
            .hint("use another base image, or build that one again with a right ONBUILD");
    }
    error
}

/// One run of a plan.
pub(crate) struct Run<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) layers: Layers<'a>,
    pub(crate) scratch: ScratchDir,
    events: RefCell<&'a mut dyn FnMut(Event<'_>)>,
    stages: RefCell<HashMap<usize, Arc<Finished>>>,
    /// Agents that were started for keys.
    pub(crate) agents: Agents,
    /// Cache mounts that this build has emptied (9.13).
    pub(crate) emptied: Mutex<HashSet<PathBuf>>,
    started: Instant,
    /// Keeps what this build uses from being collected.
    _lease: Lease,
    /// What was fetched so far.
    remote: RefCell<remote::Fetched>,
}

/// A stage whose steps all have a layer.
struct Finished {
    state: StageState,
    /// Some step of it, or of what it builds on, ran in this build.
    ran: bool,
}

/// How far a stage may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Only to results that exist.
    Cached,
    /// To the end.
    Full,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        build: &'a PlannedBuild,
        backends: &'a Backends<'a>,
        cancel: &'a CancelToken,
        events: &'a mut dyn FnMut(Event<'_>),
    ) -> Result<Self, Error> {
        backends.store.sweep_dead_scratch()?;
        let lease = backends.store.lease()?;
        let scratch = backends.store.scratch()?;
        let images = build.plan.images.iter().map(|image| {
            let (source, reference) = image_source(&build.named, backends, &image.origin, &image.reference);
            ImageHandle { reference: reference.clone(), source }
        });
        let layers = Layers {
            store: backends.store,
            snapshots: backends.snapshots,
            cache: backends.cache,
            images: images.collect(),
            cancel,
            scratch: scratch.path().to_owned(),
            threads: build.settings.threads,
        };
        Ok(Self {
            build,
            backends,
            cancel,
            layers,
            scratch,
            events: RefCell::new(events),
            stages: RefCell::default(),
            agents: Agents::default(),
            emptied: Mutex::default(),
            started: Instant::now(),
            _lease: lease,
            remote: RefCell::default(),
        })
    }

    /// Makes the image and its outputs.
    pub(crate) fn build(&self, outputs: Vec<Output>) -> Result<BuiltImage, Error> {
        let plan = &self.build.plan;
        self.emit(Event::Started { steps: plan.stages.iter().map(|stage| stage.steps.len()).sum() });
        for image in &plan.images {
            self.emit(Event::BaseResolved { name: &image.name, descriptor: &image.image.descriptor });
        }
        self.empty_caches()?;
        let finished = self.stage(plan.target, Reach::Full)?.ok_or_else(Error::cancelled)?;
        let epoch = plan.source_date_epoch.map(Timestamp::from_seconds);
        let image = assemble(&finished.state, &plan.stages[plan.target].config, epoch);
        let store = self.backends.store;
        store.put(image.manifest.config.media_type.clone(), &image.config_bytes)?;
        store.put(image.descriptor.media_type.clone(), &image.manifest_bytes)?;
        if outputs.is_empty() && !self.build.settings.keep_incomplete {
            self.complete(&image)?;
            for name in &self.build.tags {
                store.tag(name, &image.descriptor)?;
            }
        }
        self.emit(Event::ImageBuilt { descriptor: &image.descriptor });
        for output in outputs {
            let what = output.to_string();
            export(self, &image, &finished.state, output)?;
            self.emit(Event::Exported { what: &what });
        }
        Ok(image)
    }

    /// Fetches the layers that the store does not have, so that the image may have a name.
    fn complete(&self, image: &BuiltImage) -> Result<(), Error> {
        for layer in &image.layers {
            if !self.layers.is_stored(&layer.descriptor)? {
                let mut blob = self.layers.open_blob(layer)?;
                self.backends.store.put_from(&layer.descriptor, &mut blob)?;
            }
        }
        Ok(())
    }

    pub(crate) fn emit(&self, event: Event<'_>) {
        (self.events.borrow_mut())(event);
    }

    /// The time that what is made now gets.
    pub(crate) fn now(&self) -> Timestamp {
        let start = self.build.settings.now;
        let passed = self.started.elapsed();
        let nanoseconds = u64::from(start.nanoseconds) + u64::from(passed.subsec_nanos());
        Timestamp {
            seconds: start.seconds + passed.as_secs() as i64 + (nanoseconds / 1_000_000_000) as i64,
            nanoseconds: (nanoseconds % 1_000_000_000) as u32,
        }
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// A stage with all its layers; `None` when that would take more than `reach` allows.
    fn stage(&self, index: usize, reach: Reach) -> Result<Option<Arc<Finished>>, Error> {
        if let Some(finished) = self.stages.borrow().get(&index) {
            return Ok(Some(Arc::clone(finished)));
        }
        let stage = &self.build.plan.stages[index];
        let Some((mut state, mut ran)) = self.base(stage, reach)? else { return Ok(None) };
        let mut pending = stage.history.iter().peekable();
        let mut found = Vec::new();
        for (number, planned) in stage.steps.iter().enumerate() {
            self.check_cancelled()?;
            while let Some(entry) = pending.next_if(|entry| entry.step != Some(number)) {
                state.history.push((entry.clone(), None));
            }
            let result = match self.step(stage, &state, planned, number, reach) {
                Ok(Some(result)) => result,
                Ok(None) => return Ok(None),
                Err(error) => return Err(of_step(error, planned)),
            };
            if let Some(entry) = pending.next() {
                state.history.push((entry.clone(), Some(result.created)));
            }
            if !result.ran {
                found.push((number, result.layer.diff_id.clone()));
                if reach == Reach::Full {
                    self.announce(stage, found.drain(..));
                }
            }
            ran |= result.ran;
            state.made.push((self.title(stage, number), result.created));
            state.push(result.layer, result.chain);
        }
        state.history.extend(pending.map(|entry| (entry.clone(), None)));
        self.announce(stage, found.drain(..));
        let finished = Arc::new(Finished { state, ran });
        self.stages.borrow_mut().insert(index, Arc::clone(&finished));
        Ok(Some(finished))
    }

    fn announce(&self, stage: &PlannedStage, found: impl Iterator<Item = (usize, ocibuild_spec::DiffId)>) {
        for (number, diff_id) in found {
            let title = self.title(stage, number);
            self.emit(Event::StepCached {
                step: self.number(stage, number),
                title: &title,
                diff_id: &diff_id,
            });
        }
    }

    /// What a stage starts with.
    fn base(&self, stage: &PlannedStage, reach: Reach) -> Result<Option<(StageState, bool)>, Error> {
        let history = stage.config.history.clone();
        match &stage.base {
            StageBase::Scratch => {
                Ok(Some((StageState::new(Vec::new(), base_key("scratch", ""), history), false)))
            }
            StageBase::Stage(index) => {
                let below = self.stage(*index, reach)?;
                Ok(below.map(|below| (below.state.clone(), below.ran)))
            }
            StageBase::Image(index) => {
                let stack = self.image_stack(*index)?;
                let key = self.image_key(*index);
                Ok(Some((StageState::new(stack, key, history), false)))
            }
            StageBase::LocalContext(name) => self.context_base(name, history, reach),
        }
    }

    /// The files of a local directory as the only layer below a stage (4.33).
    fn context_base(
        &self,
        name: &str,
        history: Vec<ocibuild_spec::History>,
        reach: Reach,
    ) -> Result<Option<(StageState, bool)>, Error> {
        let step = CopyStep {
            add: false,
            from: FileSource::LocalContext(name.to_owned()),
            sources: vec!["/".to_owned()],
            heredocs: Vec::new(),
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            excludes: Vec::new(),
            checksum: None,
            keep_git_dir: None,
            unpack: None,
        };
        let mut state = StageState::new(Vec::new(), base_key("local context", ""), history);
        let Some(result) = self.copy_step(&state, &step, reach, false)? else { return Ok(None) };
        let ran = result.ran;
        state.push(result.layer, result.chain);
        state.base_layers = 1;
        Ok(Some((state, ran)))
    }

    fn image_stack(&self, index: usize) -> Result<Vec<Layer>, Error> {
        let image = &self.build.plan.images[index].image;
        let (diff_ids, layers) = (image.config.rootfs.layers(), image.manifest.layers());
        if diff_ids.len() != layers.len() {
            let message = format!(
                "the image {} has {} layers and {} diff ids",
                image.descriptor.digest,
                layers.len(),
                diff_ids.len()
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let layer = |(diff_id, descriptor): (&ocibuild_spec::DiffId, &ocibuild_spec::Descriptor)| Layer {
            diff_id: diff_id.clone(),
            descriptor: descriptor.clone(),
            image: Some(index),
        };
        Ok(diff_ids.iter().zip(layers).map(layer).collect())
    }

    /// Only what an image's files are counts: its config works through the environment of steps (9.09).
    fn image_key(&self, index: usize) -> Digest {
        let chain = ChainId::of(self.build.plan.images[index].image.config.rootfs.layers());
        base_key("image", &chain.map(|id| id.to_string()).unwrap_or_default())
    }

    fn step(
        &self,
        stage: &PlannedStage,
        state: &StageState,
        step: &PlannedStep,
        number: usize,
        reach: Reach,
    ) -> Result<Option<StepResult>, Error> {
        let fresh = self.is_fresh(stage);
        let title = self.title(stage, number);
        let (id, started) = (self.number(stage, number), Instant::now());
        if reach == Reach::Full {
            self.emit(Event::StepStarted { step: id, title: &title });
        }
        let result = match &step.kind {
            StepKind::Run(run) => self.run_step(state, run, reach, fresh, id),
            StepKind::Copy(copy) => self.copy_step(state, copy, reach, fresh),
            StepKind::Workdir(workdir) => self.workdir_step(state, workdir, reach),
        };
        match &result {
            Ok(Some(done)) if done.ran => self.emit(Event::StepDone {
                step: id,
                title: &title,
                diff_id: &done.layer.diff_id,
                size: done.layer.descriptor.size,
                duration: started.elapsed(),
            }),
            Err(_) => self.emit(Event::StepFailed { step: id, title: &title }),
            _ => {}
        }
        result
    }

    /// Whether the steps of a stage run whatever the cache has (9.13, 9.14).
    pub(crate) fn is_fresh(&self, stage: &PlannedStage) -> bool {
        let settings = &self.build.settings;
        settings.no_cache || stage.name.as_ref().is_some_and(|name| settings.no_cache_stages.contains(name))
    }

    fn number(&self, stage: &PlannedStage, step: usize) -> usize {
        let before = self.build.plan.stages.iter().take_while(|other| other.index != stage.index);
        before.map(|stage| stage.steps.len()).sum::<usize>() + step
    }

    /// `[stage i/n] TEXT` (8.23): the number counts the image that the stage starts from.
    fn title(&self, stage: &PlannedStage, step: usize) -> String {
        let offset = usize::from(matches!(stage.base, StageBase::Image(_)));
        let count = stage.progress_total;
        let width = count.to_string().len();
        let position = step + 1 + offset;
        let text = stage.steps.get(step).map_or("", |step| step.text.as_str());
        if self.build.plan.stages.len() == 1 && stage.index == 0 {
            format!("[{position:>width$}/{count}] {text}")
        } else {
            format!("[{} {position:>width$}/{count}] {text}", stage.display_name())
        }
    }
}
