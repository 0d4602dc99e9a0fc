use clap::Args;

use super::RegistryArgs;

/// `ocibuild pull`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild pull alpine:3.20\n  ocibuild pull --platform linux/arm64 ghcr.io/team/app@sha256:…"
)]
pub(crate) struct PullArgs {
    /// Platform to pull of an image that has several [default: this host's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,

    /// Pull all platforms, so that the image can be pushed elsewhere as it is
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,

    /// Show no progress, and print the name only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `ocibuild push`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild tag app:1.0 registry.example.com/team/app:1.0\n  \
                        ocibuild push registry.example.com/team/app:1.0"
)]
pub(crate) struct PushArgs {
    /// Push every tag that a name has here
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Show no progress, and print the names only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Names of images; with a digest, pushed under no tag
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}
