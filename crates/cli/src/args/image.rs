use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{LimitArgs, PullArgs, PushArgs, RegistryArgs, SandboxArg, SnapshotterArg};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

/// `ocibuild image`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List the images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Show all about images as JSON
    Inspect(InspectArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove names of images; `prune` then frees the space
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Write images into an archive
    Save(SaveArgs),
    /// Load the images of an archive
    Load(LoadArgs),
    /// Free what no image and no running build needs
    Prune(PruneArgs),
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Push images to their registries
    Push(PushArgs),
}

const FORMATS: &str = "\
Formats:
  table                            the table, with titles
  table {{.ID}}\\t{{.Size}}         a table of these columns
  json                             an object per line
  {{.Repository}}:{{.Tag}}         a line for each, by a template of Go's";

/// `ocibuild images`
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = FORMATS)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct ImagesArgs {
    /// Accepted for compatibility with docker: there are no intermediate images
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,

    /// Only images for which this holds: reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE, dangling=false
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,

    /// Print image IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// table, json, raw, or a template: {{.Repository}}:{{.Tag}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// Only images of this name; a name without tag means all of its tags
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
}

/// `ocibuild inspect`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild inspect -f '{{json .Config.Env}}' app:1.0"
)]
pub(crate) struct InspectArgs {
    /// json, or a template for each image: {{.Config.Cmd}}
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// Accepted for compatibility with docker: there are images only
    #[arg(long, value_name = "TYPE", value_parser = ["image"])]
    pub(crate) r#type: Option<String>,

    /// Names or IDs of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `ocibuild history`
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = FORMATS)]
pub(crate) struct HistoryArgs {
    /// Sizes and times as people read them
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) human: bool,

    /// Print image IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whole instructions and IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// table, json, or a template: {{.Size}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// Name or ID of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `ocibuild tag`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct TagArgs {
    /// Name or ID of the image
    #[arg(value_name = "SRC")]
    pub(crate) source: String,

    /// Another name for it; an image that has it loses it
    #[arg(value_name = "DST")]
    pub(crate) name: String,
}

/// `ocibuild rmi`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RmiArgs {
    /// Remove all names of an image given by ID; images that do not exist are not an error
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Accepted for compatibility with docker: there are no parents that could be left
    #[arg(long)]
    pub(crate) no_prune: bool,

    /// Names or IDs of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// What `docker load` takes; of several platforms that of this host
    Docker,
    /// An OCI layout with everything of an image
    Oci,
}

/// `ocibuild save`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild save -o app.tar app:1.0 && docker load -i app.tar"
)]
pub(crate) struct SaveArgs {
    /// Format of the archive
    #[arg(long, value_name = "FORMAT", default_value = "docker")]
    pub(crate) format: SaveFormat,

    /// File to write; - and none are standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Names or IDs of images; a name without tag means all of its tags
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `ocibuild load`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LoadArgs {
    /// Archive of docker's or OCI's kind, compressed or not, or an OCI layout directory; - and none are standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Accepted for compatibility with docker: there is no progress to be shown
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `ocibuild du`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct DuArgs {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,
}

/// `ocibuild prune`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PruneArgs {
    /// Also drop the whole cache: steps, base images, unpacked layers, cache mounts; images with a name stay
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Also drop cached steps and base images that no build used for a while, like until=24h
    #[arg(long, value_name = "until=TIME")]
    pub(crate) filter: Vec<String>,

    /// Also drop cached steps and base images, those first that were used longest ago, until the rest takes up no more
    #[arg(long, value_name = "BYTES")]
    pub(crate) keep_storage: Option<String>,

    /// Accepted for compatibility with docker: nothing is asked
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// Each time
    Always,
    /// When it is not here
    Missing,
    /// Not at all
    Never,
}

/// What a build takes, for `run --at-step`.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --at-step")]
pub(crate) struct AtStepArgs {
    /// Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", requires = "at_step")]
    pub(crate) file: Option<PathBuf>,

