//! The main job from end to end: `cargo run --release --example quickstart`.
//!
//! Puts together a base image from the shell and tools of this host, builds `fixtures/simpleapp` on it, runs the image,
//! and builds once more to show that nothing had to be done again. Takes neither network nor container tools; as an
//! ordinary user it works in a user namespace.
//!
//! The image stays in the OCI layout `target/quickstart` under the tag `latest`, and in `target/quickstart.tar`, which
//! `docker load` and `podman load` take. Both paths, and that of the fixture, start at the workspace when cargo runs
//! this program, else at the current directory.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{NamespaceExecutor, Stream};
use ocibuild::spec::{DiffId, Reference};
use ocibuild::state::ContainerOptions;
use ocibuild::store::LayoutSource;
use ocibuild::{
    Backends, BaseImages, Build, BuiltImage, CancelToken, ContextSource, Destination, ErrorKind, Event,
    LocalContext, Output, OutputKind, StateDirectory,
};
use ocibuild_testkit::HostBase;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match quickstart(&root()) {
        Ok(code) => code,
        Err(error) => {
            show_failure(error.as_ref());
            ExitCode::from(exit_code(error.as_ref()))
        }
    }
}

/// Where `fixtures/` and `target/` are.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = package.as_deref().and_then(|package| package.ancestors().nth(2)).map(Path::to_owned);
    workspace.filter(|root| root.join("fixtures/simpleapp").is_dir()).unwrap_or_else(|| PathBuf::from("."))
}

