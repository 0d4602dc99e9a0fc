//! The three kinds of steps: their sources, and how their layers are made.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use ocibuild_plan::{CopyStep, FileSource, StepKind};
use ocibuild_snapshot::Tree;
use ocibuild_spec::{Changeset, Digest, Platform, Timestamp};

use super::look_up::{Missing, Work};
use super::remote;
use super::results::StepResult;
use super::{OnFailure, PlatformBuild};
use crate::context::ContextSource;
use crate::copy::{
    Archives, Choice, CopyContext, NoSource, Selected, Source, TreeSource, clean, copy, literal_prefix,
    name_in_key, nothing_matches, select, select_all, workdir,
};
use crate::error::Error;
use crate::event::Event;
use crate::failure::{ContextFailure, RunFailure};
use crate::keys::{self, Inputs};
use crate::layer_writer::NewLayer;
use crate::layers::Layer;
use crate::run::{Job, Selection, StepContext};
use crate::stage::StageState;

/// A merged view and the layers it is of.
type View<'a> = (Arc<Tree>, Vec<Layer<'a>>);

impl<'a> PlatformBuild<'a> {
    /// Makes the result of a step on a stage; `id` is its number among all steps.
    pub(super) fn make(
        &self,
        state: &StageState<'a>,
        platform: &Platform,
        missing: Missing<'_>,
        id: usize,
    ) -> Result<StepResult<'a>, Error> {
        let Missing { inputs, fresh, work } = missing;
        match work {
            Work::Run { step, mounted, network } => {
                let job = Job { state, step, network, mounted: &mounted, platform, id, fresh };
                self.make_run(&job, inputs)
            }
            Work::Copy { step, parts } => {
                let key = inputs.key("copy");
                let made = self.once(&key, || {
                    let written = self.with_copy_context(state, |context| copy(&step, parts, context))?;
                    self.record(key.clone(), inputs.0, written, fresh)
                })?;
                Ok(made.linked(&step, state))
            }
            Work::Remote { step, pinned } => {
                let made = self.make_remote(state, &step, &inputs, pinned.as_ref(), fresh);
                Ok(made.map_err(|error| remote::named(error, &step))?.linked(&step, state))
            }
            Work::Workdir(step) => {
                let epoch = self.plan.source_date_epoch.map(Timestamp::from_seconds);
                let key = inputs.key("workdir");
                self.once(&key, || {
                    let written = self.with_copy_context(state, |context| workdir(step, epoch, context))?;
                    self.record(key.clone(), inputs.0, written, fresh)
                })
            }
        }
    }

    fn make_run(&self, job: &Job<'_>, inputs: Inputs) -> Result<StepResult<'a>, Error> {
        let (key, id) = (inputs.key("run"), job.id);
        self.once(&key, || {
            self.check_sandbox()?;
            let held = &self.session.held;
            let hold = |step| held.lock().unwrap_or_else(PoisonError::into_inner).push(step);
            let hold = (!matches!(self.session.on_failure, OnFailure::Discard)).then_some(hold);
            let context = StepContext {
                layers: &self.layers,
                snapshots: self.backends.snapshots,
                executor: self.backends.executor,
                settings: &self.build.settings,
                dockerfile: &self.build.dockerfile,
                agents: &self.session.agents,
                caches: &self.session.caches,
                scratch: self.scratch(),
                writer: self.writer(),
                files: &|from, path| self.mounted_files(from, path),
                path_of: &|from, path| self.mounted_path(from, path),
                in_context: &|path| self.build.context.source().stat(path).is_ok_and(|found| found.is_some()),
                output: &|stderr, bytes| {
                    self.emit(Event::Output { step: id, stderr, bytes: bytes.to_vec() });
                },
                now: &|| self.now(),
                cancel: self.cancel,
                hold: hold.as_ref().map(|hold| hold as _),
            };
            let written = crate::run::run(&context, job)?;
            self.record(key.clone(), inputs.0, written, job.fresh)
        })
    }

    /// Makes the result of a key, unless another stage or platform of this build makes it: then that is taken.
    fn once(
        &self,
        key: &Digest,
        make: impl FnOnce() -> Result<StepResult<'a>, Error>,
    ) -> Result<StepResult<'a>, Error> {
        let mut result = None;
        self.session.made.get_or(
            key,
            self.cancel,
            |()| true,
            |_| {
                result = Some(make()?);
                Ok(())
            },
        )?;
        if let Some(made) = result {
            return Ok(made);
        }
        let found = self.lookup(key)?;
        found.ok_or_else(|| RunFailure::ResultGone.into())
    }

    pub(super) fn local_source(&self, from: &FileSource) -> Result<Arc<dyn Source>, Error> {
        let (own, digests) = (&self.session.own_files, &self.session.digests);
        match from {
            FileSource::Context => Ok(self.build.context.source_of_build(own, digests)),
            FileSource::LocalContext(name) => match self.build.named.get(name) {
                Some(ContextSource::Local(context)) => Ok(context.source_of_build(own, digests)),
                Some(ContextSource::Files(context)) => Ok(context.source_of_build(own, digests)),
                Some(ContextSource::Remote(source)) => self.remote_context(name, source),
                _ => Err(ContextFailure::NamedNotADirectory { name: name.clone() }.into()),
            },
            _ => Ok(Arc::new(NoSource)),
        }
    }

    /// The merged view and the layers of a stage or image that files are taken from.
    pub(super) fn tree_of(&self, from: &FileSource) -> Result<Option<View<'a>>, Error> {
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

    fn make_remote(
        &self,
        state: &StageState<'a>,
        step: &CopyStep,
        known: &Inputs,
        pinned: Option<&Digest>,
        fresh: bool,
    ) -> Result<StepResult<'a>, Error> {
        let fetched = self.fetch_remote(step)?;
        // What came may be newer than what the server was asked about, or what the context had.
        let (today, local) = self.remote_inputs(step, &keys::copy(&state.chain, step, name_in_key))?;
        let mut local = local.into_iter();
        let parts = fetched.into_iter().filter_map(|part| part.or_else(|| local.next())).collect();
        if today != *known
            && !fresh
            && let Some(found) = self.found_remote(&today, pinned)?
        {
            return Ok(found);
        }
        let key = today.key("copy");
        let result = self.once(&key, || {
            let written = self.with_copy_context(state, |context| copy(step, parts, context))?;
            self.record(key.clone(), today.0, written, fresh)
        })?;
        if let Some(pinned) = pinned {
            self.session.records.put_alias(pinned, &key)?;
        }
        Ok(result)
    }

    pub(super) fn selection(&self, step: &CopyStep) -> Result<Selection, Error> {
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

    /// A pattern without a match is not an error, but the directory in front of it must have been sent, which it is not
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

    /// Runs a copy on the view of a stage and writes the layer it makes.
    pub(super) fn with_copy_context(
        &self,
        state: &StageState<'a>,
        make: impl FnOnce(&mut CopyContext<'_>) -> Result<Changeset, Error>,
    ) -> Result<NewLayer, Error> {
        let tree = state.tree(&self.layers)?;
        let accounts = self.layers.accounts(&state.stack, &tree)?;
        let mut context = CopyContext {
            base: &tree,
            accounts: &accounts,
            base_is_empty: state.stack.is_empty(),
            now: self.now(),
            archives: Archives {
                scratch: self.scratch(),
                limit: self.build.settings.archive_limit,
                threads: &self.session.threads,
                cancel: self.cancel,
                warn: &|message| self.emit(Event::Warning { message: message.to_owned() }),
            },
            base_digests: &|files| self.layers.digests(&state.stack, files),
            base_files: &|origins| self.layers.files(&state.stack, origins),
        };
        let changeset = make(&mut context)?;
        drop(tree);
        self.writer().write(changeset, |_, _| Ok(()))
    }
}
