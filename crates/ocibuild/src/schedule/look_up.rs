//! The first phase: what keys steps have, and whether there are results of them.

use std::borrow::Cow;
use std::sync::Arc;

use ocibuild_plan::{CopyStep, FileSource, PlannedStep, RunStep, StepKind, StepNetwork, WorkdirStep};
use ocibuild_spec::{Digest, Platform};

use super::look_ahead::LookAhead;
use super::remote::{self, is_remote};
use super::results::StepResult;
use super::{PlatformBuild, Reach};
use crate::cache::StepRecord;
use crate::copy::{Part, Selected, Source, digest_all, name_in_key};
use crate::error::Error;
use crate::failure::RunFailure;
use crate::keys::{self, Inputs, Limits};
use crate::request::Settings;
use crate::run::Mounted;
use crate::stage::StageState;

/// A question: has a step, on a stage as far as that is, a result?
#[derive(Clone, Copy)]
pub(super) struct LookUp<'s, 'p> {
    pub(super) state: &'s StageState<'p>,
    pub(super) platform: &'s Platform,
    pub(super) reach: Reach,
    /// Whatever the cache has, the step is to run again.
    pub(super) fresh: bool,
    /// What the answer is likely to be followed by: the same question about these steps.
    pub(super) behind: &'p [PlannedStep],
    pub(super) ahead: &'s LookAhead,
}

/// What a look-up found.
pub(super) enum Found<'p> {
    /// The result of an earlier build, or of this one.
    Result(Box<StepResult<'p>>),
    /// There is none.
    Missing(Box<Missing<'p>>),
    /// It takes more than the look-up was allowed to know.
    Unknown,
}

/// What was found out about a step that has no result yet: it is made from just that.
pub(super) struct Missing<'p> {
    pub(super) inputs: Inputs,
    /// Whatever the cache has, the step is to run again.
    pub(super) fresh: bool,
    pub(super) work: Work<'p>,
}

/// What there is to do.
pub(super) enum Work<'p> {
    /// With the files that the step mounts, and the network that it has.
    Run {
        step: &'p RunStep,
        mounted: Mounted<'p>,
        network: StepNetwork,
    },
    /// With the files that were selected.
    Copy {
        step: Cow<'p, CopyStep>,
        parts: Vec<Part>,
    },
    /// With the key by a checksum that is given, if there is one.
    Remote {
        step: Cow<'p, CopyStep>,
        pinned: Option<Digest>,
    },
    Workdir(&'p WorkdirStep),
}

impl Missing<'_> {
    /// The key that has no result; `None` where it does not matter whether there is one.
    pub(super) fn key(&self) -> Option<Digest> {
        let kind = match self.work {
            Work::Run { .. } => "run",
            Work::Copy { .. } | Work::Remote { .. } => "copy",
            Work::Workdir(_) => "workdir",
        };
        (!self.fresh).then(|| self.inputs.key(kind))
    }
}

