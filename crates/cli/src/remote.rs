//! What reaches URLs and repositories, set up from flags and environment.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ocibuild::registry::{HttpClient, system_ca_bundle};
use ocibuild::{CancelToken, Error, GitProgram, Remotes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::RegistryArgs;
use crate::backends::{certificate, proxies};
use crate::failure::usage;

/// Clients as the flags and the environment want them. `agent` lends the keys of the user's SSH agent: to what the
/// user names, not to what a Dockerfile does.
pub(crate) fn remotes(args: &RegistryArgs, agent: bool) -> Result<Remotes, Error> {
    let name = concat!("ocibuild/", env!("CARGO_PKG_VERSION"));
    let mut client = HttpClient::builder().user_agent(name).proxies(proxies());
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
    let mut git = path.map_or_else(GitProgram::default, GitProgram::new).proxies(proxies());
    let given = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut own: Vec<PathBuf> = given.iter().cloned().collect();
    own.extend_from_slice(&args.cacert);
    for path in &own {
        let pem = certificate(path)?;
        git = git.ca_pem(&pem);
        client = client.ca_pem(pem);
    }
    if given.is_none() {
        client = client.system_roots();
        if let Some(system) = system_ca_bundle().filter(|_| !own.is_empty()) {
            git = git.ca_pem(&certificate(&system)?);
        }
    }
    if let Some(home) = std::env::var_os("HOME").filter(|home| Path::new(home).is_absolute()) {
        git = git.known_hosts(Path::new(&home).join(".ssh/known_hosts"));
    }
    if let Some(socket) = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| agent && !socket.is_empty()) {
        git = git.ssh_agent(socket);
    }
    let client =
        client.build().map_err(|error| usage("the client for URLs cannot be set up").caused_by(error))?;
    let remotes = Remotes::new(client, git);
    Ok(args.insecure_registry.iter().fold(remotes, Remotes::insecure))
}

/// Standard input, whose wait a signal ends.
#[derive(Debug)]
pub(crate) struct StandardInput<'a> {
    pub(crate) cancel: &'a CancelToken,
}

impl Read for StandardInput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let stdin = io::stdin();
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut watched, Some(&INTERVAL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Not the buffered reader: what it kept would not show to `poll`.
                Ok(_) => return Ok(rustix::io::read(&stdin, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
