//! What a step can do with device nodes: make them, and open none but those that every container has.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use ocibuild_testkit::{LoopDisk, StandIns};

use crate::world::{World, chain, executors, mount, run_step};

/// Whether nodes can be made here, by which it can be tried what comes of them.
fn is_root() -> bool {
    if !ocibuild_sys::in_initial_user_namespace() {
        ocibuild_testkit::skip("takes root, to make device nodes");
        return false;
    }
    true
}

/// Opens each of `$nodes` to read and to write, and tells of those that it could.
const OPEN: &str = "for f in $nodes; do [ -b $f ] || [ -c $f ] || echo NO NODE $f; \
    (head -c 18 < $f) 2>/dev/null && echo READ $f; (echo pwned > $f) 2>/dev/null && echo WROTE $f; \
    (true <> $f) 2>/dev/null && echo OPENED $f; done";

#[test]
fn privileged_nodes_of_any_number_are_made_and_do_not_open() {
    let Some(mut world) = World::privileged() else { return };
    if !is_root() {
        return;
    }
    let Some(disk) = LoopDisk::attach(world.dir.path()) else { return };
    let cache = world.dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    world.step.mounts = vec![
        mount(Path::new("/cache"), "bind", &cache, &["rbind", "rprivate"]),
        mount(Path::new("/memory"), "tmpfs", Path::new("tmpfs"), &["nosuid"]),
    ];
    let (major, minor) = disk.numbers();
    // As a disk, as what makes disks, and as what every container may open, under another name.
    let places = "/ /dev/ /dev/shm/ /tmp/ /cache/ /memory/";
    world.shell(&format!(
        "umask 0; for p in {places}; do mknod ${{p}}disk b {major} {minor} && mknod ${{p}}control c 10 237 && mknod ${{p}}kvm c 10 232 || echo NOT MADE; \
         nodes=\"$nodes ${{p}}disk ${{p}}control ${{p}}kvm\"; done; {OPEN}; echo done"
    ));
    for (name, executor) in executors() {
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, "done\n", "{name}");
        assert!(disk.is_untouched(), "{name}");
        for made in [world.rootfs().join("disk"), world.rootfs().join("tmp/control"), cache.join("disk")] {
            assert_ne!(fs::symlink_metadata(&made).unwrap().rdev(), 0, "{name} {}", made.display());
        }
        // What one step leaves, the next one finds, whoever it runs as.
        let found = "/disk /control /tmp/disk /tmp/control /cache/disk /cache/control";
        for uid in [0, 1000] {
            let mut next = World { dir: world.dir, step: world.step.clone(), cancel: world.cancel.clone() };
            next.step.user.uid = uid;
            next.shell(&format!("nodes='{found}'; {OPEN}; echo done"));
            let (result, text) = next.run_with(&*executor);
            assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
            assert_eq!(text, "done\n", "{name} as {uid}");
            world.dir = next.dir;
        }
        assert!(disk.is_untouched(), "{name}");
        for place in [world.rootfs(), world.rootfs().join("tmp"), cache.clone()] {
            for node in ["disk", "control", "kvm"] {
                fs::remove_file(place.join(node)).unwrap();
            }
        }
    }
}

#[test]
fn privileged_the_devices_of_every_container_work() {
    let Some(mut world) = World::privileged() else { return };
    for uid in [0, 1000] {
        world.step.user.uid = uid;
        for (name, executor) in executors() {
            world.shell(
                "echo gone > /dev/null && wc -c < /dev/null; head -c 5 /dev/zero | wc -c; \
                 head -c 5 /dev/random | wc -c; head -c 5 /dev/urandom | wc -c; \
                 (echo x > /dev/full) 2>&1 | grep -c 'No space'; (true < /dev/tty) 2>&1 | grep -c 'No such device or address'; \
                 cat /proc/keys | wc -c; wc -c < /dev/stdin; ls /dev/pts; [ /dev/ptmx -ef /dev/pts/ptmx ] && echo ptmx",
            );
            let (result, text) = world.run_with(&*executor);
            assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
            assert_eq!(text, "0\n5\n5\n5\n1\n1\n0\n0\nptmx\nptmx\n", "{name} as {uid}");
        }
    }
}

/// Does to each node what changes it, and goes on.
const ATTACK: &str = "for f in null zero full random urandom tty stdin ptmx; do chmod 4601 /dev/$f; chown 7:7 /dev/$f; touch -d 2001-01-01 /dev/$f; rm -f /dev/$f; done 2>/dev/null; \
    for f in keys kcore timer_list sched_debug latency_stats; do chmod 4601 /proc/$f; chown 7:7 /proc/$f; touch /proc/$f; done 2>/dev/null; \
    for f in 0 1 2; do chmod 4601 /proc/self/fd/$f; chown 7:7 /proc/self/fd/$f; touch /proc/self/fd/$f; done 2>/dev/null; echo done";

/// Ways to run a step with the example, and whether it sees the cgroups of the host.
const WAYS: [(&[&str], bool); 4] =
    [(&[], true), (&[], false), (&["--runtime", "crun"], true), (&["--runtime", "runc"], true)];

