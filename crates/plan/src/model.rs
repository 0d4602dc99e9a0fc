use std::path::PathBuf;

use ocibuild_dockerfile::{CheckOptions, Finding, Location};
use ocibuild_spec::{History, ImageConfig, Platform, Reference, ResolvedImage};
use serde::Serialize;

use super::Outline;

/// A build as plain data: what will be done, with every word resolved, before anything is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The platform that is built for.
    pub platform: Platform,
    /// The stages that the target needs, each after those it needs itself.
    pub stages: Vec<PlannedStage>,
    /// Index in `stages` of the stage that becomes the image; the last, unless stages it does not need were planned too.
    pub target: usize,
    /// Images that stages start from or copy from, each once.
    pub images: Vec<PlannedImage>,
    /// Time that the build pretends to happen at (11.40), in seconds.
    pub source_date_epoch: Option<i64>,
    /// Names of build arguments that no `ARG` consumed, in order (3.21).
    pub unused_build_args: Vec<String>,
    /// What the target takes from outside.
    pub outline: Outline,
    /// What the build checks found, by line.
    pub findings: Vec<Finding>,
    /// What the build checks were asked for.
    pub checks: CheckOptions,
}

impl Plan {
    /// Whether the target's steps stand on an image that a `FROM` names, whose layers stay as they are. A named context that
    /// replaces a stage is that stage, and its layers are the build's own (11.42).
    pub fn target_has_base(&self) -> bool {
        let mut stage = self.stages.get(self.target);
        while let Some(PlannedStage { base: StageBase::Stage(below), .. }) = stage {
            stage = self.stages.get(*below);
        }
        stage.is_some_and(|stage| stage.location.is_some())
    }
}

/// One stage.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Index in the file.
    pub index: usize,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// The platform that its commands run on: that of `FROM --platform`, of the stage it starts from, or the target's.
    pub platform: Platform,
    /// What it starts from.
    pub base: StageBase,
    /// Its `FROM` line; `None` when a named context replaced the stage.
    pub location: Option<Location>,
    /// The text of its `FROM` line.
    pub text: String,
    /// What changes its files, in order.
    pub steps: Vec<PlannedStep>,
    /// The `n` of progress (8.23): an image's `FROM`, every step, and each `WORKDIR /`, which makes none.
    pub progress_total: usize,
    /// The image's config at the end of the stage, with the history of its base only: times are known when the steps
    /// are done.
    pub config: ImageConfig,
    /// Entries that the stage adds to the history, in order.
    pub history: Vec<PlannedHistory>,
}

/// An entry of the history whose time is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHistory {
    /// The instruction.
    pub created_by: String,
    /// Index in [`PlannedStage::steps`] of the step that makes the entry's layer; `None` for an empty layer.
    pub step: Option<usize>,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// Another stage, by its index in [`Plan::stages`].
    Stage(usize),
    /// An image, by its index in [`Plan::images`].
    Image(usize),
    /// The files of a local directory given as a named context (4.33), by the context's name.
    LocalContext(String),
}

/// An image that the plan reads from.
#[derive(Debug, Clone)]
pub struct PlannedImage {
    /// The name as the file has it, after expansion.
    pub name: String,
    /// The name to ask its source for.
    pub reference: Reference,
    /// The platform asked for.
    pub platform: Platform,
    /// Where it comes from.
    pub origin: ImageOrigin,
    /// What it is.
    pub image: ResolvedImage,
}

/// Which source an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOrigin {
    /// The source of base images.
    Default,
    /// The named context with this name.
    NamedContext(String),
}

/// One step that makes a layer.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// What is done.
    pub kind: StepKind,
    /// Where the instruction stands; for a trigger, the `FROM` line that fired it.
    pub location: Location,
    /// The instruction as progress shows it (8.23), without the stage.
    pub text: String,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// Runs a command.
    Run(Box<RunStep>),
    /// Copies files.
    Copy(Box<CopyStep>),
    /// Makes a directory.
    Workdir(WorkdirStep),
}

