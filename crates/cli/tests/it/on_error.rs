//! What becomes of a `RUN` that fails: kept as a bundle, or entered.

use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use ocibuild_testkit::{TestTerminal, skip};
use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Ended, Place, ended, namespaces};
use crate::users::{as_user, give_away, user_command};

/// A stage `base` with busybox, a user, and a directory of theirs.
const BASE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
    RUN mkdir -p /etc /home && echo 'u:x:1000:1000::/home:/bin/sh' > /etc/passwd && chown 1000:1000 /home\n";

/// A step that has everything that a step can have, changes some of it, and fails.
const FAILING: &str = "FROM base\nENV A=1\nARG http_proxy\nWORKDIR /work\n\
    RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=TOKEN --mount=type=cache,target=/c \\\n\
    --mount=type=bind,target=/b --mount=type=tmpfs,target=/t --mount=type=ssh \\\n\
    test \"$(cat /run/secrets/s)\" = \"$TOKEN\" && test -S $SSH_AUTH_SOCK && echo from-step > /left && \\\n\
    touch /c/x /t/y && mkdir /made && mv /home /moved && exit 3\n";

const CANARY: &str = "canary-7f1c";

/// A place with these stages on top of the base; `None` where there is nothing to run steps with.
fn place(dockerfile: &str) -> Option<Place> {
    if !Path::new("/bin/busybox").exists() || !namespaces() || !rustix::process::geteuid().is_root() {
        skip("running steps takes root and a static busybox in /bin/busybox");
        return None;
    }
    let place = Place::with(&format!("{BASE}{dockerfile}"));
    fs::copy("/bin/busybox", place.path("busybox")).unwrap();
    place.write(".dockerignore", "state*\nocibuild\nsecret\n");
    place.write("secret", CANARY);
    Some(place)
}

/// Every way to carry out a step that root has.
fn ways() -> Vec<Vec<&'static str>> {
    let mut all = vec![vec![], vec!["--snapshotter", "copy"], vec!["--sandbox", "chroot"]];
    all.extend(runtimes().into_iter().map(|runtime| vec!["--runtime", runtime]));
    all
}

fn runtimes() -> Vec<&'static str> {
    let is_here = |runtime: &&str| {
        let is_here = Command::new(runtime).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_here {
            skip(&format!("{runtime} is not installed"));
        }
        is_here
    };
    ["runc", "crun"].into_iter().filter(is_here).collect()
}

const SECRET: [&str; 2] = ["--secret", "id=s,src=secret"];