#[test]
fn privileged_the_nodes_of_the_host_stay_as_they_are() {
    let Some(world) = World::privileged() else { return };
    let (Some(program), Some(nodes)) = (run_step(), StandIns::make(world.dir.path())) else { return };
    let before = nodes.lines();
    for (options, cgroups) in WAYS {
        let run = |script: &str| {
            let mut command = nodes.command(cgroups);
            command.arg(&program).args(options).args([&world.rootfs(), &world.step.state]);
            let output = command.args(["/bin/sh", "-c", script]).output().unwrap();
            (String::from_utf8_lossy(&output.stdout).into_owned(), output.stderr)
        };
        let (said, stderr) = run(ATTACK);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(said, "done\n", "{options:?} {cgroups}: {stderr}");
        assert_eq!(nodes.lines(), before, "{options:?} {cgroups}");
        // Those of the next step are new.
        assert_eq!(run("stat -c '%a %u:%g' /dev/null").0, "666 0:0\n", "{options:?} {cgroups}");
    }
}

/// Where there is no cgroup, the mounts have no devices; and a runtime that undoes that is not used.
#[test]
fn privileged_without_cgroups_the_mounts_keep_devices_away() {
    let Some(world) = World::privileged() else { return };
    let (Some(program), Some(nodes)) = (run_step(), StandIns::make(world.dir.path())) else { return };
    let Some(disk) = LoopDisk::attach(world.dir.path()) else { return };
    let (major, minor) = disk.numbers();
    let run = |options: &[&str], script: &str| {
        let mut command = nodes.command(false);
        command.arg(&program).args(options).args([&world.rootfs(), &world.step.state]);
        let output = command.args(["/bin/sh", "-c", script]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let script = format!(
        "for p in / /dev/ /dev/shm/ /tmp/; do mknod -m 666 ${{p}}disk b {major} {minor}; mknod -m 666 ${{p}}control c 10 237; \
         nodes=\"$nodes ${{p}}disk ${{p}}control\"; done; {OPEN}; echo done"
    );
    assert_eq!(run(&[], &script).0, "done\n");
    let script = format!("nodes='/disk /control /tmp/disk'; {OPEN}; echo done");
    assert_eq!(run(&["--user", "1000:1000"], &script).0, "done\n");
    let (_, stderr) = run(&["--runtime", "crun"], "true");
    assert!(stderr.contains("cannot keep a step from the devices of this host"), "{stderr}");
    assert!(disk.is_untouched());
}

#[test]
fn privileged_insecure_steps_may_open_devices() {
    let Some(mut world) = World::privileged() else { return };
    if !is_root() {
        return;
    }
    let Some(disk) = LoopDisk::attach(world.dir.path()) else { return };
    let (major, minor) = disk.numbers();
    world.step.insecure = true;
    for (name, executor) in executors() {
        world.shell(&format!(
            "mknod /tmp/disk b {major} {minor} && head -c 6 /tmp/disk; rm /tmp/disk; echo > /dev/null && echo ' ok'"
        ));
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, "canary ok\n", "{name}");
    }
}

/// Root of the machine, without its capabilities, in a user namespace in which it is root as well: it owns the nodes of
/// the host, and only the mounts keep it from changing them.
#[test]
fn privileged_roots_own_user_namespace_changes_no_node_of_the_host() {
    let Some(world) = World::privileged() else { return };
    let (Some(program), Some(nodes)) = (run_step(), StandIns::make(world.dir.path())) else { return };
    if let Err(error) = ocibuild_sys::user_namespaces_work() {
        return ocibuild_testkit::skip(&error);
    }
    let before = nodes.lines();
    for options in [&[][..], &["--runtime", "crun"], &["--runtime", "runc"]] {
        let output = nodes
            .command(true)
            .args(["unshare", "--user", "--map-root-user"])
            .arg(&program)
            .args(options)
            .args([&world.rootfs(), &world.step.state])
            .args(["/bin/sh", "-c"])
            .arg(format!(
                "{ATTACK}; echo gone > /dev/null && head -c 3 /dev/zero | wc -c; wc -c < /proc/keys"
            ))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(nodes.lines(), before, "{options:?}");
        if options.contains(&"crun") {
            // It mounts them anew, without what keeps them from changes.
            assert!(stderr.contains("cannot keep a step from the devices of this host"), "{stderr}");
        } else {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n3\n0\n", "{options:?} {stderr}");
        }
    }
}

/// What root left in a directory of a user's, the user's steps do not open either.
#[test]
fn privileged_nodes_do_not_open_in_a_user_namespace() {
    let Some(world) = World::privileged() else { return };
    let (Some(program), Some(disk)) = (run_step(), LoopDisk::attach(world.dir.path())) else { return };
    if let Err(error) = ocibuild_sys::user_namespaces_work() {
        return ocibuild_testkit::skip(&error);
    }
    let made = Command::new("cp").arg("-a").arg(disk.device()).arg(world.rootfs().join("disk")).status();
    assert!(made.unwrap().success());
    fs::set_permissions(world.rootfs().join("disk"), std::fs::Permissions::from_mode(0o666)).unwrap();
    for options in [&[][..], &["--runtime", "runc"]] {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user"])
            .arg(&program)
            .args(options)
            .args([&world.rootfs(), &world.step.state])
            .args(["/bin/sh", "-c", &format!("nodes=/disk; {OPEN}; echo done")])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{options:?} {stderr}");
    }
    assert!(disk.is_untouched());
}