/// `RUN`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunStep {
    /// The argument vector, shell included.
    pub args: Vec<String>,
    /// The shell that commands in shell form are given to, whatever form this one has; a list of program and flags.
    #[serde(skip)]
    pub shell: Vec<String>,
    /// The command as an error message shows it between quotes (5.102): the arguments joined by blanks.
    pub command: String,
    /// The environment of the step, in order, without `HOME` (8.02).
    pub env: Vec<(String, String)>,
    /// Proxy variables, which are not part of the key (3.19).
    pub proxy_env: Vec<(String, String)>,
    /// Directory to start in, absolute.
    pub cwd: String,
    /// `USER` in effect, empty for root.
    pub user: String,
    /// Mounts of the flags, in the order of the file.
    pub mounts: Vec<StepMount>,
    /// A script to be mounted at `/dev/pipes/NAME`: its name and content (1.78).
    pub script: Option<(String, String)>,
    /// Network.
    pub network: StepNetwork,
    /// `--security=insecure`
    pub insecure: bool,
    /// Host name.
    pub hostname: String,
}

/// Network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepNetwork {
    /// The host's, by default.
    Default,
    /// The host's, as asked for.
    Host,
    /// Loopback only.
    None,
}

/// `RUN --mount`, resolved; what does not apply to a type is at its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own in the flag")]
pub struct StepMount {
    /// Which type.
    pub kind: MountKind,
    /// Where it is mounted, absolute and clean; empty for a secret that is a variable only.
    pub target: String,
    /// Where its content comes from, for `bind` and `cache`.
    pub from: Option<FileSource>,
    /// Path below that source, absolute and clean.
    pub source: String,
    /// Whether a cache that is new begins as an empty directory with the mode, user and group below (0755, 0, 0), not
    /// with the content of `from`. The cache's identity includes `from` all the same.
    pub starts_empty: bool,
    /// Whether it is read only.
    pub read_only: bool,
    /// Identity of a cache, secret or agent; with its prefix (3.20) for a cache.
    pub id: String,
    /// Sharing of a cache.
    pub sharing: CacheSharing,
    /// Mode, user and group where the type has them.
    pub mode: Option<u32>,
    /// User of a cache, secret or socket.
    pub uid: Option<u32>,
    /// Group of a cache, secret or socket.
    pub gid: Option<u32>,
    /// Size limit of a tmpfs in bytes.
    pub size: Option<u64>,
    /// Whether a missing secret or agent is an error.
    pub required: bool,
    /// Variable that gets the secret's value.
    pub env: Option<String>,
    /// Whether a secret with `env` is mounted as a file too.
    pub as_file: bool,
}

/// The types of `--mount`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// Files of a context, stage or image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file.
    Secret,
    /// A forwarded agent.
    Ssh,
}

/// `sharing` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheSharing {
    /// All at once.
    #[default]
    Shared,
    /// A fresh directory for whoever comes second.
    Private,
    /// One after the other.
    Locked,
}

/// `COPY` and `ADD`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyStep {
    /// Whether it is an `ADD`.
    pub add: bool,
    /// Where the sources are.
    pub from: FileSource,
    /// Sources after expansion, as written otherwise; URLs and git references of `ADD` among them.
    pub sources: Vec<String>,
    /// Heredoc files: name and content, expanded.
    pub heredocs: Vec<(String, String)>,
    /// Destination joined to the working directory and cleaned, absolute; ends in `/` when it must be a directory.
    pub destination: String,
    /// `--chown` after expansion; `None` when not given or empty.
    pub chown: Option<String>,
    /// `--chmod` after expansion, known to be well formed; `None` when not given or empty.
    pub chmod: Option<String>,
    /// `--link` (not set when `--chmod` is given, 5.206).
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub excludes: Vec<String>,
    /// `--checksum`
    pub checksum: Option<String>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--unpack`
    pub unpack: Option<bool>,
}

/// `WORKDIR`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkdirStep {
    /// The directory, absolute, as the config has it.
    pub path: PathBuf,
    /// `USER` in effect.
    pub user: String,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSource {
    /// The build context.
    Context,
    /// A local directory given as a named context.
    LocalContext(String),
    /// A stage, by its index in [`Plan::stages`].
    Stage(usize),
    /// An image, by its index in [`Plan::images`].
    Image(usize),
    /// Nothing at all (`scratch`).
    Empty,
}

impl PlannedStage {
    /// How progress and errors call the stage (8.23).
    pub fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{}", self.index))
    }
}

impl PlannedHistory {
    /// The finished entry.
    pub fn finish(&self, created: Option<ocibuild_spec::Timestamp>) -> History {
        History {
            created,
            created_by: self.created_by.clone(),
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty_layer: self.step.is_none(),
            ..History::default()
        }
    }
}
