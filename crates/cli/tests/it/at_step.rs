//! `run --at-step`: the files of a finished step.

use std::path::Path;
use std::process::Stdio;

use fs_err as fs;
use ocibuild_testkit::{TestTerminal, skip};

use crate::program::{Ended, Place, namespaces};

const DOCKERFILE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
    RUN mkdir -p /etc && echo 'u:x:1000:1000::/:/bin/sh' > /etc/passwd\n\
    FROM base AS app\nENV A=1\nRUN echo one > /file\nUSER u\nWORKDIR /work\nENV A=2\n\
    RUN --mount=type=secret,id=s,required cat /run/secrets/s > /tmp-file 2>/dev/null; true\nRUN exit 9\nENTRYPOINT [\"/none\"]\n\
    FROM scratch AS bare\nCOPY Dockerfile /\n\
    FROM app\n";

fn place() -> Option<Place> {
    if !Path::new("/bin/busybox").exists() || !namespaces() || !rustix::process::geteuid().is_root() {
        skip("running steps takes root and a static busybox in /bin/busybox");
        return None;
    }
    let place = Place::with(DOCKERFILE);
    fs::copy("/bin/busybox", place.path("busybox")).unwrap();
    place.write(".dockerignore", "state\n");
    place.write("secret", "hidden");
    Some(place)
}

fn run(place: &Place, step: &str, more: &[&str], command: &[&str]) -> Ended {
    place.run(&[&["run", "--at-step", step][..], more, &["."], command].concat())
}

#[test]
fn privileged_a_command_sees_the_files_and_the_config_after_a_step() {
    let Some(place) = place() else { return };
    let script = "id -u; pwd; echo $A; cat /file 2>/dev/null; ls -d /work 2>/dev/null; true";
    for (step, seen) in
        [("base:3", "0\n/\n\n"), ("app:1", "0\n/\n1\none\n"), ("app:2", "1000\n/work\n1\none\n/work\n")]
    {
        for way in [&[][..], &["--runtime", "runc"], &["--snapshotter", "copy"], &["--sandbox", "chroot"]] {
            let ended = run(&place, step, way, &["sh", "-c", script]);
            assert_eq!(ended.succeeds(), seen, "{step} {way:?}: {}", ended.stderr);
        }
    }
    // Later steps are not looked at, and with --target the stage goes without saying.
    assert_eq!(run(&place, "1", &["--target", "app"], &["cat", "/file"]).succeeds(), "one\n");
    // What is found in the cache does not run again; nothing of it has a name.
    assert!(run(&place, "app:2", &[], &["true"]).stderr.contains("CACHED"));
    assert_eq!(place.run(&["images", "-q"]).succeeds(), "");
    // Flags of steps and of the command.
    let flags = ["--secret", "id=s,src=secret", "-e", "A=3", "-w", "/", "-u", "0"];
    assert_eq!(run(&place, "app:3", &flags, &["sh", "-c", "echo $A; id -u; pwd"]).succeeds(), "3\n0\n/\n");
    assert_eq!(run(&place, "app:1", &["-f", "Dockerfile"], &["sh", "-c", "exit 5"]).code, Some(5));
}

#[test]
fn privileged_without_a_command_there_is_a_shell() {
    let Some(place) = place() else { return };
    let mut terminal = TestTerminal::new(30, 100);
    let mut command =
        place.command_that_heeds_signals(&["run", "-it", "-e", "PS1=shell> ", "--at-step", "app:1", "."]);
    command.stdin(terminal.stream()).stdout(terminal.stream()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    terminal.wait_for("shell> ");
    terminal.type_text("echo $((2 + 3)) in $(cat /file); exit 6\r");
    terminal.wait_for("5 in one\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(6));
    let bare = run(&place, "bare:1", &[], &[]);
    bare.fails(2, &["the image has no shell", "give the command"]);
}

#[test]
fn privileged_steps_that_are_not_there_are_told_with_those_that_are() {
    let Some(place) = place() else { return };
    let titles =
        "the steps of the stage are\n  1: RUN echo one > /file\n  2: WORKDIR /work\n  3: RUN --mount";
    for (step, code, words) in [
        ("app:7", 2, &["the stage has no step 7", titles][..]),
        ("app:0", 2, &["the stage has no step 0", titles]),
        ("2", 2, &["the stage has no step 2", "the stage has no steps"]),
        ("nothing:1", 2, &["target stage \"nothing\" could not be found", "base, app, bare"]),
        ("first", 2, &["this is not the number of a step", "--at-step first", "test:3"]),
        ("app:3", 2, &["secret s: not found", "--secret id=s"]),
    ] {
        run(&place, step, &[], &["true"]).fails(code, words);
    }
    // A step that fails has no files to be entered here.
    run(&place, "app:4", &["--secret", "id=s,src=secret"], &["true"])
        .fails(1, &["exit code: 9", "Dockerfile:12"]);
}

#[test]
fn what_does_not_go_with_a_step_is_refused() {
    let place = Place::with("FROM scratch\n");
    for (args, words) in [
        (&["run", "--at-step", "1", "--bundle", "x", "."][..], &["--at-step", "--bundle"][..]),
        (&["run", "--target", "x", "image"], &["--at-step"]),
        (&["run", "--build-arg", "x=y", "image"], &["--at-step"]),
        (&["run", "--at-step", "a:1", "--target", "x", "."], &["--at-step with a stage and --target"]),
        (&["run", "--at-step", "1", "--pull", "never", "."], &["--pull never and --at-step", "--offline"]),
        (
            &["run", "--at-step", "1", "--sandbox", "chroot", "--runtime", "runc", "."],
            &["--sandbox and --runtime"],
        ),
    ] {
        place.run(args).fails(2, words);
    }
    assert!(!place.path("state").exists());
}
