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
}
