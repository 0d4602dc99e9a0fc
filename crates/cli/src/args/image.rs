use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SnapshotterArg;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

/// `ocibuild images`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ImagesArgs {
    /// Print image IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// table, or json: an object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,
}

/// `ocibuild inspect`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectArgs {
    /// Names of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `ocibuild history`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct HistoryArgs {
    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Print whole instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// table, or json: an object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,
}

/// `ocibuild tag`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct TagArgs {
    /// Name of the image
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
    /// Names of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
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

    /// Accepted for docker's sake: nothing is asked
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `ocibuild run`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild run --rm -e MODE=test -v ./data:/data:ro app:1.0 sh -c 'ls /data'\n\n\
                        Ends with the status of the command."
)]
pub(crate) struct RunArgs {
    /// Accepted for docker's sake: containers never outlive their command
    #[arg(long)]
    pub(crate) rm: bool,

    /// Environment variable; without `=VALUE` taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Path of the host to be seen in the container
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<String>,

    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// User, as USER in a Dockerfile takes it
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Program in place of the image's entry point; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Use this OCI runtime (crun, runc, or an absolute path) in place of own namespaces
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<PathBuf>,

    /// How the container gets its root file system
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) snapshotter: SnapshotterArg,

    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Command in place of the image's
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}
