//! As an ordinary user. The user exists only in a mount namespace of the test, whose `/etc` says so.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use fs_err as fs;

use crate::world::{World, run_step};

const ID: u32 = 41_321;

struct Rootless {
    world: World,
}

impl Rootless {
    fn new() -> Option<Self> {
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

    fn with_ranges(self) -> Option<Self> {
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
        let dir = self.world.dir.path().display().to_string();
        let setup = format!(
            "for f in passwd subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind {dir}/$f /etc/$f || exit 99; done; \
             exec setpriv --reuid {ID} --regid {ID} --clear-groups {starter} \"$@\""
        );
        let rootfs = self.world.rootfs();
        Command::new("unshare")
            .args(["-m", "sh", "-c", &setup, "sh"])
            .arg(self.world.dir.path().join("run-step"))
            .args(options)
            .args([&rootfs, &self.world.step.state])
            .args(["/bin/sh", "-c", script])
            .output()
            .unwrap()
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
    let (_, stderr) = text(&rootless.run(&["--user", "5:5"], "true"));
    assert!(stderr.contains("user 5 is not mapped"), "{stderr}");
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
