//! Builds where no step can run: those that need none succeed, and the others fail before anything is fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocibuild::executor::{Bundle, Error, ErrorKind, Executor, ExitStatus, Need, Offers, Output};
use ocibuild::spec::{
    Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError, SourceErrorKind,
};
use ocibuild::{Build, CancelToken};

use crate::support::World;

/// A host without sandboxes.
struct Nowhere;

impl Executor for Nowhere {
    fn probe(&self) -> Result<(), Error> {
        Err(Error::new(ErrorKind::NoSandbox, "there is no sandbox in this test"))
    }

    fn run(&self, _: &Bundle, _: &mut Output<'_>, _: &CancelToken) -> Result<ExitStatus, Error> {
        panic!("a step was carried out");
    }
}

/// A registry that has nothing, and counts who asks.
#[derive(Debug, Default)]
struct Asked(Arc<AtomicUsize>);

impl ImageSource for Asked {
    fn resolve(&self, _: &Reference, _: &Platform, _: &CancelToken) -> Result<ResolvedImage, SourceError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(SourceError::new(SourceErrorKind::NotFound, "nothing is here"))
    }

    fn open(
        &self,
        _: &Reference,
        _: &Descriptor,
        _: &CancelToken,
    ) -> Result<Box<dyn std::io::Read + Send>, SourceError> {
        panic!("a blob was asked for");
    }
}

#[track_caller]
fn refuses(world: &World, build: Build, line: u32) {
    let (error, seen) = world.fail(build);
    assert!(error.to_string().contains("no sandbox in this test"), "{error}");
    assert_eq!(error.kind(), ocibuild::ErrorKind::Host);
    assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(line));
    assert_eq!(error.reports()[0].hint_texts(), ["a Dockerfile without RUN needs no sandbox"]);
    assert!(seen.done.is_empty(), "{seen:?}");
}

#[test]
fn nobody_is_asked_for_images_of_a_build_that_cannot_run() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut world = World::new();
    world.executor = Box::new(Nowhere);
    world.registry = Some(Box::new(Asked(Arc::clone(&asked))));
    let check =
        |file: &str, target: &str| world.prepare(file).target(target).check_sandbox(&world.backends());
    let file = "FROM app AS a\nCOPY x /\nFROM app AS b\nRUN true\nFROM b\nFROM a AS c\n";
    let error = check(file, "b").unwrap_err();
    assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(4));
    assert!(check(file, "a").is_ok() && check(file, "c").is_ok(), "their stages have no RUN");
    assert!(check("FROM app\nONBUILD RUN true\n", "").is_ok(), "it runs in builds on this one");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // A build without RUN goes on to ask.
    let (error, _) = world.fail(world.prepare("FROM app\nCOPY x /\n"));
    assert!(!error.to_string().contains("sandbox"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn builds_whose_steps_are_cached_need_no_sandbox() {
    let Some(mut world) = World::with_shell() else { return };
    world.files(&[("before", "1"), ("after", "1")]);
    let file = "FROM base AS a\nCOPY before /\nRUN echo made >/made\nFROM base\nWORKDIR /w\nCOPY after .\nCOPY --from=a /made .\n";
    world.build(world.prepare(file));
    world.executor = Box::new(Nowhere);
    let (_, seen) = world.build(world.prepare(file));
    assert!(seen.done.is_empty(), "{seen:?}");
    world.prepare(file).check_sandbox(&world.backends()).unwrap();
    // What changes is not below a RUN.
    world.files(&[("after", "2")]);
    let (_, seen) = world.build(world.prepare(file));
    assert!(seen.done.contains(&"COPY after .".to_owned()), "{seen:?}");
    // It is.
    world.files(&[("before", "2"), ("after", "3")]);
    refuses(&world, world.prepare(file), 3);
    world.files(&[("before", "1")]);
    refuses(&world, world.prepare(file).no_cache(true), 3);
    refuses(&world, world.prepare("FROM base\nCOPY before /\nRUN echo other\n"), 3);
    refuses(
        &world,
        world.prepare("FROM base AS x\nRUN echo other\nFROM base\nCOPY --from=x /made /\nRUN echo last\n"),
        2,
    );
    world.build(world.prepare("FROM base\nCOPY before /other\n"));
}

#[test]
fn a_step_that_turns_out_to_run_after_all_is_refused_as_well() {
    let Some(mut world) = World::with_shell() else { return };
    world.files(&[("file", "1")]);
    // What a stage has is not known before it is there, and so nor is whether the RUN on it is cached.
    let file = "FROM base AS a\nCOPY file /f\nFROM base\nCOPY --from=a /f /\nRUN cat /f\n";
    world.build(world.prepare(file));
    world.executor = Box::new(Nowhere);
    world.files(&[("file", "2")]);
    let (error, seen) = world.fail(world.prepare(file));
    assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(5));
    assert_eq!(seen.done, ["COPY file /f", "COPY --from=a /f /"]);
    assert_eq!(seen.failed, ["RUN cat /f"]);
}

/// Runs commands, and has nothing that not every executor has.
struct Plain;

impl Executor for Plain {
    fn offers(&self) -> Offers {
        Offers::ALL.without(Need::Mounts).without(Need::OwnNetwork).without(Need::Resources)
    }

    fn run(&self, _: &Bundle, _: &mut Output<'_>, _: &CancelToken) -> Result<ExitStatus, Error> {
        Ok(ExitStatus::Code(0))
    }
}

#[test]
fn privileged_a_step_that_needs_more_than_there_is_fails_before_anything_is_unpacked() {
    let Some(mut world) = World::with_shell() else { return };
    world.executor = Box::new(Plain);
    for (step, message) in [
        ("RUN --network=none true", "a network of the step's own takes an executor with network namespaces"),
        ("RUN --mount=type=cache,target=/c true", "mounts take an executor that makes them"),
    ] {
        let (result, _) = world.try_build(world.prepare(&format!("FROM base\n{step}\n")));
        let error = result.unwrap_err();
        assert!(error.to_string().contains(message), "{step}: {error}");
        assert_eq!(error.reports()[0].location.map(|location| location.start_line), Some(2), "{step}");
        assert_eq!(world.state.snapshots().list().unwrap(), []);
    }
    world.build(world.prepare("FROM base\nRUN true\n"));
}
