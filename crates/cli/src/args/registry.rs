use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ReportFormat;

/// Flags of every verb that talks to registries.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct RegistryArgs {
    /// Registry whose certificate is not checked, or that does not speak TLS
    #[arg(long, value_name = "HOST", help_heading = "Registry")]
    pub(crate) insecure_registry: Vec<String>,

    /// Certificate authorities to trust besides the system's, as PEM
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub(crate) cacert: Vec<PathBuf>,

    /// Host whose token service may have the credentials for a registry that names it
    ///
    /// Without it, those on the registry's own host and in its own domain may, and auth.docker.io for Docker Hub.
    #[arg(long, value_name = "[REGISTRY=]HOST", help_heading = "Registry")]
    pub(crate) allow_token_realm: Vec<String>,

    /// Mirror of a registry, asked before it: `[HOST[/PATH]=]MIRROR[/PATH]`, without `HOST=` of docker.io
    ///
    /// May be given several times. With `,exclusive` after it, the registry itself is not asked at all. For names that
    /// have such a mirror, registries.conf and hosts.toml do not count.
    #[arg(long, value_name = "[HOST=]MIRROR", help_heading = "Registry")]
    pub(crate) registry_mirror: Vec<String>,

    /// Host that may be at a link-local address, where clouds answer with the credentials of the machine; without it no
    /// registry, URL or repository may
    #[arg(long, value_name = "HOST", help_heading = "Registry")]
    pub(crate) allow_link_local: Vec<String>,

    /// How often to retry a request that failed for a reason that may pass [default: 4]
    #[arg(long, value_name = "N", help_heading = "Registry")]
    pub(crate) retry: Option<u32>,

    /// Seconds before the first retry; each further one waits twice as long [default: 1]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry")]
    pub(crate) retry_delay: Option<f64>,

    /// Longest silence of a registry, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry")]
    pub(crate) registry_timeout: Option<f64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryVerb {
    /// Show where an image would be looked for, in order, and who said so; nobody is asked
    Resolve(ResolveArgs),
}

/// `ocibuild registry resolve`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild registry resolve alpine:3.20\n  \
                  ocibuild registry resolve --registry-mirror docker.io=mirror.example.com/proxy alpine"
)]
pub(crate) struct ResolveArgs {
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the image
    #[arg(value_name = "NAME")]
    pub(crate) image: String,
}
