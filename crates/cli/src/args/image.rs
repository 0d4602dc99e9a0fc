use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{PullArgs, PushArgs, RegistryArgs, SnapshotterArg};

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
    /// Also drop every cached step, unpacked layer and cache mount; images stay
    #[arg(short, long)]
    pub(crate) all: bool,

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

/// `ocibuild run`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild run --rm -e MODE=test -v ./data:/data:ro app:1.0 sh -c 'ls /data'\n  \
                        ocibuild run -it app:1.0 sh\n\nEnds with the status of the command."
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

    /// Name or ID of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Command instead of the image's
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}