fn quickstart(root: &Path) -> Result<ExitCode, Failure> {
    let fixture = root.join("fixtures/simpleapp");
    if !fixture.is_dir() {
        let message = format!("there is no {}", fixture.display());
        let hint = "start this in a checkout of ocibuild";
        return Err(ocibuild::Error::new(ErrorKind::Usage, message).hint(hint).into());
    }
    let target = root.join("target");
    let (layout, archive) = (target.join("quickstart"), target.join("quickstart.tar"));
    let work = Work::new(target.join("quickstart-work"))?;
    HostBase::find()?.write_layout(work.base())?;
    copy_directory(&fixture, &work.context())?;
    pack(&work.context().join("quotes"), &work.context().join("quotes.tar.gz"))?;

    let engine = Engine { work: &work, state: StateDirectory::open(work.state())? };
    engine.state.check_sandbox(&NamespaceExecutor::new())?;
    if let Some(limit) = engine.state.privilege_limit() {
        eprintln!("note: {limit}");
    }

    println!("Building {}", fixture.display());
    let (first, progress) = engine.build(Vec::new())?;
    println!("\nLayers of the image {}", first.descriptor.digest);
    for (number, (diff_id, descriptor)) in first.layers().enumerate() {
        let from = progress.titles.get(diff_id).map_or("base image", String::as_str);
        println!("  {} {:>9} bytes  {} {from}", number + 1, descriptor.size, descriptor.digest);
    }

    println!("\nRunning the image");
    let status = engine.run()?;
    if status != 0 {
        println!("the image ended with {status}");
        return Ok(ExitCode::from(status as u8));
    }

    println!("\nBuilding again");
    clear_layout(&layout)?;
    let outputs = [(OutputKind::OciLayout, layout), (OutputKind::DockerArchive, archive)]
        .map(|(kind, path)| Output::new(kind, Destination::Path(path)));
    let (second, progress) = engine.build(outputs.into())?;
    println!("\n{} of {} steps were cached", progress.cached, progress.steps);
    if progress.ran > 0 || second.descriptor != first.descriptor {
        println!("that should have been all of them, and the same image");
        return Ok(ExitCode::from(70));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the quickstart needs while it works.
struct Work(PathBuf);

impl Work {
    fn new(path: PathBuf) -> io::Result<Self> {
        // A run that was killed leaves it behind; and the first build is to find nothing of earlier ones.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn base(&self) -> PathBuf {
        self.0.join("base")
    }

    fn context(&self) -> PathBuf {
        self.0.join("context")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // With ranges of ids, files in there belong to users that `cargo clean` could not remove anything of.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The library with all its parts chosen.
struct Engine<'a> {
    work: &'a Work,
    state: StateDirectory,
}

impl Engine<'_> {
    fn build(&self, outputs: Vec<Output>) -> Result<(BuiltImage, Progress), Failure> {
        let (images, executor) = (BaseImages::offline(&self.state), NamespaceExecutor::new());
        let backends = Backends::new(&self.state, &images, &executor);
        let base = ContextSource::Image {
            source: Box::new(LayoutSource::open(self.work.base(), Some("latest"), None)?),
            reference: "base".parse()?,
        };
        let context = LocalContext::open(self.work.context())?;
        let dockerfile = Dockerfile::parse(context.read("Dockerfile")?).map_err(ocibuild::Error::from)?;
        let mut build = Build::new(dockerfile, context)
            .build_context("base", base)
            .resolv_conf(fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
            .now(SystemTime::now())
            .tag(name()?);
        for output in outputs {
            build = build.output(output);
        }
        let mut progress = Progress::default();
        let built =
            build.plan(&backends)?.run(&backends, &CancelToken::new(), |event| progress.show(&event))?;
        Ok((built.into_image(), progress))
    }

    /// Runs the image as its config says; the exit code of its command.
    fn run(&self) -> Result<i32, Failure> {
        let mut failed = None;
        let mut pass_on = |stream: Stream, bytes: &[u8]| {
            let written = match stream {
                Stream::Stdout => io::stdout().write_all(bytes),
                Stream::Stderr => io::stderr().write_all(bytes),
            };
            failed = written.err().or(failed.take());
        };
        let executor = NamespaceExecutor::new();
        let options = ContainerOptions::default();
        let status =
            self.state.state().run(&name()?, &options, &executor, &mut pass_on, &CancelToken::new())?;
        failed.map_or(Ok(status.code()), |error| Err(error.into()))
    }
}

fn name() -> Result<Reference, Failure> {
    Ok("quickstart:latest".parse()?)
}

/// What the events of a build said.
#[derive(Default)]
struct Progress {
    steps: usize,
    cached: usize,
    ran: usize,
    /// Which step made a layer.
    titles: BTreeMap<DiffId, String>,
    /// The beginning of a line of output.
    line: Vec<u8>,
}

impl Progress {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started { steps } => self.steps = *steps,
            Event::StepCached { title, diff_id, .. } => {
                self.cached += 1;
                self.titles.insert(diff_id.clone(), title.clone());
            }
            Event::StepDone { title, diff_id, .. } => {
                self.ran += 1;
                self.titles.insert(diff_id.clone(), title.clone());
            }
            _ => {}
        }
        if let Event::Output { bytes, .. } = event {
            self.line.extend_from_slice(bytes);
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                println!("    | {}", String::from_utf8_lossy(&line).trim_end());
            }
            return;
        }
        if !self.line.is_empty() {
            println!("    | {}", String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        }
        println!("  {event}");
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Packs a directory into a compressed tar, the same bytes for the same files.
fn pack(directory: &Path, archive: &Path) -> io::Result<()> {
    let gzip = flate2::write::GzEncoder::new(fs::File::create(archive)?, flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut names = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort();
    for name in names {
        let path = directory.join(&name);
        if path.is_dir() {
            tar.append_dir_all(&name, path)?;
        } else {
            tar.append_path_with_name(path, &name)?;
        }
    }
    tar.into_inner()?.finish()?.sync_all()
}

/// Removes the layout of an earlier run; anything else in its place is left for the output to complain about.
fn clear_layout(layout: &Path) -> io::Result<()> {
    if layout.join("oci-layout").is_file() { fs::remove_dir_all(layout) } else { Ok(()) }
}

/// Says what went wrong, where, and what to do.
fn show_failure(error: &(dyn Error + 'static)) {
    let reports = error.downcast_ref::<ocibuild::Error>().map(ocibuild::Error::reports);
    for report in reports.unwrap_or_default() {
        let line = report.location.map(|location| format!("Dockerfile:{}: ", location.start_line));
        eprintln!("error: {}{}", line.unwrap_or_default(), report.message);
        report.hints.iter().for_each(|hint| eprintln!("hint: {hint}"));
    }
    if reports.is_none() {
        eprintln!("error: {error}");
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("caused by: {error}");
        cause = error.source();
    }
}

/// The same codes as those of the program `ocibuild`.
fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<ocibuild::Error>().map(ocibuild::Error::kind) {
        Some(ErrorKind::StepFailed(_)) => 1,
        Some(ErrorKind::Usage | ErrorKind::Dockerfile) => 2,
        Some(ErrorKind::Refused) => 3,
        Some(ErrorKind::Network) => 4,
        _ => 5,
    }
}
