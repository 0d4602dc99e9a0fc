//! `run` as people use it: with a terminal, with input, with signals.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_testkit::{Shared, TestTerminal, skip};
use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Ended, Place, ended, namespaces};

/// A state directory with the image `busybox`, made once; `None` where nothing can be run, with the reason said.
fn place() -> Option<Arc<Place>> {
    static PLACE: Shared<Place> = Shared::new();
    PLACE.get_or_make(|| {
        if !Path::new("/bin/busybox").exists() || !namespaces() || !rustix::process::geteuid().is_root() {
            skip("running images takes root and a static busybox in /bin/busybox");
            return None;
        }
        let place = Place::with(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
                 CMD [\"sh\"]\n",
        );
        fs::copy("/bin/busybox", place.path("busybox")).unwrap();
        place.build(&["-t", "busybox"]).succeeds();
        Some(place)
    })
}

/// Every way to run a command that there is here.
fn runtimes() -> Vec<Vec<&'static str>> {
    let mut all = vec![Vec::new()];
    for runtime in ["runc", "crun"] {
        if Command::new(runtime).arg("--version").stdout(Stdio::null()).status().is_ok() {
            all.push(vec!["--runtime", runtime]);
        } else {
            skip(&format!("{runtime} is not installed"));
        }
    }
    all
}

