use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use ocibuild::{Error, SshAgent};

use super::Lookup;
use crate::failure::usage;

/// `ID[=SOCKET|KEY[,KEY...]]`: without a path the agent that `SSH_AUTH_SOCK` names.
pub(crate) fn ssh(text: &str, env: Lookup<'_>) -> Result<(String, SshAgent), Error> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    let mut paths: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
    let agent = env("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
    if paths.is_empty() {
        let agent = agent.as_deref().ok_or_else(|| {
            usage(format!("--ssh {text}: the variable SSH_AUTH_SOCK is not set"))
                .hint(format!("start an agent, or give its socket or a key: --ssh {id}=PATH"))
        })?;
        paths.push(agent);
    }
    let mut keys = Vec::new();
    let mut socket = None;
    for path in &paths {
        let metadata = fs_err::metadata(path).map_err(|error| {
            usage(format!("--ssh {text}: cannot use {path}"))
                .hint("name the socket of an agent or an existing key")
                .caused_by(error)
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        if metadata.file_type().is_socket() {
            socket = Some(absolute);
        } else if metadata.is_file() {
            keys.push(absolute);
        } else {
            return Err(usage(format!("--ssh {text}: {path} is neither the socket of an agent nor a key")));
        }
    }
    match socket {
        Some(socket) if paths.len() == 1 => Ok((id.to_owned(), SshAgent::Socket(socket))),
        Some(_) => Err(usage(format!("--ssh {text}: give one socket, or keys")).hint("an id has one agent")),
        None => Ok((id.to_owned(), SshAgent::Keys(keys))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn agents_are_sockets_or_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        for name in ["a", "b"] {
            fs_err::write(path(name), "key").unwrap();
        }
        let (socket, a, b) = (path("socket"), path("a"), path("b"));
        let env = |name: &str| (name == "SSH_AUTH_SOCK").then(|| socket.clone());
        let of = |text: &str| ssh(text, &env);
        let agent = SshAgent::Socket(PathBuf::from(&socket));
        assert_eq!(of("default").unwrap(), ("default".to_owned(), agent.clone()));
        assert_eq!(of("").unwrap(), ("default".to_owned(), agent.clone()));
        assert_eq!(of(&format!("x={socket}")).unwrap(), ("x".to_owned(), agent));
        let keys = SshAgent::Keys(vec![PathBuf::from(&a), PathBuf::from(&b)]);
        assert_eq!(of(&format!("x={a},{b}")).unwrap(), ("x".to_owned(), keys));
        for bad in [format!("x={a},{socket}"), "x=/nowhere".to_owned(), "x=/".to_owned()] {
            assert!(of(&bad).is_err(), "{bad}");
        }
        assert!(ssh("default", &|_| None).unwrap_err().to_string().contains("SSH_AUTH_SOCK"));
    }
}
