//! Arguments as they are typed. What a verb needs is made of them by the verb.

mod build;
mod context;
mod deploy;
mod doctor;
mod image;
mod index;
mod login;
mod registry;
mod transfer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use build::{
    BuildArgs, LimitArgs, OnErrorArg, PlanArgs, PlanVerb, ProgressArg, ReportFormat, SandboxArg,
    SnapshotterArg,
};
pub(crate) use context::{ContextLsArgs, ContextVerb};
pub(crate) use deploy::DeployArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use image::{
    DuArgs, HistoryArgs, ImageVerb, ImagesArgs, InspectArgs, LoadArgs, PruneArgs, PullWhen, RmiArgs, RunArgs,
    SaveArgs, SaveFormat, TableFormat, TagArgs,
};
pub(crate) use index::{
    IndexAnnotateArgs, IndexCreateArgs, IndexInspectArgs, IndexPushArgs, IndexRmArgs, IndexVerb,
};
pub(crate) use login::{AuthVerb, ExplainArgs, LoginArgs, LogoutArgs};
pub(crate) use registry::{RegistryArgs, RegistryVerb, ResolveArgs};
pub(crate) use transfer::{PullArgs, PushArgs};

#[cfg(test)]
mod documents;

const EXAMPLES: &str = "\
Examples:
  ocibuild build -t app:1.0 .                                 build, and keep the image here
  ocibuild build -o type=oci,dest=app.tar .                   build into an archive
  ocibuild build --build-context alpine=oci-layout://base .   build without a network
  ocibuild run --rm app:1.0                                   try the image
  ocibuild build --push -t registry.example.com/app:1.0 .     build and push

Exit codes:
  0 built   1 a step failed   2 wrong usage or Dockerfile   3 refused, invalid input
  4 registry or network   5 this host cannot   70 a bug of ocibuild   128+n signal n
  --check: 0 without a finding, 1 with one

Environment:
  OCIBUILD_ROOT       state directory when --root is not given
  SOURCE_DATE_EPOCH   time of the image, as a build argument that is not given otherwise
  SSH_AUTH_SOCK       agent that --ssh forwards when it names none
  DOCKER_CONFIG       directory of the config.json that login writes [~/.docker]
  REGISTRY_AUTH_FILE  another file with credentials, which comes first
  OCIBUILD_REGISTRY   registry of OCIBUILD_REGISTRY_USERNAME and OCIBUILD_REGISTRY_PASSWORD
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                      proxies to go through
  SSL_CERT_FILE       certificate authorities to trust instead of the system's
  CONTAINERS_REGISTRIES_CONF
                      registries.conf instead of the user's and the system's
  NO_COLOR            no colours";

/// The verb that this program is started with where it is the shell of a step.
pub(crate) const STEP_SHELL: &str = "step-shell";

/// Builds OCI images from Dockerfiles: no daemon, no root.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "the text of --help is no Markdown")]
#[command(name = "ocibuild", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// State directory: an OCI image layout with a cache beside it
    ///
    /// Without it, OCIBUILD_ROOT; without that, /var/lib/ocibuild for root and $XDG_DATA_HOME/ocibuild
    /// (~/.local/share/ocibuild) for other users.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Show what a build would do, with every word resolved, and do nothing
    Plan(Box<PlanVerb>),
    /// List the images
    Images(ImagesArgs),
    /// Show all about images as JSON
    Inspect(InspectArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove names of images; `prune` then frees the space
    Rmi(RmiArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the login of a registry
    Logout(LogoutArgs),
    /// Look at credentials
    Auth {
        /// What to do with them
        #[command(subcommand)]
        verb: AuthVerb,
    },
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Push images to their registries
    Push(PushArgs),
    /// Write images into an archive
    Save(SaveArgs),
    /// Load the images of an archive
    Load(LoadArgs),
    /// Look at how registries are reached
    Registry {
        /// What to do
        #[command(subcommand)]
        verb: RegistryVerb,
    },
    /// Put images of several platforms together under one name
    Index {
        /// What to do
        #[command(subcommand)]
        verb: Box<IndexVerb>,
    },
    /// Run an image; what it changes is gone afterwards
    Run(Box<RunArgs>),
    /// The verbs about images, as `docker image` has them
    Image {
        /// What to do
        #[command(subcommand)]
        verb: ImageVerb,
    },
    /// Print a Kubernetes Deployment of an image, pinned by digest
    DeployManifest(DeployArgs),
    /// Show what takes up space
    Du(DuArgs),
    /// Free what no image and no running build needs
    Prune(PruneArgs),
    /// Tell what steps can run in here, and what is in the way
    Doctor(DoctorArgs),
    /// Read and carry out commands in a step whose image has no shell
    #[command(name = STEP_SHELL, hide = true)]
    StepShell,
    /// Look at a build context
    Context {
        /// What to do with it
        #[command(subcommand)]
        verb: ContextVerb,
    },
    /// Print the syntax tree of a Dockerfile as JSON
    Ast {
        /// The Dockerfile
        file: PathBuf,
    },
    /// Expand words read from standard input, four fields per line
    #[command(
        after_help = "A line is: mode (word, words or heredoc), escape character, environment as a JSON list of \
                            NAME=value, and the text as a JSON string, with tabs between. The answer is a line of JSON."
    )]
    Expand,
    /// Tell which paths, read from standard input, an ignore file keeps in the context
    Ignore {
        /// The ignore file
        file: PathBuf,
    },
}
