//! The three kinds of steps: their keys, their sources, their layers.

use crate::Code;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use ocibuild_snapshot::Tree;
use ocibuild_spec::{Changeset, Digest, Platform, Timestamp};

use super::inputs::{RunKey, copy_inputs};
use super::mounted::Mounted;
use super::remote::is_remote;
use super::results::{NewLayer, StepResult};
use super::{Reach, Run};
use crate::copy::{
    Archives, Choice, CopyContext, NoSource, Part, Selected, Source, TreeSource, clean, copy, digest_all,
    literal_prefix, nothing_matches, select, select_all, workdir,
};
use crate::keys::{Framed, Inputs};
use crate::layers::Layer;
use crate::plan::{CopyStep, FileSource, RunStep, StepKind, StepNetwork, WorkdirStep};
use crate::stage::StageState;
use crate::{ContextSource, Error, ErrorKind, Event};

/// A merged view and the layers it is of.
type View = (Arc<Tree>, Vec<Layer>);

/// A source and what a step selects from it.
type Selection = (Arc<dyn Source>, Vec<Vec<Selected>>);

impl Run<'_> {
    /// A `RUN`. Offline it has no network; a result of a build that had one counts all the same.
    pub(super) fn run_step(
        &self,
        state: &StageState,
        step: &RunStep,
        platform: &Platform,
        reach: Reach,
        fresh: bool,
        id: usize,
    ) -> Result<Option<StepResult>, Error> {
        if !self.build.settings.offline || step.network == StepNetwork::None {
            return self.run_step_as_planned(state, step, platform, reach, fresh, id);
        }
        if let Some(found) = self.run_step_as_planned(state, step, platform, Reach::Cached, fresh, id)? {
            return Ok(Some(found));
        }
        if step.network == StepNetwork::Host {
            let message = "this step wants the network of the host, and the build is offline";
            return Err(Error::new(ErrorKind::Usage, message).id(Code::Offline).word("--network=host"));
        }
        let without = RunStep { network: StepNetwork::None, ..step.clone() };
        self.run_step_as_planned(state, &without, platform, reach, fresh, id)
    }

    fn run_step_as_planned(
        &self,
        state: &StageState,
        step: &RunStep,
        platform: &Platform,
        reach: Reach,
        fresh: bool,
        id: usize,
    ) -> Result<Option<StepResult>, Error> {
        let mut operation = Inputs::default();
        operation.add("parent", state.chain.as_str());
        operation.add_json("command", &RunKey::of(step));
        operation.add("platform", platform.to_string());
        operation.add_json("limits", &self.limits_key());
        let mut mounted = Mounted::of(step);
        mounted.read_local(self)?;
        let quick = self.quick_run_key(&operation, &mounted);
        if let Some(key) = quick.as_ref().and_then(|key| self.backends.cache.alias(key))
            && !self.is_fresh(&key, fresh)
            && let Some(found) = self.lookup(&key)?
        {
            return Ok(Some(found));
        }
        if reach == Reach::Cached && !mounted.is_local() {
            return Ok(None);
        }
        mounted.read_all(self)?;
        let mut inputs = operation.clone();
        for files in &mounted.0 {
            inputs.add("mounted files", files.digest.as_deref().unwrap_or_default());
        }
        let key = inputs.key("run");
        // A source stage that ran is known now: the next build need not look at its files.
        if let Some(quick) = quick.or_else(|| self.ran_run_key(&operation, &mounted)) {
            self.backends.cache.put_alias(&quick, &key)?;
        }
        let fresh = self.is_fresh(&key, fresh);
        if !fresh && let Some(found) = self.lookup(&key)? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        self.check_sandbox()?;
        let written = crate::run::run(self, state, (step, &mounted), platform, id, fresh)?;
        self.record(key, inputs.0, written, fresh).map(Some)
    }

    pub(crate) fn local_source(&self, from: &FileSource) -> Result<Arc<dyn Source>, Error> {
        match from {
            FileSource::Context => Ok(self.build.context.source_without(&self.session.own_files)),
            FileSource::LocalContext(name) => match self.build.named.get(name) {
                Some(ContextSource::Local(context)) => Ok(context.source_without(&self.session.own_files)),
                Some(ContextSource::Files(context)) => Ok(context.source_without(&self.session.own_files)),
                Some(ContextSource::Remote(source)) => self.remote_context(name, source),
                _ => Err(Error::new(ErrorKind::Usage, format!("the named context {name} is no directory"))),
            },
            _ => Ok(Arc::new(NoSource)),
        }
    }

    /// The merged view and the layers of a stage or image that files are taken from.
    pub(crate) fn tree_of(&self, from: &FileSource) -> Result<Option<View>, Error> {
        match from {
            FileSource::Stage(index) => {
                let finished = self.finished(*index).ok_or_else(Error::cancelled)?;
                Ok(Some((finished.state.tree(&self.layers)?, finished.state.stack.clone())))
            }
            FileSource::Image(index) => {
                let stack = self.image_stack(*index)?;
                Ok(Some((Arc::new(self.layers.tree(&stack)?), stack)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn copy_step(
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
        let operation = copy_inputs(state, step);
        if is_remote(step) {
            let remote =
                step.sources.iter().find(|source| source.contains("://") || source.starts_with("git@"));
            return self.remote_copy(state, step, &operation, reach, fresh).map_err(|error| match remote {
                Some(source) => error.word(source),
                None => error,
            });
        }
        let quick = self.quick_key(&operation, &step.from);
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
        let (digest, source) = digest_all(&source, &selected, self.cancel)?;
        let mut inputs = operation.clone();
        inputs.add("files", digest.to_string());
        let key = inputs.key("copy");
        let fresh = self.is_fresh(&key, fresh);
        // A source stage that ran is known now: the next build need not look at its files.
        if let Some(quick) = quick.or_else(|| self.ran_key(&operation, &step.from)) {
            self.backends.cache.put_alias(&quick, &key)?;
        }
        if !fresh && let Some(found) = self.lookup(&key)? {
            return Ok(Some(found));
        }
        if reach == Reach::Cached {
            return Ok(None);
        }
        let selected = selected.into_iter().flatten().collect();
        let parts = vec![Part { source, selected, unpacks: step.add && step.unpack != Some(false) }];
        let written = self.with_copy_context(state, |context| copy(step, parts, context))?;
        self.record(key, inputs.0, written, fresh).map(Some)
    }

    /// The key of a copy by what its source is made from, if that is known without looking at files.
    fn quick_key(&self, operation: &Inputs, from: &FileSource) -> Option<Digest> {
        match from {
            FileSource::Stage(index) => {
                let finished = self.finished(*index).filter(|finished| !finished.ran);
                finished.map(|finished| key_by_source(operation, &finished.state.chain))
            }
            FileSource::Image(index) => Some(key_by_source(operation, &self.image_key(*index))),
            _ => None,
        }
    }

    /// The same for a stage that ran in this build. What is kept under this key may be of an earlier run.
    fn ran_key(&self, operation: &Inputs, from: &FileSource) -> Option<Digest> {
        let FileSource::Stage(index) = from else { return None };
        self.finished(*index).map(|finished| key_by_source(operation, &finished.state.chain))
    }

    fn selection(&self, step: &CopyStep) -> Result<Selection, Error> {
        let Some((tree, stack)) = self.tree_of(&step.from)? else {
            let source = self.local_source(&step.from)?;
            let selected = select_all(source.as_ref(), step)?;
            if source.is_sent_on_demand() && !step.parents {
                self.check_sent(source.as_ref(), step, &selected)?;
            }
            return Ok((source, selected));
        };
        let view = TreeSource::new(tree);
        let selected = select_all(&view, step)?;
        let mut origins = Vec::new();
        for one in &selected {
            origins.extend(view.origins(one)?);
        }
        let files = self.layers.files(&stack, &origins)?;
        Ok((Arc::new(view.with_files(files)), selected))
    }

    /// A pattern without a match is no error, but the directory in front of it must have been sent, which it is not
    /// unless something in it is copied or mounted somewhere (6.05, 7.14).
    fn check_sent(
        &self,
        source: &dyn Source,
        step: &CopyStep,
        selected: &[Vec<Selected>],
    ) -> Result<(), Error> {
        let without_match = step.sources.iter().zip(selected).filter(|(_, found)| found.is_empty());
        for (word, prefix) in without_match.filter_map(|(word, _)| Some((word, literal_prefix(word)?))) {
            if !self.is_sent(source, &step.from, &prefix) {
                return Err(nothing_matches(source, word, &prefix));
            }
        }
        Ok(())
    }

    /// Whether some step of the plan copies or mounts what is in or above a directory of a context.
    fn is_sent(&self, source: &dyn Source, from: &FileSource, directory: &Path) -> bool {
        let is_near = |path: &Path| path.starts_with(directory) || directory.starts_with(path);
        let steps = self.plan.stages.iter().flat_map(|stage| &stage.steps);
        let sends = |step: &StepKind| match step {
            StepKind::Copy(copy) if copy.from == *from => copy.sources.iter().any(|word| {
                if copy.parents && word.contains(['*', '?', '[']) {
                    // What `**` may match is in no one directory.
                    return true;
                }
                // Sources that are not there are errors of their own steps.
                let found = select(source, word, &Choice::default()).unwrap_or_default();
                found.iter().any(|one| is_near(&one.path))
            }),
            StepKind::Run(run) => run
                .mounts
                .iter()
                .filter(|mount| mount.from.as_ref() == Some(from))
                .any(|mount| is_near(&clean(OsStr::new(&mount.source)))),
            _ => false,
        };
        steps.map(|step| &step.kind).any(sends)
    }

    pub(super) fn workdir_step(
        &self,
        state: &StageState,
        step: &WorkdirStep,
        reach: Reach,
    ) -> Result<Option<StepResult>, Error> {
        let epoch = self.plan.source_date_epoch;
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
    pub(super) fn with_copy_context(
        &self,
        state: &StageState,
        make: impl FnOnce(&mut CopyContext<'_>) -> Result<Changeset, Error>,
    ) -> Result<NewLayer, Error> {
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
            archives: Archives {
                scratch: self.scratch.path(),
                limit: self.build.settings.archive_limit,
                cancel: self.cancel,
                warn: &|message| self.emit(Event::Warning { message }),
            },
            same_content: &mut same_content,
            base_files: &|origins| self.layers.files(&state.stack, origins),
        };
        let changeset = make(&mut context)?;
        drop(tree);
        self.write(changeset, |_, _| Ok(()))
    }
}

fn key_by_source(operation: &Inputs, source: &Digest) -> Digest {
    let mut inputs = operation.clone();
    inputs.add("source", source.as_str());
    inputs.key("copy by source")
}
