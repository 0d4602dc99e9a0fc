//! What can be done with a state directory apart from building.

use std::time::Duration;

use fs_err as fs;
use ocibuild::executor::{ExitStatus, NamespaceExecutor, Stream};
use ocibuild::layer::Compression;
use ocibuild::state::{ContainerOptions, LoadSource, PruneOptions, Pruned, Volume};
use ocibuild::store::ArchiveFormat;
use ocibuild::{CancelToken, Destination, ErrorKind, Event};
use ocibuild_testkit::TestImage;

use super::support::{World, chain, name, platform, write_files};

fn world() -> World {
    let mut world = World::new();
    world.base("base", &TestImage::new(&platform()).layer(&[("etc/motd", "hello")]).gzip().build());
    world.files(&[("one", "1"), ("two", "2")]);
    world
}

fn names(world: &World) -> Vec<String> {
    let images = world.state().images().unwrap();
    images.iter().map(|image| image.reference.as_ref().unwrap().familiar()).collect()
}

fn blob_bytes(world: &World) -> u64 {
    let entries = fs::read_dir(world.blobs()).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn images_have_names() {
    let world = world();
    let state = world.state();
    assert_eq!(names(&world), Vec::<String>::new());
    let build =
        |file: &str| world.prepare(&format!("FROM base\nCOPY {file} /\n")).source_date_epoch(1_700_000_000);
    let (one, _) = world.build(build("one").tag(name("one:1")).tag(name("localhost:5000/also")));
    let (two, _) = world.build(build("two").tag(name("two")));
    assert_eq!(names(&world), ["one:1", "two:latest", "localhost:5000/also:latest"]);
    let images = state.images().unwrap();
    assert_eq!(images[0].descriptor.digest, one.descriptor.digest);
    assert_eq!(images[0].id, one.manifest.config.digest);
    assert_eq!(images[0].created.unwrap().seconds, 1_700_000_000);
    // "hello" and "1": what is unpacked, as docker counts.
    assert_eq!(images[0].size, 6);
    assert_eq!(state.layer_sizes(&state.inspect(&name("one:1")).unwrap()).unwrap(), [5, 1]);

    let details = state.inspect(&name("two")).unwrap();
    assert_eq!(details.descriptor.digest, two.descriptor.digest);
    assert_eq!(details.config.history.len(), two.config.history.len());
    assert_eq!(details.manifest.config, two.manifest.config);

    state.tag(&name("two"), &name("one:1")).unwrap();
    assert_eq!(state.inspect(&name("one:1")).unwrap().descriptor.digest, two.descriptor.digest);
    state.remove(&name("two")).unwrap();
    assert_eq!(names(&world), ["one:1", "localhost:5000/also:latest"]);
    for error in [
        state.remove(&name("two")).unwrap_err(),
        state.inspect(&name("two")).unwrap_err(),
        state.tag(&name("two"), &name("three")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("two:latest"), "{error}");
    }
    world.check_named("one:1");
    world.check_named("localhost:5000/also");
}

#[test]
fn images_are_found_by_name_and_by_id() {
    let world = world();
    let state = world.state();
    let (one, _) = world.build(world.prepare("FROM base\nCOPY one /\n").tag(name("one:1")).tag(name("beef")));
    let (two, _) = world.build(world.prepare("FROM base\nCOPY two /\n").tag(name("two")));
    let id = one.manifest.config.digest.clone();
    for text in
        ["one:1", id.as_str(), id.hex(), &id.hex()[..12], &id.as_str()[..20], one.descriptor.digest.hex()]
    {
        assert_eq!(state.find(text).unwrap().descriptor.digest, one.descriptor.digest, "{text}");
    }
    assert_eq!(state.find(&id.hex()[..12]).unwrap().reference, None);
    assert_eq!(state.find("beef").unwrap().reference, Some(name("beef")), "names come first");
    assert_eq!(state.names(&id).unwrap(), [name("beef"), name("one:1")]);
    assert_eq!(state.find("two").unwrap().descriptor.digest, two.descriptor.digest);
    // Sixteen more images leave no first digit to one alone.
    for number in 0..16 {
        let dockerfile = format!("FROM base\nLABEL n={number}\n");
        world.build(world.prepare(&dockerfile).tag(name(&format!("n{number}"))));
    }
    // One image has two names.
    let ids: std::collections::BTreeSet<_> =
        state.images().unwrap().into_iter().map(|image| image.id).collect();
    let firsts: Vec<char> = ids.iter().filter_map(|id| id.hex().chars().next()).collect();
    let twice =
        firsts.iter().find(|c| firsts.iter().filter(|other| other == c).count() > 3).unwrap_or(&firsts[0]);
    if firsts.iter().filter(|c| *c == twice).count() > 1 {
        let error = state.find(&twice.to_string()).unwrap_err();
        assert!(error.to_string().contains("multiple images have an ID that begins with"), "{error}");
    }
    for text in ["0123456789abcdef", "sha256:0123", "Upper", "three"] {
        assert_eq!(state.find(text).unwrap_err().kind(), ErrorKind::Usage, "{text}");
    }
}

#[test]
fn what_no_name_needs_is_given_back() {
    let world = world();
    let state = world.state();
    world.build(world.prepare("FROM base\nCOPY one /\n").tag(name("one")));
    let used = state.disk_usage().unwrap();
    assert_eq!((used.images, used.blobs, used.reclaimable), (1, blob_bytes(&world), 0));
    assert!(used.cache > 0);
    assert_eq!(state.prune(&PruneOptions::default()).unwrap(), Pruned::default());

    // An image without a name, and what a killed build leaves.
    world.build(world.prepare("FROM base\nCOPY two /\n"));
    let grown = state.disk_usage().unwrap();
    assert_eq!((grown.images, grown.blobs), (1, blob_bytes(&world)));
    assert_eq!(grown.reclaimable + grown.cached_blobs, grown.blobs - used.blobs);
    assert!(grown.cached_blobs > 0 && grown.reclaimable > 0, "{grown:?}");
    let dead = world.store().private_dir("tmp").join("run-dead");
    write_files(&dead, &[(".owner", ""), ("deep/file", "left")]);
    let pruned = state.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.blobs, pruned.records, pruned.leftovers), (2, 0, 1), "all but the layer");
    assert!(pruned.bytes >= grown.reclaimable, "{pruned:?}");
    assert!(!dead.exists());
    let after = state.disk_usage().unwrap();
    assert_eq!((after.blobs, after.reclaimable), (grown.blobs - grown.reclaimable, 0));
    world.check_named("one");
    world.check_left_nothing();

    // Both steps are still known.
    for dockerfile in ["FROM base\nCOPY one /\n", "FROM base\nCOPY two /\n"] {
        let (_, seen) = world.build(world.prepare(dockerfile));
        assert_eq!((seen.cached.len(), seen.done.len()), (1, 0), "{dockerfile}");
    }
    state.prune(&all()).unwrap();
    world.check_named("one");
    let (_, seen) = world.build(world.prepare("FROM base\nCOPY two /\n"));
    assert_eq!((seen.cached.len(), seen.done.len()), (0, 1));

    state.remove(&name("one")).unwrap();
    state.prune(&all()).unwrap();
    assert_eq!(fs::read_dir(world.blobs()).unwrap().count(), 0);
    let empty = state.disk_usage().unwrap();
    assert_eq!((empty.images, empty.blobs, empty.snapshots, empty.cache), (0, 0, 0, 0));
}

