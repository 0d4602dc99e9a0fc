use clap::{Args, Subcommand};

use super::image::TableFormat;
use super::registry::RegistryArgs;

/// `ocibuild login`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  pass show registry | ocibuild login -u alice --password-stdin registry.example.com\n\n\
                  The registry is asked before anything is stored. Credentials go into $DOCKER_CONFIG/config.json\n\
                  (~/.docker/config.json), or to the credential helper that is configured there."
)]
pub(crate) struct LoginArgs {
    /// Name of the user
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,

    #[arg(short, long, value_name = "PASSWORD", hide = true, num_args = 0..=1, default_missing_value = "")]
    pub(crate) password: Option<String>,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// The registry, as `host[:port]`; with a path after it, for these repositories only
    #[arg(value_name = "HOST", default_value = "docker.io")]
    pub(crate) host: String,
}

/// `ocibuild logout`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LogoutArgs {
    /// The registry, as for login
    #[arg(value_name = "HOST", default_value = "docker.io")]
    pub(crate) host: String,
}

/// `ocibuild auth`
#[derive(Debug, Subcommand)]
pub(crate) enum AuthVerb {
    /// Show which credentials would be sent for an image, and where they come from, without the secret
    Explain(ExplainArgs),
}

/// `ocibuild auth explain`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ExplainArgs {
    /// table, or json: an object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}
