//! All platforms of a build, one after the other, and what becomes of them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use ocibuild_spec::CancelToken;
use ocibuild_store::BlobSink;

use super::{Run, Session};
use crate::build::{Backends, PlannedBuild};
use crate::copy::{ContextDigests, OwnFile, OwnFiles};
use crate::image::{Built, Finished, Form, put_together};
use crate::layers::Layer;
use crate::output::{Output, export};
use crate::plan::{ImageOrigin, PlannedImage};
use crate::ssh::Agents;
use crate::stage::StageState;
use crate::{Error, Event};

/// The finished target stage of one platform.
pub(crate) struct Target<'a> {
    pub(crate) run: Run<'a>,
    pub(crate) state: StageState,
    /// The layers in the form that outputs get.
    pub(crate) layers: Vec<Layer>,
}

impl<'a> Target<'a> {
    fn new(run: Run<'a>) -> Result<Self, Error> {
        let state = run.target()?;
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

/// Makes the images and their outputs.
pub(crate) fn carry_out(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    cancel: &CancelToken,
    events: &mut dyn FnMut(Event<'_>),
    outputs: Vec<Output>,
) -> Result<Built, Error> {
    let events = RefCell::new(events);
    let emit = |event: Event<'_>| (events.borrow_mut())(event);
    let session = Session {
        build,
        backends,
        cancel,
        events: &emit,
        made: RefCell::default(),
        remote: RefCell::default(),
        agents: Agents::default(),
        own_files: own_files(build, backends, &outputs),
        digests: ContextDigests::new(backends.cache),
        emptied: Mutex::default(),
        started: Instant::now(),
        has_sandbox: Cell::new(false),
    };
    backends.store.sweep_dead_scratch()?;
    let steps = |plan: &crate::plan::Plan| plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>();
    emit(Event::Started { steps: build.plans.iter().map(steps).sum() });
    let mut known = HashSet::new();
    for image in build.plans.iter().flat_map(|plan| &plan.images) {
        if known.insert((&image.name, &image.image.descriptor.digest)) {
            emit(Event::BaseResolved { name: &image.name, descriptor: &image.image.descriptor });
        }
    }
    for directory in outputs.iter().filter_map(|output| inside_context(build, output)) {
        let message = format!(
            "the output directory {} is left out of the build context; a step that names it copies it all the same",
            directory.display()
        );
        emit(Event::Warning { message: &message });
    }
    let mut first_step = 0;
    let target = |plan| {
        let run = Run::new(&session, plan, first_step)?;
        first_step += steps(plan);
        Target::new(run)
    };
    let targets: Result<Vec<Target<'_>>, Error> = build.plans.iter().map(target).collect();
    // After a failure, too: the next build has the same context.
    let saved = session.digests.save();
    let targets = targets?;
    saved?;
    remember_origins(build, backends)?;
    let built = kept(build, backends, &targets, &outputs)?;
    emit(Event::ImageBuilt { descriptor: &built.descriptor });
    for output in outputs {
        let what = output.describe(build);
        emit(Event::Exporting { what: &what });
        export(build, &targets, output, &emit)?;
        emit(Event::Exported { what: &what });
    }
    Ok(built)
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