fn command(place: &Place, flags: &[&str], script: &str) -> Command {
    let mut args = vec!["run"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    place.command_that_heeds_signals(&args)
}

fn run(place: &Place, flags: &[&str], script: &str) -> Ended {
    ended(command(place, flags, script).output().unwrap())
}

fn on_terminal(place: &Place, terminal: &TestTerminal, flags: &[&str], script: &str) -> Child {
    let mut command = command(place, flags, script);
    command.stdin(terminal.stream()).stdout(terminal.stream()).stderr(terminal.stream()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn privileged_a_command_gets_a_terminal_with_its_size_and_keys() {
    let Some(place) = &place() else { return };
    for runtime in runtimes() {
        let mut terminal = TestTerminal::new(33, 111);
        let flags = [&["-it"][..], &runtime].concat();
        let script = "tty; stty size; echo $TERM; read word; echo got $word >&2; exit 5";
        let mut child = on_terminal(place, &terminal, &flags, script);
        // The whole of the pty is its own: /dev/pts has one entry, that of this command.
        assert!(terminal.wait_for("xterm\r\n").ends_with("/dev/pts/0\r\n33 111\r\nxterm\r\n"), "{runtime:?}");
        assert!(terminal.is_raw());
        terminal.type_text("some\r");
        terminal.wait_for("got some\r\n");
        assert_eq!(child.wait().unwrap().code(), Some(5), "{runtime:?}");
        assert!(!terminal.is_raw(), "{runtime:?}: the terminal is as it was");
    }
}

#[test]
fn privileged_control_c_and_a_new_size_reach_the_command() {
    let Some(place) = &place() else { return };
    for runtime in runtimes() {
        let mut terminal = TestTerminal::new(10, 20);
        let flags = [&["-i", "-t"][..], &runtime].concat();
        let script = "trap 'echo caught; exit 9' INT; trap 'echo now $(stty size)' WINCH; echo ready; \
                      while :; do sleep 0.05; done";
        let mut child = on_terminal(place, &terminal, &flags, script);
        terminal.wait_for("ready\r\n");
        // crun 1.8 tells the command of the signal, but not its terminal of the size.
        if !runtime.contains(&"crun") {
            terminal.resize(44, 55);
            // This terminal controls no session, so that nobody else tells the program.
            signal(&child, Signal::WINCH);
            terminal.wait_for("now 44 55\r\n");
        }
        terminal.type_text("\u{3}");
        terminal.wait_for("caught\r\n");
        assert_eq!(child.wait().unwrap().code(), Some(9), "{runtime:?}");
    }
}

#[test]
fn privileged_the_terminal_is_restored_however_it_ends() {
    let Some(place) = &place() else { return };
    for (script, sent, code) in [
        ("echo ready; exec sleep 100", Some(Signal::TERM), 143),
        ("echo ready; exec sleep 100", Some(Signal::HUP), 129),
        ("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done", Some(Signal::TERM), 4),
        ("echo ready; read x; exit 6", None, 6),
    ] {
        let mut terminal = TestTerminal::new(24, 80);
        let mut child = on_terminal(place, &terminal, &["-it"], script);
        terminal.wait_for("ready\r\n");
        assert!(terminal.is_raw());
        match sent {
            Some(sent) => signal(&child, sent),
            None => terminal.type_text("\r"),
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{script} {sent:?}");
        assert!(!terminal.is_raw(), "{script} {sent:?}");
    }
    // A program that is not there is told on a terminal in order.
    let mut terminal = TestTerminal::new(24, 80);
    let mut child = place.command(&["run", "-it", "busybox", "nothing-like-it"]);
    let mut child =
        child.stdin(terminal.stream()).stdout(terminal.stream()).stderr(terminal.stream()).spawn().unwrap();
    terminal.wait_for("nothing-like-it");
    assert_eq!(child.wait().unwrap().code(), Some(127));
    assert!(!terminal.is_raw());
}

#[test]
fn privileged_a_terminal_without_keys_is_one_stream() {
    let Some(place) = &place() else { return };
    for runtime in runtimes() {
        let flags = [&["-t"][..], &runtime].concat();
        // crun 1.8 passes on nothing more once the command has ended.
        let script = "echo out; echo err >&2; sleep 0.5; test -t 0 && test -t 1 && test -t 2 && exit 3";
        let ended = run(place, &flags, script);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(3), "out\r\nerr\r\n"),
            "{runtime:?}: {}",
            ended.stderr
        );
    }
    let ended = place.command(&["run", "-it", "busybox"]).output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{text}");
    assert!(text.contains("the input device is not a TTY") && text.contains("ocibuild run -i"), "{text}");
}

#[test]
fn privileged_input_is_passed_on_when_it_is_asked_for() {
    let Some(place) = &place() else { return };
    let with_input = |flags: &[&str], script: &str, input: &[u8]| {
        let mut child = command(place, flags, script).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that does not read it all closes the pipe.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = ended(child.wait_with_output().unwrap());
        writer.join().unwrap();
        ended
    };
    let large = vec![b'x'; 3 << 20];
    for runtime in runtimes() {
        let interactive = [&["-i"][..], &runtime].concat();
        assert_eq!(with_input(&interactive, "cat", b"a\nb").succeeds(), "a\nb");
        assert_eq!(with_input(&interactive, "sleep 0.2; wc -c", &large).succeeds(), "3145728\n");
        assert_eq!(with_input(&interactive, "head -c 1", &large).succeeds(), "x");
        assert_eq!(with_input(&runtime, "cat; echo end", b"unread").succeeds(), "end\n");
    }
}

#[test]
fn privileged_signals_are_the_commands() {
    let Some(place) = &place() else { return };
    let trap = "trap 'echo caught; exit 3' TERM INT USR1; echo ready; while :; do sleep 0.05; done";
    // Process 1 has the kernel's protection from signals it does not handle; the program ends it all the same.
    // What says that it is ready is what gets the signal: a shell that is about to become something else catches it.
    let plain = "echo ready > /tmp-file; exec tail -f /tmp-file";
    let ignoring = "trap '' TERM; echo ready; sleep 1; exit 8";
    for (script, sent, code, rest) in [
        (trap, Signal::TERM, 3, "caught\n"),
        (trap, Signal::INT, 3, "caught\n"),
        (trap, Signal::USR1, 3, "caught\n"),
        (plain, Signal::TERM, 143, ""),
        (plain, Signal::INT, 130, ""),
        (ignoring, Signal::TERM, 8, ""),
    ] {
        let mut child = command(place, &[], script).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut text = [0; 6];
        std::io::Read::read_exact(&mut stdout, &mut text).unwrap();
        signal(&child, sent);
        let mut more = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut more).unwrap();
        assert_eq!((child.wait().unwrap().code(), more.as_str()), (Some(code), rest), "{script} {sent:?}");
    }
    for runtime in runtimes().into_iter().skip(1) {
        let mut child = command(place, &runtime, trap).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0; 6]).unwrap();
        signal(&child, Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(3), "{runtime:?}");
    }
    // Who insists is heard, whatever the command does.
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = command(place, &[], deaf).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    for _ in 0..3 {
        signal(&child, Signal::TERM);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// What ends a command whose output nobody reads is what would end it in a pipe of a shell.
#[test]
fn privileged_output_that_nobody_reads_ends_the_command() {
    let Some(place) = &place() else { return };
    let endless = "while :; do echo x; done";
    for (flags, script, code) in [
        (&[][..], "exec yes", 141),
        (&[], endless, 141),
        (&["-t"], endless, 141),
        (&[], "trap '' PIPE; while echo x; do :; done; exit 9", 9),
    ] {
        let mut child = command(place, flags, script).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0]).unwrap();
        drop(stdout);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{flags:?} {script}");
    }
    // A full disk is not a reader that has had enough.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(place, &[], "echo x").stdout(full.into_parts().0).output().unwrap();
    ended(output).fails(5, &["cannot write what the command writes", "No space left"]);
}

