//! Container engines of this host, which take images through client programs of their own.
//!
//! A client finds its engine as it always does: by its configuration and by the environment of this process
//! (`DOCKER_HOST`, `CONTAINER_HOST`, `CONTAINERD_ADDRESS`), which it inherits whole.
//!
//! ```no_run
//! use ocibuild::engine::Engine;
//! # fn build(build: ocibuild::Build, backends: &ocibuild::Backends<'_>) -> Result<(), ocibuild::Error> {
//! # let cancel = ocibuild::CancelToken::new();
//!
//! let (output, loading) = Engine::find()?.load()?;
//! build.output(output).plan(backends)?.run(backends, &cancel, |_| {})?;
//! println!("{}", loading.finish(&cancel)?);
//! # Ok(())
//! # }
//! ```

mod client;
mod loading;

use std::fmt;
use std::process::Command;
use std::str::FromStr;

pub use loading::Loading;

use crate::error::Error;
use crate::failure::TransferFailure;
use crate::request::{Destination, Output, OutputKind};

/// A container engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// `docker`
    Docker,
    /// `podman`
    Podman,
    /// `ctr`, containerd's client.
    Containerd {
        /// containerd's; without one, that of `CONTAINERD_NAMESPACE` or `default`.
        namespace: Option<String>,
    },
}

/// A text that is not an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container engine: docker, podman, containerd or containerd:NAMESPACE")]
pub struct EngineError(String);

impl Engine {
    /// The first that is installed and answers: docker, podman, containerd.
    pub fn find() -> Result<Self, Error> {
        let mut reasons = Vec::new();
        for engine in [Self::Docker, Self::Podman, Self::Containerd { namespace: None }] {
            match engine.asked() {
                Ok(()) => return Ok(engine),
                Err(reason) => reasons.push(format!("{engine}: {reason}")),
            }
        }
        Err(TransferFailure::NoEngine { reasons: reasons.join("\n").into() }.into())
    }

    /// Fails when the engine is not installed or does not answer.
    pub fn check(&self) -> Result<(), Error> {
        let silent =
            |said: String| TransferFailure::EngineSilent { engine: self.to_string(), said: said.into() };
        self.asked().map_err(|said| silent(said).into())
    }

    /// Whether the engine answers; if not, the words of its client.
    fn asked(&self) -> Result<(), String> {
        let arguments: &[&str] = match self {
            Self::Docker => &["version", "--format", "{{.Server.Version}}"],
            Self::Podman => &["version"],
            Self::Containerd { .. } => &["--connect-timeout", "3s", "version"],
        };
        let mut command = Command::new(self.client());
        client::ask(command.args(arguments))
    }

    /// An output that the engine takes, and what waits for it to be taken. The client is started here and reads nothing
    /// before the output is written, so that it belongs to the namespaces that the caller is in now.
    pub fn load(&self) -> Result<(Output, Loading), Error> {
        let kind = match self {
            Self::Docker | Self::Podman => OutputKind::DockerArchive,
            Self::Containerd { .. } => OutputKind::OciArchive,
        };
        let mut words = vec![self.client()];
        match self {
            Self::Docker | Self::Podman => words.push("load"),
            Self::Containerd { namespace } => {
                words.extend(namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
                words.extend(["images", "import", "-"]);
            }
        }
        let (writer, loading) = Loading::start(self.to_string(), &words)?;
        Ok((Output::new(kind, Destination::Writer(Box::new(writer))), loading))
    }

    /// Whether it keeps nothing that has no name.
    pub fn wants_name(&self) -> bool {
        matches!(self, Self::Containerd { .. })
    }

    fn client(&self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd { .. } => "ctr",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Podman => f.write_str("podman"),
            Self::Containerd { namespace: None } => f.write_str("containerd"),
            Self::Containerd { namespace: Some(namespace) } => write!(f, "containerd:{namespace}"),
        }
    }
}

impl FromStr for Engine {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text.split_once(':') {
            None if text == "docker" => Ok(Self::Docker),
            None if text == "podman" => Ok(Self::Podman),
            None if text == "containerd" => Ok(Self::Containerd { namespace: None }),
            Some(("containerd", namespace)) if is_identifier(namespace) => {
                Ok(Self::Containerd { namespace: Some(namespace.to_owned()) })
            }
            _ => Err(EngineError(text.chars().take(80).collect())),
        }
    }
}

/// As containerd's names are: letters and digits, joined by single `.`, `_` or `-`.
fn is_identifier(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    text.len() <= 76 && text.split(['.', '_', '-']).all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_and_their_names() {
        for text in ["docker", "podman", "containerd", "containerd:k8s.io", "containerd:a_b-1"] {
            assert_eq!(text.parse::<Engine>().unwrap().to_string(), text);
        }
        for bad in
            ["", "Docker", "docker:x", "containerd:", "containerd:-a", "containerd:a b", "crio", "true"]
        {
            assert!(bad.parse::<Engine>().is_err(), "{bad}");
        }
    }
}
