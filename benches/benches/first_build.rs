//! How long does a build take on a machine that has never built anything?
//!
//! End to end, from the text of the Dockerfile to the named image, each time with a new state directory. One Dockerfile
//! only copies (500 files of 8 KiB), the other has a base and a `RUN` as well, where this host lets steps run: the base
//! is unpacked each time. Throughput counts bytes of the context. Making and removing the state directory is outside of
//! the measurement.
//!
//! Unfair in our favour: context and base are in the kernel's cache, and the base is on this disk.

use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use fs_err as fs;
use ocibuild::{Backends, Build, CancelToken, ContextSource, Event, LocalContext, StateDirectory};
use ocibuild_benches::text;
use ocibuild_dockerfile::Dockerfile;
use ocibuild_executor::NamespaceExecutor;
use ocibuild_store::LayoutSource;
use ocibuild_testkit::{HostBase, skip};

const FILES: usize = 500;
const SIZE: usize = 8 << 10;
const COPY: &str = "FROM scratch\nWORKDIR /srv\nCOPY . .\nCMD [\"/srv/app\"]\n";
const RUN: &str = "FROM base\nWORKDIR /srv\nCOPY . .\nRUN cat file-1.txt > copy\nCMD [\"/srv/app\"]\n";

/// Builds with what is in `directory`, and a state directory of its own; the steps that were carried out.
fn build(directory: &Path, state: &Path, dockerfile: &str) -> usize {
    let (state, executor) =
        (StateDirectory::open(state).expect("a state directory"), NamespaceExecutor::new());
    let backends = Backends::new(&state, state.layout(), &executor);
    let source = LayoutSource::open(directory.join("base"), None, None).expect("a base image");
    let base = ContextSource::Image { source: Box::new(source), reference: "base".parse().expect("a name") };
    let context = LocalContext::open(directory.join("context")).expect("a context");
    let plan = Build::new(Dockerfile::parse(dockerfile).expect("a Dockerfile"), context)
        .build_context("base", base)
        .tag("bench:latest".parse().expect("a name"))
        .plan(&backends)
        .expect("a plan");
    let mut ran = 0;
    let count = |event: Event| ran += usize::from(matches!(event, Event::StepDone { .. }));
    plan.run(&backends, &CancelToken::new(), count).expect("a build");
    ran
}

fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    HostBase::find().and_then(|base| base.write_layout(directory.path().join("base"))).expect("a base image");
    fs::create_dir(directory.path().join("context")).expect("a new directory");
    for number in 0..FILES {
        let path = directory.path().join(format!("context/file-{number}.txt"));
        fs::write(path, text(SIZE, number as u64)).expect("a file of the context");
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("first build");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes((FILES * SIZE) as u64));
    let mut files = vec![("COPY", COPY, 2)];
    let state = StateDirectory::open(directory.path().join("probe")).expect("a state directory");
    if state.check_sandbox(&NamespaceExecutor::new()).is_ok() {
        files.push(("COPY and RUN", RUN, 3));
    } else {
        skip("no steps can run here");
    }
    for (name, dockerfile, steps) in files {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(directory.path()).expect("a temporary directory"),
                |state| {
                    assert_eq!(build(directory.path(), &state.path().join("state"), dockerfile), steps);
                    state
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
