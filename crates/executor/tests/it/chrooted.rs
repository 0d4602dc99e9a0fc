//! Steps without namespaces: what they find, and what they do not reach.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use ocibuild_executor::{ErrorKind, Executor, Host, Need, Network, WindowSize, bundle};

use crate::world::{World, chain, chroot, mount};

/// Runs a script and gives what it says.
fn output(world: &mut World, script: &str) -> String {
    let executor = chroot().unwrap();
    let (result, text) = world.shell(script).run_with(&executor);
    match result {
        Ok(status) => assert!(status.success(), "{status:?}: {text}"),
        Err(error) => panic!("{} in {text}", chain(&error)),
    }
    text
}

fn world() -> Option<World> {
    chroot()?;
    World::new()
}

/// Everything in a directory, with what tells whether it was changed.
fn listed(directory: &Path) -> BTreeMap<String, (u32, u32, i64, u64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                todo.push(path.clone());
            }
            let told = (metadata.mode(), metadata.uid(), metadata.mtime_nsec(), metadata.ino());
            found.insert(path.display().to_string(), told);
        }
    }
    found
}

#[test]
fn privileged_proc_and_sys_are_there_without_mounts() {
    let Some(mut world) = world() else { return };
    let script = "echo out > /dev/stdout; echo x | cat /dev/stdin /dev/fd/0; exec 7</etc/passwd; head -1 </proc/self/fd/7; \
        cat /proc/self/comm; ls -l /proc/self/exe | awk '{print $NF}'; cat /proc/$$/cmdline | tr '\\0' ' '; echo; \
        cd /w; ls -l /proc/self/cwd | awk '{print $NF}'; cat /proc/self/cwd/../etc/group | head -1; \
        grep -c processor /proc/cpuinfo >/dev/null && ls /sys/class/net | grep -c lo; \
        awk '$2 == \"/dev\" { print $3 }' /proc/mounts; df / | awk 'NR == 2 {print $NF}'; \
        ls /proc | grep -c '^[0-9]'; cat /proc/1/status /proc/self/root/../proc/1/status 2>&1; hostname; \
        touch /sys/x /proc/sys/x /etc/hosts 2>&1; rm /etc/hosts 2>&1; echo $((1 + 1)) > /proc/self/comm";
    assert_eq!(
        output(&mut world, script),
        "out\nx\nroot:x:0:0:root:/root:/bin/sh\ncat\n/bin/busybox\n/bin/sh -c ".to_owned()
            + script
            + " \n/w\nroot:x:0:\n1\ntmpfs\n/\n3\n\
               cat: can't open '/proc/1/status': No such file or directory\n\
               cat: can't open '/proc/self/root/../proc/1/status': No such file or directory\nbuildkitsandbox\n\
               touch: /sys/x: Read-only file system\ntouch: /proc/sys/x: No such file or directory\n\
               touch: /etc/hosts: Read-only file system\nrm: can't remove '/etc/hosts': Device or resource busy\n"
    );
}

/// What the command leaves is killed. Until then its calls wait: it has nothing to complain of.
#[test]
fn privileged_calls_of_what_is_left_do_not_fail() {
    let Some(mut world) = world() else { return };
    let script =
        "for i in 1 2 3 4; do (while cat /dev/null; do :; done; echo failed) & done; sleep 0.02; echo done";
    for _ in 0..20 {
        assert_eq!(output(&mut world, script), "done\n");
    }
}