impl<'a> PlatformBuild<'a> {
    /// A `RUN`. Offline it has no network; a result of a build that had one counts all the same.
    pub(super) fn look_up_run(&self, look: LookUp<'_, 'a>, step: &'a RunStep) -> Result<Found<'a>, Error> {
        if !self.build.settings.offline || step.network == StepNetwork::None {
            return self.look_up_run_with(step.network, look, step);
        }
        let cached = LookUp { reach: Reach::Cached, ..look };
        let found = self.look_up_run_with(step.network, cached, step)?;
        if matches!(found, Found::Result(_)) {
            return Ok(found);
        }
        if step.network == StepNetwork::Host {
            return Err(RunFailure::HostNetworkOffline.into());
        }
        self.look_up_run_with(StepNetwork::None, look, step)
    }

    fn look_up_run_with(
        &self,
        network: StepNetwork,
        look: LookUp<'_, 'a>,
        step: &'a RunStep,
    ) -> Result<Found<'a>, Error> {
        let limits = limits(&self.build.settings);
        let operation = keys::run(&look.state.chain, step, network, look.platform, &limits);
        let mut mounted = Mounted::of(step);
        let (files, threads) = (|from: &_, path: &_| self.mounted_digests(from, path), &self.session.threads);
        mounted.read_local(&files, threads, self.cancel)?;
        let quick = self.quick_run_key(&operation, &mounted);
        if let Some(quick) = &quick
            && let Some(found) = self.found(look, quick)?
        {
            return Ok(Found::Result(Box::new(found)));
        }
        if look.reach == Reach::Cached && !mounted.is_local() {
            return Ok(Found::Unknown);
        }
        mounted.read_all(&files, threads, self.cancel)?;
        let mut inputs = operation.clone();
        for files in &mounted.0 {
            inputs.add("mounted files", files.digest.as_deref().unwrap_or_default());
        }
        let key = inputs.key("run");
        // A source stage that ran is known now: the next build need not look at its files.
        if let Some(quick) = quick.or_else(|| self.ran_run_key(&operation, &mounted)) {
            self.session.records.put_alias(&quick, &key)?;
        }
        if let Some(found) = self.found(look, &key)? {
            return Ok(Found::Result(Box::new(found)));
        }
        let fresh = self.is_fresh(&key, look.fresh);
        let work = Work::Run { step, mounted, network };
        Ok(Found::Missing(Box::new(Missing { inputs, fresh, work })))
    }

