//! A build as the caller puts it together, and its plan.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ocibuild_dockerfile::{Dockerfile, Finding};
use ocibuild_executor::{Capabilities, Resources, Rlimit};
use ocibuild_layer::Compression;
use ocibuild_plan::{
    BaseRequest, EpochSource, NamedContext, Outline, Plan, PlanOptions, ResolveError, SourceKind,
    StepNetwork, Targets, epoch_source, first_run, parse_bool, plan as make_plan,
};
use ocibuild_spec::{CancelToken, Platform, Reference, ResolvedImage, Timestamp};

use crate::annotation::Annotation;
use crate::cache::EncodingOptions;
use crate::checks::{self, CheckReport};
use crate::context::{BuildContext, ContextSource, Fetcher, GitAddress, HttpAddress, RemoteSource, Remotes};
use crate::error::Error;
use crate::failure::{CopyProblem, OutputFailure};
use crate::output::{check_outputs, output_epoch};
use crate::request::{Backends, MAX_STEPS, Output, PlannedBuild, Settings, SshAgent, image_source};
use crate::secret::Secret;

/// A build to be planned: a Dockerfile, a context, and what the caller wants of them.
///
/// Setters do not fail; [`plan`](Self::plan) does.
#[derive(Debug)]
pub struct Build {
    pub(crate) dockerfile: Dockerfile,
    pub(crate) context: BuildContext,
    pub(crate) named: BTreeMap<String, ContextSource>,
    pub(crate) options: PlanOptions,
    pub(crate) settings: Settings,
    pub(crate) platforms: Vec<Platform>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) tags: Vec<Reference>,
    pub(crate) annotations: Vec<Annotation>,
}

impl Build {
    /// A build of the last stage for the host's platform.
    pub fn new(dockerfile: Dockerfile, context: impl Into<BuildContext>) -> Self {
        let settings = Settings {
            now: Timestamp::default(),
            no_cache: false,
            no_cache_stages: Vec::new(),
            require_cache: false,
            cached_stages: Vec::new(),
            wanted: EncodingOptions::default(),
            rewrite_timestamps: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            steps: MAX_STEPS,
            added_hosts: Vec::new(),
            resolv_conf: String::new(),
            rlimits: Vec::new(),
            shm_size: None,
            dropped_capabilities: Capabilities::NONE,
            archive_limit: None,
            resources: Resources::default(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            keep_incomplete: false,
            own_files: Vec::new(),
            remotes: None,
            offline: false,
            keep_failed: false,
            private_network: false,
        };
        Self {
            dockerfile,
            context: context.into(),
            named: BTreeMap::new(),
            options: PlanOptions::new(Platform::host()),
            settings,
            platforms: Vec::new(),
            outputs: Vec::new(),
            tags: Vec::new(),
            annotations: Vec::new(),
        }
    }

    /// The stage to build, by its name or number; without it the last one.
    #[must_use]
    pub fn target(mut self, stage: impl Into<String>) -> Self {
        self.options.target = Some(stage.into());
        self
    }

    /// Ends with this step of the target stage, as progress counts them (`[stage 3/7]`): the image has the files and the config
    /// that there are after it.
    #[must_use]
    pub fn until_step(mut self, step: usize) -> Self {
        self.options.until_step = Some(step);
        self
    }

    /// The value of an `ARG`.
    #[must_use]
    pub fn build_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.build_args.push((name.into(), value.into()));
        self
    }

