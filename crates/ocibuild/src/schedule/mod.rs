//! Carries out a plan: stage after stage as they are needed, each step found or made.

mod carry_out;
mod conversion;
mod demand;
mod inputs;
mod mounted;
mod remote;
mod results;
mod steps;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use ocibuild_spec::{CancelToken, ChainId, Digest, Timestamp};
use ocibuild_store::{BlobSink, Lease, ScratchDir};

use crate::build::{Backends, PlannedBuild, image_source};
use crate::cache::Wanted;
use crate::copy::{ContextDigests, OwnFiles};
use crate::layers::{ImageHandle, Layer, Layers, Listings};
use crate::plan::{CopyStep, FileSource, Plan, PlannedStage, PlannedStep, StageBase, StepKind};
use crate::ssh::Agents;
use crate::stage::StageState;
use crate::{Error, ErrorKind, Event};
pub(crate) use carry_out::{Target, built, carry_out};
use inputs::base_key;
pub(crate) use mounted::{Mounted, Selection};
pub(crate) use results::NewLayer;
use results::StepResult;

/// What the runs of all platforms of a build have in common.
pub(crate) struct Session<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) cancel: &'a CancelToken,
    events: &'a dyn Fn(Event<'_>),
    /// Keys of steps that ran in this build: what one platform made is not made again for the next (9.16).
    made: RefCell<HashSet<Digest>>,
    started: Instant,
    /// A sandbox was made here.
    has_sandbox: Cell<bool>,
    /// What was fetched so far.
    remote: RefCell<remote::Fetched>,
    /// Agents that were started for keys.
    pub(crate) agents: Agents,
    /// What the build writes, which no context has.
    own_files: OwnFiles,
    /// What the build has read of contexts.
    digests: ContextDigests,
    /// Cache mounts that this build has emptied (9.13).
    pub(crate) emptied: Mutex<HashSet<PathBuf>>,
}

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

/// One run of the plan of one platform.
pub(crate) struct Run<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) plan: &'a Plan,
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) layers: Layers<'a>,
    pub(crate) scratch: ScratchDir,
    pub(crate) session: &'a Session<'a>,
    /// The form of the layers.
    wanted: Wanted,
    /// Number of the first step of each stage among the steps of all platforms, by the stage's index in the file.
    first_steps: HashMap<usize, usize>,
    stages: RefCell<demand::Stages>,
    /// Keeps what this build uses from being collected.
    _lease: Lease,
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

fn first_steps(plan: &Plan, first: usize) -> HashMap<usize, usize> {
    let mut next = first;
    let number = |stage: &PlannedStage| {
        let first = next;
        next += stage.steps.len();
        (stage.index, first)
    };
    plan.stages.iter().map(number).collect()
}

