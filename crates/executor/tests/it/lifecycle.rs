use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use ocibuild_executor::{ErrorKind, Host, Stream, bundle};
use ocibuild_testkit::HangGuard;

use crate::world::{World, all_executors, chain, run_step};

#[test]
fn privileged_what_is_left_behind_does_not_hang() {
    let Some(mut world) = World::privileged() else { return };
    for (name, executor) in all_executors() {
        let _guard = HangGuard::new(format!("{name}: what is left behind"));
        let (result, text) =
            world.shell("sleep 1000 & sleep 1000 >/dev/null & echo done").run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, "done\n");
    }
}

#[test]
fn privileged_cancelling_kills() {
    let Some(mut world) = World::privileged() else { return };
    for (name, executor) in all_executors() {
        world.cancel = ocibuild_spec::CancelToken::new();
        world.shell("trap '' TERM INT; sleep 1000 & echo started; while true; do sleep 1; done");
        let bundle = bundle(&world.step, &Host::detect());
        let mut heard = false;
        let cancel = world.cancel.clone();
        let _guard = HangGuard::new(format!("{name}: a step that was cancelled"));
        let mut output = |_: Stream, _: &[u8]| {
            heard = true;
            cancel.cancel();
        };
        let error = executor.run(&bundle, &mut output, &world.cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{name}: {}", chain(&error));
        assert!(heard, "{name}");
        assert_eq!(
            executor.run(&bundle, &mut |_, _| (), &world.cancel).unwrap_err().kind(),
            ErrorKind::Cancelled
        );
    }
}

#[test]
fn privileged_floods_pass_through() {
    let Some(mut world) = World::privileged() else { return };
    world.shell("head -c 50000000 /dev/zero; echo end >&2; exit 4");
    let bundle = bundle(&world.step, &Host::detect());
    let (mut bytes, mut largest, mut rest) = (0, 0, Vec::new());
    let mut output = |stream: Stream, piece: &[u8]| match stream {
        Stream::Stdout => {
            bytes += piece.len();
            largest = largest.max(piece.len());
        }
        Stream::Stderr => rest.extend_from_slice(piece),
    };
    let status = ocibuild_executor::NamespaceExecutor::new();
    let status = ocibuild_executor::Executor::run(&status, &bundle, &mut output, &world.cancel).unwrap();
    assert_eq!((status.code(), bytes, rest.as_slice()), (4, 50_000_000, &b"end\n"[..]));
    assert!(largest <= 64 * 1024);
}

/// Whether any process has `needle` in its command line.
fn running(needle: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    processes.filter_map(line).any(|line| String::from_utf8_lossy(&line).contains(needle))
}

/// What runc has no chance to remove when it is killed: empty, and named after the directory of the step.
fn remove_cgroups(state: &Path) {
    let own = fs::metadata(state).unwrap();
    let name = format!("ocibuild-{:x}-{:x}", own.dev(), own.ino());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(&name));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&name));
}

/// A process that does not outlive a failed test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn privileged_the_step_dies_with_its_builder_and_leaves_no_mount() {
    let Some(world) = World::privileged() else { return };
    let Some(program) = run_step() else { return };
    for (index, arguments) in
        [vec![], vec!["--chroot"], vec!["--runtime", "runc"], vec!["--runtime", "crun"]].iter().enumerate()
    {
        if arguments.len() > 1 && ocibuild_executor::RuntimeExecutor::new(arguments[1]).is_err() {
            ocibuild_testkit::skip(arguments[1]);
            continue;
        }
        // Told apart from all other sleepers by its number.
        let needle = format!("4{}{index}", std::process::id());
        let script = format!("sleep {needle} & echo started; sleep {needle}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let builder = Command::new(&program)
            .args(arguments)
            .args([world.rootfs(), world.step.state.clone()])
            .args(["/bin/sh", "-c", &script])
            .env("RUN_STEP_AS_ROOT", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut builder = Killed(builder);
        let mut line = String::new();
        BufReader::new(builder.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "started\n", "{arguments:?}");
        let sleeper = format!("sleep\0{needle}");
        let wait_until = |wanted: bool, what: &str| {
            let _guard = HangGuard::new(format!("{arguments:?}: {what}"));
            while running(&sleeper) != wanted {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait_until(true, "the step does not run");
        builder.0.kill().unwrap();
        builder.0.wait().unwrap();
        wait_until(false, "the step outlived its builder");
        remove_cgroups(&world.step.state);
        let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = world.dir.path().display().to_string();
        assert!(!after.contains(&place) && !mounts.contains(&place), "{arguments:?}");
    }
}

#[test]
fn privileged_many_steps_run_at_once() {
    let Some(world) = World::privileged() else { return };
    let step = &world.step;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                scope.spawn(move || {
                    let state = tempfile::tempdir().unwrap();
                    let mut step = step.clone();
                    step.state = state.path().to_owned();
                    step.args =
                        ["/bin/sh", "-c", &format!("echo {index}; exit {index}")].map(str::to_owned).to_vec();
                    let executor = ocibuild_executor::NamespaceExecutor::new();
                    let bundle = bundle(&step, &Host::detect());
                    let cancel = ocibuild_spec::CancelToken::new();
                    ocibuild_executor::Executor::run(&executor, &bundle, &mut |_, _| (), &cancel)
                        .unwrap()
                        .code()
                })
            })
            .collect();
        let codes: Vec<i32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(codes, (0..8).collect::<Vec<_>>());
    });
}

/// A program that embeds this crate may ignore SIGCHLD, and then gets no status of programs that it starts itself.
#[test]
fn privileged_a_caller_that_ignores_the_end_of_children_learns_of_it() {
    let Some(world) = World::privileged() else { return };
    let Some(program) = run_step() else { return };
    for arguments in [&[][..], &["--chroot"], &["--runtime", "runc"], &["--runtime", "crun"]] {
        if arguments.len() > 1 && ocibuild_executor::RuntimeExecutor::new(arguments[1]).is_err() {
            ocibuild_testkit::skip(arguments[1]);
            continue;
        }
        let output = Command::new("env")
            .arg("--ignore-signal=CHLD")
            .arg(&program)
            .args(arguments)
            .args([world.rootfs(), world.step.state.clone()])
            .args(["/bin/sh", "-c", "sh -c 'exit 5'; echo $?; kill -9 $$; exit 7"])
            .env("RUN_STEP_AS_ROOT", "1")
            .output()
            .unwrap();
        let (text, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // Without a process namespace it is no process 1, which the kernel would shield from itself.
        let code = if arguments == ["--chroot"] { 137 } else { 7 };
        assert_eq!((output.status.code(), &*text), (Some(code), "5\n"), "{arguments:?}: {error}");
    }
}
