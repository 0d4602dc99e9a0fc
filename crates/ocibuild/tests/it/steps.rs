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

/// The paths in the last layer of an image, without those that the base lacks and every first step leaves (8.20).
pub(crate) fn last_layer(world: &World, image: &ocibuild::BuiltImage) -> Vec<String> {
    let (_, descriptor) = image.layers().last().unwrap();
    let listing = crate::support::layer_listing(&world.blobs().join(descriptor.digest.hex()));
    let paths = listing.iter().map(|line| line.split_whitespace().next().unwrap().to_owned());
    paths.filter(|path| !["dev/", "proc/", "sys/"].contains(&path.as_str())).collect()
}
