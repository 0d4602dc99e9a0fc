//! Building from code: `cargo run --example embed`.
//!
//! Shows what a program that embeds the library decides for itself: what happens with events, who carries out the steps
//! (here nobody: an [`Executor`] of this program writes down what it was asked to run), and when a build is cancelled.
#![expect(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{Bundle, ExitStatus, Output, Stream};
use ocibuild::executor::{Error as ExecutorError, ErrorKind as ExecutorErrorKind, Executor};
use ocibuild::store::LayoutSource;
use ocibuild::{
    Backends, BaseImages, Build, Built, BuiltImage, CancelToken, ContextSource, ErrorKind, Event,
    LocalContext, StateDirectory,
};
use ocibuild_testkit::HostBase;

const DOCKERFILE: &str = "FROM base
WORKDIR /srv
RUN first
RUN second
";

/// Instead of running commands, keeps what they were and takes its time.
#[derive(Default)]
struct Recorder {
    /// A word that no command may hold: an executor says in its own words what it cannot carry out.
    forbidden: Option<&'static str>,
    commands: Mutex<Vec<String>>,
}

impl Executor for Recorder {
    fn run(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, ExecutorError> {
        let arguments = bundle.spec.process().as_ref().and_then(|process| process.args().clone());
        let command = arguments.unwrap_or_default().join(" ");
        if let Some(word) = self.forbidden.filter(|word| command.contains(*word)) {
            let message = format!("the recorder has no {word}");
            return Err(ExecutorError::new(ExecutorErrorKind::Unsupported, message));
        }
        output(Stream::Stdout, format!("would run {command}\n").as_bytes());
        if cancel.wait_timeout(Duration::from_millis(100)) {
            return Ok(ExitStatus::Signal(9)); // killed, as a real command would be
        }
        self.commands.lock().expect("no thread panics while it holds this").push(command);
        Ok(ExitStatus::Code(0))
    }
}

impl Recorder {
    fn commands(&self) -> Vec<String> {
        self.commands.lock().expect("no thread panics while it holds this").clone()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    HostBase::find()?.write_layout(directory.path().join("base"))?;
    let embedder = Embedder::open(directory.path())?;

    println!("A build that is cancelled while its second RUN runs:");
    let (recorder, cancel) = (Recorder::default(), CancelToken::new());
    let result = embedder.build(&recorder, &cancel, |event| {
        println!("  {event}");
        if matches!(event, Event::Output { bytes, .. } if bytes.ends_with(b"second\n")) {
            cancel.cancel(); // from this closure or from any other thread
        }
    });
    match result {
        Err(error) if error.kind() == ErrorKind::Cancelled => println!("cancelled, as it was asked to"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("the build was to be cancelled".into()),
    }
    assert_eq!(recorder.commands(), ["/bin/sh -c first"]);

    println!("\nOnce more, with an executor that cannot do the second RUN:");
    let picky = Recorder { forbidden: Some("second"), ..Recorder::default() };
    match embedder.build(&picky, &CancelToken::new(), |_| ()) {
        Err(error) if error.kind() == ErrorKind::Host => println!("error: {error}"),
        other => return Err(format!("the executor was to refuse, not {other:?}").into()),
    }

    println!("\nThe same build again, which goes on from there:");
    let recorder = Recorder::default();
    let image = embedder.build(&recorder, &CancelToken::new(), |event| println!("  {event}"))?;
    assert_eq!(recorder.commands(), ["/bin/sh -c second"]);
    println!("{} layers, working directory {}", image.layers().count(), image.config.config.working_dir);
    Ok(())
}

/// What an embedding program keeps between builds.
struct Embedder<'a> {
    directory: &'a Path,
    state: StateDirectory,
}

impl<'a> Embedder<'a> {
    fn open(directory: &'a Path) -> Result<Self, ocibuild::Error> {
        Ok(Self { directory, state: StateDirectory::open(directory.join("state"))? })
    }

    fn build(
        &self,
        executor: &dyn Executor,
        cancel: &CancelToken,
        events: impl FnMut(Event),
    ) -> Result<BuiltImage, ocibuild::Error> {
        let images = BaseImages::offline(&self.state);
        let backends = Backends::new(&self.state, &images, executor);
        let base = ContextSource::Image {
            source: Box::new(LayoutSource::open(self.directory.join("base"), None, None)?),
            reference: "base".parse().expect("a well-formed name"),
        };
        Build::new(Dockerfile::parse(DOCKERFILE)?, LocalContext::empty())
            .build_context("base", base)
            .now(SystemTime::now())
            .plan_cancellable(&backends, cancel)?
            .run(&backends, cancel, events)
            .map(Built::into_image)
    }
}