/// The whole cache.
fn all() -> PruneOptions {
    let mut options = PruneOptions::default();
    options.all = true;
    options
}

/// Says of every step and base image that it was used so long ago.
fn age(world: &World, by: Duration) {
    let then = std::time::SystemTime::now() - by;
    for folder in ["records", "bases"] {
        for entry in fs::read_dir(world.store().private_dir("cache").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs::File::open(&path).unwrap().file().set_modified(then).unwrap();
        }
    }
}

#[test]
fn what_was_not_used_for_long_goes_first() {
    const DAY: Duration = Duration::from_hours(24);
    let world = world();
    let state = world.state();
    let big = "x".repeat(100_000);
    world.files(&[("a", &format!("a{big}")), ("b", &format!("b{big}")), ("c", &format!("c{big}"))]);
    let build = |file: &str| {
        let build = world.prepare(&format!("FROM base\nCOPY {file} /\n"));
        world.build(build.compression(Compression::None, false)).1.done.len()
    };
    let fresh = ["a", "b", "c"].map(build);
    assert_eq!(fresh, [1, 1, 1]);
    age(&world, 3 * DAY);
    assert_eq!(build("b"), 0, "a use counts");
    let mut options = PruneOptions::default();
    options.unused_for = Some(DAY);
    assert_eq!(state.prune(&options).unwrap().records, 2);
    assert_eq!(["b", "a", "c"].map(build), [0, 1, 1]);

    age(&world, 3 * DAY);
    assert_eq!([build("c"), build("a")], [0, 0]);
    let mut options = PruneOptions::default();
    // Room for two of the three, and what little there is besides.
    options.keep_storage = Some(250_000);
    let pruned = state.prune(&options).unwrap();
    assert_eq!(pruned.records, 1, "{pruned:?}");
    assert_eq!(["a", "c", "b"].map(build), [0, 0, 1]);
    options.keep_storage = Some(0);
    assert_eq!(state.prune(&options).unwrap().records, 3);
    world.check_left_nothing();
}

