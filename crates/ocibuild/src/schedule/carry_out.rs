//! All platforms of a build, at the same time, and what becomes of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use ocibuild_spec::CancelToken;
use ocibuild_store::BlobSink;

use super::queue::{self, Outcome};
use super::single_flight::SingleFlight;
use super::{Platform, PlatformBuild, Session, of_step};
use crate::build::{Backends, PlannedBuild};
use crate::copy::{OwnFile, OwnFiles};
use crate::image::{Built, Finished, Form, put_together};
use crate::layers::Layer;
use crate::output::{Output, export};
use crate::plan::{ImageOrigin, PlannedImage};
use crate::ssh::Agents;
use crate::stage::StageState;
use crate::{Error, Event};

/// The finished target stage of one platform.
pub(crate) struct Target<'a> {
    pub(crate) run: PlatformBuild<'a>,
    pub(crate) state: StageState,
    /// The layers in the form that outputs get.
    pub(crate) layers: Vec<Layer>,
}

impl<'a> Target<'a> {
    fn new(platform: &'a Platform<'a>, cancel: &'a CancelToken) -> Result<Self, Error> {
        let run = platform.cancelled_by(cancel);
        let finished = run.finished(run.plan.target).ok_or_else(Error::cancelled)?;
        let state = finished.state.clone();
        let layers = run.converted(&state.stack)?;
        Ok(Self { run, state, layers })
    }

    fn finished(&self) -> Finished<'_> {
        let plan = self.run.plan;
        Finished {
            state: &self.state,
            layers: &self.layers,
            config: &plan.stages[plan.target].config,
            epoch: plan.source_date_epoch,
            has_base: plan.target_has_base(),
        }
    }
}

/// The images of all targets, and their index if there is to be one, as an output wants them.
pub(crate) fn built(build: &PlannedBuild, targets: &[Target<'_>], form: &Form) -> Built {
    let finished: Vec<Finished<'_>> = targets.iter().map(Target::finished).collect();
    put_together(&finished, build.with_index, form)
}

/// Events that may wait for the caller; then whoever has another one waits.
const EVENTS: usize = 256;

/// Makes the images and their outputs. The work is done by threads of its own, and `events` is called by this one.
pub(crate) fn carry_out(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    cancel: &CancelToken,
    events: &mut dyn FnMut(Event),
    outputs: Vec<Output>,
) -> Result<Built, Error> {
    let (sender, receiver) = sync_channel(EVENTS);
    let cancel = &cancel.child();
    std::thread::scope(move |scope| {
        let work = move || build_all(build, backends, cancel, sender, outputs);
        let work = std::thread::Builder::new().name("build".to_owned()).spawn_scoped(scope, work);
        let work = work.map_err(Error::no_thread)?;
        // Should `events` panic, this and the receiver go at once, and nothing is waited for in vain. Else nobody is left
        // to be cancelled: the receiver has seen the last event.
        let _end = CancelOnDrop(cancel);
        receiver.iter().for_each(&mut *events);
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct CancelOnDrop<'a>(&'a CancelToken);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn build_all(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    cancel: &CancelToken,
    events: SyncSender<Event>,
    outputs: Vec<Output>,
) -> Result<Built, Error> {
    let session = Session {
        build,
        backends,
        events,
        made: SingleFlight::default(),
        remote: super::remote::Fetched::default(),
        agents: Agents::default(),
        own_files: own_files(build, backends, &outputs),
        emptied: Mutex::default(),
        started: Instant::now(),
        has_sandbox: Mutex::new(false),
    };
    backends.store.sweep_dead_scratch()?;
    let steps = |plan: &crate::plan::Plan| plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>();
    session.emit(Event::Started { steps: build.plans.iter().map(steps).sum() });
    let mut known = HashSet::new();
    for image in build.plans.iter().flat_map(|plan| &plan.images) {
        if known.insert((&image.name, &image.image.descriptor.digest)) {
            let (name, descriptor) = (image.name.clone(), image.image.descriptor.clone());
            session.emit(Event::BaseResolved { name, descriptor });
        }
    }
    for directory in outputs.iter().filter_map(|output| inside_context(build, output)) {
        let message = format!(
            "the output directory {} is left out of the build context; a step that names it copies it all the same",
            directory.display()
        );
        session.emit(Event::Warning { message });
    }
    let stages = build.plans.iter().flat_map(|plan| &plan.stages);
    let tokens: Vec<CancelToken> = stages.map(|_| cancel.child()).collect();
    let mut platforms = Vec::with_capacity(build.plans.len());
    let mut first_step = 0;
    for plan in &build.plans {
        platforms.push(Platform::new(&session, plan, first_step)?);
        first_step += steps(plan);
    }
    make_targets(&platforms, &tokens, cancel)?;
    let targets = platforms.iter().map(|platform| Target::new(platform, cancel));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    remember_origins(build, backends)?;
    let built = kept(build, backends, &targets, &outputs)?;
    session.emit(Event::ImageBuilt { descriptor: built.descriptor.clone() });
    for output in outputs {
        let what = output.describe(build);
        session.emit(Event::Exporting { what: what.clone() });
        export(build, &targets, output, &|event| session.emit(event))?;
        session.emit(Event::Exported { what });
    }
    Ok(built)
}

/// Carries out the stages of all platforms that the targets need.
fn make_targets<'a>(
    platforms: &'a [Platform<'a>],
    tokens: &'a [CancelToken],
    cancel: &'a CancelToken,
) -> Result<(), Error> {
    // A task is a stage of a platform, in the order of the plans.
    let stages = platforms.iter().map(|platform| platform.plan.stages.len());
    let first: Vec<usize> =
        stages.scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
    let of_task = |task: usize| {
        let number = first.partition_point(|first| *first <= task) - 1;
        (platforms[number].cancelled_by(&tokens[task]), task - first[number])
    };
    let in_order = |outcome, task: usize, index: usize| match outcome {
        Outcome::Needs(other) => Outcome::Needs(task - index + other),
        Outcome::Done => Outcome::Done,
    };
    let settings = platforms.first().map(|platform| &platform.session.build.settings);
    let (threads, steps) = settings.map_or((1, 1), |settings| (settings.threads, settings.steps));
    let look_up = |task| {
        let (run, index) = of_task(task);
        run.look_up(index).map(|outcome| in_order(outcome, task, index))
    };
    let looked_up = queue::carry_out(0..tokens.len(), tokens, threads, &look_up);
    let runs: Vec<PlatformBuild<'_>> =
        platforms.iter().map(|platform| platform.cancelled_by(cancel)).collect();
    runs.iter().for_each(PlatformBuild::announce_found);
    looked_up?;
    // Said before anything is fetched for a step that needs one.
    if let Some((run, step)) = runs.iter().find_map(|run| Some((run, run.run_that_is_needed()?))) {
        run.check_sandbox().map_err(|error| of_step(error, step))?;
    }
    runs.iter().try_for_each(PlatformBuild::empty_caches)?;
    let needed = runs
        .iter()
        .zip(&first)
        .flat_map(|(run, first)| run.needed().into_iter().map(move |index| first + index));
    queue::carry_out(needed, tokens, steps, &|task| {
        let (run, index) = of_task(task);
        run.carry_on(index).map(|outcome| in_order(outcome, task, index))
    })
}

/// The directory of an output that is in the context and has something in it, which may be the user's.
fn inside_context<'a>(build: &PlannedBuild, output: &'a Output) -> Option<&'a Path> {
    let path = output.path().filter(|_| output.is_directory_of_files())?;
    let context = fs_err::canonicalize(build.context.local()?.directory()?).ok()?;
    let real = fs_err::canonicalize(path).ok()?;
    let has_files = fs_err::read_dir(&real).ok()?.next().is_some();
    (has_files && real != context && real.starts_with(context)).then_some(path)
}