/// As `nohup` does, or a shell without job control for what it puts into the background.
#[test]
fn privileged_ignored_signals_stay_ignored() {
    let Some(place) = &place() else { return };
    let mut script = Command::new("sh");
    script.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
    let run = place.command(&["run", "busybox", "sh", "-c", "echo ready; sleep 1; exit 8"]);
    script.arg(run.get_program()).args(run.get_args()).current_dir(place.path("")).stdout(Stdio::piped());
    script.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    signal(&child, Signal::HUP);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(8));
}

#[test]
fn privileged_options_that_are_cheap() {
    let Some(place) = &place() else { return };
    place.write("env", "# a comment\nA=1\n  B=two words\nHOME\nC='kept'\n\n");
    let script = "echo $A $B $HOME $C $D; grep example /etc/hosts";
    let flags = ["--env-file", "env", "-e", "D=4", "-e", "A=9", "--add-host", "example:10.1.2.3"];
    let home = place.path("").display().to_string();
    let home = home.trim_end_matches('/');
    assert_eq!(
        run(place, &flags, script).succeeds(),
        format!("9 two words {home} 'kept' 4\n10.1.2.3\texample\n")
    );
    place.write("bad-env", "A=1\nB C=2\n");
    run(place, &["--env-file", "bad-env"], "true").fails(2, &["bad-env:2", "\"B C\""]);
    run(place, &["--env-file", "no-env"], "true").fails(2, &["no-env"]);
    let links = "ls /sys/class/net";
    assert_eq!(run(place, &["--network", "none"], links).succeeds(), "lo\n");
    assert_eq!(run(place, &["--net=host"], "true").code, Some(0));
    run(place, &["--network", "bridge"], "true").fails(2, &["--network bridge", "docker"]);
    // By ID, too.
    let id = place.run(&["images", "-q"]);
    let id = id.succeeds().trim();
    assert_eq!(place.run(&["run", id, "echo", "here"]).succeeds(), "here\n");
}

