//! What is alike for steps whatever carries them out: worlds with each executor.

use ocibuild::executor::{Executor, NamespaceExecutor, RuntimeExecutor};
use ocibuild::snapshot::auto;
use ocibuild_testkit::skip;

use crate::support::{World, shell_image};

/// A world for each executor that can be had here, by its name.
pub(crate) fn worlds() -> Vec<(&'static str, World)> {
    let Some(image) = shell_image() else { return Vec::new() };
    let mut executors: Vec<(&str, Box<dyn Executor>)> =
        vec![("namespaces", Box::new(NamespaceExecutor::new()))];
    for name in ["runc", "crun"] {
        match RuntimeExecutor::new(name) {
            Ok(executor) => executors.push((name, Box::new(executor))),
            Err(error) => skip(&error.to_string()),
        }
    }
    let world = |(name, executor)| {
        let mut world = World::with(|directory| auto(directory).unwrap(), executor);
        world.base("base", image);
        (name, world)
    };
    executors.into_iter().map(world).collect()
}

/// Images that log to `/dev/stdout` as an ordinary user, built and run.
#[test]
fn output_is_written_by_its_name_whoever_runs() {
    for (name, world) in worlds() {
        let dockerfile = "FROM base\nUSER user\n\
             RUN for f in /dev/stdout /dev/stderr /proc/self/fd/1; do echo \"to $f\" > $f; done; cat /dev/stdin\n\
             CMD [\"sh\", \"-c\", \"echo run > /dev/stdout; cat /dev/stdin; echo $(id -u) > /dev/stderr\"]\n";
        let (_, seen) = world.build(world.prepare(dockerfile).tag("app".parse().unwrap()));
        for line in ["to /dev/stdout", "to /dev/stderr", "to /proc/self/fd/1"] {
            assert!(seen.output.lines().any(|other| other == line), "{name}: {line} in {}", seen.output);
        }
        let mut text = Vec::new();
        let mut output = |_: ocibuild::executor::Stream, bytes: &[u8]| text.extend_from_slice(bytes);
        let status = world.state().run(
            &"app".parse().unwrap(),
            &ocibuild::state::ContainerOptions::default(),
            world.executor.as_ref(),
            &mut output,
            &ocibuild::CancelToken::new(),
        );
        let text = String::from_utf8(text).unwrap();
        assert!(status.unwrap().success(), "{name}: {text}");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["1000", "run"], "{name}");
    }
}

/// The paths in the last layer of an image, without those that the base lacks and every first step leaves (8.20).
pub(crate) fn last_layer(world: &World, image: &ocibuild::BuiltImage) -> Vec<String> {
    let (_, descriptor) = image.layers().last().unwrap();
    let listing = crate::support::layer_listing(&world.blobs().join(descriptor.digest.hex()));
    let paths = listing.iter().map(|line| line.split_whitespace().next().unwrap().to_owned());
    paths.filter(|path| !["dev/", "proc/", "sys/"].contains(&path.as_str())).collect()
}
