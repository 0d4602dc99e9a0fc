//! Builds that are killed, and builds at the same time: processes of this program, started again as a builder.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use ocibuild::spec::Descriptor;
use ocibuild::{Build, BuiltImage};

use super::support::{World, layer_listing, mounts_below, name};

/// Tells a process of this program whose world it builds in, and under which name.
const DIRECTORY: &str = "OCIBUILD_TEST_BUILDER_DIRECTORY";
const NAME: &str = "OCIBUILD_TEST_BUILDER_NAME";

const KILLS: usize = 15;

const DOCKERFILE: &str = "FROM base AS one
ARG ROUND
COPY files/ /files/
RUN echo $ROUND > /round; dd if=/dev/zero of=/zero bs=65536 count=64 2>&1; mkdir -p -m 0 /files/closed
FROM base
WORKDIR /srv
COPY --from=one /round /zero /srv/
RUN cat round > copy; rm /etc/group
";

fn world() -> Option<World> {
    let world = World::with_shell()?;
    let files: Vec<_> =
        (0..40).map(|number| (format!("files/{number}"), number.to_string().repeat(500))).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    world.files(&files);
    Some(world)
}

fn build(world: &World, round: &str) -> Build {
    // Later than the epoch, as times are: what is made meanwhile is clamped to it.
    let build = world.prepare(DOCKERFILE).build_arg("ROUND", round).now(SystemTime::now());
    build.source_date_epoch(1_700_000_000).rewrite_timestamps(true)
}

/// A process that runs only the test of this name, which then is the builder.
fn builder(test: &str, world: &World, image: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, world.path(""))
        .env(NAME, image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// In a process that is a builder: the world it was started for, and the name of its image.
fn builders_world() -> Option<(World, String)> {
    let directory = std::env::var_os(DIRECTORY)?;
    Some((World::again(Path::new(&directory)), std::env::var(NAME).unwrap()))
}

/// Waits until the kernel has killed what a killed builder had started.
fn wait_for_the_end(world: &World) {
    for _ in 0..1000 {
        if mounts_below(&world.path("state")).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", mounts_below(&world.path("state")));
}

#[test]
fn privileged_killed_builds_leave_a_state_directory_that_works() {
    if let Some((world, image)) = builders_world() {
        for round in 0.. {
            println!("building");
            world.build(build(&world, &format!("{}-{round}", std::process::id())).tag(name(&image)));
        }
    }
    let Some(world) = world() else { return };
    let random = RandomState::new();
    for kill in 0..KILLS {
        let mut child =
            builder("crash::privileged_killed_builds_leave_a_state_directory_that_works", &world, "killed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("building")), "the builder did not begin");
        let moment = Duration::from_micros(random.hash_one(kill) % 250_000);
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for_the_end(&world);

        let world = World::again(&world.path(""));
        let (_, seen) = world.build(build(&world, &format!("after-{kill}")).tag(name("next")));
        assert!(!seen.done.is_empty(), "{moment:?}");
        world.check_blobs();
        world.check_named("next");
        if world.store().resolve(&name("killed")).unwrap().is_some() {
            world.check_named("killed");
        }
        world.check_left_nothing();
        // What the killed build had finished is true: the same build again gives the same.
        let (first, _) = world.build(build(&world, &format!("after-{kill}")));
        let (second, _) = world.build(build(&world, &format!("after-{kill}")).no_cache(true));
        let layers = |image: &BuiltImage| -> Vec<_> {
            let of_layer = |layer: &Descriptor| layer_listing(&world.blobs().join(layer.digest.hex()));
            image.layers().map(|(_, layer)| of_layer(layer)).collect()
        };
        assert_eq!(layers(&first), layers(&second), "{moment:?}");
        assert_eq!(first.descriptor, second.descriptor, "{moment:?}");
    }
}

#[test]
fn privileged_two_builds_at_once_give_one_image() {
    if let Some((world, image)) = builders_world() {
        world.build(build(&world, "same").tag(name(&image)));
        return;
    }
    for _ in 0..2 {
        let Some(world) = world() else { return };
        let names = ["first", "second", "third"];
        let test = "crash::privileged_two_builds_at_once_give_one_image";
        let children = names.map(|image| builder(test, &world, image));
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        let digests = names.map(|image| world.check_named(image).descriptor.digest);
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        world.check_blobs();
        world.check_left_nothing();
        assert_eq!(world.store().list().unwrap().len(), 3);
    }
}