const RUNS: &str = "FROM base
RUN echo one > /one
RUN --mount=type=cache,target=/cache echo line >> /cache/lines; cat /cache/lines
";

#[test]
fn privileged_unpacked_layers_and_caches_are_given_back() {
    let Some(world) = World::with_shell() else { return };
    let state = world.state();
    let (image, _) = world.build(world.prepare(RUNS).tag(name("app")));
    world.build(world.prepare("FROM base\nRUN echo two > /two\n"));
    assert_eq!(world.state.snapshots().list().unwrap().len(), 4);
    assert!(state.disk_usage().unwrap().cache_mounts > 0);
    let pruned = state.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.snapshots, pruned.records), (0, 0), "they are of steps that are known");
    assert_eq!(world.state.snapshots().list().unwrap().len(), 4);
    let used = state.disk_usage().unwrap();
    assert!(used.cache_mounts > 0 && used.unneeded_snapshots == 0, "{used:?}");

    let pruned = state.prune(&all()).unwrap();
    assert_eq!((pruned.blobs, pruned.snapshots, pruned.records), (1, 4, 3));
    let used = state.disk_usage().unwrap();
    assert_eq!((used.snapshots, used.cache, used.cache_mounts), (0, 0, 0));
    assert_eq!(used.blobs, blob_bytes(&world));
    assert_eq!(world.check_named("app").descriptor.digest, image.descriptor.digest);
    // All that can be made again.
    let mut text = Vec::new();
    let mut options = ContainerOptions::default();
    options.args = vec!["cat".to_owned(), "/one".to_owned()];
    assert_eq!(run(&world, &options, &mut text), ExitStatus::Code(0));
    assert_eq!(text, b"one\n");
    let (_, seen) = world.build(world.prepare(RUNS).tag(name("app")));
    assert_eq!((seen.done.len(), seen.output.as_str()), (2, "line\n"));
    world.check_named("app");
}

#[test]
fn privileged_a_running_build_keeps_what_it_uses() {
    let Some(world) = World::with_shell() else { return };
    world.files(&[("one", "1")]);
    let build = world.prepare(
        "FROM base AS other\nCOPY one /made\nRUN echo other >> /made\nFROM base\nCOPY one /\nRUN echo now > /two\n\
         COPY --from=other /made /\nRUN echo now >> /made\n",
    );
    let mut times = 0;
    let (result, seen) = world.try_build_watched(build.tag(name("app")), &CancelToken::new(), |event| {
        if matches!(event, Event::StepStarted { .. } | Event::StepDone { .. } | Event::Output { .. }) {
            // As another process would.
            let other = World::again(&world.path(""));
            other.state().prune(&all()).unwrap();
            times += 1;
        }
    });
    result.unwrap_or_else(|error| panic!("{}: {seen:?}", chain(&error)));
    assert!(times >= 6, "{times}");
    world.check_named("app");
    world.check_blobs();
}