    pub(super) fn look_up_copy(
        &self,
        look: LookUp<'_, 'a>,
        step: Cow<'a, CopyStep>,
    ) -> Result<Found<'a>, Error> {
        let operation = keys::copy(&look.state.chain, &step, name_in_key);
        if is_remote(&step) {
            let found = self.found_today(look, &step, &operation);
            return Ok(match found.map_err(|error| remote::named(error, &step))? {
                (Some(result), ..) => Found::Result(Box::new(result.linked(&step, look.state))),
                (None, inputs, pinned) => {
                    let (fresh, work) = (look.fresh, Work::Remote { step, pinned });
                    Found::Missing(Box::new(Missing { inputs, fresh, work }))
                }
            });
        }
        Ok(match self.look_up_files(look, step.clone(), &operation)? {
            Found::Result(result) => Found::Result(Box::new(result.linked(&step, look.state))),
            other => other,
        })
    }

    fn look_up_files(
        &self,
        look: LookUp<'_, 'a>,
        step: Cow<'a, CopyStep>,
        operation: &Inputs,
    ) -> Result<Found<'a>, Error> {
        let quick = self.quick_key(operation, &step.from);
        if let Some(quick) = &quick
            && let Some(found) = self.found(look, quick)?
        {
            return Ok(Found::Result(Box::new(found)));
        }
        let is_local = quick.is_none() && !matches!(step.from, FileSource::Stage(_) | FileSource::Image(_));
        if look.reach == Reach::Cached && !is_local {
            return Ok(Found::Unknown);
        }
        let (source, selected) = self.selection(&step)?;
        let (digest, source) = self.digest(&source, &selected)?;
        let mut inputs = operation.clone();
        inputs.add("files", digest.to_string());
        let key = inputs.key("copy");
        // A source stage that ran is known now: the next build need not look at its files.
        if let Some(quick) = quick.or_else(|| self.ran_key(operation, &step.from)) {
            self.session.records.put_alias(&quick, &key)?;
        }
        if let Some(found) = self.found(look, &key)? {
            return Ok(Found::Result(Box::new(found)));
        }
        let fresh = self.is_fresh(&key, look.fresh);
        let selected = selected.into_iter().flatten().collect();
        let parts = vec![Part { source, selected, unpacks: step.add && step.unpack != Some(false) }];
        Ok(Found::Missing(Box::new(Missing { inputs, fresh, work: Work::Copy { step, parts } })))
    }

    /// The result of a copy from URLs and repositories: what they are today is asked for, and fetched if nothing tells. With
    /// the inputs as they are today, and the key by a checksum that is given.
    fn found_today(
        &self,
        look: LookUp<'_, 'a>,
        step: &CopyStep,
        operation: &Inputs,
    ) -> Result<(Option<StepResult<'a>>, Inputs, Option<Digest>), Error> {
        let pinned = remote::pinned_key(step, operation)?;
        if !look.fresh
            && let Some(pinned) = &pinned
            && let Some(found) = self.found(look, pinned)?
        {
            return Ok((Some(found), operation.clone(), Some(pinned.clone())));
        }
        let (inputs, _) = self.remote_inputs(step, operation)?;
        let found = if look.fresh { None } else { self.found_remote(&inputs, pinned.as_ref())? };
        Ok((found, inputs, pinned))
    }

    pub(super) fn found_remote(
        &self,
        inputs: &Inputs,
        pinned: Option<&Digest>,
    ) -> Result<Option<StepResult<'a>>, Error> {
        let key = inputs.key("copy");
        let found = self.lookup(&key)?;
        if let (Some(_), Some(pinned)) = (&found, pinned) {
            self.session.records.put_alias(pinned, &key)?;
        }
        Ok(found)
    }

    pub(super) fn look_up_workdir(
        &self,
        look: LookUp<'_, 'a>,
        step: &'a WorkdirStep,
    ) -> Result<Found<'a>, Error> {
        let inputs = keys::workdir(&look.state.chain, step, self.plan.source_date_epoch);
        // It does the same each time.
        let look = LookUp { fresh: false, ..look };
        Ok(match self.found(look, &inputs.key("workdir"))? {
            Some(found) => Found::Result(Box::new(found)),
            None => Found::Missing(Box::new(Missing { inputs, fresh: false, work: Work::Workdir(step) })),
        })
    }

    /// The digest of what is selected of a source, and the source to copy it from.
    pub(super) fn digest(
        &self,
        source: &Arc<dyn Source>,
        selected: &[Vec<Selected>],
    ) -> Result<(Digest, Arc<dyn Source>), Error> {
        let _share = self.session.threads.take(1, self.cancel)?;
        digest_all(source, selected, self.cancel)
    }

    /// The result of a key, or of the one that it stands for, if that may be taken.
    fn found(&self, look: LookUp<'_, 'a>, key: &Digest) -> Result<Option<StepResult<'a>>, Error> {
        let behind = || self.keys_behind(look, key);
        let record = look.ahead.record(self.session.records, key, behind)?;
        match record.filter(|record: &StepRecord| !self.is_fresh(&record.key, look.fresh)) {
            Some(record) => self.result_of(record),
            None => Ok(None),
        }
    }

    /// The keys of the steps behind one, as they are if it has a result under this key: up to the first that reads files.
    fn keys_behind(&self, look: LookUp<'_, 'a>, key: &Digest) -> Vec<Digest> {
        let mut keys = Vec::new();
        if look.reach == Reach::Full || look.fresh {
            return keys;
        }
        let (limits, mut chain) = (limits(&self.build.settings), key.clone());
        for step in look.behind {
            chain = match &step.kind {
                StepKind::Run(run) if Mounted::of(run).0.is_empty() => {
                    keys::run(&chain, run, run.network, look.platform, &limits).key("run")
                }
                StepKind::Workdir(workdir) => {
                    keys::workdir(&chain, workdir, self.plan.source_date_epoch).key("workdir")
                }
                StepKind::Copy(copy) => {
                    // What it leads to is not known, and what comes after it neither.
                    keys.extend(self.quick_key(&keys::copy(&chain, copy, name_in_key), &copy.from));
                    break;
                }
                StepKind::Run(_) => break,
            };
            keys.push(chain.clone());
        }
        keys
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
}

/// What every `RUN` of a build is limited to.
fn limits(settings: &Settings) -> Limits<'_> {
    Limits {
        rlimits: &settings.rlimits,
        shm_size: settings.shm_size,
        dropped_capabilities: settings.dropped_capabilities.names().collect(),
        cgroup_parent: settings.resources.cgroup_parent.as_deref(),
        added_hosts: settings.added_hosts.iter().map(|(_, name)| name.as_str()).collect(),
    }
}

fn key_by_source(operation: &Inputs, source: &Digest) -> Digest {
    let mut inputs = operation.clone();
    inputs.add("source", source.as_str());
    inputs.key("copy by source")
}
