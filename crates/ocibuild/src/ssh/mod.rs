//! Agents for `RUN --mount=type=ssh`: that of who builds, or one that is started for keys given as files.

mod forward;
mod keys;
mod socket;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(crate) use forward::Forwarder;
use keys::KeyAgent;

use crate::error::Error;
use crate::request::SshAgent;

/// The agents of one build, started when a step first needs them.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    started: Mutex<BTreeMap<String, KeyAgent>>,
}

impl Agents {
    /// The socket to reach an agent by; what is started for it lives in `scratch`.
    pub(crate) fn socket(&self, id: &str, agent: &SshAgent, scratch: &Path) -> Result<PathBuf, Error> {
        match agent {
            SshAgent::Socket(path) => Ok(path.clone()),
            SshAgent::Keys(keys) => {
                let mut started = self.started.lock().expect("no thread panics while it holds this");
                if let Some(running) = started.get(id) {
                    return Ok(running.socket().to_owned());
                }
                let directory = scratch.join(format!("ssh-agent-{}", started.len()));
                let agent = KeyAgent::start(&directory, keys)?;
                Ok(started.entry(id.to_owned()).or_insert(agent).socket().to_owned())
            }
        }
    }
}
