//! Carries out plans, those of all platforms together, in two phases. First every result that exists is looked up, stage
//! by stage and nothing pulled or unpacked; then what is missing is made, at the same time wherever the plan allows.

mod carry_out;
mod conversion;
mod inputs;
mod mounted;
mod queue;
mod remote;
mod results;
mod single_flight;
mod stages;
mod steps;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ocibuild_spec::{CancelToken, ChainId, Digest, Timestamp};
use ocibuild_store::{BlobSink, Lease, ScratchDir};

use crate::build::{Backends, PlannedBuild, image_source};
use crate::cache::Wanted;
use crate::copy::OwnFiles;
use crate::layers::{ImageHandle, Layer, Layers};
use crate::plan::{CopyStep, FileSource, Plan, PlannedStage, PlannedStep, StageBase};
use crate::ssh::Agents;
use crate::{Error, ErrorKind, Event};
pub(crate) use carry_out::{Target, built, carry_out};
use inputs::base_key;
pub(crate) use mounted::{Mounted, Selection};
pub(crate) use results::NewLayer;
use single_flight::SingleFlight;
use stages::Stages;

/// What all steps of a build have in common, of whatever platform.
pub(crate) struct Session<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) backends: &'a Backends<'a>,
    events: SyncSender<Event>,
    /// Keys of steps that ran in this build: what one platform or stage makes is not made again for another (9.16).
    made: SingleFlight<Digest, ()>,
    started: Instant,
    /// A sandbox was made here.
    has_sandbox: Mutex<bool>,
    /// What was fetched so far.
    remote: remote::Fetched,
    /// Agents that were started for keys.
    pub(crate) agents: Agents,
    /// What the build writes, which no context has.
    own_files: OwnFiles,
    /// Cache mounts that this build has emptied (9.13).
    pub(crate) emptied: Mutex<HashSet<PathBuf>>,
}

impl Session<'_> {
    pub(crate) fn emit(&self, event: Event) {
        // Nobody listens any more when the listener has panicked; the build is being cancelled then.
        let _ = self.events.send(event);
    }
}

/// An error of a step, at its instruction: for one that a base brought, that is the `FROM` line.
fn of_step(error: Error, step: &PlannedStep) -> Error {
    let error = error.at(step.location);
    if step.text.starts_with("ONBUILD ") {
        return error
            .cause(format!("the trigger of the base image is: {}", step.text))
            .hint("use another base image, or build that one again with a right ONBUILD");
    }
    error
}

/// The plan of one platform, and how far it is.
pub(crate) struct Platform<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    images: Arc<[ImageHandle<'a>]>,
    scratch: ScratchDir,
    /// The form of the layers.
    wanted: Wanted,
    /// Number of the first step of each stage among the steps of all platforms, by the stage's index in the file.
    first_steps: HashMap<usize, usize>,
    stages: Stages<'a>,
    /// Keeps what this build uses from being collected.
    _lease: Lease,
}

/// The build of one platform, as somebody has it who can be cancelled by himself.
pub(crate) struct PlatformBuild<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) platform: &'a Platform<'a>,
    pub(crate) build: &'a PlannedBuild,
    pub(crate) plan: &'a Plan,
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) layers: Layers<'a>,
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
        let images = plan.images.iter().map(|image| {
            let (source, reference) = image_source(&build.named, backends, &image.origin, &image.reference);
            ImageHandle { reference: reference.clone(), source }
        });
        Ok(Self {
            session,
            plan,
            images: images.collect(),
            scratch,
            wanted: Wanted { clamp: build.clamp(plan), ..build.settings.wanted },
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
                cache: backends.cache,
                images: Arc::clone(&self.images),
                cancel,
                scratch: self.scratch.path().to_owned(),
                threads: build.settings.threads,
            },
        }
    }
}

impl<'a> PlatformBuild<'a> {
    /// Fetches the layers that the store does not have, so that the image may have a name.
    fn complete(&self, layers: &[Layer]) -> Result<(), Error> {
        for layer in layers {
            if !self.layers.is_stored(&layer.descriptor)? {
                let mut blob = self.layers.open_blob(layer)?;
                self.backends.store.put_from(&layer.descriptor, &mut blob)?;
            }
        }
        Ok(())
    }

    /// Tries whether steps can run here, unless that is known.
    pub(crate) fn check_sandbox(&self) -> Result<(), Error> {
        let mut has_sandbox = self.session.has_sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        if !*has_sandbox {
            self.backends.executor.probe()?;
            *has_sandbox = true;
        }
        Ok(())
    }

    pub(crate) fn emit(&self, event: Event) {
        self.session.emit(event);
    }

    pub(crate) fn scratch(&self) -> &'a std::path::Path {
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
    fn announce(&self, stage: &PlannedStage, found: impl Iterator<Item = (usize, ocibuild_spec::DiffId)>) {
        for (number, diff_id) in found {
            let (step, title) = (self.number(stage, number), self.title(stage, number));
            self.emit(Event::StepCached { step, title, diff_id });
        }
    }

    fn image_stack(&self, index: usize) -> Result<Vec<Layer>, Error> {
        let image = &self.plan.images[index].image;
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
        let chain = ChainId::of(self.plan.images[index].image.config.rootfs.layers());
        base_key("image", &chain.map(|id| id.to_string()).unwrap_or_default())
    }

    /// Whether the steps of a stage run whatever the cache has (9.13, 9.14).
    pub(crate) fn is_uncached(&self, stage: &PlannedStage) -> bool {
        let settings = &self.build.settings;
        settings.no_cache || stage.name.as_ref().is_some_and(|name| settings.no_cache_stages.contains(name))
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