/// What is moved into place comes back, the root as it was but for what the step did.
#[test]
fn privileged_what_is_mounted_elsewhere_is_moved_and_comes_back() {
    let Some(mut world) = world() else { return };
    let directory = world.dir.path().to_owned();
    for name in ["cache", "bound"] {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("kept"), name).unwrap();
    }
    fs::write(directory.join("script"), "script").unwrap();
    fs::create_dir_all(directory.join("rootfs/var/lower")).unwrap();
    fs::write(directory.join("rootfs/var/lower/hidden"), "").unwrap();
    fs::create_dir(directory.join("rootfs/dev")).unwrap();
    fs::write(directory.join("rootfs/dev/of-the-image"), "").unwrap();
    let before = listed(&directory.join("rootfs"));
    world.step.mounts = vec![
        mount(Path::new("/var/lower"), "bind", &directory.join("cache"), &["bind"]),
        mount(Path::new("/b"), "bind", &directory.join("bound"), &["bind", "ro"]),
        mount(Path::new("/dev/pipes/EOF"), "bind", &directory.join("script"), &["bind", "ro"]),
    ];
    let said = output(
        &mut world,
        "ls /var/lower /b; ls /dev | tr '\\n' ' '; touch /b/x 2>&1; rm -rf /var/lower 2>&1; touch /var/lower/new; \
         test -c /dev/null && cat /dev/pipes/EOF",
    );
    assert_eq!(
        said,
        "/b:\nkept\n\n/var/lower:\nkept\nfd full mqueue null pipes ptmx pts random shm stderr stdin stdout tty urandom zero \
         touch: /b/x: Read-only file system\nrm: can't remove '/var/lower': Device or resource busy\nscript"
    );
    assert_eq!(fs::read_dir(directory.join("cache")).unwrap().count(), 1);
    assert!(directory.join("cache/new").exists() && directory.join("bound/kept").exists());
    let mut after = listed(&directory.join("rootfs"));
    // What the tests of the builder make and remove: places to mount on.
    let made =
        ["b", "etc/hosts", "etc/resolv.conf", "proc", "sys"].map(|name| directory.join("rootfs").join(name));
    after.retain(|path, _| !made.iter().any(|made| Path::new(path) == made));
    assert_eq!(after, before);
}

#[test]
fn privileged_what_cannot_be_had_is_named() {
    let Some(mut world) = world() else { return };
    let executor = chroot().unwrap();
    world.shell("true").step.network = Network::None;
    let error = world.run_with(&executor).0.unwrap_err();
    assert_eq!((error.kind(), error.need()), (ErrorKind::Unsupported, Some(Need::OwnNetwork)));
    world.step.network = Network::Host;
    world.step.mounts = vec![mount(Path::new("/tmp"), "bind", Path::new("/var/tmp"), &["bind"])];
    let error = world.run_with(&executor).0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("/var/tmp cannot be moved"), "{error}");
    assert!(Path::new("/var/tmp").is_dir());
}

/// A step tries what leads out of a root: nothing outside is read, changed, killed or left running.
#[test]
fn privileged_nothing_leads_out() {
    let Some(mut world) = world() else { return };
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "whole").unwrap();
    let before = listed(&outside);
    let (path, own) = (outside.display().to_string(), std::process::id());
    let script = format!(
        "busybox chroot /w true 2>&1; for at in /proc/*/root /proc/*/cwd /proc/self/root/.. /proc/{own}/root \
           /proc/{own}/fd/* /proc/self/fd/*/.. /proc/*/task/*/root /sys/.. /proc/..; do \
           cat $at{path}/victim; chmod 777 $at{path}/victim; mkdir $at{path}/made; touch $at{path}/made.f; \
           chown 9 $at{path}/victim; rm $at{path}/victim; [ -e $at{path}/victim ] && echo seen; done 2>/dev/null; \
         exec 9</proc; cd /proc; cat /proc/self/fd/9/..{path}/victim ..{path}/victim 2>/dev/null; \
         cat /proc/{own}/environ /proc/{own}/maps 2>/dev/null; echo x > /proc/{own}/mem; \
         kill -9 {own}; kill -STOP {own}; busybox prlimit --pid {own} --nofile=1 2>/dev/null; \
         cat /proc/kcore 2>/dev/null | head -c 1; busybox unshare -r true; busybox mount -t tmpfs x /w; \
         mknod /w/disk b 8 0; cat /w/disk 2>&1; mknod /w/vda b 254 0; cat /w/vda 2>&1 | head -c 100; echo end"
    );
    let text = output(&mut world, &format!("({script}) 2>&1"));
    assert!(!text.contains("whole") && !text.contains("seen") && text.ends_with("end\n"), "{text}");
    assert!(text.contains("can't change root directory"), "{text}");
    assert!(text.matches("Operation not permitted").count() >= 5, "{text}");
    assert_eq!(listed(&outside), before);
    assert!(!world.rootfs().join("proc/self").exists(), "what stood for /proc is gone");
}