/// Builds of different Dockerfiles, and everything that removes, in one state directory at once: no build and no removal
/// fails, and equal builds give equal images.
#[test]
fn privileged_builds_and_pruning_do_not_fail_each_other() {
    const ROUNDS: usize = 8;
    let Some(world) = World::with_shell() else { return };
    world.files(&[("one", "1")]);
    let over = std::sync::atomic::AtomicBool::new(false);
    let images = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let directory = world.path("");
    let build = |builder: usize| {
        let world = World::again(&directory);
        for round in 0..ROUNDS {
            let number = (builder + round) % 3;
            let dockerfile = format!(
                "FROM base AS other\nCOPY one /made\nRUN echo {number} >> /made\nFROM base\n\
                 RUN --mount=from=other,target=/o --mount=type=cache,target=/c cp /o/made /two; touch /c/x; test -e /c/x\n\
                 COPY --from=other /made /\nRUN cat /made /two > /three\n"
            );
            let build = world.prepare(&dockerfile).source_date_epoch(1_700_000_000).rewrite_timestamps(true);
            let (image, _) = world.build(build.no_cache(round == 3).now(std::time::SystemTime::now()));
            let mut images = images.lock().unwrap();
            let known = images.entry(number).or_insert_with(|| image.descriptor.clone());
            assert_eq!(*known, image.descriptor, "{number}");
        }
    };
    let prune = |options: PruneOptions| {
        let world = World::again(&directory);
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            world.state().prune(&options).unwrap();
            world.state().disk_usage().unwrap();
            world.state().images().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let (build, prune) = (&build, &prune);
        let builders: Vec<_> = (0..3).map(|builder| scope.spawn(move || build(builder))).collect();
        let mut small = PruneOptions::default();
        small.keep_storage = Some(10_000);
        for options in [PruneOptions::default(), small, all()] {
            scope.spawn(move || prune(options));
        }
        let ended: Vec<_> = builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for builder in ended {
            builder.unwrap();
        }
    });
    world.check_blobs();
    world.check_left_nothing();
}

/// An image that a build has planned with stays until the build is done, also when its name is taken away.
#[test]
fn privileged_what_was_planned_with_stays() {
    let Some(world) = World::with_shell() else { return };
    world.build(world.prepare("FROM base\nRUN echo x > /x\n").tag(name("mine")));
    let backends = world.backends();
    let plan = world.prepare("FROM mine\nRUN cat /x\n").plan(&backends).unwrap();
    let other = World::again(&world.path(""));
    other.state().remove(&name("mine")).unwrap();
    // In this process and as another one would.
    world.state().prune(&all()).unwrap();
    other.state().prune(&all()).unwrap();
    plan.run(&backends, &CancelToken::new(), |_| {}).unwrap();
}

