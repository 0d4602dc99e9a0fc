use std::path::PathBuf;

use clap::Args;

/// Flags of every verb that talks to registries.
#[derive(Debug, Default, Args)]
pub(crate) struct RegistryArgs {
    /// Registry whose certificate does not matter, or which does not speak TLS
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

    /// How often a request is made again that failed for a reason that may pass [default: 4]
    #[arg(long, value_name = "N", help_heading = "Registry")]
    pub(crate) retry: Option<u32>,

    /// Seconds before the first of these; each further one takes twice as long [default: 1]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry")]
    pub(crate) retry_delay: Option<f64>,

    /// Longest silence of a registry, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry")]
    pub(crate) registry_timeout: Option<f64>,
}