#[test]
fn privileged_what_is_left_is_ended_even_if_it_makes_more_of_itself() {
    let Some(mut world) = world() else { return };
    let text = output(
        &mut world,
        "f() { sleep 0.01; f & f & }; (f; trap '' 1 15; while :; do sleep 1; done) >/dev/null 2>&1 & sleep 0.2; echo end",
    );
    assert_eq!(text, "end\n");
    let root = fs::canonicalize(world.rootfs()).unwrap();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let left =
        processes.filter(|process| fs::read_link(process.join("root")).is_ok_and(|found| found == root));
    assert_eq!(left.count(), 0);
}

/// Programs that make terminals get them, and see no others.
#[test]
fn privileged_terminals_are_made_and_only_those_are_seen() {
    let Some(mut world) = world() else { return };
    let others = fs::File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let name = format!("/dev/pts/{}", ocibuild_sys::terminal_number(&others).unwrap());
    // What a C library does in `openpty`, without one: the number of a terminal is in the name of what it is opened by.
    let script = format!(
        "exec 7<>/dev/ptmx && readlink /proc/self/fd/7; [ -e {name} ] || echo hidden; (: < {name}) 2>&1; \
         ls /dev/pts | wc -l"
    );
    let said = output(&mut world, &script);
    assert_eq!(said, format!("/dev/ptmx\nhidden\n/bin/sh: can't open {name}: no such file\n0\n"));
}

/// It is one of this process' own, by no name that the command could open.
#[test]
fn privileged_a_command_has_a_terminal() {
    let Some(mut world) = world() else { return };
    world.step.terminal = Some(WindowSize { rows: 33, columns: 111 });
    for uid in [0, 1000] {
        world.step.user.uid = uid;
        let script = "test -t 0 && test -t 1 && test -t 2 && stty size; (: < /dev/tty) && echo controls; echo to > /dev/tty; \
                      (: < $(readlink /proc/self/fd/0)) 2>/dev/null || echo no name; kill -INT 0; sleep 100";
        let executor = chroot().unwrap();
        let (result, text) =
            world.shell(&format!("trap 'echo caught; exit 5' INT; {script}")).run_with(&executor);
        let expected = "33 111\r\ncontrols\r\nto\r\nno name\r\ncaught\r\n";
        assert_eq!((result.unwrap().code(), text.as_str()), (5, expected), "{uid}");
    }
}

/// Users other than root are answered as themselves.
#[test]
fn privileged_a_user_of_the_step_gets_no_more_than_it_may() {
    let Some(mut world) = world() else { return };
    fs::write(world.rootfs().join("etc/shadow"), "root's").unwrap();
    fs::set_permissions(
        world.rootfs().join("etc/shadow"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    world.step.user.uid = 1000;
    world.step.user.gid = 1001;
    let text = output(
        &mut world,
        "echo out > /dev/stdout; cat /etc/shadow /proc/self/root/etc/shadow 2>&1; ls /proc/self/fd | wc -l; \
         echo x 2>&1 > /proc/self/cwd/made; id -u; ls /proc | grep -c '^[0-9]'; true",
    );
    assert_eq!(
        text,
        "out\ncat: can't open '/etc/shadow': Permission denied\n\
         cat: can't open '/proc/self/root/etc/shadow': Permission denied\n3\n\
         /bin/sh: can't create /proc/self/cwd/made: nonexistent directory\n1000\n3\n"
    );
}

#[test]
fn privileged_a_bundle_that_was_cancelled_is_taken_back() {
    let Some(mut world) = world() else { return };
    let executor = chroot().unwrap();
    let directory = world.dir.path().to_owned();
    fs::create_dir(directory.join("cache")).unwrap();
    world.step.mounts = vec![mount(Path::new("/c"), "bind", &directory.join("cache"), &["bind"])];
    world.shell("touch /c/made; echo started; sleep 1000");
    let cancel = world.cancel.clone();
    let mut output = |_, _: &[u8]| cancel.cancel();
    let error = executor.run(&bundle(&world.step, &Host::detect()), &mut output, &world.cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(directory.join("cache/made").exists());
    assert!(!world.rootfs().join("dev").exists() && !world.rootfs().join("c").exists());
}