/// What this build writes: no context has it, though it may lie there.
fn own_files(build: &PlannedBuild, backends: &Backends<'_>, outputs: &[Output]) -> OwnFiles {
    let mut own = OwnFiles::default();
    own.add(backends.store.root(), OwnFile::State);
    let of_caller = build.settings.own_files.iter().map(PathBuf::as_path);
    for path in outputs.iter().filter_map(Output::path).chain(of_caller) {
        own.add(path, OwnFile::Output);
    }
    own
}

/// Notes which repositories have the layers of the base images: a push to the same registry then takes them over.
fn remember_origins(build: &PlannedBuild, backends: &Backends<'_>) -> Result<(), Error> {
    let of_names = |image: &&PlannedImage| image.origin == ImageOrigin::Default;
    for image in build.plans.iter().flat_map(|plan| &plan.images).filter(of_names) {
        for layer in image.image.manifest.layers() {
            backends.cache.put_origin(&layer.digest, &image.reference)?;
        }
    }
    Ok(())
}

/// The result as the first output that is an image has it, or the state directory; its documents are kept in the store,
/// and where there is no output it gets its names.
fn kept(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    targets: &[Target<'_>],
    outputs: &[Output],
) -> Result<Built, Error> {
    let of_state = || Form { annotations: build.annotations.clone(), ..Form::default() };
    let form = outputs.iter().find_map(|output| output.form(build)).unwrap_or_else(of_state);
    let built = built(build, targets, &form);
    let store = backends.store;
    for image in &built.images {
        store.put(image.manifest.config.media_type.clone(), &image.config_bytes)?;
        store.put(image.descriptor.media_type.clone(), &image.manifest_bytes)?;
    }
    if let Some(index) = &built.index {
        store.put(built.descriptor.media_type.clone(), &index.bytes)?;
    }
    if outputs.is_empty() && !build.settings.keep_incomplete {
        for target in targets {
            target.run.complete(&target.layers)?;
        }
        let named = build.tags.iter().map(|name| (name.clone(), built.descriptor.clone()));
        store.tag_all(&named.collect::<Vec<_>>(), targets[0].run.cancel)?;
    }
    Ok(built)
}
