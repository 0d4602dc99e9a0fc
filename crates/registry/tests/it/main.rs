//! Pulls from a registry in this process that fails on purpose, and from a real one.
#![expect(clippy::unwrap_used, reason = "tests end by panicking")]

mod auth;
mod cloud;
mod faults;
mod helpers;
mod mirrors;

mod proxies;
mod pull;
mod push;
mod real;
mod tls;
mod trust;

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ocibuild_registry::{Fault as RegistryFault, Registry};
use ocibuild_spec::{
    CancelToken, Descriptor, ImageSource as _, Platform, Reference, ResolvedImage, SourceError,
};

/// A client that does not wait long.
fn client() -> Registry {
    Registry::builder()
        .retries(3, Duration::from_millis(5), Duration::from_millis(50))
        .stall_timeout(Duration::from_millis(700))
        .build()
        .unwrap()
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone, Default)]
struct TestClock(Arc<Mutex<Duration>>);

impl TestClock {
    fn advance(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }

    fn read(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
        let (start, clock) = (Instant::now(), self.clone());
        move || start + *clock.0.lock().unwrap()
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn resolve(registry: &Registry, reference: &str) -> Result<ResolvedImage, SourceError> {
    registry.resolve(&name(reference), &amd64(), &CancelToken::new())
}

/// What is wrong according to an error, as data.
#[track_caller]
fn fault_of(error: &SourceError) -> &RegistryFault {
    std::error::Error::source(error).and_then(|fault| fault.downcast_ref()).unwrap()
}

fn name(reference: &str) -> Reference {
    reference.parse().unwrap()
}

/// The bytes of a blob, or the text of what went wrong.
fn pull(registry: &Registry, reference: &str, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
    let mut reader = registry
        .open(&name(reference), descriptor, &CancelToken::new())
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[test]
fn no_file_is_forgotten() {
    let main = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for entry in fs_err::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
