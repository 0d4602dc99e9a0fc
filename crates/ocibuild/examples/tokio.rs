//! Building in a program with an async runtime, as an ordinary user: `cargo run --example tokio`.
//!
//! The library blocks, so a build belongs on one of the threads that tokio keeps for such work. Events reach async code over a
//! channel, and a token ends the build when the future that waits for it is dropped.
#![expect(clippy::print_stdout, reason = "a program")]

use std::path::Path;
use std::time::SystemTime;

use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::NamespaceExecutor;
use ocibuild::store::LayoutSource;
use ocibuild::{
    Backends, BaseImages, Build, Built, CancelToken, ContextSource, Error, Event, LocalContext,
    StateDirectory,
};
use ocibuild_testkit::HostBase;
use tokio::sync::mpsc::UnboundedSender;

const DOCKERFILE: &str = "FROM base
RUN id -u; mkdir -p -m 0750 /srv/data; chown 0:0 /srv/data
RUN ls -ld /srv/data
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    HostBase::find()?.write_layout(directory.path().join("base"))?;
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let cancel = CancelToken::new();
    let _end = CancelOnDrop(cancel.clone());
    let path = directory.path().to_owned();
    let build = tokio::task::spawn_blocking(move || build(&path, &cancel, &events));
    while let Some(event) = seen.recv().await {
        match event {
            Event::Output { bytes, .. } => print!("    | {}", String::from_utf8_lossy(&bytes)),
            event => println!("  {event}"),
        }
    }
    let image = build.await??.into_image();
    println!("{} layers, {}", image.layers().count(), image.descriptor.digest);
    Ok(())
}

fn build(directory: &Path, cancel: &CancelToken, events: &UnboundedSender<Event>) -> Result<Built, Error> {
    let state = StateDirectory::open(directory.join("state"))?;
    let (images, executor) = (BaseImages::offline(&state), NamespaceExecutor::new());
    let backends = Backends::new(&state, &images, &executor);
    let base = ContextSource::Image {
        source: Box::new(LayoutSource::open(directory.join("base"), None, None)?),
        reference: "base".parse().expect("a well-formed name"),
    };
    Build::new(Dockerfile::parse(DOCKERFILE)?, LocalContext::empty())
        .build_context("base", base)
        .now(SystemTime::now())
        .plan_cancellable(&backends, cancel)?
        // Fails only if nobody listens any more.
        .run(&backends, cancel, |event| drop(events.send(event)))
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
