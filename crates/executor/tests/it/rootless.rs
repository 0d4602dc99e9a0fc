//! As an ordinary user. The user exists only in a mount namespace of the test, whose `/etc` says so.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use fs_err as fs;

use crate::world::{World, run_step};

const ID: u32 = 41_321;

pub(crate) struct Rootless {
    pub(crate) world: World,
}

impl Rootless {
    pub(crate) fn new() -> Option<Self> {
        let world = World::privileged()?;
        let program = run_step()?;
        if !ocibuild_sys::in_initial_user_namespace() {
            ocibuild_testkit::skip("takes root, to be somebody else");
            return None;
        }
        if let Err(error) = ocibuild_sys::user_namespaces_work() {
            ocibuild_testkit::skip(&error);
            return None;
        }
        let dir = world.dir.path();
        fs::copy(program, dir.join("run-step")).unwrap();
        fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        for text in ["passwd", "subuid", "subgid"] {
            fs::write(dir.join(text), "").unwrap();
        }
        fs::write(dir.join("passwd"), format!("root:x:0:0::/root:/bin/sh\nkit:x:{ID}:{ID}::/:/bin/sh\n"))
            .unwrap();
        give(&world.rootfs());
        give(&world.step.state);
        Some(Self { world })
    }

    pub(crate) fn with_ranges(self) -> Option<Self> {
        if !Path::new("/usr/bin/newuidmap").exists() {
            ocibuild_testkit::skip("newuidmap is missing");
            return None;
        }
        for text in ["subuid", "subgid"] {
            fs::write(self.world.dir.path().join(text), "kit:500000:65536\n").unwrap();
        }
        Some(self)
    }

    fn run(&self, options: &[&str], script: &str) -> Output {
        self.run_by("", options, script)
    }

    /// The same, started by another program.
    fn run_by(&self, starter: &str, options: &[&str], script: &str) -> Output {
        self.command(starter, options, script).output().unwrap()
    }

    /// What runs it.
    pub(crate) fn command(&self, starter: &str, options: &[&str], script: &str) -> Command {
        let dir = self.world.dir.path().display().to_string();
        let setup = format!(
            "for f in passwd subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind {dir}/$f /etc/$f || exit 99; done; \
             exec setpriv --reuid {ID} --regid {ID} --clear-groups {starter} \"$@\""
        );
        let rootfs = self.world.rootfs();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &setup, "sh"])
            .arg(self.world.dir.path().join("run-step"))
            .args(options)
            .args([&rootfs, &self.world.step.state])
            .args(["/bin/sh", "-c", script]);
        command
    }
}

/// Makes everything the user's.
fn give(path: &Path) {
    chown(path, Some(ID), Some(ID)).or_else(|_| std::os::unix::fs::lchown(path, Some(ID), Some(ID))).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_symlink() {
                std::os::unix::fs::lchown(&path, Some(ID), Some(ID)).unwrap();
            } else {
                give(&path);
            }
        }
    }
}

