//! A planned build carried out: its schedule, what becomes of the images, and how the caller hears of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use ocibuild_plan::{ImageOrigin, PlannedImage};
use ocibuild_spec::CancelToken;
use ocibuild_store::{BlobSink as _, ImageLayout};

use crate::copy::{OwnFile, OwnFiles};
use crate::error::Error;
use crate::event::Event;
use crate::finished::{FinishedImage, built};
use crate::image::{Built, DocumentStyle};
use crate::output::export;
use crate::request::{Backends, Output, PlannedBuild};
use crate::schedule::{FailedStep, Message, OnFailure, Schedule, Session};

impl PlannedBuild {
    /// Carries out the plans. Every event goes to `events`, from the calling thread; the last one, whether the build
    /// succeeds or fails, tells what the build checks found, if anything.
    ///
    /// Cancelling, an error, and the end of this process leave what earlier builds made as it was; steps that were
    /// finished stay cached.
    pub fn run(
        self,
        backends: &Backends<'_>,
        cancel: &CancelToken,
        events: impl FnMut(Event),
    ) -> Result<Built, Error> {
        let on_failure = if self.settings.keep_failed { OnFailure::Keep } else { OnFailure::Discard };
        self.run_with(backends, cancel, events, on_failure)
    }

    /// The same with somebody who is called should the command of a `RUN` fail, once nothing else of the build runs and every
    /// event was dealt with; on a thread of the build, before this returns. There the step can be
    /// [entered](FailedStep::enter). The build fails as it would without, and if `attend` fails, its error is told besides.
    pub fn run_attended(
        self,
        backends: &Backends<'_>,
        cancel: &CancelToken,
        events: impl FnMut(Event),
        attend: impl FnMut(&mut FailedStep<'_>) -> Result<(), Error> + Send,
    ) -> Result<Built, Error> {
        let attend = Mutex::new(attend);
        let attend = |step: &mut FailedStep<'_>| {
            let mut attend = attend.lock().unwrap_or_else(PoisonError::into_inner);
            attend(step)
        };
        self.run_with(backends, cancel, events, OnFailure::Attend(&attend))
    }

    fn run_with(
        mut self,
        backends: &Backends<'_>,
        cancel: &CancelToken,
        mut events: impl FnMut(Event),
        on_failure: OnFailure<'_>,
    ) -> Result<Built, Error> {
        let outputs = std::mem::take(&mut self.outputs);
        let result = carry_out(&self, backends, cancel, (&mut events, on_failure), outputs);
        if !self.findings.is_empty() && !cancel.is_cancelled() {
            events(Event::Findings { findings: self.findings.clone() });
        }
        let unused: Vec<&str> = self.unused_build_args().collect();
        result.map_err(|error| {
            crate::copy::mistakes::explain(error, &self.dockerfile, &unused).labelled(&self.dockerfile.source)
        })
    }
}

/// Events that may wait for the caller; then whoever has another one waits.
const EVENTS: usize = 256;

/// Makes the images and their outputs. The work is done by threads of its own, and `events` is called by this one.
fn carry_out(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    cancel: &CancelToken,
    (events, on_failure): (&mut dyn FnMut(Event), OnFailure<'_>),
    outputs: Vec<Output>,
) -> Result<Built, Error> {
    let (sender, receiver) = sync_channel(EVENTS);
    let cancel = &cancel.child();
    std::thread::scope(move |scope| {
        let work = move || {
            backends
                .state
                .privilege()
                .run(move || build_all(build, backends, cancel, (sender, on_failure), outputs))
        };
        let work = std::thread::Builder::new().name("build".to_owned()).spawn_scoped(scope, work);
        let work = work.map_err(Error::no_thread)?;
        // Should `events` panic, this and the receiver go at once, and nothing is waited for in vain. Else nobody is left
        // to be cancelled: the receiver has seen the last event.
        let _end = CancelOnDrop(cancel);
        for message in receiver {
            match message {
                Message::Event(event) => events(*event),
                // Who asked may have been killed by a panic.
                Message::Reached(reached) => drop(reached.send(())),
            }
        }
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
    (events, on_failure): (SyncSender<Message>, OnFailure<'_>),
    outputs: Vec<Output>,
) -> Result<Built, Error> {
    let own_files = own_files(build, backends, &outputs);
    let session = Session::new(build, backends, cancel, own_files, (events, on_failure));
    backends.store.sweep_dead_scratch()?;
    let steps = |plan: &ocibuild_plan::Plan| plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>();
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
    let schedule = Schedule::new(&session)?;
    let images = schedule.carry_out()?;
    remember_origins(build, backends)?;
    let built = kept(build, backends, cancel, &images, &outputs)?;
    session.emit(Event::ImageBuilt { descriptor: built.descriptor.clone() });
    for output in outputs {
        let what = output.describe(build);
        session.emit(Event::Exporting { what: what.clone() });
        export(build, &images, output, &|event| session.emit(event))?;
        session.emit(Event::Exported { what });
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
            backends.cache.origins().put(&layer.digest, &image.reference)?;
        }
    }
    Ok(())
}

/// The result as the first output that is an image has it, or the state directory; its documents are kept in the store,
/// and where there is no output it gets its names.
fn kept(
    build: &PlannedBuild,
    backends: &Backends<'_>,
    cancel: &CancelToken,
    images: &[FinishedImage<'_>],
    outputs: &[Output],
) -> Result<Built, Error> {
    let of_state = || DocumentStyle { annotations: build.annotations.clone(), ..DocumentStyle::default() };
    let form = outputs.iter().find_map(|output| output.form(build)).unwrap_or_else(of_state);
    let built = built(images, build.with_index, &form);
    let store = backends.store;
    for image in &built.images {
        store.put(image.manifest.config.media_type.clone(), &image.config_bytes)?;
        store.put(image.descriptor.media_type.clone(), &image.manifest_bytes)?;
    }
    if let Some(index) = &built.index {
        store.put(built.descriptor.media_type.clone(), &index.bytes)?;
    }
    if outputs.is_empty() && !build.settings.keep_incomplete {
        for image in images {
            fetch_missing(store, image)?;
        }
        let named = build.tags.iter().map(|name| (name.clone(), built.descriptor.clone()));
        store.tag_all(&named.collect::<Vec<_>>(), cancel)?;
    }
    Ok(built)
}

/// Fetches the layers that the store does not have, so that the image may have a name.
fn fetch_missing(store: &ImageLayout, image: &FinishedImage<'_>) -> Result<(), Error> {
    for layer in &image.layers {
        if !image.source.is_stored(&layer.descriptor)? {
            let mut blob = image.source.open_blob(layer)?;
            store.put_from(&layer.descriptor, &mut blob)?;
        }
    }
    Ok(())
}
