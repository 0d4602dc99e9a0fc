use clap::Args;

use super::RegistryArgs;
use crate::deploy::Port;

const DEPLOY_HELP: &str = "\
Examples:
  ocibuild deploy-manifest registry.example/team/app:1.0 | kubectl apply -f -
  ocibuild deploy-manifest --service --replicas 3 registry.example/team/app:1.0 > app.yaml

The digest is that of the image here with this name, else of the one in its registry. Push an image before its \
manifest is applied: nodes pull it by that digest.

EXPOSE becomes ports, HEALTHCHECK startup, readiness and liveness probes, a numeric USER a security context. Command, \
environment and working directory stay in the image.";

/// `ocibuild deploy-manifest`
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = DEPLOY_HELP)]
pub(crate) struct DeployArgs {
    /// Name of the Deployment [default: made of the repository's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Namespace to put it into [default: whatever kubectl uses]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Number of pods
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) replicas: u32,

    /// Port of the container, instead of those that the image exposes
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) port: Vec<Port>,

    /// Print a Service for the ports as well
    #[arg(long)]
    pub(crate) service: bool,

    /// Secret with the credentials of the registry
    #[arg(long, value_name = "NAME")]
    pub(crate) pull_secret: Option<String>,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}