    /// One more platform to build for. Several give an index (11.30); one that is there already is not
    /// built twice (11.31).
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        if !self.platforms.iter().any(|known| known.satisfies(&platform)) {
            self.platforms.push(platform);
        }
        self
    }

    /// A source of files, or an image, that the Dockerfile can refer to by this name.
    #[must_use]
    pub fn build_context(mut self, name: impl Into<String>, source: ContextSource) -> Self {
        self.named.insert(name.into(), source);
        self
    }

    /// A label of the image.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.labels.push((key.into(), value.into()));
        self
    }

    /// The network of steps that do not choose one.
    #[must_use]
    pub fn network(mut self, network: StepNetwork) -> Self {
        self.options.network = network;
        self
    }

    /// Whether [`StepNetwork::Default`] is a private network ([`Network::Private`](crate::executor::Network::Private)) and not
    /// that of the host. Like everything that is decided where a build runs, it has no part in what the cache goes by.
    #[must_use]
    pub fn private_network(mut self, private: bool) -> Self {
        self.settings.private_network = private;
        self
    }

    /// Whether steps may have the network of the host, and whether they may be privileged.
    #[must_use]
    pub fn allow(mut self, network_host: bool, insecure: bool) -> Self {
        self.options.allow_network_host |= network_host;
        self.options.allow_insecure |= insecure;
        self
    }

    /// The time the build happens at. The library reads no clock: without this, and without an epoch, it is 1970.
    #[must_use]
    pub fn now(mut self, time: impl Into<Timestamp>) -> Self {
        self.settings.now = time.into();
        self
    }

    /// `SOURCE_DATE_EPOCH`: the time that history entries get (11.41), in seconds.
    #[must_use]
    pub fn source_date_epoch(self, seconds: i64) -> Self {
        self.build_arg("SOURCE_DATE_EPOCH", seconds.to_string())
    }

    /// Makes every step again, whatever the cache has (9.13).
    #[must_use]
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.settings.no_cache = no_cache;
        self
    }

    /// The same as [`no_cache`](Self::no_cache) for one named stage.
    #[must_use]
    pub fn no_cache_stage(mut self, stage: impl Into<String>) -> Self {
        self.settings.no_cache_stages.push(stage.into().to_lowercase());
        self
    }

    /// Whether every step that the target needs must be in the cache: the first that is not is an error
    /// ([`CacheFailure::NotCached`](crate::failure::CacheFailure::NotCached)), before anything of it is made.
    #[must_use]
    pub fn require_cache(mut self, required: bool) -> Self {
        self.settings.require_cache = required;
        self
    }

    /// The same as [`require_cache`](Self::require_cache) for the steps of one named stage. A name that no stage has is an
    /// error ([`CacheFailure::UnknownStage`](crate::failure::CacheFailure::UnknownStage)).
    #[must_use]
    pub fn require_cached_stage(mut self, stage: impl Into<String>) -> Self {
        self.settings.cached_stages.push(stage.into().to_lowercase());
        self
    }

    /// Compression of the layers that are made; `force` converts layers that exist in another one (11.12).
    #[must_use]
    pub fn compression(mut self, compression: Compression, force: bool) -> Self {
        self.settings.wanted.compression = compression;
        self.settings.wanted.force = force;
        self
    }

    /// `rewrite-timestamp=true`: with an epoch, no time in a new layer is later than it (11.42).
    #[must_use]
    pub fn rewrite_timestamps(mut self, rewrite: bool) -> Self {
        self.settings.rewrite_timestamps = rewrite;
        self
    }

    /// The most steps that run at the same time, and the most threads that read, compress and unpack; at least 1. Without
    /// it there is a thread for each processor, and steps, which mostly wait for their commands, run as the plan allows.
    #[must_use]
    pub fn parallelism(mut self, jobs: usize) -> Self {
        self.settings.threads = jobs.max(1);
        self.settings.steps = jobs.max(1);
        self
    }

    /// One more line of the hosts file of steps.
    #[must_use]
    pub fn add_host(mut self, name: impl Into<String>, address: IpAddr) -> Self {
        self.settings.added_hosts.push((address, name.into()));
        self
    }

    /// Content of the host's `/etc/resolv.conf`, from which that of a step is derived (8.06).
    #[must_use]
    pub fn resolv_conf(mut self, text: impl Into<String>) -> Self {
        self.settings.resolv_conf = text.into();
        self
    }

    /// A limit of the processes of steps.
    #[must_use]
    pub fn rlimit(mut self, limit: Rlimit) -> Self {
        self.settings.rlimits.push(limit);
        self
    }

    /// The size of `/dev/shm` of steps, in bytes; 0 for the default, which is 64 MiB.
    #[must_use]
    pub fn shm_size(mut self, bytes: u64) -> Self {
        self.settings.shm_size = (bytes > 0).then_some(bytes);
        self
    }

    /// Capabilities that no step gets, those of `RUN --security=insecure` included. As with other limits of
    /// steps, a result that the cache has from steps with others is not taken.
    #[must_use]
    pub fn drop_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.settings.dropped_capabilities = self.settings.dropped_capabilities.with(capabilities);
        self
    }

    /// How many bytes an archive may have that `ADD` unpacks; without this, 250 times the size of the file, but at least
    /// 1 GiB and at most 64 GiB.
    #[must_use]
    pub fn archive_limit(mut self, bytes: u64) -> Self {
        self.settings.archive_limit = Some(bytes);
        self
    }

    /// A secret that steps may mount.
    #[must_use]
    pub fn secret(mut self, id: impl Into<String>, secret: Secret) -> Self {
        self.settings.secrets.insert(id.into(), secret);
        self
    }

    /// What is forwarded to steps under this id.
    #[must_use]
    pub fn ssh(mut self, id: impl Into<String>, agent: SshAgent) -> Self {
        self.settings.ssh.insert(id.into(), agent);
        self
    }

    /// Limits of memory and processors, and the cgroup of steps. They take an executor that makes cgroups.
    #[must_use]
    pub fn resources(mut self, resources: Resources) -> Self {
        self.settings.resources = resources;
        self
    }

    /// How URLs and repositories are reached; without this, as [`Remotes::system`] does.
    #[must_use]
    pub fn remotes(mut self, remotes: Remotes) -> Self {
        self.settings.remotes = Some(remotes);
        self
    }

    /// Nothing of the build goes to a network: URLs and repositories are what is known of them or an error, and a `RUN`
    /// has no network. Results that are in the cache count, those of steps that had a network included; what a step makes
    /// without one is kept under a key of its own. The base images of the [`Backends`] are whatever the caller gives.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// Where the image goes besides the state directory.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }

    /// A name the image gets: in the state directory when there are no outputs, in the outputs otherwise.
    #[must_use]
    pub fn tag(mut self, name: Reference) -> Self {
        self.tags.push(name);
        self
    }

    /// An annotation of the image in the state directory, and in every output that is an image.
    #[must_use]
    pub fn annotation(mut self, annotation: Annotation) -> Self {
        self.annotations.push(annotation);
        self
    }

    /// Leaves base layers that no step needed where they are; the image then has no name here.
    #[must_use]
    pub fn keep_incomplete(mut self, keep: bool) -> Self {
        self.settings.keep_incomplete = keep;
        self
    }

    /// Keeps the files of a step whose command fails, with what is mounted there, as an OCI bundle in the state directory:
    /// the error's facts say where ([`StepFact::Kept`](crate::failure::StepFact::Kept)), and
    /// [`State::enter`](crate::state::State::enter) runs commands in it. Secrets and agents are not kept.
    #[must_use]
    pub fn keep_failed(mut self, keep: bool) -> Self {
        self.settings.keep_failed = keep;
        self
    }

    /// A file that the caller writes about this build. Steps that copy the directory it lies in do not get it, as little
    /// as the build's outputs and the state directory.
    #[must_use]
    pub fn own_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.own_files.push(path.into());
        self
    }

    /// Makes a build check that is not made by default: one of ours, or an experimental one of BuildKit's.
    #[must_use]
    pub fn enable_check(mut self, rule: impl Into<String>) -> Self {
        self.options.enabled_checks.insert(rule.into());
        self
    }

    /// Makes the build checks, of all stages unless there is a target (10.07). Base images are looked up, nothing is
    /// built, and findings are not errors even where the file wants them to be one.
    pub fn check(mut self, backends: &Backends<'_>, cancel: &CancelToken) -> Result<CheckReport, Error> {
        self.options.all_stages = self.options.target.is_none();
        Ok(report(&self.checked_plans(backends, cancel)?))
    }

    /// What the target takes from outside (10.09), for the first platform. Base images are looked up, nothing is built.
    pub fn outline(mut self, backends: &Backends<'_>, cancel: &CancelToken) -> Result<Outline, Error> {
        let plans = self.checked_plans(backends, cancel)?;
        Ok(plans.into_iter().next().map(|plan| plan.outline).unwrap_or_default())
    }

    /// The stages of the file (10.09).
    pub fn targets(&self) -> Targets {
        Targets::of(&self.dockerfile)
    }

    /// Plans the build: resolves the names of base images and every word of the file. Nothing is built.
    pub fn plan(mut self, backends: &Backends<'_>) -> Result<PlannedBuild, Error> {
        self.plan_with(backends, &CancelToken::new())
    }

    /// As [`plan`](Self::plan), for callers that may want to stop it.
    pub fn plan_cancellable(
        mut self,
        backends: &Backends<'_>,
        cancel: &CancelToken,
    ) -> Result<PlannedBuild, Error> {
        self.plan_with(backends, cancel)
    }

    /// Tells planning what the named contexts are.
    fn name_contexts(&mut self) {
        let kind_of = |source: &ContextSource| match source {
            ContextSource::Local(_) | ContextSource::Files(_) | ContextSource::Remote(_) => {
                NamedContext::Local
            }
            ContextSource::Image { .. } | ContextSource::Renamed(_) => NamedContext::Image,
            ContextSource::Scratch => NamedContext::Scratch,
        };
        self.options.named_contexts =
            self.named.iter().map(|(name, source)| (name.clone(), kind_of(source))).collect();
    }

    /// Fails where this host gives no sandbox to a `RUN` that has to run. Without this, that shows when it is needed, once
    /// base images are resolved; this asks nobody, and so it only knows of a build whose steps cannot be cached, because
    /// nothing was ever built with this cache.
    pub fn check_sandbox(&mut self, backends: &Backends<'_>) -> Result<(), Error> {
        if !backends.cache.records().is_empty() {
            return Ok(());
        }
        self.name_contexts();
        match first_run(&self.dockerfile, &self.options) {
            Some(location) => {
                backends.state.check_sandbox(backends.executor).map_err(|error| error.at(location))
            }
            None => Ok(()),
        }
    }

    /// The plan of each platform, with all findings of the build checks.
    fn checked_plans(&mut self, backends: &Backends<'_>, cancel: &CancelToken) -> Result<Vec<Plan>, Error> {
        self.name_contexts();
        self.options.ignore = self.context.local().map(|local| local.ignore().clone()).unwrap_or_default();
        self.options.context_epoch = self.context.time();
        self.options.epoch_of_source = self.epoch_of_source(backends, cancel)?;
        let mut resolver = |request: &BaseRequest| -> Result<ResolvedImage, ResolveError> {
            let (source, reference) =
                image_source(&self.named, backends, &request.origin, &request.reference);
            source.resolve(reference, &request.platform, cancel).map_err(Into::into)
        };
        let mut plans: Vec<Plan> = if self.platforms.is_empty() {
            vec![make_plan(&self.dockerfile, &self.options, &mut resolver)?]
        } else {
            let of_platform = |platform: &Platform| {
                let options = PlanOptions { platform: Some(platform.clone()), ..self.options.clone() };
                make_plan(&self.dockerfile, &options, &mut resolver)
            };
            self.platforms.iter().map(of_platform).collect::<Result<_, _>>()?
        };
        for plan in &mut plans {
            checks::of_build(&mut plan.findings, &plan.checks, self.context.local(), &self.tags)?;
        }
        Ok(plans)
    }

    fn plan_with(&mut self, backends: &Backends<'_>, cancel: &CancelToken) -> Result<PlannedBuild, Error> {
        let with_index = self.with_index()?;
        // Before any image is looked for: what is found then stays until the build is done.
        let lease = backends.store.lease()?;
        let plans = self.checked_plans(backends, cancel)?;
        let report = report(&plans);
        if let Some(error) = report.clone().into_error() {
            return Err(error);
        }
        let planned = PlannedBuild {
            plans,
            findings: report.findings,
            output_epoch: output_epoch(&self.outputs, self.settings.rewrite_timestamps)?,
            with_index,
            dockerfile: self.dockerfile.clone(),
            context: self.context.clone(),
            named: std::mem::take(&mut self.named),
            settings: self.settings.clone(),
            outputs: std::mem::take(&mut self.outputs),
            tags: std::mem::take(&mut self.tags),
            annotations: std::mem::take(&mut self.annotations),
            _lease: lease,
        };
        check_outputs(&planned, backends.store.root())?;
        Ok(planned)
    }

    /// Whether the result is an index: of several platforms, or because it was asked for (3.20).
    fn with_index(&self) -> Result<bool, Error> {
        const ARGUMENT: &str = "BUILDKIT_MULTI_PLATFORM";
        let is_several = self.platforms.len() > 1;
        let given = self.options.build_args.iter().rev().find(|(name, _)| name == ARGUMENT);
        let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) else { return Ok(is_several) };
        let (argument, value) = (ARGUMENT, value.clone());
        match parse_bool(&value) {
            None => Err(OutputFailure::NotBoolean { argument, value }.into()),
            Some(false) if is_several => Err(OutputFailure::SeveralMakeAnIndex { argument, value }.into()),
            Some(wanted) => Ok(wanted),
        }
    }
}

