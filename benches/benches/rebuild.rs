//! How long does a build take that has nothing to do?
//!
//! End to end, from the text of the Dockerfile to the named image: everything is parsed and planned, the context is
//! walked and hashed again, each step is found in the cache. One Dockerfile only copies (500 files of 8 KiB), the other
//! has a base and a `RUN` as well, where this host lets steps run. Throughput counts bytes of the context.
//!
//! Unfair to a first build of the day: the context is in the page cache. Unfair to us: naming the image waits for the
//! disk, even though it had the name before.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use fs_err as fs;
use ocibuild::{
    Backends, Build, BuiltImage, CancelToken, ContextSource, Event, LocalContext, StateDirectory,
};
use ocibuild_benches::text;
use ocibuild_dockerfile::Dockerfile;
use ocibuild_executor::NamespaceExecutor;
use ocibuild_store::LayoutSource;
use ocibuild_testkit::{HostBase, skip};

const FILES: usize = 500;
const SIZE: usize = 8 << 10;
const COPY: &str = "FROM scratch\nWORKDIR /srv\nCOPY . .\nCMD [\"/srv/app\"]\n";
const RUN: &str = "FROM base\nWORKDIR /srv\nCOPY . .\nRUN cat file-1.txt > copy\nCMD [\"/srv/app\"]\n";

/// A host with a warm cache.
struct Bench<'a> {
    directory: &'a Path,
    state: StateDirectory,
}

impl<'a> Bench<'a> {
    fn new(directory: &'a Path) -> Self {
        HostBase::find()
            .expect("a host with a shell")
            .write_layout(directory.join("base"))
            .expect("a base image");
        fs::create_dir(directory.join("context")).expect("a new directory");
        for number in 0..FILES {
            let path = directory.join(format!("context/file-{number}.txt"));
            fs::write(path, text(SIZE, number as u64)).expect("a file of the context");
        }
        let state = StateDirectory::open(directory.join("state")).expect("a state directory");
        Self { directory, state }
    }

    fn build(&self, dockerfile: &str) -> (BuiltImage, usize) {
        let executor = NamespaceExecutor::new();
        let backends = Backends::new(&self.state, self.state.layout(), &executor);
        let source = LayoutSource::open(self.directory.join("base"), None, None).expect("a base image");
        let base =
            ContextSource::Image { source: Box::new(source), reference: "base".parse().expect("a name") };
        let context = LocalContext::open(self.directory.join("context")).expect("a context");
        let plan = Build::new(Dockerfile::parse(dockerfile).expect("a Dockerfile"), context)
            .build_context("base", base)
            .tag("bench:latest".parse().expect("a name"))
            .plan(&backends)
            .expect("a plan");
        let mut ran = 0;
        let count = |event: Event| ran += usize::from(matches!(event, Event::StepDone { .. }));
        let image = plan.run(&backends, &CancelToken::new(), count).expect("a build");
        (image.into_image(), ran)
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bench = Bench::new(directory.path());
    let mut group = criterion.benchmark_group("rebuild");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes((FILES * SIZE) as u64));
    let mut files = vec![("COPY", COPY)];
    if bench.state.check_sandbox(&NamespaceExecutor::new()).is_ok() {
        files.push(("COPY and RUN", RUN));
    } else {
        skip("no steps can run here");
    }
    for (name, dockerfile) in files {
        bench.build(dockerfile);
        assert_eq!(bench.build(dockerfile).1, 0, "a rebuild runs nothing");
        group.bench_function(name, |bencher| bencher.iter(|| bench.build(dockerfile)));
    }
    group.finish();
    criterion.final_summary();
}
