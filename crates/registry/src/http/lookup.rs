//! Addresses of a name, within a time limit.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

/// The name has no address, in the words of the system.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAddress(String);

/// Asks on a thread of its own, which is left behind when the time is over: the C library's functions for this cannot be
/// interrupted. Where no thread starts they are called on this one, and end in their own time.
pub(super) fn resolve(
    uri: &Uri,
    config: &Config,
    timeout: NextTimeout,
) -> Result<ResolvedSocketAddrs, ureq::Error> {
    ask(uri, config, timeout).map_err(|error| match error {
        // Only what the resolver itself says has no number of the kernel.
        ureq::Error::Io(error) if error.raw_os_error().is_none() => {
            ureq::Error::Other(Box::new(NoAddress(error.to_string())))
        }
        other => other,
    })
}

fn ask(uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
    // ureq's own thread for this ends the program where it does not start.
    let unlimited = NextTimeout { after: Duration::NotHappening, ..timeout };
    if timeout.after.is_not_happening() {
        return DefaultResolver::default().resolve(uri, config, unlimited);
    }
    let (sender, receiver) = sync_channel(1);
    let (their_uri, their_config) = (uri.clone(), config.clone());
    let lookup = move || {
        // Nobody listens any more when the time is over.
        let _ = sender.send(DefaultResolver::default().resolve(&their_uri, &their_config, unlimited));
    };
    if thread::Builder::new().name("lookup".to_owned()).spawn(lookup).is_err() {
        return DefaultResolver::default().resolve(uri, config, unlimited);
    }
    match receiver.recv_timeout(*timeout.after) {
        Ok(found) => found,
        Err(RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(timeout.reason)),
        // It ended without an answer, which only a panic there does.
        Err(RecvTimeoutError::Disconnected) => Err(ureq::Error::HostNotFound),
    }
}