/// What was found for any of the platforms; what was found for an earlier one is not told again.
fn report(plans: &[Plan]) -> CheckReport {
    let mut findings: Vec<Finding> = Vec::new();
    for plan in plans {
        let earlier = findings.len();
        let is_new = |finding: &&Finding| !findings[..earlier].contains(finding);
        let new: Vec<Finding> = plan.findings.iter().filter(is_new).cloned().collect();
        findings.extend(new);
    }
    let is_wanted = plans.iter().any(|plan| plan.checks.error);
    CheckReport { is_error: is_wanted && !findings.is_empty(), findings }
}

impl Build {
    /// The time of the named context or stage that `SOURCE_DATE_EPOCH` names (11.40).
    fn epoch_of_source(&self, backends: &Backends<'_>, cancel: &CancelToken) -> Result<Option<i64>, Error> {
        let wrong = |error: &dyn std::fmt::Display| CopyProblem::Address { reason: error.to_string() };
        let Some(source) = epoch_source(&self.dockerfile, &self.options)? else { return Ok(None) };
        let remote = match source {
            EpochSource::NamedContext(name) => match self.named.get(&name) {
                Some(ContextSource::Files(context)) => return Ok(context.time()),
                // Its host is among those that the user named.
                Some(ContextSource::Remote(remote)) => remote.clone(),
                // A directory has no time of its own, nor has an image.
                _ => return Ok(None),
            },
            EpochSource::Add { source, checksum, keep_git_dir }
                if SourceKind::of(&source) == SourceKind::Git =>
            {
                GitAddress::parse(&source)
                    .and_then(|address| address.with_flags(keep_git_dir, checksum.as_deref()))
                    .map(RemoteSource::Git)
                    .map_err(|error| wrong(&error))?
            }
            EpochSource::Add { source, checksum, .. } => {
                let address = HttpAddress::parse(&source).map_err(|error| wrong(&error))?;
                RemoteSource::Http(address.with_checksum(checksum))
            }
        };
        let remotes = self.settings.remotes(&self.context, &self.named)?;
        let fetcher = Fetcher::new(&remotes, backends.store, cancel, self.settings.now);
        Ok(fetcher.fetch_any(&remote)?.time())
    }
}
