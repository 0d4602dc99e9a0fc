//! The small app of `fixtures/simpleapp`, on a base of the host's own programs.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{Bundle, Executor, ExitStatus, NamespaceExecutor, Output, Stream};
use ocibuild::snapshot::{CopySnapshots, Snapshotter, auto};
use ocibuild::spec::Reference;
use ocibuild::state::ContainerOptions;
use ocibuild::store::LayoutSource;
use ocibuild::{
    Backends, Build, BuiltImage, CancelToken, ContextSource, Destination, ErrorKind, Event, LocalContext,
    OutputKind, StateDirectory,
};
use ocibuild_testkit::HostBase;

/// Steps of the fixture: three of its first stage, four of its second.
const STEPS: usize = 7;

struct TestBuild {
    directory: tempfile::TempDir,
    state: StateDirectory,
}

/// What the events of a build were.
#[derive(Default)]
struct Seen {
    started: Vec<usize>,
    cached: Vec<String>,
    done: Vec<String>,
    output: String,
    /// Kinds in order, without what differs between builds.
    order: Vec<&'static str>,
}

impl Seen {
    fn take(&mut self, event: &Event) {
        self.order.push(match event {
            Event::Started { steps } => {
                self.started.push(*steps);
                "started"
            }
            Event::BaseResolved { .. } => "base",
            Event::StepCached { title, .. } => {
                self.cached.push(title.clone());
                "cached"
            }
            Event::StepDone { title, .. } => {
                self.done.push(title.clone());
                "done"
            }
            Event::Output { bytes, .. } => {
                self.output += &String::from_utf8_lossy(bytes);
                "output"
            }
            Event::ImageBuilt { .. } => "image",
            Event::Exported { .. } => "exported",
            _ => "other",
        });
    }
}

impl TestBuild {
    fn new(base: &HostBase) -> Self {
        Self::with_snapshots(base, |directory| auto(directory).unwrap())
    }

