//! Carries out plans, those of all platforms together, in two phases. First every result that exists is looked up, stage
//! by stage and nothing pulled or unpacked; then what is missing is made, at the same time wherever the plan allows.

mod conversion;
mod failed;
mod look_ahead;
mod look_up;
mod mounted;
mod prefetch;
mod queue;
mod remote;
mod results;
mod stages;
mod steps;

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ocibuild_executor::Carrier;
use ocibuild_plan::{CopyStep, FileSource, MountKind, Plan, PlannedStage, PlannedStep, StageBase, StepKind};
use ocibuild_snapshot::Whiteouts;
use ocibuild_spec::{CancelToken, ChainId, Descriptor, DiffId, Digest, Timestamp};
use ocibuild_store::{Lease, ScratchDir};

use crate::cache::{EncodingOptions, StepRecords};
use crate::copy::{ContextDigests, OwnFiles};
use crate::error::Error;
use crate::event::Event;
use crate::failure::{CacheFailure, LayerFailure};
use crate::finished::FinishedImage;
use crate::keys;
use crate::layers::{BlobLocation, BlobLocations, DecodedListings, Layer, LayerReads, Layers};
use crate::privilege::{BuildSandbox, Rung, users_here};
use crate::request::{Backends, PlannedBuild, image_source};
use crate::run::{CacheMounts, HeldStep};
use crate::single_flight::SingleFlight;
use crate::ssh::Agents;
use crate::threads::ThreadBudget;
pub use failed::FailedStep;
pub(crate) use failed::OnFailure;
use prefetch::Prefetch;
use queue::{Failed, Outcome};
use stages::Stages;

/// What goes to the thread that called.
pub(crate) enum Message {
    Event(Box<Event>),
    /// Wants to know when everything before it was dealt with.
    Reached(SyncSender<()>),
}

/// What all steps of a build have in common, of whatever platform.
pub(crate) struct Session<'a> {
    build: &'a PlannedBuild,
    backends: &'a Backends<'a>,
    cancel: &'a CancelToken,
    /// Each cancels one stage of one platform, in the order of the plans.
    tokens: Vec<CancelToken>,
    /// Cancels what is begun before its step has come.
    prefetch: CancelToken,
    events: SyncSender<Message>,
    /// What becomes of a step whose command fails.
    on_failure: OnFailure<'a>,
    /// Those that did.
    held: Mutex<Vec<HeldStep>>,
    /// Keys of steps that ran in this build: what one platform or stage makes is not made again for another (9.16).
    made: SingleFlight<Digest, ()>,
    started: Instant,
    /// A sandbox was made here.
    has_sandbox: Mutex<bool>,
    /// Results of earlier builds.
    records: &'a dyn StepRecords,
    /// What was fetched so far.
    remote: remote::Fetched,
    /// Agents that were started for keys.
    agents: Agents,
    /// What the build writes, which no context has.
    own_files: OwnFiles,
    caches: CacheMounts,
    /// Threads that compress and unpack.
    threads: Arc<ThreadBudget>,
    /// What the build has read of contexts.
    digests: ContextDigests,
    /// The listings of layers that it has decoded.
    decoded: Arc<DecodedListings>,
    /// The layers that it is reading.
    reads: Arc<LayerReads>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        build: &'a PlannedBuild,
        backends: &'a Backends<'a>,
        cancel: &'a CancelToken,
        own_files: OwnFiles,
        (events, on_failure): (SyncSender<Message>, OnFailure<'a>),
    ) -> Self {
        let stages = build.plans.iter().flat_map(|plan| &plan.stages);
        Self {
            build,
            backends,
            cancel,
            tokens: stages.map(|_| cancel.child()).collect(),
            prefetch: cancel.child(),
            events,
            on_failure,
            held: Mutex::default(),
            made: SingleFlight::default(),
            started: Instant::now(),
            has_sandbox: Mutex::new(false),
            records: backends.cache.records(),
            remote: remote::Fetched::default(),
            agents: Agents::default(),
            own_files,
            caches: CacheMounts::of(backends.store),
            threads: Arc::new(ThreadBudget::new(build.settings.threads)),
            digests: ContextDigests::new(backends.cache.context_digests()),
            decoded: Arc::default(),
            reads: Arc::default(),
        }
    }

    pub(crate) fn emit(&self, event: Event) {
        // Nobody listens any more when the listener has panicked; the build is being cancelled then.
        let _ = self.events.send(Message::Event(Box::new(event)));
    }

    /// Waits until all events so far were dealt with.
    fn settle(&self) {
        let (reached, wait) = sync_channel(1);
        if self.events.send(Message::Reached(reached)).is_ok() {
            // As above.
            let _ = wait.recv();
        }
    }
}