fn text(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

const SCRIPT: &str = "id -u; id -g; echo $$; hostname; grep CapEff /proc/self/status; echo x > /w/f; \
    awk '$2 == \"/sys\" {print $3, substr($4, 1, 2)}' /proc/mounts | head -1; ls /dev | grep -v core | wc -l; \
    echo > /dev/null && head -c 1 /dev/zero | wc -c; touch /sys/x 2>/dev/null || echo ro; \
    touch /sys/kernel/mm/x /proc/sys/x 2>/dev/null || echo ro";

const EXPECTED: &str = "0\n0\n1\nbuildkitsandbox\nCapEff:\t00000000a80425fb\nsysfs ro\n14\n1\nro\nro\n";

const SECRET: &str = "stat -c '%a %u:%g' /s/x; cat /s/x; touch /s/x 2>/dev/null || echo ro";

#[test]
fn privileged_with_one_id() {
    let Some(rootless) = Rootless::new() else { return };
    for options in [&[][..], &["--runtime", "crun"], &["--runtime", "runc"]] {
        let (stdout, stderr) = text(&rootless.run(options, SCRIPT));
        assert!(
            stderr.starts_with("one id only: /etc/subuid has no range for this user"),
            "{options:?} {stderr}"
        );
        assert_eq!(stdout, EXPECTED, "{options:?} {stderr}");
    }
    for options in [&[][..], &["--runtime", "crun"], &["--runtime", "runc"]] {
        let options = [options, &["--secret", "/s/x=value\n"]].concat();
        let (stdout, stderr) = text(&rootless.run(&options, SECRET));
        assert_eq!(stdout, "400 0:0\nvalue\nro\n", "{options:?} {stderr}");
    }
    for options in [["--runtime", "crun"], ["--runtime", "runc"]] {
        let (_, stderr) = text(&rootless.run(&[&options[..], &["--user", "5:5"]].concat(), "true"));
        assert!(stderr.contains("user 5 is not mapped"), "{options:?} {stderr}");
    }
}

/// What a script prints that must come to its end.
fn printed(rootless: &Rootless, options: &[&str], script: &str) -> String {
    let output = rootless.run(options, &format!("set -e; cd /w; {script}"));
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{script}: {stdout}{stderr}");
    stdout
}

/// Scripts, and what they print wherever there are all ids.
const OF_ROOT: &[(&str, &str)] = &[
    ("touch a; chown 33:44 a; stat -c '%u:%g' a; mv a b; stat -c '%u:%g' b", "33:44\n33:44\n"),
    (
        "touch s; chown 33:44 s; chmod 6755 s; stat -c %a s; chown 34 s; stat -c '%u:%g %a' s",
        "6755\n34:44 755\n",
    ),
    (
        "mkdir d; chown 0:50 d; chmod 2775 d; touch d/x; mkdir d/y; busybox ln -s x d/l; stat -c '%u:%g %a' d/x d/y d/l",
        "0:50 644\n0:50 2755\n0:50 777\n",
    ),
    (
        "mknod disk b 7 3; mknod line c 7 4; mknod pipe p; stat -c '%F %t:%T' disk line pipe; chown 5 disk; stat -c '%F %u' disk",
        "block special file 7:3\ncharacter special file 7:4\nfifo 0:0\nblock special file 5\n",
    ),
    // The number of a file that is no more is another's soon.
    (
        "for i in 1 2 3 4; do touch r$i; chown 9 r$i; done; rm r1 r2; mkdir r5; chown 9 r5; busybox rmdir r5; touch r6; mv r6 r3; \
      for i in 1 2 3 4 5 6 7 8 9; do touch t$i; mkdir u$i; done; stat -c %u r3 r4 t* u* | sort | uniq -c | tr -s ' '",
        " 19 0\n 1 9\n",
    ),
    (
        "busybox chroot / /bin/sh -c 'touch /w/in; chown 8 /w/in'; mkdir -p root/bin root/x; cp /bin/busybox root/bin/sh; \
      busybox chroot root /bin/sh -c '>/x/f'; chown 3:4 root/x/f; busybox chroot root /bin/sh -c 'cd x; [ -O f ] || echo other'; \
      stat -c '%u:%g' in root/x/f",
        "other\n8:0\n3:4\n",
    ),
    (
        "stat -c '%u:%g' /etc/theirs /dev/null; echo more >> /etc/theirs; stat -c '%u:%g' /etc/theirs",
        "7:8\n0:0\n7:8\n",
    ),
    ("cat /etc/passwd; id -u; id -g; echo out > /dev/stdout", "root::0:0:root:/root:/bin/sh\n0\n0\nout\n"),
];

const OF_SOMEBODY: &[(&str, &str)] = &[
    (
        "id; touch mine; mkdir -p mine.d/e; busybox ln -s x mine.l; stat -c '%u:%g %a' mine mine.d/e mine.l",
        "uid=5 gid=6\n5:6 644\n5:6 755\n5:6 777\n",
    ),
    ("touch given; chown 7 given 2>&1 || stat -c '%u' given", "chown: given: Operation not permitted\n5\n"),
    (
        "touch own; chown 5:6 own && mknod dev c 1 3 2>&1 || echo no device",
        "mknod: dev: Operation not permitted\nno device\n",
    ),
    ("umask 077; echo x > closed; mkdir closed.d; stat -c %a closed closed.d", "600\n700\n"),
    // A program that belongs to root and has its bit.
    (
        "stat -c '%u %a' /suid/busybox; /suid/busybox su root -c 'id -u; touch asroot'; stat -c %u asroot; id -u",
        "0 4755\n0\n0\n5\n",
    ),
    ("echo out > /dev/stdout; cat /s/x; stat -c '%u:%g %a' /s/x", "out\nvalue\n5:6 400\n"),
];

#[test]
fn privileged_with_one_id_there_are_owners_all_the_same() {
    let Some(rootless) = Rootless::new() else { return };
    let root = rootless.world.rootfs();
    fs::write(root.join("etc/theirs"), "").unwrap();
    // Without a password, so that nobody is asked for one.
    fs::write(root.join("etc/passwd"), "root::0:0:root:/root:/bin/sh\n").unwrap();
    fs::create_dir(root.join("suid")).unwrap();
    fs::copy(root.join("bin/busybox"), root.join("suid/busybox")).unwrap();
    give(&root.join("etc"));
    chown(root.join("suid/busybox"), Some(ID), Some(ID)).unwrap();
    fs::set_permissions(root.join("suid/busybox"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    for (script, expected) in OF_ROOT {
        assert_eq!(&printed(&rootless, &["--unkept", "7:8=etc/theirs"], script), expected, "{script}");
    }
    fs::set_permissions(root.join("w"), std::fs::Permissions::from_mode(0o777)).unwrap();
    for (script, expected) in OF_SOMEBODY {
        let options = ["--user", "5:6", "--secret", "/s/x=value\n"];
        assert_eq!(&printed(&rootless, &options, script), expected, "{script}");
    }
}

/// What root of a step lacks elsewhere, it lacks here.
#[test]
fn privileged_with_one_id_capabilities_are_needed_as_ever() {
    let Some(rootless) = Rootless::new() else { return };
    for (dropped, script) in [
        ("CHOWN", "touch f; chown 5 f"),
        ("MKNOD", "mknod d b 7 3"),
        ("SETGID", "busybox su app -c true"),
        ("SETUID", "busybox su app -c true"),
    ] {
        let output = rootless.run(&["--cap-drop", dropped], &format!("cd /w; {script}"));
        let (_, stderr) = text(&output);
        assert!(!output.status.success() && stderr.contains("not permitted"), "{dropped}: {stderr}");
    }
}

/// Whoever answers for a step may go where the step may not, and must not be led there.
#[test]
fn privileged_answers_reach_nothing_outside_of_the_step() {
    let Some(rootless) = Rootless::new() else { return };
    let outside = rootless.world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "whole").unwrap();
    give(&outside);
    fs::set_permissions(outside.join("victim"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let path = outside.display();
    let script = format!(
        "for at in /proc/*/root /proc/*/cwd /proc/self/root /proc/*/task/*/root; do \
           chown 9 $at{path}/victim; mkdir $at{path}/made; touch $at{path}/made.f; mknod $at{path}/made.c c 1 3; \
           busybox ln -s x $at{path}/made.l; mv /w/new $at{path}/victim; rm $at{path}/victim; \
           [ -e $at{path}/victim ] && echo seen; \
         done 2>/dev/null; busybox ln -s /proc/self/root up; mkdir up/../..{path}/made 2>/dev/null; echo done"
    );
    for user in ["0:0", "5:6"] {
        let options = ["--existing-proc", "--user", user, "--unkept", "7:8=etc/passwd"];
        let output = rootless.run(&options, &format!("cd /w; touch new; {script}"));
        let (stdout, stderr) = text(&output);
        assert_eq!(stdout, "done\n", "{user} {stderr}");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["victim"], "{user}");
        let victim = fs::metadata(outside.join("victim")).unwrap();
        assert_eq!(victim.permissions().mode() & 0o7777, 0o4755, "{user}: nobody has changed its owner");
    }
}

/// Threads of a step that all call at once, some of which are killed while they wait for an answer.
#[test]
fn privileged_many_callers_are_answered_and_the_killed_forgotten() {
    let Some(rootless) = Rootless::new() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8; do \
           ( n=0; while [ $n -lt 60 ]; do touch f$i.$n; chown $i:$n f$i.$n; n=$((n+1)); done ) & \
           ( while :; do touch k$i; chown 1 k$i; rm k$i; done ) & kill=\"$kill $!\"; \
         done; sleep 1; kill -9 $kill; wait; \
         for i in 1 2 3 4 5 6 7 8; do n=0; while [ $n -lt 60 ]; do stat -c '%u:%g' f$i.$n; n=$((n+1)); done; done | sort -u | wc -l";
    assert_eq!(printed(&rootless, &[], script), "480\n");
}

#[test]
fn privileged_with_ranges() {
    let Some(rootless) = Rootless::new().and_then(Rootless::with_ranges) else { return };
    for options in [&[][..], &["--runtime", "crun"], &["--runtime", "runc"]] {
        let (stdout, stderr) = text(&rootless.run(options, SCRIPT));
        assert_eq!((stdout.as_str(), stderr.as_str()), (EXPECTED, ""), "{options:?}");
        let (stdout, stderr) =
            text(&rootless.run(&[options, &["--user", "1000:1001"]].concat(), "id -u; id -g"));
        assert_eq!(stdout, "1000\n1001\n", "{options:?} {stderr}");
        let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin | wc -c";
        let (stdout, stderr) = text(&rootless.run(&[options, &["--user", "1000:1001"]].concat(), script));
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n0\n", "err\n"), "{options:?}");
        let status = "exit $(( $(id -u) - 990 ))";
        let ignored = rootless.run_by(
            "env --ignore-signal=CHLD",
            &[options, &["--user", "1000:1001"]].concat(),
            status,
        );
        assert_eq!(ignored.status.code(), Some(10), "{options:?} {:?}", text(&ignored));
        let secret = [options, &["--user", "1000:1001", "--secret", "/s/x=value\n"]].concat();
        let (stdout, stderr) = text(&rootless.run(&secret, SECRET));
        assert_eq!(stdout, "400 1000:1001\nvalue\nro\n", "{options:?} {stderr}");
        let (stdout, stderr) = text(
            &rootless
                .run(&[options, &["--network-none"]].concat(), "ls /sys/class/net; touch /sys/x || echo ro"),
        );
        assert!(stdout.starts_with("lo\n") && stdout.ends_with("ro\n"), "{options:?} {stdout} {stderr}");
    }
}