    fn with_snapshots(base: &HostBase, open: impl Fn(PathBuf) -> Box<dyn Snapshotter>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        base.write_layout(directory.path().join("base")).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/simpleapp");
        let context = directory.path().join("context");
        fs::create_dir(&context).unwrap();
        for name in ["Dockerfile", ".dockerignore", "today.sh"] {
            fs::copy(fixture.join(name), context.join(name)).unwrap();
        }
        let mut tar = tar::Builder::new(fs::File::create(context.join("quotes.tar.gz")).unwrap());
        tar.append_dir_all(".", fixture.join("quotes")).unwrap();
        tar.finish().unwrap();
        let state = StateDirectory::with_snapshots(directory.path().join("state"), |path| Ok(open(path)));
        Self { directory, state: state.unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn prepare(&self) -> Build {
        let context = LocalContext::open(self.path("context")).unwrap();
        let dockerfile = Dockerfile::parse(context.read("Dockerfile").unwrap()).unwrap();
        let source = Box::new(LayoutSource::open(self.path("base"), None, None).unwrap());
        let base = ContextSource::Image { source, reference: "base".parse().unwrap() };
        Build::new(dockerfile, context).build_context("base", base).tag(name())
    }

    fn build_with(
        &self,
        build: Build,
        executor: &dyn Executor,
        cancel: &CancelToken,
    ) -> (Result<BuiltImage, ocibuild::Error>, Seen) {
        let backends = Backends::new(&self.state, self.state.layout(), executor);
        let mut seen = Seen::default();
        let plan = build.plan(&backends).unwrap();
        let result = plan.run(&backends, cancel, |event| seen.take(&event));
        (result.map(ocibuild::Built::into_image), seen)
    }

    fn build(&self, build: Build, executor: &dyn Executor) -> (BuiltImage, Seen) {
        let (result, seen) = self.build_with(build, executor, &CancelToken::new());
        (result.unwrap_or_else(|error| panic!("{error} {:?}: {}", error.output(), seen.output)), seen)
    }

    fn run(&self) -> String {
        let mut text = String::new();
        let mut output = |_: Stream, bytes: &[u8]| text += &String::from_utf8_lossy(bytes);
        let state = self.state.state();
        let options = ContainerOptions::default();
        let status = state
            .run(&name(), &options, &NamespaceExecutor::new(), &mut output, &CancelToken::new())
            .unwrap();
        assert!(status.success(), "{status:?}: {text}");
        text
    }
}

fn name() -> Reference {
    "simpleapp".parse().unwrap()
}

/// Carries out nothing; what the steps would leave has to be given by the test.
#[derive(Default)]
struct Recorder {
    commands: Mutex<Vec<String>>,
}

impl Executor for Recorder {
    fn run(
        &self,
        bundle: &Bundle,
        _: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, ocibuild::executor::Error> {
        let arguments = bundle.spec.process().as_ref().unwrap().args().as_ref().unwrap();
        self.commands.lock().unwrap().push(arguments.join(" "));
        Ok(if cancel.is_cancelled() { ExitStatus::Signal(9) } else { ExitStatus::Code(0) })
    }
}

/// Whether layers with files of root can be unpacked and steps run.
fn has_sandbox() -> bool {
    let works = ocibuild_sys::namespaces_work();
    if let Err(error) = &works {
        ocibuild_testkit::skip(&format!("no namespaces here: {error}"));
    }
    works.is_ok()
}

fn bases() -> Vec<(&'static str, HostBase)> {
    let tools = ("shell and tools", HostBase::shell_and_tools().unwrap());
    HostBase::busybox().map(|base| ("busybox", base)).into_iter().chain([tools]).collect()
}

#[test]
fn privileged_the_app_is_built_and_runs_on_every_base() {
    if !has_sandbox() {
        return;
    }
    for (base_name, base) in bases() {
        let test = TestBuild::new(&base);
        let (image, seen) = test.build(test.prepare(), &NamespaceExecutor::new());
        assert_eq!((seen.started.as_slice(), seen.done.len()), (&[STEPS][..], STEPS), "{base_name}");
        assert!(seen.output.contains("prepared version 1.0 as user 0\n"), "{base_name}: {}", seen.output);
        assert!(seen.output.contains("collected 2 quotes\n"), "{base_name}: {}", seen.output);
        assert_eq!((image.layers().count(), image.new_layers), (5, 4));
        assert_eq!(image.config.config.cmd, ["/app/today"]);
        assert!(image.config.config.entrypoint.is_empty() && image.config.config.user.is_empty());
        assert_eq!(image.config.config.labels["org.opencontainers.image.title"], "simpleapp");
        let text = test.run();
        assert!(text.starts_with("simpleapp 1.0: today is "), "{base_name}: {text}");
        assert!(text.ends_with("Measure twice, build once.\n"), "{base_name}: {text}");
    }
}

#[test]
fn privileged_a_second_build_runs_nothing() {
    if !has_sandbox() {
        return;
    }
    let test = TestBuild::new(&HostBase::find().unwrap());
    let (first, _) = test.build(test.prepare(), &NamespaceExecutor::new());
    let recorder = Recorder::default();
    let (second, seen) = test.build(test.prepare(), &recorder);
    assert_eq!((seen.cached.len(), seen.done.len()), (STEPS, 0), "{:?}", seen.done);
    assert!(recorder.commands.lock().unwrap().is_empty());
    assert_eq!(second.descriptor, first.descriptor);
    assert_eq!((seen.order.first(), seen.order.last()), (Some(&"started"), Some(&"image")));

    // An argument that a step sees makes the steps from there on run again, and only those.
    let (third, seen) = test.build(test.prepare().build_arg("VERSION", "2.0"), &NamespaceExecutor::new());
    assert!(seen.output.contains("prepared version 2.0"), "{}", seen.output);
    assert!(seen.cached.iter().any(|title| title.ends_with("COPY today.sh .")), "{:?}", seen.cached);
    assert!(third.descriptor != first.descriptor);
    assert!(test.run().starts_with("simpleapp 2.0: "));
}

#[test]
fn privileged_both_ways_to_keep_snapshots_give_one_image() {
    if !has_sandbox() {
        return;
    }
    let base = HostBase::find().unwrap();
    let copies =
        |directory: PathBuf| Box::new(CopySnapshots::open(directory).unwrap()) as Box<dyn Snapshotter>;
    let digests = [TestBuild::new(&base), TestBuild::with_snapshots(&base, copies)].map(|test| {
        let build = test.prepare().now(std::time::SystemTime::now());
        let build = build.source_date_epoch(1_700_000_000).rewrite_timestamps(true);
        test.build(build, &NamespaceExecutor::new()).0.descriptor.digest
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn privileged_outputs_have_the_tag() {
    if !has_sandbox() {
        return;
    }
    let test = TestBuild::new(&HostBase::find().unwrap());
    let output = |kind, name: &str| ocibuild::Output::new(kind, Destination::Path(test.path(name)));
    let build = test
        .prepare()
        .output(output(OutputKind::OciLayout, "layout"))
        .output(output(OutputKind::DockerArchive, "image.tar"));
    let (image, seen) = test.build(build, &NamespaceExecutor::new());
    assert_eq!(seen.order.iter().filter(|kind| **kind == "exported").count(), 2);
    let index = fs::read_to_string(test.path("layout/index.json")).unwrap();
    assert!(index.contains(r#""org.opencontainers.image.ref.name":"latest""#), "{index}");
    assert!(index.contains(image.descriptor.digest.as_str()), "{index}");
    let archive = ocibuild::store::detect(test.path("image.tar")).unwrap();
    let platform = ocibuild::spec::Platform::host();
    let found = archive.resolve(&name(), &platform, &CancelToken::new()).unwrap();
    assert_eq!(found.config_bytes, image.config_bytes);
    assert!(test.state.layout().resolve(&name()).unwrap().is_none(), "with outputs, the name is theirs");
}

#[test]
fn privileged_a_cancelled_step_leaves_the_ones_before_it() {
    if !has_sandbox() {
        return;
    }
    let test = TestBuild::new(&HostBase::find().unwrap());
    let (cancel, executor) = (CancelToken::new(), CancelsInRun::default());
    *executor.0.lock().unwrap() = Some(cancel.clone());
    let (result, seen) = test.build_with(test.prepare(), &executor, &cancel);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    let (_, mut again) = test.build(test.prepare(), &NamespaceExecutor::new());
    // Its stages went on at the same time.
    let mut done = seen.done;
    done.sort_unstable();
    again.cached.sort_unstable();
    assert_eq!(again.cached, done);
    assert_eq!(again.cached.len() + again.done.len(), STEPS);
}

/// Cancels as soon as it is asked to run something.
#[derive(Default)]
struct CancelsInRun(Mutex<Option<CancelToken>>);

impl Executor for CancelsInRun {
    fn run(
        &self,
        bundle: &Bundle,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, ocibuild::executor::Error> {
        self.0.lock().unwrap().as_ref().unwrap().cancel();
        Recorder::default().run(bundle, output, cancel)
    }
}