impl<'a> Run<'a> {
    pub(crate) fn new(session: &'a Session<'a>, plan: &'a Plan, first_step: usize) -> Result<Self, Error> {
        let Session { build, backends, cancel, .. } = session;
        let lease = backends.store.lease()?;
        let scratch = backends.store.scratch()?;
        let images = plan.images.iter().map(|image| {
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
            listings: Listings::default(),
        };
        Ok(Self {
            build,
            plan,
            backends,
            cancel,
            layers,
            scratch,
            session,
            wanted: Wanted { clamp: build.clamp(plan), ..build.settings.wanted },
            first_steps: first_steps(plan, first_step),
            stages: RefCell::default(),
            _lease: lease,
        })
    }

    /// The target stage, finished.
    fn target(&self) -> Result<StageState, Error> {
        self.refuse_without_sandbox()?;
        self.empty_caches()?;
        Ok(self.finish_stage(self.plan.target)?.state.clone())
    }

    /// Fetches the layers that the store does not have, so that the image may have a name.
    fn complete(&self, layers: &[Layer]) -> Result<(), Error> {
        for layer in layers {
            if !self.layers.is_stored(&layer.descriptor)? {
                let mut blob = self.layers.open_blob(layer)?;
                self.backends.store.put_from(&layer.descriptor, &mut blob)?;
            }
        }
        Ok(())
    }

    /// Says that there is no sandbox before anything is fetched for a step that needs one.
    fn refuse_without_sandbox(&self) -> Result<(), Error> {
        let is_run = |step: &PlannedStep| matches!(step.kind, StepKind::Run(_));
        if !self.plan.stages.iter().flat_map(|stage| &stage.steps).any(is_run) {
            return Ok(());
        }
        let Err(error) = self.check_sandbox() else { return Ok(()) };
        match self.run_that_is_needed()? {
            Some(step) => Err(of_step(error, step)),
            None => Ok(()),
        }
    }

    /// Tries whether steps can run here, unless that is known.
    pub(crate) fn check_sandbox(&self) -> Result<(), Error> {
        if !self.session.has_sandbox.get() {
            self.backends.executor.probe()?;
            self.session.has_sandbox.set(true);
        }
        Ok(())
    }

    pub(crate) fn emit(&self, event: Event<'_>) {
        (self.session.events)(event);
    }

    /// The time that what is made now gets.
    pub(crate) fn now(&self) -> Timestamp {
        let start = self.build.settings.now;
        let passed = self.session.started.elapsed();
        let nanoseconds = u64::from(start.nanoseconds) + u64::from(passed.subsec_nanos());
        Timestamp {
            seconds: start.seconds + passed.as_secs() as i64 + (nanoseconds / 1_000_000_000) as i64,
            nanoseconds: (nanoseconds % 1_000_000_000) as u32,
        }
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
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

    /// What a stage starts with; the one below it is finished by now.
    fn base(&self, stage: &PlannedStage, reach: Reach) -> Result<Option<(StageState, bool)>, Error> {
        let history = stage.config.history.clone();
        match &stage.base {
            StageBase::Scratch => {
                Ok(Some((StageState::new(Vec::new(), base_key("scratch", ""), history), false)))
            }
            StageBase::Stage(index) => {
                let below = self.finished(*index);
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
        // A layer of this build, of which only the exporter's entry of the history will tell (11.06).
        state.made.push((format!("local source for {name}"), result.created));
        Ok(Some((state, ran)))
    }

    fn image_stack(&self, index: usize) -> Result<Vec<Layer>, Error> {
        let image = &self.plan.images[index].image;
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
        let chain = ChainId::of(self.plan.images[index].image.config.rootfs.layers());
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
        let fresh = self.is_uncached(stage);
        let title = self.title(stage, number);
        let (id, started) = (self.number(stage, number), Instant::now());
        if reach == Reach::Full {
            self.emit(Event::StepStarted { step: id, title: &title });
        }
        let result = match &step.kind {
            StepKind::Run(run) => self.run_step(state, run, &stage.platform, reach, fresh, id),
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
    pub(crate) fn is_uncached(&self, stage: &PlannedStage) -> bool {
        let settings = &self.build.settings;
        settings.no_cache || stage.name.as_ref().is_some_and(|name| settings.no_cache_stages.contains(name))
    }

    fn number(&self, stage: &PlannedStage, step: usize) -> usize {
        self.first_steps.get(&stage.index).copied().unwrap_or_default() + step
    }

    /// `[stage i/n] TEXT` (8.23), with the platform before it in an index: the number counts the image that the stage
    /// starts from.
    fn title(&self, stage: &PlannedStage, step: usize) -> String {
        let title = self.short_title(stage, step);
        match title.strip_prefix('[').filter(|_| self.build.with_index) {
            Some(rest) => format!("[{} {rest}", stage.platform),
            None => title,
        }
    }

    /// The same without the platform.
    fn short_title(&self, stage: &PlannedStage, step: usize) -> String {
        let offset = usize::from(matches!(stage.base, StageBase::Image(_)));
        let count = stage.progress_total;
        let width = count.to_string().len();
        let position = step + 1 + offset;
        let text = stage.steps.get(step).map_or("", |step| step.text.as_str());
        let name = if self.plan.stages.len() == 1 && stage.index == 0 {
            String::new()
        } else {
            format!("{} ", stage.display_name())
        };
        format!("[{name}{position:>width$}/{count}] {text}")
    }
}