    /// Stage of the step [default: the last]
    #[arg(long, value_name = "STAGE", requires = "at_step")]
    pub(crate) target: Option<String>,

    /// Value of an ARG
    #[arg(long, value_name = "NAME[=VALUE]", requires = "at_step")]
    pub(crate) build_arg: Vec<String>,

    /// Another source of files or images
    #[arg(long, value_name = "NAME=SOURCE", requires = "at_step")]
    pub(crate) build_context: Vec<String>,

    /// Platform to build for
    #[arg(long, value_name = "PLATFORM", requires = "at_step")]
    pub(crate) platform: Option<String>,

    /// Secret for steps that have to run
    #[arg(long, value_name = "SECRET", requires = "at_step")]
    pub(crate) secret: Vec<String>,

    /// Agent for steps that have to run
    #[arg(long, value_name = "AGENT", requires = "at_step")]
    pub(crate) ssh: Vec<String>,

    /// Privilege that steps may ask for
    #[arg(long, value_name = "NAME", requires = "at_step")]
    pub(crate) allow: Vec<String>,

    /// Send nothing to a network
    #[arg(long, requires = "at_step")]
    pub(crate) offline: bool,

    /// Run every step, even if it is cached
    #[arg(long, requires = "at_step")]
    pub(crate) no_cache: bool,

    /// What steps and the command are confined by
    #[arg(long, value_name = "KIND", default_value = "auto", requires = "at_step")]
    pub(crate) sandbox: SandboxArg,
}

/// `ocibuild run`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild run --rm -e MODE=test -v ./data:/data:ro app:1.0 sh -c 'ls /data'\n  \
                        ocibuild run -it app:1.0 sh\n  \
                        ocibuild run -it --at-step 3 .\n\nEnds with the status of the command."
)]
pub(crate) struct RunArgs {
    /// Accepted for compatibility with docker: containers never outlive their command
    #[arg(long)]
    pub(crate) rm: bool,

    /// Pass standard input on to the command, which otherwise has none
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Environment variable; without `=VALUE` taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// File of such variables, one per line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Path of the host to show in the container
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<String>,

    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// User, as USER in a Dockerfile takes it
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Program instead of the image's entry point; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Line for /etc/hosts
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,

    /// host: that of this machine; none: a loopback interface; private: one of its own with a way out, by pasta or
    /// slirp4netns; default: what `OCIBUILD_NETWORK` says, else the host's
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Option<String>,

    /// Capability that the command does not get, like `NET_RAW`, or `ALL`
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_drop: Vec<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Use this OCI runtime (crun, runc, or an absolute path) instead of own namespaces
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<PathBuf>,

    /// How the container gets its root file system
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) snapshotter: SnapshotterArg,

    /// When to fetch the image from its registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: PullWhen,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Enter a step that `build --on-error=keep` kept: with ARGs they are run, without the command that failed; what
    /// they change stays
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,

    /// Enter the files of a Dockerfile after a step, by its number in the progress ([test 3/7]): a shell, or ARGS
    ///
    /// The build goes as far as that step, from the cache where it can; CONTEXT takes the place of IMAGE. The target is the
    /// stage in front of the number, or that of --target.
    #[arg(long, value_name = "[STAGE:]N", conflicts_with = "bundle")]
    pub(crate) at_step: Option<String>,

    #[command(flatten)]
    pub(crate) build: AtStepArgs,

    /// Name or ID of the image (with --at-step the build context, with --bundle nothing), and the command instead of the
    /// image's
    #[arg(value_names = ["IMAGE", "ARG"], num_args = 1.., trailing_var_arg = true, required_unless_present = "bundle")]
    words: Vec<String>,
}

impl RunArgs {
    /// What comes first: an image, or a build context.
    pub(crate) fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What is after it.
    pub(crate) fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// All of it, where there is no image.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }
}
