//! The documents, member by member in the order in which people write them.

use std::fmt;

use super::probe::{Check, Rhythm};
use super::yaml::Yaml;
use super::{Deployment, Port, Probes, User};

type Members = Vec<(&'static str, Yaml)>;

const NAME: &str = "app.kubernetes.io/name";
const VERSION: &str = "app.kubernetes.io/version";

pub(super) fn write(deployment: &Deployment, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", deployment_document(deployment))?;
    if deployment.service {
        f.write_str("---\n")?;
        write!(f, "{}", service_document(deployment))?;
    }
    Ok(())
}

fn deployment_document(of: &Deployment) -> Yaml {
    let template = vec![("metadata", Yaml::Map(vec![("labels", labels(of))])), ("spec", Yaml::Map(pod(of)))];
    let spec = vec![
        ("replicas", Yaml::Number(of.replicas.into())),
        ("selector", Yaml::Map(vec![("matchLabels", selector(of))])),
        ("template", Yaml::Map(template)),
    ];
    document("apps/v1", "Deployment", of, spec)
}

fn service_document(of: &Deployment) -> Yaml {
    let port = |port: &Port| {
        Yaml::Map(vec![
            ("name", Yaml::text(port.name())),
            ("port", Yaml::Number(port.number().into())),
            ("targetPort", Yaml::text(port.name())),
            ("protocol", Yaml::text(port.protocol().kubernetes())),
        ])
    };
    let spec = vec![("selector", selector(of)), ("ports", Yaml::List(of.ports.iter().map(port).collect()))];
    document("v1", "Service", of, spec)
}

fn document(version: &str, kind: &str, of: &Deployment, spec: Members) -> Yaml {
    let mut metadata = vec![("name", Yaml::text(&of.name))];
    metadata.extend(of.namespace.as_ref().map(|namespace| ("namespace", Yaml::text(namespace))));
    metadata.push(("labels", labels(of)));
    Yaml::Map(vec![
        ("apiVersion", Yaml::text(version)),
        ("kind", Yaml::text(kind)),
        ("metadata", Yaml::Map(metadata)),
        ("spec", Yaml::Map(spec)),
    ])
}

/// Never changes, as Kubernetes wants of a selector: the name alone.
fn selector(of: &Deployment) -> Yaml {
    Yaml::Map(vec![(NAME, Yaml::text(&of.name))])
}

fn labels(of: &Deployment) -> Yaml {
    let version = of.version.as_ref().map(|version| (VERSION, Yaml::text(version)));
    Yaml::Map([(NAME, Yaml::text(&of.name))].into_iter().chain(version).collect())
}

fn pod(of: &Deployment) -> Members {
    let secret = |name: &String| Yaml::List(vec![Yaml::Map(vec![("name", Yaml::text(name))])]);
    let secrets = of.pull_secret.as_ref().map(|name| ("imagePullSecrets", secret(name)));
    let containers = ("containers", Yaml::List(vec![Yaml::Map(container(of))]));
    secrets.into_iter().chain([containers]).collect()
}

fn container(of: &Deployment) -> Members {
    let mut members = vec![("name", Yaml::text(&of.name)), ("image", Yaml::text(&of.image))];
    if !of.ports.is_empty() {
        members.push(("ports", Yaml::List(of.ports.iter().copied().map(container_port).collect())));
    }
    members.extend(probes(of));
    if let User::Id { user, group } = of.user {
        members.push(("securityContext", Yaml::Map(security(user, group))));
    }
    members
}

fn container_port(port: Port) -> Yaml {
    Yaml::Map(vec![
        ("name", Yaml::text(port.name())),
        ("containerPort", Yaml::Number(port.number().into())),
        ("protocol", Yaml::text(port.protocol().kubernetes())),
    ])
}

/// Without the group, a node would take the one that the image's files give the user.
fn security(user: u32, group: Option<u32>) -> Members {
    let group = group.map(|group| ("runAsGroup", Yaml::Number(group.into())));
    let user = [("runAsNonRoot", Yaml::Bool(true)), ("runAsUser", Yaml::Number(user.into()))];
    user.into_iter().chain(group).collect()
}

fn probes(of: &Deployment) -> Members {
    match &of.probes {
        Probes::None => Vec::new(),
        Probes::Port(port) => {
            let socket = Yaml::Map(vec![("port", Yaml::text(port.name()))]);
            vec![("readinessProbe", Yaml::Map(vec![("tcpSocket", socket)]))]
        }
        Probes::Command(check) => vec![
            ("startupProbe", exec(check, check.starting)),
            ("readinessProbe", exec(check, check.running)),
            ("livenessProbe", exec(check, check.running)),
        ],
    }
}

fn exec(check: &Check, rhythm: Rhythm) -> Yaml {
    Yaml::Map(vec![
        ("exec", Yaml::Map(vec![("command", Yaml::list(&check.command))])),
        ("periodSeconds", Yaml::Number(rhythm.period.into())),
        ("timeoutSeconds", Yaml::Number(rhythm.timeout.into())),
        ("failureThreshold", Yaml::Number(rhythm.failures.into())),
    ])
}
