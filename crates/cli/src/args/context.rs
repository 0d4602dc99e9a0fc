use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ReportFormat;

#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// List what is in a build context, or tell which line of the ignore file decides about a path
    Ls(ContextLsArgs),
}

/// `ocibuild context ls`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  ocibuild context ls .\n  ocibuild context ls --why src/secret.txt ."
)]
pub(crate) struct ContextLsArgs {
    /// Dockerfile, whose own ignore file counts when there is one [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Tell whether this path, relative to the context, is in it, and which line of which ignore file decided
    #[arg(long, value_name = "PATH")]
    pub(crate) why: Option<PathBuf>,

    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,

    /// Build context: a directory
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
}