/// An error of a step, at its instruction: for one that a base brought, that is the `FROM` line.
fn of_step(error: Error, step: &PlannedStep) -> Error {
    let error = error.at(step.location);
    if step.text.starts_with("ONBUILD ") {
        return error
            .cause(format!("the trigger of the base image is: {}", step.text))
            .hint("use another base image, or rebuild it with a corrected ONBUILD");
    }
    error
}

/// The stages of all platforms, and how far they are.
pub(crate) struct Schedule<'a> {
    session: &'a Session<'a>,
    platforms: Vec<Platform<'a>>,
    /// Number of the first stage of each platform among the stages of all: that is how tasks are numbered.
    first: Vec<usize>,
}

impl<'a> Schedule<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Result<Self, Error> {
        let (mut platforms, mut first) = (Vec::new(), Vec::new());
        let (mut stages, mut steps) = (0, 0);
        for plan in &session.build.plans {
            platforms.push(Platform::new(session, plan, steps)?);
            first.push(stages);
            stages += plan.stages.len();
            steps += plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>();
        }
        Ok(Self { session, platforms, first })
    }

    /// Carries out the stages that the targets need, and gives the images of all platforms.
    pub(crate) fn carry_out(&'a self) -> Result<Vec<FinishedImage<'a>>, Error> {
        self.check_cached_stages()?;
        let made = self.make_targets();
        // After a failure, too: the next build has the same context.
        let saved = self.session.digests.save();
        made?;
        saved?;
        let cancel = self.session.cancel;
        self.platforms.iter().map(|platform| platform.cancelled_by(cancel).into_image()).collect()
    }

    /// A requirement for a stage that does not exist would never fail.
    fn check_cached_stages(&self) -> Result<(), Error> {
        let PlannedBuild { settings, dockerfile, .. } = self.session.build;
        let names = || dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
        match settings.cached_stages.iter().find(|wanted| names().all(|name| name != wanted.as_str())) {
            None => Ok(()),
            Some(stage) => {
                let nearest = ocibuild_dockerfile::nearest(stage, names()).map(str::to_owned);
                Err(CacheFailure::UnknownStage { stage: stage.clone(), nearest }.into())
            }
        }
    }

    fn make_targets(&'a self) -> Result<(), Error> {
        let Session { tokens, cancel, .. } = self.session;
        let settings = &self.session.build.settings;
        let looked_up = queue::carry_out(0..tokens.len(), tokens, settings.threads, &|task| {
            self.with_stage(task, PlatformBuild::look_up)
        });
        let builds: Vec<PlatformBuild<'_>> =
            self.platforms.iter().map(|platform| platform.cancelled_by(cancel)).collect();
        builds.iter().for_each(PlatformBuild::announce_found);
        looked_up.map_err(|failed| failed.error)?;
        builds.iter().try_for_each(PlatformBuild::check_cached)?;
        // Said before anything is fetched for a step that needs one.
        if let Some((build, step)) =
            builds.iter().find_map(|build| Some((build, build.run_that_is_needed()?)))
        {
            build.check_sandbox().map_err(|error| of_step(error, step))?;
        }
        builds.iter().try_for_each(PlatformBuild::empty_caches)?;
        let numbered = |(build, first): (&PlatformBuild<'_>, &usize)| {
            build.needed().into_iter().map(|index| first + index).collect::<Vec<_>>()
        };
        let needed = builds.iter().zip(&self.first).flat_map(numbered);
        let prefetch = Prefetch::of(self.session, &self.platforms, &builds);
        let carried_out = std::thread::scope(|scope| {
            prefetch.start(scope);
            // Whatever becomes of the steps, nobody needs anything beforehand any more.
            let _end = EndOnDrop(&prefetch);
            queue::carry_out(needed, tokens, settings.steps, &|task| {
                self.with_stage(task, PlatformBuild::carry_on)
            })
        });
        carried_out.map_err(|Failed { task, error }| match self.held_of(task) {
            Some((held, title)) => failed::attend(self.session, held, title, error),
            None => error,
        })
    }

    /// The step of this task that failed and was held, with its title; others that were are dropped.
    fn held_of(&'a self, task: usize) -> Option<(HeldStep, String)> {
        let (number, index) = self.stage_of(task);
        let build = self.platforms[number].cancelled_by(self.session.cancel);
        let stage = &build.plan.stages[index];
        let first = build.number(stage, 0);
        let all = self.session.held.lock().unwrap_or_else(PoisonError::into_inner).split_off(0);
        let held = all.into_iter().find(|held| (first..first + stage.steps.len()).contains(&held.id))?;
        let title = build.title(stage, held.id - first);
        Some((held, title))
    }

    /// The platform of a task, and the stage in its plan.
    fn stage_of(&self, task: usize) -> (usize, usize) {
        let number = self.first.partition_point(|first| *first <= task) - 1;
        (number, task - self.first[number])
    }

    fn with_stage(
        &'a self,
        task: usize,
        work: impl Fn(&PlatformBuild<'a>, usize) -> Result<Outcome, Error>,
    ) -> Result<Outcome, Error> {
        let (number, index) = self.stage_of(task);
        let build = self.platforms[number].cancelled_by(&self.session.tokens[task]);
        Ok(match work(&build, index)? {
            Outcome::Needs(other) => Outcome::Needs(self.first[number] + other),
            Outcome::Done => Outcome::Done,
        })
    }
}

struct EndOnDrop<'p, 'a>(&'p Prefetch<'a>);

impl Drop for EndOnDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The plan of one platform, and how far it is.
struct Platform<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    /// Where the layers of each image of the plan may be.
    locations: Vec<BlobLocations<'a>>,
    scratch: ScratchDir,
    /// The form of the layers.
    wanted: EncodingOptions,
    /// Number of the first step of each stage among the steps of all platforms, by the stage's index in the file.
    first_steps: HashMap<usize, usize>,
    stages: Stages<'a>,
    /// Keeps what this build uses from being collected.
    _lease: Lease,
}

