use clap::{Args, Subcommand};

use super::{RegistryArgs, ReportFormat};

#[derive(Debug, Subcommand)]
pub(crate) enum IndexVerb {
    /// Draft an index of images that are here or at registries
    Create(IndexCreateArgs),
    /// Change platforms and annotations of a draft
    Annotate(IndexAnnotateArgs),
    /// Show a draft, or else the index of this name here, or else the one at its registry
    Inspect(IndexInspectArgs),
    /// Push a draft with its images, or join other jobs that build one platform each
    Push(IndexPushArgs),
    /// Remove drafts; what was pushed stays
    Rm(IndexRmArgs),
}

/// `ocibuild index create`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  ocibuild index create registry.example.com/team/app:1.0 app:1.0-amd64 app:1.0-arm64\n  \
                        ocibuild index push registry.example.com/team/app:1.0"
)]
pub(crate) struct IndexCreateArgs {
    /// Extend the draft of this name, or else what the name stands for at its registry
    #[arg(short, long, visible_alias = "amend")]
    pub(crate) append: bool,

    /// Let images replace earlier ones for the same platform
    #[arg(long)]
    pub(crate) replace: bool,

    /// Annotation of the index; of what it says of images with manifest-descriptor:KEY=VALUE
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name the index is to get
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Images, each of one platform or of several: names here, or else at registries
    #[arg(value_name = "IMAGE", required_unless_present = "append")]
    pub(crate) images: Vec<String>,
}

/// `ocibuild index annotate`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild index annotate --arch arm --variant v7 team/app:1.0 app:1.0-arm\n  \
                        ocibuild index annotate --annotation org.opencontainers.image.version=1.0 team/app:1.0"
)]
pub(crate) struct IndexAnnotateArgs {
    /// Take the image for this platform
    #[arg(long, value_name = "PLATFORM", conflicts_with = "image")]
    pub(crate) platform: Option<String>,

    /// Operating system
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,

    /// Architecture
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,

    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,

    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,

    /// Features of the operating system
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,

    /// Annotation of what the index says of the image, or without an image of the index; index:KEY=VALUE always of the
    /// index
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,

    /// Name of the drafted index
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Image in it: as it was named, or its digest
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// `ocibuild index inspect`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct IndexInspectArgs {
    /// text, or json: the index itself
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the index
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `ocibuild index push`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild index push --purge team/app:1.0\n  \
                        ocibuild index push --expect linux/amd64,linux/arm64 --run \"$RUN_ID\" team/app:1.0 app:built-here\n\n\
                        With --expect and without IMAGE nothing is brought: missing platforms are an error then."
)]
pub(crate) struct IndexPushArgs {
    /// Push IMAGE for its platform, and the index once the images of all these platforms are there
    #[arg(long, value_name = "PLATFORM,…", value_delimiter = ',', conflicts_with = "purge")]
    pub(crate) expect: Vec<String>,

    /// What the jobs of one run have in common, so that images of earlier runs do not count
    #[arg(long, value_name = "ID", requires = "expect")]
    pub(crate) run: Option<String>,

    /// Remove the draft afterwards
    #[arg(short, long)]
    pub(crate) purge: bool,

    /// Show no progress, and print the name only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the index
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Images that this job brings: names here, or else at registries
    #[arg(value_name = "IMAGE", requires = "expect")]
    pub(crate) images: Vec<String>,
}

/// `ocibuild index rm`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct IndexRmArgs {
    /// Names of drafted indexes
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
}