/// Of an archive that is cancelled while it is read nothing gets a name.
#[test]
fn loading_is_cancelled() {
    struct Cancelling<R>(R, CancelToken);
    impl<R: std::io::Read> std::io::Read for Cancelling<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            if count == 0 {
                self.1.cancel();
            }
            Ok(count)
        }
    }
    let world = world();
    world.build(world.prepare("FROM scratch\nCOPY one /\n").tag(name("app:1")).tag(name("app:2")));
    let state = world.state();
    let image = world.store().resolve(&name("app:1")).unwrap().unwrap();
    let names = [Some(name("app:1")), Some(name("app:2")), None];
    let images: Vec<_> = names.into_iter().map(|name| (name, image.clone())).collect();
    let archive = world.path("app.tar");
    let cancel = CancelToken::new();
    state.save(&images, ArchiveFormat::Oci, Destination::Path(archive.clone()), &cancel).unwrap();
    let other = World::new();
    let file = fs::File::open(&archive).unwrap();
    let reader = Cancelling(file, cancel.clone());
    let error = other.state().load(LoadSource::Reader(Box::new(reader)), &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(other.store().list().unwrap(), []);
    let error =
        state.save(&images, ArchiveFormat::Oci, Destination::Path(archive.clone()), &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let loaded = other.state().load(LoadSource::Path(archive), &CancelToken::new()).unwrap();
    assert_eq!(loaded[0].names, [name("app:1"), name("app:2")]);
    assert_eq!(other.store().list().unwrap().len(), 2);
}

fn run(world: &World, options: &ContainerOptions, text: &mut Vec<u8>) -> ExitStatus {
    let mut output = |_: Stream, bytes: &[u8]| text.extend_from_slice(bytes);
    let executor = NamespaceExecutor::new();
    let status = world.state().run(&name("app"), options, &executor, &mut output, &CancelToken::new());
    status.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[test]
fn privileged_an_image_runs_as_its_config_says() {
    let Some(world) = World::with_shell() else { return };
    let dockerfile = "FROM base
WORKDIR /srv
ENV GREETING=hello
RUN echo kept > file && chown -R user /srv
USER user
ENTRYPOINT [\"/bin/sh\", \"-c\"]
CMD [\"echo $GREETING from $(id -u) in $PWD with $(cat file)\"]
";
    world.build(world.prepare(dockerfile).tag(name("app")));
    write_files(&world.path("volume"), &[("in", "given")]);
    let with = |text: &str, change: &dyn Fn(&mut ContainerOptions)| {
        let mut options = ContainerOptions::default();
        options.args = vec![text.to_owned()];
        change(&mut options);
        options
    };
    let command = |text: &str| with(text, &|_| ());
    let volume = |read_only| Volume::new(world.path("volume"), "/v").read_only(read_only);
    let cases = [
        (ContainerOptions::default(), 0, "hello from 1000 in /srv with kept\n"),
        (command("exit 7"), 7, ""),
        (command("rm file && echo gone && ls"), 0, "gone\n"),
        // Nothing of that stayed.
        (command("cat file"), 0, "kept\n"),
        (
            with("echo $GREETING $MORE", &|options| {
                options.env = vec!["GREETING=bye".to_owned(), "MORE=m".to_owned()];
            }),
            0,
            "bye m\n",
        ),
        (
            with("id -u; pwd", &|options| {
                options.user = Some("root".to_owned());
                options.working_dir = Some("/etc".to_owned());
            }),
            0,
            "0\n/etc\n",
        ),
        (with("pwd", &|options| options.entrypoint = Some(vec![String::new()])), 0, "/srv\n"),
        (
            with("cat /v/in; echo x 2>&- > /v/out || echo refused", &|options| {
                options.volumes = vec![volume(true)];
            }),
            0,
            "givenrefused\n",
        ),
        (
            with("echo written > /v/out", &|options| {
                options.volumes = vec![volume(false)];
                options.user = Some("root".to_owned());
            }),
            0,
            "",
        ),
    ];
    for (options, code, expected) in cases {
        let mut text = Vec::new();
        let status = run(&world, &options, &mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!((status, text.as_str()), (ExitStatus::Code(code), expected), "{options:?}");
        world.check_left_nothing();
    }
    assert_eq!(fs::read_to_string(world.path("volume/out")).unwrap(), "written\n");
    let nothing = world.prepare("FROM scratch\nCOPY . /\n").tag(name("nothing"));
    world.build(nothing);
    let mut none = |_: Stream, _: &[u8]| {};
    for (image, options, kind) in [
        ("nothing", ContainerOptions::default(), ErrorKind::Usage),
        ("missing", ContainerOptions::default(), ErrorKind::Usage),
    ] {
        let executor = NamespaceExecutor::new();
        let result = world.state().run(&name(image), &options, &executor, &mut none, &CancelToken::new());
        assert_eq!(result.unwrap_err().kind(), kind, "{image}");
    }
}
