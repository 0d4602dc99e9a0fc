//! Carries out a plan: stage after stage as they are needed, each step found or made.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ocibuild_layer::{LayerIndex, LayerOptions, WrittenLayer};
use ocibuild_snapshot::Tree;
use ocibuild_spec::{CancelToken, ChainId, Changeset, Digest, Timestamp};
use ocibuild_store::{BlobSink, BlobStore, Lease, ScratchDir};

use crate::build::{Backends, PlannedBuild, image_source};
use crate::cache::{Form, Record, Wanted};
use crate::copy::{
    Choice, CopyContext, NoSource, Selected, Source, TreeSource, copy, digest_all, name_in_key, select,
    select_all, workdir,
};
use crate::image::{BuiltImage, assemble};
use crate::keys::{Framed, Input, Inputs};
use crate::layers::{ImageHandle, Layer, Layers};
use crate::output::{Output, export};
use crate::plan::{
    CopyStep, FileSource, MountKind, PlannedStage, PlannedStep, RunStep, StageBase, StepKind, WorkdirStep,
};
use crate::stage::StageState;
use crate::{Error, ErrorKind, Event};

/// One run of a plan.
pub(crate) struct Run<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) layers: Layers<'a>,
    pub(crate) scratch: ScratchDir,
    events: RefCell<&'a mut dyn FnMut(Event<'_>)>,
    stages: RefCell<HashMap<usize, Arc<Finished>>>,
    started: Instant,
    /// Keeps what this build uses from being collected.
    _lease: Lease,
}

/// A stage whose steps all have a layer.
struct Finished {
    state: StageState,
    /// Some step of it, or of what it builds on, ran in this build.
    ran: bool,
}

/// A merged view and the layers it is of.
type View = (Arc<Tree>, Vec<Layer>);

/// A source and what a step selects from it.
type Selection = (Arc<dyn Source>, Vec<Vec<Selected>>);

/// How far a stage may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Only to results that exist.
    Cached,
    /// To the end.
    Full,
}

