//! Builds without a network.

use fs_err as fs;
use ocibuild::{Build, ErrorKind, OutputKind};

use super::support::{World, tar_file};

/// The network namespace that a step had.
fn namespace_of_step(world: &World, build: Build) -> String {
    world.build(build.output(world.output(OutputKind::Tar, "out.tar")));
    let tar = fs::read(world.path("out.tar")).unwrap();
    let listed = String::from_utf8(tar_file(&tar, "net").unwrap()).unwrap();
    listed[listed.rfind("net:[").unwrap()..].trim().to_owned()
}

#[test]
fn privileged_steps_of_an_offline_build_have_no_network() {
    let Some(world) = World::with_shell() else { return };
    let build = |number: u32| {
        world.prepare(&format!("FROM base\nRUN ls -l /proc/self/ns/net > /net; echo {number} > /number\n"))
    };
    let host = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(namespace_of_step(&world, build(1)), host);
    // What a build with a network made is there.
    assert_eq!(world.build(build(1).offline(true)).1.done.len(), 0);
    // What one without makes is its own: the next one with a network does not take it.
    assert_ne!(namespace_of_step(&world, build(2).offline(true)), host);
    assert_eq!(world.build(build(2).offline(true)).1.done.len(), 0);
    assert_eq!(namespace_of_step(&world, build(2)), host);
}

#[test]
fn privileged_a_step_that_wants_the_network_of_the_host_is_refused_offline() {
    let Some(world) = World::with_shell() else { return };
    let build = || world.prepare("FROM base\nRUN --network=host echo x > /x\n").allow(true, false);
    let (error, _) = world.fail(build().offline(true));
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("the build is offline"), "{error}");
    world.build(build());
    assert_eq!(world.build(build().offline(true)).1.done.len(), 0);
}
