//! A Kubernetes Deployment of an image, pinned by digest.
//!
//! Everything is taken from the image's name and config, and only what these say for certain: the command, the
//! environment and the working directory stay in the image, where a kubelet finds them.

mod manifest;
mod name;
mod port;
mod probe;
mod user;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use ocibuild::Error;
use ocibuild::spec::{ContainerConfig, Digest, Reference};

pub(crate) use port::{Port, Protocol};

use self::probe::{Check, Health};
use self::user::User;
use crate::failure::usage;

/// What is wanted besides what the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeployOptions {
    /// Name of the Deployment, instead of one made of the repository's.
    pub(crate) name: Option<String>,
    /// Namespace; without one, whoever applies the manifest decides.
    pub(crate) namespace: Option<String>,
    /// Pods; one when not given.
    pub(crate) replicas: Option<u32>,
    /// Ports instead of those that the image exposes.
    pub(crate) ports: Vec<Port>,
    /// Whether there is a Service in front of the pods.
    pub(crate) service: bool,
    /// Name of the Secret with the registry's credentials.
    pub(crate) pull_secret: Option<String>,
}

/// A Deployment, and the Service if there is one. [`Display`](fmt::Display) writes them as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployment {
    name: String,
    namespace: Option<String>,
    /// The tag, where it can be the value of a label.
    version: Option<String>,
    image: String,
    replicas: u32,
    ports: Vec<Port>,
    service: bool,
    pull_secret: Option<String>,
    user: User,
    probes: Probes,
    notes: Vec<String>,
}

/// What a kubelet tries.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probes {
    None,
    /// Traffic comes when this port can be connected to.
    Port(Port),
    Command(Check),
}

impl Deployment {
    /// A Deployment of the image with this name, manifest or index, and config.
    pub(crate) fn new(
        reference: &Reference,
        digest: &Digest,
        config: &ContainerConfig,
        options: &DeployOptions,
    ) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let name = options.name.clone().unwrap_or_else(|| name::derived(reference.repository()));
        name::check_label("--name", &name, options.service)?;
        if let Some(namespace) = &options.namespace {
            name::check_label("--namespace", namespace, false)?;
        }
        if let Some(secret) = &options.pull_secret {
            name::check_subdomain("--pull-secret", secret)?;
        }
        let replicas = options.replicas.unwrap_or(1);
        if i32::try_from(replicas).is_err() {
            return Err(usage(format!("--replicas {replicas}: more than Kubernetes allows")));
        }
        let ports = ports(config, &options.ports, &mut notes);
        if options.service && ports.is_empty() {
            return Err(usage("--service: the image exposes no port for a Service")
                .hint("name it with --port PORT, or write EXPOSE PORT in the Dockerfile"));
        }
        // `latest` says nothing, and would have every pod ask the registry for what its digest already settles.
        let tag = reference.tag().filter(|tag| *tag != "latest");
        Ok(Self {
            image: image(reference, tag, digest),
            version: tag.and_then(name::label_value).map(str::to_owned),
            namespace: options.namespace.clone(),
            replicas,
            service: options.service,
            pull_secret: options.pull_secret.clone(),
            user: user(config, &mut notes),
            probes: probes(config, options.service.then_some(&ports), &mut notes),
            name,
            ports,
            notes,
        })
    }

    /// What is not in the manifest although it may have been expected there, and why.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The name in full, since not every runtime guesses the same registry, and both tag and digest: the digest is what a
/// node pulls by, the tag is for people.
fn image(reference: &Reference, tag: Option<&str>, digest: &Digest) -> String {
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}/{}{tag}@{digest}", reference.registry(), reference.repository())
}

/// The ports in order, each once.
fn ports(config: &ContainerConfig, given: &[Port], notes: &mut Vec<String>) -> Vec<Port> {
    let mut ports: BTreeSet<Port> = given.iter().copied().collect();
    if given.is_empty() {
        for text in config.exposed_ports.keys() {
            match text.parse() {
                Ok(port) => drop(ports.insert(port)),
                Err(error) => notes.push(format!("skipping a port that the image exposes: {error}")),
            }
        }
    }
    ports.into_iter().collect()
}

fn user(config: &ContainerConfig, notes: &mut Vec<String>) -> User {
    let user = User::of(&config.user);
    if let User::Name(name) = &user {
        notes.push(format!(
            "the image's USER is the name {name:?}, which Kubernetes cannot tell from root: runAsNonRoot takes a number"
        ));
    }
    user
}

/// The image's own check; where it has none, the port that a Service promises. A container is never ended for a port
/// that the image merely mentions.
fn probes(config: &ContainerConfig, promised: Option<&Vec<Port>>, notes: &mut Vec<String>) -> Probes {
    let missing = match Health::of(config) {
        Health::Checked(check) => return Probes::Command(check),
        Health::Unchecked => return Probes::None,
        Health::Unknown => "the image has no HEALTHCHECK".to_owned(),
        Health::Other(kind) => format!("the image's HEALTHCHECK {kind:?} is not known"),
    };
    let is_tcp = |port: &&Port| port.protocol() == Protocol::Tcp;
    if let Some(port) = promised.and_then(|ports| ports.iter().find(is_tcp)) {
        notes.push(format!("{missing}: pods are ready once port {} answers", port.number()));
        return Probes::Port(*port);
    }
    notes.push(format!("{missing}: there are no probes"));
    Probes::None
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        manifest::write(self, f)
    }
}