/// The build of one platform, as one stage of it sees it: with a token that cancels this stage alone.
struct PlatformBuild<'a> {
    session: &'a Session<'a>,
    platform: &'a Platform<'a>,
    build: &'a PlannedBuild,
    plan: &'a Plan,
    backends: &'a Backends<'a>,
    cancel: &'a CancelToken,
    layers: Layers<'a>,
}

/// How far a look-up may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Not to what would have to be pulled or unpacked.
    Cached,
    /// To whatever the key is made of.
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

impl<'a> Platform<'a> {
    fn new(session: &'a Session<'a>, plan: &'a Plan, first_step: usize) -> Result<Self, Error> {
        let Session { build, backends, .. } = session;
        let lease = backends.store.lease()?;
        let scratch = backends.store.scratch()?;
        let locations = plan.images.iter().map(|image| {
            let (source, reference) = image_source(&build.named, backends, &image.origin, &image.reference);
            Arc::from([BlobLocation::Store(backends.store), BlobLocation::Image { source, reference }])
        });
        Ok(Self {
            session,
            plan,
            locations: locations.collect(),
            scratch,
            wanted: EncodingOptions { clamp: build.clamp(plan), ..build.settings.wanted },
            first_steps: first_steps(plan, first_step),
            stages: Stages::new(plan),
            _lease: lease,
        })
    }

    fn cancelled_by(&'a self, cancel: &'a CancelToken) -> PlatformBuild<'a> {
        let Session { build, backends, .. } = self.session;
        PlatformBuild {
            session: self.session,
            platform: self,
            build,
            plan: self.plan,
            backends,
            cancel,
            layers: Layers {
                store: backends.store,
                snapshots: backends.snapshots,
                listings: backends.cache.listings(),
                cancel,
                scratch: self.scratch.path().to_owned(),
                threads: Arc::clone(&self.session.threads),
                decoded: Arc::clone(&self.session.decoded),
                reads: Arc::clone(&self.session.reads),
            },
        }
    }
}