#[test]
fn privileged_what_a_command_finds_is_what_docker_gives_it() {
    let Some(place) = &place() else { return };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let environment = |more: &str| format!("HOSTNAME={hostname}\n{more}HOME=/\n");
    for (flags, script, expected) in [
        (&["-u", "5:6"][..], "env | grep HO", environment("")),
        (&["-e", "HOSTNAME=other"], "echo $HOSTNAME; hostname", format!("other\n{hostname}\n")),
        (&["--hostname", "given"], "echo $HOSTNAME; hostname", "given\ngiven\n".to_owned()),
        (
            &["-w", "/made/here", "-u", "5:6"],
            "pwd; stat -c '%u %g' . ..",
            "/made/here\n0 0\n0 0\n".to_owned(),
        ),
        (&["-w", ""], "pwd", "/\n".to_owned()),
        (&["-v", "./volume:/v:Z,ro"], "ls /v; touch /v/x 2>&- || echo no", "file\nno\n".to_owned()),
    ] {
        place.write("volume/file", "");
        assert_eq!(run(place, flags, script).succeeds(), expected, "{flags:?}");
    }
}

#[test]
fn privileged_what_cannot_be_run_is_said_in_terms_of_run() {
    let Some(place) = &place() else { return };
    for (args, code, texts) in [
        (&["-u", "nobody", "busybox"][..], 2, &["unable to find user nobody", "1000:1000"][..]),
        (&["-u", "1:nobodies", "busybox"], 2, &["unable to find group nobodies", "1000:1000"]),
        (&["-w", "relative", "busybox"], 2, &["not an absolute path", "--workdir /relative"]),
        (&["-w", "/bin/busybox", "busybox"], 2, &["cannot start in /bin/busybox: it is not a directory"]),
        (&["-v", ".:/", "busybox"], 2, &["whole root file system"]),
        (&["-v", ".:/a", "-v", "/:/a", "busybox"], 2, &["already"]),
        (&["-v", "./absent:/a", "busybox"], 2, &["mkdir -p ./absent"]),
        (&["busybox", "absent"], 127, &["\"absent\"", "name a program that the image has"]),
        (&["busybox", "/bin"], 126, &["\"/bin\"", "may execute"]),
    ] {
        let ended = place.run(&[&["run"], args].concat());
        ended.fails(code, texts);
        assert!(!ended.stderr.contains("build"), "{}", ended.stderr);
    }
}

#[test]
fn flags_of_containers_that_live_on_are_refused_with_what_to_do() {
    let place = Place::new();
    let elsewhere = "run the image with docker, podman or nerdctl";
    let table = [
        ("-p", "8080:80", elsewhere),
        ("--publish", "8080:80", elsewhere),
        ("-P", "", "ports are open as they are: omit it"),
        ("-d", "", elsewhere),
        ("--detach", "", elsewhere),
        ("--name", "web", elsewhere),
        ("--privileged", "", elsewhere),
        ("--restart", "always", elsewhere),
        ("--read-only", "", "omit it: what a command writes is gone"),
        ("--mount", "type=bind,src=a,dst=/b", "write -v SRC:DST[:ro]"),
        ("--gpus", "all", elsewhere),
        ("--init", "", "omit it, or start an init in the image"),
        ("--tmpfs", "/tmp", "omit it: what a command writes is gone"),
        ("--pid", "host", elsewhere),
    ];
    for (flag, value, advice) in table {
        let mut args = vec!["run", flag];
        args.extend(Some(value).filter(|value| !value.is_empty()));
        args.extend(["app", "sh"]);
        place.run(&args).fails(2, &[flag, "hint:", advice]);
    }
    place.run(&["run", "-v", "data:/data", "app"]).fails(2, &["named volumes are not supported", "./data"]);
}

/// What stands after the image is the command's, though it looks like a flag of `run`.
#[test]
fn privileged_flags_after_the_image_are_the_commands() {
    let Some(place) = &place() else { return };
    let run = |words: &[&str]| place.run(&[&["run"], words].concat());
    assert_eq!(
        run(&["--entrypoint", "echo", "busybox", "-e", "-t", "--rm", "-f"]).succeeds(),
        "-t --rm -f\n"
    );
    assert_eq!(run(&["busybox", "echo", "--", "-v"]).succeeds(), "-- -v\n");
    run(&["--nothing", "busybox"]).fails(2, &["--nothing"]);
}
