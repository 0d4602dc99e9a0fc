//! Input and output by their names in `/dev` and `/proc`, for whoever the step runs as.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use fs_err as fs;
use ocibuild_executor::{Attached, Executor, Host, Output, WindowSize, bundle};

use crate::world::{World, chain, executors};

/// Runs the step with something to read; what it wrote.
fn attached(world: &World, executor: &dyn Executor, input: &[u8]) -> String {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(input).unwrap();
    drop(writer);
    let mut text = Vec::new();
    let output: &mut Output<'_> = &mut |_, piece| text.extend_from_slice(piece);
    let attached = Attached { input: Some(reader.as_fd()), ..Attached::to(output) };
    let status = executor.attach(&bundle(&world.step, &Host::detect()), attached, &world.cancel);
    let status = status.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let text = String::from_utf8(text).unwrap();
    assert!(status.success(), "{status:?} {text}");
    text
}

const WRITERS: &str =
    "for f in /dev/stdout /dev/stderr /dev/fd/1 /proc/self/fd/2; do echo \"to $f\" > $f || exit 9; done";
const WRITTEN: &str = "to /dev/stdout\nto /dev/stderr\nto /dev/fd/1\nto /proc/self/fd/2\n";

fn sorted(text: &str) -> Vec<&str> {
    // Two pipes keep no order between them.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn privileged_output_is_opened_by_its_name_whoever_runs() {
    let Some(mut world) = World::privileged() else { return };
    for (uid, gid) in [(0, 0), (1000, 1001), (65_534, 65_534)] {
        (world.step.user.uid, world.step.user.gid) = (uid, gid);
        for (name, executor) in executors() {
            let (result, text) = world.shell(WRITERS).run_with(&*executor);
            let status = result.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert!(status.success(), "{name} as {uid}: {text}");
            assert_eq!(sorted(&text), sorted(WRITTEN), "{name} as {uid}");
            world.shell(&format!("{WRITERS}; cat /dev/stdin; cat /proc/self/fd/0"));
            let text = attached(&world, &*executor, b"what is read\n");
            assert_eq!(sorted(&text), sorted(&format!("{WRITTEN}what is read\n")), "{name} as {uid}");
        }
    }
}

#[test]
fn privileged_a_terminal_is_opened_by_its_name_whoever_runs() {
    let Some(mut world) = World::privileged() else { return };
    world.step.terminal = Some(WindowSize { rows: 24, columns: 80 });
    world.shell(&format!("{WRITERS}; read line < /dev/stdin; echo \"read $line\" > /dev/tty; read end"));
    for uid in [0, 1000] {
        (world.step.user.uid, world.step.user.gid) = (uid, uid);
        for (name, executor) in executors() {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"a line\n").unwrap();
            let (mut text, mut ended) = (String::new(), false);
            let output: &mut Output<'_> = &mut |_, piece| {
                text.push_str(&String::from_utf8_lossy(piece));
                // Not before all is seen: a runtime may lose what is written right before the end.
                if !ended && text.contains("read a line") {
                    ended = true;
                    writer.write_all(b"end\n").unwrap();
                }
            };
            let attached = Attached { input: Some(reader.as_fd()), ..Attached::to(output) };
            let status = executor.attach(&bundle(&world.step, &Host::detect()), attached, &world.cancel);
            let status = status.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert!(status.success(), "{name} as {uid}: {status:?} {text}");
            let text = text.replace('\r', "");
            for line in WRITTEN.lines().chain(["read a line"]) {
                assert!(text.lines().any(|other| other == line), "{name} as {uid}: {line} in {text}");
            }
        }
    }
}

/// Restores what a failing test would leave changed on the host.
struct HostNull(std::fs::Metadata);

impl HostNull {
    fn now() -> std::fs::Metadata {
        fs::metadata("/dev/null").unwrap()
    }
}

impl Drop for HostNull {
    fn drop(&mut self) {
        let now = Self::now();
        if (now.mode(), now.uid(), now.gid()) != (self.0.mode(), self.0.uid(), self.0.gid()) {
            let _ = std::os::unix::fs::chown("/dev/null", Some(self.0.uid()), Some(self.0.gid()));
            let _ = fs::set_permissions("/dev/null", std::fs::Permissions::from_mode(self.0.mode()));
        }
    }
}

#[test]
fn privileged_what_is_read_from_is_nothing_of_the_host() {
    let Some(mut world) = World::privileged() else { return };
    let before = HostNull(HostNull::now());
    for uid in [0, 1000] {
        (world.step.user.uid, world.step.user.gid) = (uid, uid);
        for (name, executor) in executors() {
            let script = "busybox chmod 604 /proc/self/fd/0 2>/dev/null; busybox chown 77:88 /dev/stdin 2>/dev/null; \
                 stat -L -c %F /proc/self/fd/0; cat; cat /dev/stdin | wc -c";
            let (result, text) = world.shell(script).run_with(&*executor);
            assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
            assert_eq!(text, "fifo\n0\n", "{name} as {uid}");
            let now = HostNull::now();
            let of = |found: &std::fs::Metadata| {
                (found.mode(), found.uid(), found.gid(), found.ctime(), found.ctime_nsec())
            };
            assert_eq!(of(&now), of(&before.0), "{name} as {uid}");
        }
    }
}