/// A step's result: its layer, what later keys build on, and the time of the layer.
struct StepResult {
    layer: Layer,
    chain: Digest,
    created: Timestamp,
    ran: bool,
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
            started: Instant::now(),
            _lease: lease,
        })
    }

    /// Makes the image and its outputs.
    pub(crate) fn build(&self, outputs: Vec<Output>) -> Result<BuiltImage, Error> {
        let plan = &self.build.plan;
        self.emit(Event::Started { steps: plan.stages.iter().map(|stage| stage.steps.len()).sum() });
        for image in &plan.images {
            self.emit(Event::BaseResolved { name: &image.name, descriptor: &image.image.descriptor });
        }
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
                Err(error) => return Err(error.at(planned.location)),
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
            state.push(result.layer, result.chain, &self.layers)?;
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
        state.push(result.layer, result.chain, &self.layers)?;
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
        let fresh = self.build.settings.no_cache
            || stage.name.as_ref().is_some_and(|name| self.build.settings.no_cache_stages.contains(name));
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

    fn run_step(
        &self,
        state: &StageState,
        step: &RunStep,
        reach: Reach,
        fresh: bool,
        id: usize,
    ) -> Result<Option<StepResult>, Error> {
        let mut inputs = Inputs::default();
        inputs.add("parent", state.chain.as_str());
        inputs.add_json("command", &RunKey::of(step));
        inputs.add("platform", self.build.plan.platform.to_string());
        inputs.add_json("limits", &self.limits_key());
        for mount in &step.mounts {
            if let Some(from) = mount.from.as_ref().filter(|_| mount.kind == MountKind::Bind) {
                let Some(value) = self.mount_key(from, &mount.source, reach)? else { return Ok(None) };
                inputs.add("mounted files", value);
            }
        }
        let key = inputs.key("run");
        if !fresh && let Some(found) = self.lookup(&key)? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        let written = crate::run::run(self, state, step, id, fresh)?;
        self.record(key, inputs.0, written, fresh).map(Some)
    }

    fn limits_key(&self) -> Vec<String> {
        let settings = &self.build.settings;
        let mut out: Vec<String> = settings
            .rlimits
            .iter()
            .map(|limit| format!("{:?}={}:{}", limit.resource, limit.soft, limit.hard))
            .collect();
        out.push(format!("shm={}", settings.shm_size));
        out.extend(settings.added_hosts.iter().map(|(_, name)| format!("host={name}")));
        out
    }

    /// What the key of a `RUN` has of files that it mounts (9.04).
    fn mount_key(&self, from: &FileSource, path: &str, reach: Reach) -> Result<Option<String>, Error> {
        match from {
            FileSource::Stage(index) => {
                Ok(self.stage(*index, reach)?.map(|stage| format!("{} {path}", stage.state.chain)))
            }
            FileSource::Image(index) => Ok(Some(format!("{} {path}", self.image_key(*index)))),
            FileSource::Context | FileSource::LocalContext(_) | FileSource::Empty => {
                let source = self.local_source(from)?;
                let selected = vec![select(source.as_ref(), path, &Choice::default())?];
                Ok(Some(digest_all(source.as_ref(), &selected, self.cancel)?.to_string()))
            }
        }
    }

    pub(crate) fn local_source(&self, from: &FileSource) -> Result<Arc<dyn Source>, Error> {
        match from {
            FileSource::Context => Ok(self.build.context.source()),
            FileSource::LocalContext(name) => match self.build.named.get(name) {
                Some(crate::ContextSource::Local(context)) => Ok(context.source()),
                _ => Err(Error::new(ErrorKind::Usage, format!("the named context {name} is no directory"))),
            },
            _ => Ok(Arc::new(NoSource)),
        }
    }

    /// The merged view and the layers of a stage or image that files are taken from.
    pub(crate) fn tree_of(&self, from: &FileSource) -> Result<Option<View>, Error> {
        match from {
            FileSource::Stage(index) => {
                let finished = self.stage(*index, Reach::Full)?.ok_or_else(Error::cancelled)?;
                Ok(Some((finished.state.tree(&self.layers)?, finished.state.stack.clone())))
            }
            FileSource::Image(index) => {
                let stack = self.image_stack(*index)?;
                Ok(Some((Arc::new(self.layers.tree(&stack)?), stack)))
            }
            _ => Ok(None),
        }
    }

    fn copy_step(
        &self,
        state: &StageState,
        step: &CopyStep,
        reach: Reach,
        fresh: bool,
    ) -> Result<Option<StepResult>, Error> {
        let found = self.copy_result(state, step, reach, fresh)?;
        Ok(found.map(|mut result| {
            if step.link {
                // The copy does not depend on what is below; what follows does.
                let mut framed = Framed::new("ocibuild linked copy v1");
                framed.field(state.chain.as_str().as_bytes());
                framed.field(result.chain.as_str().as_bytes());
                result.chain = framed.finish();
            }
            result
        }))
    }

    fn copy_result(
        &self,
        state: &StageState,
        step: &CopyStep,
        reach: Reach,
        fresh: bool,
    ) -> Result<Option<StepResult>, Error> {
        refuse_remote(step)?;
        let operation = copy_inputs(state, step);
        let quick = self.quick_key(&operation, &step.from)?;
        if !fresh
            && let Some(key) = quick.as_ref().and_then(|key| self.backends.cache.alias(key))
            && let Some(found) = self.lookup(&key)?
        {
            return Ok(Some(found));
        }
        let is_local = quick.is_none() && !matches!(step.from, FileSource::Stage(_) | FileSource::Image(_));
        if reach == Reach::Cached && !is_local {
            return Ok(None);
        }
        let (source, selected) = self.selection(step)?;
        let mut inputs = operation;
        inputs.add("files", digest_all(source.as_ref(), &selected, self.cancel)?.to_string());
        let key = inputs.key("copy");
        if let Some(quick) = &quick {
            self.backends.cache.put_alias(quick, &key)?;
        }
        if !fresh && let Some(found) = self.lookup(&key)? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        let written = self.with_copy_context(state, |context| copy(step, source, selected, context))?;
        self.record(key, inputs.0, written, fresh).map(Some)
    }

    /// The key of a copy by what its source is made from, if that is known without looking at files.
    fn quick_key(&self, operation: &Inputs, from: &FileSource) -> Result<Option<Digest>, Error> {
        let source = match from {
            FileSource::Stage(index) => match self.stage(*index, Reach::Cached)? {
                Some(finished) if !finished.ran => finished.state.chain.to_string(),
                _ => return Ok(None),
            },
            FileSource::Image(index) => self.image_key(*index).to_string(),
            _ => return Ok(None),
        };
        let mut inputs = operation.clone();
        inputs.add("source", source);
        Ok(Some(inputs.key("copy by source")))
    }

    fn selection(&self, step: &CopyStep) -> Result<Selection, Error> {
        let Some((tree, stack)) = self.tree_of(&step.from)? else {
            let source = self.local_source(&step.from)?;
            let selected = select_all(source.as_ref(), step)?;
            return Ok((source, selected));
        };
        let view = TreeSource::new(tree);
        let selected = select_all(&view, step)?;
        let origins: Vec<_> = selected.iter().flat_map(|one| view.origins(one)).collect();
        let files = self.layers.files(&stack, &origins)?;
        Ok((Arc::new(view.with_files(files)), selected))
    }

    fn workdir_step(
        &self,
        state: &StageState,
        step: &WorkdirStep,
        reach: Reach,
    ) -> Result<Option<StepResult>, Error> {
        let epoch = self.build.plan.source_date_epoch;
        let mut inputs = Inputs::default();
        inputs.add("parent", state.chain.as_str());
        inputs.add_json("directory", step);
        inputs.add("epoch", epoch.map(|seconds| seconds.to_string()).unwrap_or_default());
        let key = inputs.key("workdir");
        if let Some(found) = self.lookup(&key)? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        let epoch = epoch.map(Timestamp::from_seconds);
        let written = self.with_copy_context(state, |context| workdir(step, epoch, context))?;
        self.record(key, inputs.0, written, false).map(Some)
    }

    /// Runs a copy on the view of a stage and writes the layer it makes.
    fn with_copy_context(
        &self,
        state: &StageState,
        make: impl FnOnce(&mut CopyContext<'_>) -> Result<Changeset, Error>,
    ) -> Result<WrittenLayer, Error> {
        let tree = state.tree(&self.layers)?;
        let accounts = self.layers.accounts(&state.stack, &tree)?;
        let mut same_content = |node: &ocibuild_snapshot::Node, content: &mut dyn std::io::Read| {
            self.layers.has_content(&state.stack, node, content)
        };
        let mut context = CopyContext {
            base: &tree,
            accounts: &accounts,
            base_is_empty: state.stack.is_empty(),
            now: self.now(),
            scratch: self.scratch.path(),
            same_content: &mut same_content,
        };
        let changeset = make(&mut context)?;
        self.write(&changeset)
    }

    /// Writes a layer to the store, with its index.
    pub(crate) fn write(&self, changeset: &Changeset) -> Result<WrittenLayer, Error> {
        self.write_as(changeset, self.build.settings.wanted)
    }

    fn write_as(&self, changeset: &Changeset, wanted: Wanted) -> Result<WrittenLayer, Error> {
        let options = LayerOptions {
            compression: wanted.compression,
            clamp_mtime: wanted.clamp,
            threads: self.build.settings.threads,
        };
        let mut blob = self.backends.store.writer()?;
        let mut written = ocibuild_layer::write(changeset, &mut blob, &options, self.cancel)?;
        blob.finish_expecting(&written.descriptor)?;
        keep_times(&mut written.index, changeset);
        self.backends.cache.put_index(&written.diff_id, &written.index)?;
        Ok(written)
    }

    /// Keeps the result of a step for later builds.
    fn record(
        &self,
        key: Digest,
        inputs: Vec<Input>,
        written: WrittenLayer,
        fresh: bool,
    ) -> Result<StepResult, Error> {
        let store = self.backends.store;
        store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = Form::new(written.diff_id, written.descriptor, self.build.settings.wanted);
        let mut record = Record::new(key, inputs, self.now(), form);
        if fresh && self.backends.cache.record(&record.key).is_some() {
            // What follows must not take results that were made from what this step left behind before.
            let mut framed = Framed::new("ocibuild result v1");
            framed.field(record.key.as_str().as_bytes());
            framed.field(record.forms[0].diff_id.0.as_str().as_bytes());
            record.chain = framed.finish();
        }
        self.backends.cache.put_record(&record)?;
        Ok(StepResult {
            layer: layer_of(&record.forms[0]),
            chain: record.chain,
            created: record.created,
            ran: true,
        })
    }

    /// The recorded result of a step, in the form that this build wants.
    fn lookup(&self, key: &Digest) -> Result<Option<StepResult>, Error> {
        let Some(record) = self.backends.cache.record(key) else { return Ok(None) };
        let wanted = self.build.settings.wanted;
        let is_there = |form: &Form| -> Result<bool, Error> {
            Ok(self.layers.is_stored(&form.descriptor)? && self.backends.cache.has_index(&form.diff_id))
        };
        let layer = match record.form(wanted) {
            Some(form) if is_there(form)? => layer_of(form),
            _ => {
                let Some(other) = record.forms.iter().find(|form| is_there(form).unwrap_or(false)) else {
                    return Ok(None);
                };
                self.convert(&record, &layer_of(other))?
            }
        };
        Ok(Some(StepResult { layer, chain: record.chain, created: record.created, ran: false }))
    }

    /// Writes a recorded layer once more in the form that this build wants: the index knows its true times.
    fn convert(&self, record: &Record, layer: &Layer) -> Result<Layer, Error> {
        let changeset = self.layers.changeset(layer)?;
        let wanted = self.build.settings.wanted;
        let written = self.write_as(&changeset, wanted)?;
        self.backends.store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = Form::new(written.diff_id, written.descriptor, wanted);
        let converted = layer_of(&form);
        let mut record = record.clone();
        record.forms.push(form);
        self.backends.cache.put_record(&record)?;
        Ok(converted)
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

/// The index keeps the times as steps see them, with their nanoseconds, where the tar has whole seconds.
fn keep_times(index: &mut LayerIndex, changeset: &Changeset) {
    let mut exact = changeset.entries.iter().peekable();
    for entry in &mut index.entries {
        while exact.next_if(|other| other.path < entry.path).is_some() {}
        if let Some(same) = exact.next_if(|other| other.path == entry.path) {
            entry.metadata.mtime = same.metadata.mtime;
        }
    }
}

fn layer_of(form: &Form) -> Layer {
    Layer { diff_id: form.diff_id.clone(), descriptor: form.descriptor.clone(), image: None }
}

fn base_key(kind: &str, value: &str) -> Digest {
    let mut framed = Framed::new("ocibuild base v1");
    framed.field(kind.as_bytes());
    framed.field(value.as_bytes());
    framed.finish()
}

/// The inputs of a copy that its instruction gives (9.05).
fn copy_inputs(state: &StageState, step: &CopyStep) -> Inputs {
    let mut inputs = Inputs::default();
    let parent = if step.link { "" } else { state.chain.as_str() };
    inputs.add("parent", parent);
    inputs.add("destination", step.destination.as_str());
    for source in &step.sources {
        inputs.add("source name", String::from_utf8_lossy(&name_in_key(source)));
    }
    inputs.add_json("heredocs", &step.heredocs);
    inputs.add_json("owner", &step.chown);
    inputs.add_json("mode", &step.chmod);
    inputs.add_json("excludes", &step.excludes);
    inputs.add_json("options", &(step.add, step.link, step.parents, step.unpack));
    if step.parents {
        inputs.add_json("sources", &step.sources);
    }
    inputs
}

/// What the key of a `RUN` has of its instruction (9.02, 9.03).
#[derive(serde::Serialize)]
struct RunKey<'a> {
    args: &'a [String],
    env: &'a [(String, String)],
    cwd: &'a str,
    user: &'a str,
    script: &'a Option<(String, String)>,
    network: crate::plan::StepNetwork,
    insecure: bool,
    hostname: &'a str,
    mounts: Vec<serde_json::Value>,
}

impl<'a> RunKey<'a> {
    fn of(step: &'a RunStep) -> Self {
        let mount = |mount: &crate::plan::StepMount| {
            let id = if mount.kind == MountKind::Cache { "" } else { mount.id.as_str() };
            serde_json::json!([
                mount.kind,
                mount.target,
                id,
                mount.read_only,
                mount.mode,
                mount.uid,
                mount.gid,
                mount.size,
                mount.env,
            ])
        };
        Self {
            args: &step.args,
            env: &step.env,
            cwd: &step.cwd,
            user: &step.user,
            script: &step.script,
            network: step.network,
            insecure: step.insecure,
            hostname: &step.hostname,
            mounts: step.mounts.iter().map(mount).collect(),
        }
    }
}

/// What is not carried out yet is refused where it stands.
fn refuse_remote(step: &CopyStep) -> Result<(), Error> {
    let is_remote = |source: &&String| {
        let is_url =
            ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme));
        is_url || source.starts_with("git@")
    };
    if let Some(source) = step.sources.iter().filter(|_| step.add).find(is_remote) {
        return Err(Error::new(ErrorKind::Dockerfile, format!("ADD from {source} is not supported yet"))
            .hint("fetch it before the build and COPY it from the context"));
    }
    if step.checksum.is_some() {
        let message = "checksum requires HTTP(S) or Git sources";
        return Err(Error::new(ErrorKind::Dockerfile, message));
    }
    Ok(())
}