impl<'a> PlatformBuild<'a> {
    /// The image of the target, which is finished.
    fn into_image(self) -> Result<FinishedImage<'a>, Error> {
        let finished = self.finished(self.plan.target).ok_or_else(Error::cancelled)?;
        let state = finished.state.clone();
        let layers = self.converted(&state.stack)?;
        let (origins, cancel) = (self.backends.cache.origins(), self.cancel);
        Ok(FinishedImage { plan: self.plan, state, layers, source: self.layers, origins, cancel })
    }

    /// Empties the caches of steps that run whatever the cache has, once and before any step runs (9.13). Those that
    /// begin with files are known only later, and are emptied at their first step.
    fn empty_caches(&self) -> Result<(), Error> {
        let fresh = self.plan.stages.iter().filter(|stage| self.is_uncached(stage));
        for step in fresh.flat_map(|stage| &stage.steps) {
            let StepKind::Run(run) = &step.kind else { continue };
            let caches = run.mounts.iter().filter(|mount| mount.kind == MountKind::Cache);
            for mount in caches.filter(|mount| mount.from.is_none()) {
                let caches = &self.session.caches;
                caches.empty_once(&caches.place(mount, ""), self.scratch())?;
            }
        }
        Ok(())
    }

    /// Tries whether steps can run here, unless that is known.
    fn check_sandbox(&self) -> Result<(), Error> {
        let mut has_sandbox = self.session.has_sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        if !*has_sandbox {
            self.backends.executor.probe()?;
            self.backends.executor.try_limits(&self.session.build.settings.resources)?;
            *has_sandbox = true;
            if let Some(sandbox) = self.sandbox() {
                self.emit(Event::Sandbox { sandbox });
            }
        }
        Ok(())
    }

    /// What steps run in, if the executor tells what it is.
    fn sandbox(&self) -> Option<BuildSandbox> {
        let state = self.backends.state;
        let here = state.privilege().rung_here();
        let (rung, runtime) = match self.backends.executor.carrier()? {
            Carrier::Runtime(program) => (here, Some(program.to_owned())),
            Carrier::Namespaces => (here, None),
            Carrier::Chroot => (Rung::Chroot, None),
            _ => return None,
        };
        let overlay = match state.snapshots().whiteouts() {
            Whiteouts::OverlayTrusted | Whiteouts::OverlayUser => true,
            Whiteouts::Files => false,
        };
        Some(BuildSandbox { rung, users: users_here(), runtime, overlay })
    }

    fn emit(&self, event: Event) {
        self.session.emit(event);
    }

    fn scratch(&self) -> &'a std::path::Path {
        self.platform.scratch.path()
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

    /// Tells of results that were found.
    fn announce(&self, stage: &PlannedStage, found: impl Iterator<Item = (usize, DiffId)>) {
        for (number, diff_id) in found {
            let (step, title) = (self.number(stage, number), self.title(stage, number));
            self.emit(Event::StepCached { step, title, diff_id });
        }
    }

    fn image_stack(&self, index: usize) -> Result<Vec<Layer<'a>>, Error> {
        let image = &self.plan.images[index].image;
        let (diff_ids, layers) = (image.config.rootfs.layers(), image.manifest.layers());
        if diff_ids.len() != layers.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            let image = image.descriptor.digest.clone();
            return Err(LayerFailure::Count { image, layers, diff_ids }.into());
        }
        let locations = &self.platform.locations[index];
        let layer = |(diff_id, descriptor): (&DiffId, &Descriptor)| {
            Layer::of_base_image(diff_id.clone(), descriptor.clone(), Arc::clone(locations))
        };
        Ok(diff_ids.iter().zip(layers).map(layer).collect())
    }

    fn image_key(&self, index: usize) -> Digest {
        let chain = ChainId::of(self.plan.images[index].image.config.rootfs.layers());
        keys::of_image(chain.as_ref())
    }

    /// Whether the steps of a stage run whatever the cache has (9.13, 9.14).
    pub(crate) fn is_uncached(&self, stage: &PlannedStage) -> bool {
        let settings = &self.build.settings;
        settings.no_cache || stage.name.as_ref().is_some_and(|name| settings.no_cache_stages.contains(name))
    }

    /// Whether no step of a stage may be made.
    fn requires_cache(&self, stage: &PlannedStage) -> bool {
        let settings = &self.build.settings;
        settings.require_cache
            || stage.name.as_ref().is_some_and(|name| settings.cached_stages.contains(name))
    }

    fn number(&self, stage: &PlannedStage, step: usize) -> usize {
        self.platform.first_steps.get(&stage.index).copied().unwrap_or_default() + step
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

/// The step that makes the files of a local directory the only layer below a stage (4.33).
fn context_step(name: &str) -> CopyStep {
    CopyStep {
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
    }
}