fn kept(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("state/kept")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Files below a directory that have this in them; of several names of a file one.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let (mut found, mut seen, mut todo) = (Vec::new(), HashSet::new(), vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.path().symlink_metadata().unwrap();
            if metadata.is_dir() {
                todo.push(entry.path());
            } else if metadata.is_file() && seen.insert(metadata.ino()) {
                let bytes = fs::read(entry.path()).unwrap();
                if String::from_utf8_lossy(&bytes).contains(text) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

fn enter(place: &Place, flags: &[&str], bundle: &str, command: &[&str]) -> Ended {
    let bundle = place.path("state/kept").join(bundle).display().to_string();
    let mut args = vec!["run"];
    args.extend(flags);
    args.extend(["--bundle", &bundle]);
    args.extend(command);
    // What it is in is told by the path.
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocibuild"));
    command.args(args).current_dir(place.path("")).env_clear().stdin(Stdio::null());
    ended(command.output().unwrap())
}

#[test]
fn privileged_a_step_that_fails_is_kept_and_entered() {
    for way in ways() {
        let Some(place) = place(FAILING) else { return };
        let agent = place.path("agent");
        let _listener = UnixListener::bind(&agent).unwrap();
        let agent = format!("default={}", agent.display());
        let proxy = format!("http_proxy=http://user:{CANARY}@proxy.example:1");
        let flags = ["--on-error=keep", "--ssh", &agent, "--build-arg", &proxy];
        let flags = [&flags[..], &SECRET, &way].concat();
        let bundle = place.path("state/kept/1").display().to_string();
        let hint = format!("enter them with ocibuild run -it --bundle {bundle} /bin/sh");
        let left_out = "kept without the secret at /run/secrets/s, the agent at /run/buildkit/ssh_agent.0, \
                        the proxy in HTTP_PROXY, which has a password, the proxy in http_proxy, which has a password, \
                        the secret in TOKEN";
        place.build(&flags).fails(1, &["exit code: 3", "--> Dockerfile:9", &hint, left_out]);
        assert_eq!(files_with(&place.path("state"), CANARY), Vec::<PathBuf>::new(), "{way:?}");
        let mode = fs::metadata(place.path("state/kept/1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{way:?}");

        let script = "id -u; pwd; echo $A $TOKEN $http_proxy; cat /left; ls -d /made /moved /home 2>&1; ls /c /t; \
                      cmp /b/busybox /bin/busybox && echo equal; cat /run/secrets/s; stat -c %u /moved; echo again >> /left";
        // What this place gives: the bundle is the same whoever made it.
        for runtime in [&[][..]].into_iter().chain(way.windows(2).filter(|flags| flags[0] == "--runtime")) {
            let seen = enter(&place, runtime, "1", &["sh", "-c", script]);
            let seen = seen.succeeds().replace("from-step\nagain\n", "from-step\n");
            let expected = "0\n/work\n1\nfrom-step\nls: /home: No such file or directory\n/made\n/moved\n\
                            /c:\nx\n\n/t:\nequal\n1000\n";
            assert_eq!(seen, expected, "{way:?} {runtime:?}");
        }
        // Without another one, the command that failed is run: here it has no secret.
        let again = enter(&place, &[], "1", &[]);
        assert_eq!(again.code, Some(1), "{way:?}: {}", again.stderr);
        let changed =
            enter(&place, &["-e", "A=2", "-e", "B=3", "-w", "/c"], "1", &["sh", "-c", "pwd; echo $A $B"]);
        assert_eq!(changed.succeeds(), "/c\n2 3\n", "{way:?}");
        assert_eq!(enter(&place, &[], "1", &["nothing"]).code, Some(127), "{way:?}");

        // The next one comes beside it.
        assert_eq!(place.build(&flags).code, Some(1));
        assert_eq!(kept(&place), ["1", "2"], "{way:?}");
    }
}

/// Nothing in a bundle is shared with what later builds use.
#[test]
fn privileged_what_is_changed_in_a_bundle_is_changed_there_alone() {
    let Some(place) = place("FROM base\nRUN cat /etc/passwd && test -f /go\n") else { return };
    place.build(&["--on-error=keep"]).fails(1, &["ocibuild run -it --bundle"]);
    enter(&place, &[], "1", &["sh", "-c", "echo broken > /etc/passwd; rm /bin/cat; touch /go"]).succeeds();
    place.build(&["--on-error=keep"]).fails(1, &["u:x:1000:1000"]);
    enter(&place, &[], "1", &["test", "-f", "/go"]).succeeds();
}

#[test]
fn privileged_runtimes_run_what_is_kept() {
    let Some(place) = place("FROM base\nWORKDIR /w\nRUN echo tried; touch /left; exit 7\n") else { return };
    place.build(&["--on-error=keep"]).fails(1, &["ocibuild run -it --bundle"]);
    for runtime in runtimes() {
        // crun does not take hybrid hierarchies of cgroups; it sees none here.
        let controllers = "/sys/fs/cgroup/unified/cgroup.controllers";
        let script = format!(
            "[ ! -e {controllers} ] || mount --bind /dev/null {controllers}; exec {runtime} {} run --bundle \"$@\"",
            if runtime == "crun" { "--cgroup-manager=disabled" } else { "" }
        );
        let name = format!("kept-{}-{runtime}", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh"]).arg(place.path("state/kept/1")).arg(name);
        let ran = ended(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "tried\n"), "{runtime}: {}", ran.stderr);
    }
}

#[test]
fn privileged_du_counts_and_prune_removes_what_is_kept() {
    let Some(place) = place("FROM base\nRUN exit 7\n") else { return };
    for _ in 0..2 {
        place.build(&["--on-error=keep"]).fails(1, &["ocibuild run -it --bundle"]);
    }
    let usage: serde_json::Value =
        serde_json::from_str(place.run(&["du", "--format", "json"]).succeeds()).unwrap();
    assert!(usage["kept_steps"].as_u64().unwrap() > 2 * 100_000, "{usage}");
    assert!(place.run(&["du"]).succeeds().contains("Kept steps"));
    // Nobody removes what somebody is in.
    let bundle = place.path("state/kept/1").display().to_string();
    let mut inside = place.command(&["run", "-i", "--bundle", &bundle, "sh", "-c", "echo ready; read word"]);
    let mut inside = inside.stdin(Stdio::piped()).spawn().unwrap();
    inside.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    assert!(place.run(&["prune"]).succeeds().contains(" 1 kept steps"));
    assert_eq!(kept(&place), ["1"]);
    drop(inside.stdin.take());
    inside.wait().unwrap();
    assert!(place.run(&["prune", "--all"]).succeeds().contains(" 1 kept steps"));
    assert_eq!(kept(&place), Vec::<String>::new());
    enter(&place, &[], "1", &["true"]).fails(2, &["--bundle", "--on-error=keep"]);
    // The number is free again.
    place.build(&["--on-error=keep"]).fails(1, &["/kept/1 "]);
}

#[test]
fn privileged_events_tell_where_a_step_is_kept() {
    let Some(place) =
        place(FAILING.replace("--mount=type=ssh", "").replace("test -S $SSH_AUTH_SOCK", "true").as_str())
    else {
        return;
    };
    let flags = [&["build", "--on-error=keep", "--progress", "json"][..], &SECRET, &["."]].concat();
    let ended = place.run(&flags);
    let objects: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = objects.iter().filter_map(|object| object["event"].as_str()).collect();
    assert_eq!(names[names.len() - 3..], ["step-failed", "step-kept", "error"], "{names:?}");
    let event = &objects[objects.len() - 2];
    assert_eq!(event["bundle"], place.path("state/kept/1").display().to_string().as_str());
    assert_eq!(event["step"], objects[objects.len() - 3]["step"]);
    assert_eq!(event["shell"], "/bin/sh");
    let left_out = serde_json::json!([
        { "kind": "secret", "target": "/run/secrets/s" },
        { "kind": "secret-variable", "name": "TOKEN" },
    ]);
    assert_eq!(event["left_out"], left_out);
    assert_eq!(objects[objects.len() - 1]["step_exit_code"], 3);
}

#[test]
fn privileged_a_build_that_is_cancelled_or_fails_otherwise_keeps_nothing() {
    let Some(place) = place("FROM base\nRUN echo begun; exec sleep 1000\n") else { return };
    let mut child = place
        .command_that_heeds_signals(&["build", "--progress", "plain", "--on-error=keep", "."])
        .spawn()
        .unwrap();
    wait_for_line(&mut child, " begun");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(kept(&place), Vec::<String>::new());
    place.write("Dockerfile", &format!("{BASE}FROM base\nCOPY absent /\n"));
    place.build(&["--on-error=keep"]).fails(2, &["absent"]);
    assert_eq!(kept(&place), Vec::<String>::new());
}

/// A file that no layer could have: the build fails as ever, and says why nothing is kept.
#[test]
fn privileged_what_cannot_be_kept_is_told() {
    let Some(place) = place("FROM base\nRUN echo x > /.wh.file; exit 3\n") else { return };
    place
        .build(&["--on-error=keep"])
        .fails(1, &["exit code: 3", "the files of the step cannot be kept: ", ".wh.file"]);
    assert_eq!(kept(&place), Vec::<String>::new());
    left_nothing(&place);
}

fn wait_for_line(child: &mut Child, end: &str) {
    use std::io::BufRead as _;
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(end)), "no line ends with {end}");
    // What else is printed goes nowhere, but somebody reads it.
    std::thread::spawn(move || lines.for_each(drop));
}

/// Of several steps that fail, the one that is reported is kept.
#[test]
fn privileged_the_step_that_is_reported_is_kept() {
    let Some(place) = place(
        "FROM base AS first\nRUN sleep 1; touch /first; exit 5\nFROM base AS second\nRUN touch /second; exit 6\n\
         FROM base\nCOPY --from=first /first /\nCOPY --from=second /second /\n",
    ) else {
        return;
    };
    place.build(&["--on-error=keep"]).fails(1, &["exit code: 5", "/kept/1 "]);
    assert_eq!(enter(&place, &[], "1", &["ls", "/first"]).succeeds(), "/first\n");
    assert_eq!(kept(&place), ["1"]);
}

#[test]
fn privileged_an_ordinary_users_step_is_kept_with_its_user_and_owners() {
    let Some(place) = place("FROM base\nUSER u\nWORKDIR /home\nRUN touch left && exit 3\n") else { return };
    let Some(kinds) = give_away(&place) else { return };
    for ranges in kinds {
        as_user(&place, ranges, &["build", "--on-error=keep", "."]).fails(1, &["exit code: 3", "--bundle"]);
        let state = if ranges { "state-ranges" } else { "state-one" };
        let bundle = place.path(state).join("kept/1").display().to_string();
        let script =
            "id -u; pwd; stat -c '%u:%g %n' left /home /etc/passwd /bin/busybox; touch more && echo made";
        let seen = as_user(&place, ranges, &["run", "--bundle", &bundle, "sh", "-c", script]);
        assert_eq!(
            seen.succeeds(),
            "1000\n/home\n1000:1000 left\n1000:1000 /home\n0:0 /etc/passwd\n0:0 /bin/busybox\nmade\n",
            "{ranges}"
        );
        let pruned = as_user(&place, ranges, &["prune"]);
        assert!(pruned.succeeds().contains(" 1 kept steps"), "{ranges}: {}", pruned.stdout);
    }
}

/// A build on a terminal, which the shell gets.
fn on_terminal(place: &Place, terminal: &TestTerminal, flags: &[&str]) -> Child {
    let args = [&["build", "--on-error=shell"][..], flags, &["."]].concat();
    let mut command = place.command_that_heeds_signals(&args);
    command.env("TERM", "xterm").env("PS1", "shell> ");
    command.stdin(terminal.stream()).stdout(Stdio::null()).stderr(terminal.stream()).spawn().unwrap()
}

#[test]
fn privileged_a_shell_takes_the_place_of_a_step_that_fails() {
    let dockerfile = FAILING.replace("FROM base\n", "FROM base\nENV PS1='shell> '\n");
    for way in ways() {
        let Some(place) = place(&dockerfile) else { return };
        let agent = place.path("agent");
        let _listener = UnixListener::bind(&agent).unwrap();
        let agent = format!("default={}", agent.display());
        let mut terminal = TestTerminal::new(33, 111);
        let flags = [&["--ssh", &agent][..], &SECRET, &way].concat();
        let mut child = on_terminal(&place, &terminal, &flags);
        let shown = terminal.wait_for("shell> ");
        assert!(shown.contains("This is /bin/sh in its place"), "{way:?}: {shown}");
        assert!(terminal.is_raw(), "{way:?}");
        // Numbers, so that what is typed is not what is waited for.
        for (typed, seen) in [
            ("echo uid $(id -u) in $PWD", "uid 0 in /work\r\n"),
            ("cat /left; ls /c", "from-step\r\nx\r\n"),
            ("echo token ${#TOKEN} $(wc -c < /run/secrets/s)", "token 11 11\r\n"),
            ("test -S $SSH_AUTH_SOCK && echo agent $((1 + 1))", "agent 2\r\n"),
            ("touch /t/z && ls /t | grep -c z; ls -d /b/busybox", "1\r\n/b/busybox\r\n"),
            ("stty size", "33 111\r\n"),
        ] {
            terminal.type_text(&format!("{typed}\r"));
            terminal.wait_for(seen);
        }
        terminal.type_text("exit 44\r");
        let shown = terminal.wait_for("exit code: 3");
        assert!(shown.contains("error:"), "{way:?}: {shown}");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{way:?}");
        assert!(!terminal.is_raw(), "{way:?}");
        assert_eq!(kept(&place), Vec::<String>::new(), "{way:?}");
        left_nothing(&place);
    }
}

/// In a user namespace, with a range of ids and with one: owners are as the step left them.
#[test]
fn privileged_an_ordinary_user_gets_a_shell_in_the_step() {
    let Some(place) =
        place("FROM base\nENV PS1='shell> '\nUSER u\nWORKDIR /home\nRUN touch left && exit 3\n")
    else {
        return;
    };
    let Some(kinds) = give_away(&place) else { return };
    for ranges in kinds {
        let mut terminal = TestTerminal::new(30, 100);
        let mut command = user_command(&place, ranges, &["build", "--on-error=shell", "."]);
        command.stdin(terminal.stream()).stdout(Stdio::null()).stderr(terminal.stream()).env("TERM", "xterm");
        let mut child = command.spawn().unwrap();
        terminal.wait_for("shell> ");
        for (typed, seen) in [
            ("echo uid $(id -u)", "uid 1000\r\n"),
            (
                "stat -c '%u-%g %n' left /home /etc/passwd",
                "1000-1000 left\r\n1000-1000 /home\r\n0-0 /etc/passwd\r\n",
            ),
            ("touch more && stat -c '%u=%n' more", "1000=more\r\n"),
        ] {
            terminal.type_text(&format!("{typed}\r"));
            terminal.wait_for(seen);
        }
        terminal.type_text("exit\r");
        terminal.wait_for("exit code: 3");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{ranges}");
    }
}

/// Of the runtimes crun 1.8 does not pass a new size on.
#[test]
fn privileged_the_shell_learns_of_another_size_and_of_keys() {
    let Some(place) = place("FROM base\nENV PS1='shell> '\nRUN exit 3\n") else { return };
    for way in ways().into_iter().filter(|way| !way.contains(&"crun")) {
        let mut terminal = TestTerminal::new(20, 70);
        let mut child = on_terminal(&place, &terminal, &way);
        terminal.wait_for("shell> ");
        terminal.type_text("trap 'echo now $(stty size)' WINCH; echo $((1 + 1))\r");
        terminal.wait_for("2\r\n");
        terminal.resize(44, 55);
        kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
        terminal.type_text("sleep 0.3; stty size\r");
        terminal.wait_for("44 55\r\n");
        // A key of the terminal's ends the command in the shell, not the build.
        let deaf =
            "trap \"echo caught \\$((3 + 4)); exit 5\" INT; echo $((5 + 6)); while :; do sleep 0.05; done";
        terminal.type_text(&format!("sh -c '{deaf}'\r"));
        terminal.wait_for("11\r\n");
        terminal.type_text("\u{3}");
        terminal.wait_for("caught 7\r\n");
        terminal.wait_for("shell> ");
        terminal.type_text("echo $((2 + 2)); exit\r");
        terminal.wait_for("4\r\n");
        terminal.wait_for("exit code: 3");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{way:?}");
    }
}

/// An image without a shell gets one of ours, which is in none of its layers.
#[test]
fn privileged_an_image_without_a_shell_gets_one() {
    for way in ways() {
        let Some(place) = place(
            "FROM scratch\nENV A=1\nWORKDIR /w\nCOPY busybox /busybox\nRUN [\"/busybox\", \"false\"]\n",
        ) else {
            return;
        };
        let mut terminal = TestTerminal::new(30, 100);
        let mut child = on_terminal(&place, &terminal, &way);
        let shown = terminal.wait_for("/w $ ");
        assert!(shown.contains("a small shell of ocibuild"), "{way:?}: {shown}");
        for (typed, seen) in [
            ("echo a$A-'$A'", "a1-$A\r\n"),
            ("id", "uid=0 gid=0"),
            ("stat /busybox", "/busybox: -0755 owner 0:0"),
            ("cd /", "/ $ "),
            ("/busybox printf '%s-%s' x y", "x-y"),
            ("ls", "busybox\r\n"),
            ("echo a | cat", "no pipes"),
            ("nothing", "nothing: "),
            ("help", "print the directory"),
        ] {
            terminal.type_text(&format!("{typed}\r"));
            terminal.wait_for(seen);
        }
        terminal.type_text("exit 5\r");
        terminal.wait_for("exit code: 1");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{way:?}");
        left_nothing(&place);
    }
}

/// No mount, no directory of a step.
fn left_nothing(place: &Place) {
    let own = place.path("").display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(own.trim_end_matches('/')), "{mounts}");
    place.run(&["prune"]).succeeds();
    assert_eq!(fs::read_dir(place.path("state/tmp")).unwrap().count(), 0);
    for driver in ["overlay", "copy"] {
        let work = place.path("state/snapshots").join(driver).join("work");
        assert!(!work.exists() || fs::read_dir(work).unwrap().count() == 0, "{driver}");
    }
}

#[test]
fn privileged_the_shell_waits_for_what_else_runs() {
    let Some(place) = place(
        "ENV PS1='shell> '\nFROM base AS slow\nRUN sleep 1; echo slow is $((40 + 2))\nFROM base AS broken\nRUN exit 4\n\
         FROM base AS endless\nRUN exec sleep 1000\n\
         FROM base\nCOPY --from=slow / /s\nCOPY --from=broken / /b\nCOPY --from=endless / /e\n",
    ) else {
        return;
    };
    for progress in ["plain", "tty"] {
        let mut terminal = TestTerminal::new(30, 100);
        let mut child = on_terminal(&place, &terminal, &["--no-cache", "--progress", progress]);
        let shown = terminal.wait_for("shell> ");
        // A live display does not draw the last line of a step, but the time that it took.
        let is_done =
            |line: &str| line.contains("slow is 42") || line.contains("[slow 1/1]") && line.contains("[1m");
        assert!(shown.lines().any(is_done), "{progress}: {shown}");
        terminal.type_text("echo $((2 + 3)); exit\r");
        // Nobody writes in between.
        let shown = terminal.wait_for("error:");
        assert_eq!(shown.lines().next_back().map(|line| line.contains("error:")), Some(true), "{shown}");
        assert!(shown.contains("\r\n5\r\n") && !shown.contains("steps"), "{progress}: {shown}");
        terminal.wait_for("exit code: 4");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{progress}");
    }
}

#[test]
fn privileged_a_killed_shell_leaves_nothing() {
    for way in ways() {
        let Some(place) =
            place("FROM base\nENV PS1='shell> '\nRUN --mount=type=cache,target=/c,sharing=locked exit 4\n")
        else {
            return;
        };
        let mut terminal = TestTerminal::new(30, 100);
        let mut child = on_terminal(&place, &terminal, &way);
        terminal.wait_for("shell> ");
        let token = format!("10{}", std::process::id());
        terminal.type_text(&format!("echo $((2 + 3)) && exec sleep {token}\r"));
        terminal.wait_for("5\r\n");
        child.kill().unwrap();
        child.wait().unwrap();
        while is_running(&token) {
            std::thread::yield_now();
        }
        // Its cache is free, too.
        place.write("Dockerfile", &place.read("Dockerfile").replace("exit 4", "true"));
        assert_eq!(place.build(&way).code, Some(0), "{way:?}");
        left_nothing(&place);
    }
}

fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).any(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == argument.as_bytes()) && line.starts_with(b"sleep")
    })
}

