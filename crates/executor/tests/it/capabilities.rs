//! What a step may do, and what is taken from it.

use ocibuild_executor::Capabilities;

use crate::world::{World, chain, executors};

fn set(names: &[&str]) -> Capabilities {
    names.iter().fold(Capabilities::NONE, |set, name| set.with(name.parse().unwrap()))
}

#[test]
fn privileged_dropped_capabilities_are_in_no_set() {
    let Some(mut world) = World::privileged() else { return };
    // What containers have, and what is left of it without CAP_NET_RAW (13) and CAP_MKNOD (27).
    let (all, rest) = ("00000000a80425fb", "00000000a00405fb");
    let none = "0000000000000000";
    for (uid, dropped, own, bounding) in [
        (0, set(&[]), all, all),
        (0, set(&["NET_RAW", "cap_mknod"]), rest, rest),
        (0, set(&["NET_RAW", "MKNOD", "SYS_ADMIN"]), rest, rest),
        (0, set(&["ALL"]), none, none),
        (1000, set(&["NET_RAW", "MKNOD"]), none, rest),
        (1000, set(&["ALL"]), none, none),
    ] {
        (world.step.user.uid, world.step.user.gid) = (uid, uid);
        world.step.dropped_capabilities = dropped;
        for (name, executor) in executors() {
            world.shell("grep ^Cap /proc/self/status");
            let (result, text) = world.run_with(&*executor);
            assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
            let expected = format!(
                "CapInh:\t{none}\nCapPrm:\t{own}\nCapEff:\t{own}\nCapBnd:\t{bounding}\nCapAmb:\t{none}\n"
            );
            assert_eq!(text, expected, "{name} as {uid} without {dropped:?}");
        }
    }
}

#[test]
fn privileged_steps_with_all_privileges_lose_what_is_dropped() {
    let Some(mut world) = World::privileged() else { return };
    world.step.insecure = true;
    world.step.dropped_capabilities = set(&["SYS_ADMIN", "MKNOD"]);
    for (name, executor) in executors() {
        world.shell("mount -t tmpfs x /tmp 2>&1; busybox mknod /tmp/n c 1 3 2>&1; echo went on");
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert!(text.contains("mount:") && text.contains("mknod:"), "{name}: {text}");
        assert!(text.ends_with("went on\n") && !world.rootfs().join("tmp/n").exists(), "{name}: {text}");
    }
}
