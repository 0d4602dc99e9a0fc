//! What is asked for: the data of a planned build and what it works with. Nothing is done here.

mod output;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ocibuild_dockerfile::{Dockerfile, Finding};
use ocibuild_executor::{Capabilities, Executor, Resources, Rlimit};
use ocibuild_plan::{ImageOrigin, Plan};
use ocibuild_snapshot::Snapshotter;
use ocibuild_spec::{ImageSource, Reference, Timestamp};
use ocibuild_store::{ImageLayout, Lease};

use crate::annotation::Annotation;
use crate::cache::{Cache, EncodingOptions};
use crate::context::{BuildContext, ContextSource, RemoteSource, Remotes};
use crate::error::Error;
use crate::image::OutputEpoch;
use crate::secret::Secret;
use crate::state_directory::StateDirectory;
pub use output::{Destination, Output, OutputKind};

/// What a build works with: a state directory, a source of base images, and what carries out its steps.
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    pub(crate) state: &'a StateDirectory,
    pub(crate) store: &'a ImageLayout,
    pub(crate) cache: &'a Cache,
    pub(crate) snapshots: &'a dyn Snapshotter,
    /// Source of the images that no named context replaces.
    pub(crate) base_images: &'a dyn ImageSource,
    /// Carries out `RUN`.
    pub(crate) executor: &'a dyn Executor,
}

impl std::fmt::Debug for Backends<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<'a> Backends<'a> {
    /// This state directory; base images that no named context replaces come from `base_images`, and `executor` carries out
    /// `RUN`.
    pub fn new(
        state: &'a StateDirectory,
        base_images: &'a dyn ImageSource,
        executor: &'a dyn Executor,
    ) -> Self {
        let (store, cache, snapshots) = (&state.layout, &state.cache, state.snapshots.as_ref());
        Self { state, store, cache, snapshots, base_images, executor }
    }
}

/// As many steps as run at the same time unless the caller says otherwise. Most of the time they wait for their commands.
pub(crate) const MAX_STEPS: usize = 128;

/// How a plan is carried out; nothing here changes what it says.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of the caller")]
pub(crate) struct Settings {
    pub(crate) now: Timestamp,
    pub(crate) no_cache: bool,
    pub(crate) no_cache_stages: Vec<String>,
    /// Every step is to be cached.
    pub(crate) require_cache: bool,
    /// Names of stages whose steps are to be.
    pub(crate) cached_stages: Vec<String>,
    /// How layers are compressed; what their times are clamped to follows from each platform's plan.
    pub(crate) wanted: EncodingOptions,
    pub(crate) rewrite_timestamps: bool,
    pub(crate) threads: usize,
    /// The most steps that run at the same time.
    pub(crate) steps: usize,
    pub(crate) added_hosts: Vec<(IpAddr, String)>,
    pub(crate) resolv_conf: String,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) dropped_capabilities: Capabilities,
    pub(crate) archive_limit: Option<u64>,
    pub(crate) resources: Resources,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) ssh: BTreeMap<String, SshAgent>,
    pub(crate) keep_incomplete: bool,
    pub(crate) own_files: Vec<PathBuf>,
    pub(crate) remotes: Option<Remotes>,
    pub(crate) offline: bool,
    pub(crate) keep_failed: bool,
    /// Whether the network of steps by default is a private one.
    pub(crate) private_network: bool,
}

/// What answers a `RUN --mount=type=ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SshAgent {
    /// The agent that listens at this socket. Steps may list its keys and have it sign, nothing else.
    Socket(PathBuf),
    /// An agent of the build's own with the keys in these files, for which OpenSSH's `ssh-agent` is started.
    Keys(Vec<PathBuf>),
}

impl Settings {
    /// What reaches URLs and repositories, with the secrets of the build and the repositories that the user named as its
    /// contexts.
    pub(crate) fn remotes(
        &self,
        context: &BuildContext,
        named: &BTreeMap<String, ContextSource>,
    ) -> Result<Remotes, Error> {
        let remotes = self.remotes.clone().map_or_else(Remotes::system, Ok)?;
        let remotes = if self.offline { remotes.offline() } else { remotes };
        let remotes =
            self.secrets.iter().fold(remotes, |remotes, (id, secret)| remotes.secret(id, secret.clone()));
        let repositories = named.values().filter_map(|source| match source {
            ContextSource::Remote(RemoteSource::Git(address)) => Some(address),
            ContextSource::Files(context) => context.repository(),
            _ => None,
        });
        Ok(repositories.chain(context.repository()).fold(remotes, Remotes::named_repository))
    }
}

/// The source of an image of the plan, and the name to ask it for.
pub(crate) fn image_source<'a>(
    named: &'a BTreeMap<String, ContextSource>,
    backends: &Backends<'a>,
    origin: &ImageOrigin,
    reference: &'a Reference,
) -> (&'a dyn ImageSource, &'a Reference) {
    let context = match origin {
        ImageOrigin::Default => None,
        ImageOrigin::NamedContext(name) => named.get(name),
    };
    match context {
        Some(ContextSource::Image { source, reference }) => (source.as_ref(), reference),
        Some(ContextSource::Renamed(reference)) => (backends.base_images, reference),
        _ => (backends.base_images, reference),
    }
}

/// A build whose plan is known. As long as it lives, images of the state directory that it builds on are not collected.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedBuild {
    /// What will be done for each platform, in the order asked for; plain data, and never empty.
    pub plans: Vec<Plan>,
    /// Whether the result is an index of the platforms' images.
    pub(crate) with_index: bool,
    /// What the build checks found for any of the platforms.
    pub(crate) findings: Vec<Finding>,
    /// What was planned, for messages.
    pub(crate) dockerfile: Dockerfile,
    pub(crate) context: BuildContext,
    pub(crate) named: BTreeMap<String, ContextSource>,
    pub(crate) settings: Settings,
    pub(crate) outputs: Vec<Output>,
    pub(crate) tags: Vec<Reference>,
    pub(crate) annotations: Vec<Annotation>,
    /// The epoch of the outputs.
    pub(crate) output_epoch: OutputEpoch,
    /// Keeps the images that were found from being collected.
    pub(crate) _lease: Lease,
}

impl PlannedBuild {
    /// What reaches URLs and repositories.
    pub(crate) fn remotes(&self) -> Result<Remotes, Error> {
        self.settings.remotes(&self.context, &self.named)
    }

    /// The second beyond which no time of a new layer lies (11.42).
    pub(crate) fn clamp(&self, plan: &Plan) -> Option<i64> {
        let epoch = self.output_epoch.over(plan.source_date_epoch);
        epoch.filter(|_| self.settings.rewrite_timestamps)
    }

    /// Whether the result is an index: of several platforms, or of one with `BUILDKIT_MULTI_PLATFORM=1` (11.30).
    pub fn makes_index(&self) -> bool {
        self.with_index
    }

    /// Names of build arguments that no `ARG` of any platform's plan consumed, in order (3.21).
    pub fn unused_build_args(&self) -> impl Iterator<Item = &str> {
        let (first, others) = self
            .plans
            .split_first()
            .map_or((&[][..], &[][..]), |(first, others)| (first.unused_build_args.as_slice(), others));
        let is_unused = |name: &&String| others.iter().all(|plan| plan.unused_build_args.contains(name));
        first.iter().filter(is_unused).map(String::as_str)
    }
}
