//! About `RUN`s that cannot begin.

use super::{Hint, Setting};
use crate::failure::RunFailure;

/// Why the step cannot begin, and what can be done.
pub(crate) fn run(failure: &RunFailure) -> (Vec<String>, Vec<Hint>) {
    (cause(failure).into_iter().collect(), hints(failure))
}

fn cause(failure: &RunFailure) -> Option<String> {
    Some(match failure {
        RunFailure::UnknownUser { user } => format!("USER names {user}, which the image does not have"),
        RunFailure::UnknownGroup { group } => {
            format!("USER names the group {group}, which the image does not have")
        }
        RunFailure::AgentNotStarted { said } | RunFailure::KeyUnusable { said, .. } => {
            return Some(said.clone()).filter(|said| !said.is_empty());
        }
        _ => return None,
    })
}

fn hints(failure: &RunFailure) -> Vec<Hint> {
    let text = match failure {
        RunFailure::EmptyVariableName { .. } => "the name of an ENV above expands to nothing",
        RunFailure::ForeignProgram { platform, emulation, .. } => {
            return vec![emulation.advice(platform).into()];
        }
        RunFailure::CacheLocked { .. } => "end what has this directory locked",
        RunFailure::UnknownUser { .. } => {
            "add the user in an earlier RUN (adduser, useradd), or give a numeric id"
        }
        RunFailure::UnknownGroup { .. } => {
            "add the group in an earlier RUN (addgroup, groupadd), or give a numeric id"
        }
        RunFailure::SshNotFound { id } => return vec![ssh(id)],
        RunFailure::SecretNotFound { id, nearest } => {
            let give = Hint::from("give it with ").setting(Setting::Secret, format!("id={id},src=FILE"));
            let near =
                nearest.as_ref().map(|near| format!("did you mean id={near}? That secret is given").into());
            return [give].into_iter().chain(near).collect();
        }
        RunFailure::SecretNotText { .. } => "mount it as a file: omit env=",
        RunFailure::SecretTooLarge { .. } => "large files are what COPY and bind mounts are for",
        RunFailure::InsecureInPrivateNetwork => {
            return vec![
                Hint::from("give the step another network, with RUN --network, or the whole build: ")
                    .setting(Setting::Network, "host"),
            ];
        }
        RunFailure::AgentSilent { .. } => "is the agent still running?",
        RunFailure::KeyUnusable { .. } => {
            "a key with a passphrase is for an agent: load it there with ssh-add and forward its socket"
        }
        RunFailure::AgentProgramMissing { .. } => {
            return vec![
                Hint::from("install OpenSSH's client, or forward the socket of an agent: ")
                    .setting(Setting::Ssh, "default=$SSH_AUTH_SOCK"),
            ];
        }
        _ => return Vec::new(),
    };
    vec![text.into()]
}

fn ssh(id: &str) -> Hint {
    let id = if id.is_empty() { "default" } else { id };
    Hint::from("forward an agent with ")
        .setting(Setting::Ssh, id)
        .text(", or a key with ")
        .setting(Setting::Ssh, format!("{id}=FILE"))
}