#[test]
fn privileged_a_signal_ends_the_shell_and_the_build() {
    let Some(place) = place("FROM base\nENV PS1='shell> '\nRUN exit 4\n") else { return };
    let mut terminal = TestTerminal::new(30, 100);
    let mut child = on_terminal(&place, &terminal, &[]);
    terminal.wait_for("shell> ");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    terminal.wait_for("exit code: 4");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!terminal.is_raw());
    left_nothing(&place);
}

#[test]
fn a_shell_that_nobody_can_type_into_is_refused() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    place.build(&["--on-error=shell"]).fails(2, &["--on-error=shell needs a terminal", "--on-error=keep"]);
    place.build(&["--on-error=other"]).fails(2, &["other", "shell", "keep"]);
    assert!(!place.path("state").exists());
    let terminal = TestTerminal::new(30, 100);
    let mut json = place.command(&["build", "--on-error=shell", "--progress", "json", "."]);
    let json = ended(json.stdin(terminal.stream()).output().unwrap());
    json.fails(2, &["--on-error=shell and --progress json", "--on-error=keep"]);
}

#[test]
fn bundles_that_were_not_kept_are_refused() {
    let place = Place::with("FROM scratch\n");
    place.write("bundle/config.json", "{}");
    place
        .run(&["run", "--bundle", "absent"])
        .fails(2, &["--bundle absent: this is not a step that was kept"]);
    place.run(&["run", "--bundle", "."]).fails(2, &["--bundle .: this is not", "--on-error=keep"]);
    place.run(&["run", "--bundle", "bundle", "-v", "/:/x", "sh"]).fails(2, &["--volume and --bundle"]);
    place.run(&["run"]).fails(2, &["IMAGE"]);
}
