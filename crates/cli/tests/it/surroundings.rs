//! What the program was started with: signals, limits, a host that fails. Whatever it is, the program says what is wrong,
//! and does not blame something else.

use std::process::Command;
use std::sync::Arc;

use fs_err as fs;
use ocibuild_testkit::{GitRepository, Shared, WebServer, has_tool, skip};

use crate::program::{Ended, Place, ended, namespaces};

const DOCKERFILE: &str = "FROM base\nCOPY data /data\nRUN [\"/bin/busybox\", \"grep\", \"-E\", \"^Sig(Blk|Ign)\", \"/proc/self/status\"]\n";

/// A state directory with the image `base`, made once.
fn place() -> Option<Arc<Place>> {
    static PLACE: Shared<Place> = Shared::new();
    PLACE.get_or_make(|| {
        let has_busybox = fs::metadata("/bin/busybox").is_ok();
        if !has_busybox || !namespaces() || !rustix::process::geteuid().is_root() {
            skip("running steps takes root and a static busybox in /bin/busybox");
            return None;
        }
        let place = Place::with(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
                 ENV PATH=/bin\nCMD [\"sh\"]\n",
        );
        fs::copy("/bin/busybox", place.path("busybox")).unwrap();
        place.build(&["-t", "base"]).succeeds();
        fs::remove_file(place.path("busybox")).unwrap();
        place.write("Dockerfile", DOCKERFILE);
        place.write("data", &"some text\n".repeat(40_000));
        Some(place)
    })
}

/// The program, started by another one that changes what it is started with.
fn by(place: &Place, starter: &[&str], args: &[&str]) -> Ended {
    let plain = place.command(args);
    let mut command = Command::new(starter[0]);
    command.args(&starter[1..]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(place.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ended(command.output().unwrap())
}

const BUILD: [&str; 5] = ["build", "--no-cache", "--progress", "plain", "."];

fn runtimes() -> Vec<&'static [&'static str]> {
    let mut all: Vec<&[&str]> = vec![&[]];
    for (name, flags) in [("runc", &["--runtime", "runc"][..]), ("crun", &["--runtime", "crun"])] {
        if has_tool(name) {
            all.push(flags);
        }
    }
    all
}

#[test]
fn privileged_signals_that_are_ignored_or_blocked_change_nothing() {
    let Some(place) = &place() else { return };
    for runtime in runtimes() {
        for signals in [
            "--ignore-signal=INT,TERM,HUP",
            "--ignore-signal=CHLD",
            "--ignore-signal=PIPE,QUIT,XFSZ,USR1",
            "--ignore-signal",
            "--block-signal",
        ] {
            let build = by(place, &["env", signals], &[&BUILD[..1], runtime, &BUILD[1..]].concat());
            build.succeeds();
            for set in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
                assert!(build.stderr.contains(set), "{signals} {runtime:?}: {}", build.stderr);
            }
            let run = by(
                place,
                &["env", signals],
                &[&["run"][..], runtime, &["base", "sh", "-c", "exit 7"]].concat(),
            );
            assert_eq!(run.code, Some(7), "{signals} {runtime:?}: {}", run.stderr);
        }
    }
}

/// Other programs leave a status, too.
#[test]
fn git_is_waited_for_where_its_end_is_ignored() {
    let place = Place::new();
    let Some(repository) = GitRepository::init(&place.path("repository")) else { return };
    repository.commit(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /d\n")], 86_400);
    let server = WebServer::start();
    server.serve_directory("/r.git", &repository.git_directory());
    let mut path = std::ffi::OsString::from("PATH=");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let starter = ["env", "--ignore-signal=CHLD", path.to_str().unwrap()];
    by(&place, &starter, &["build", "--progress", "plain", &server.url("/r.git#main")]).succeeds();
}

/// The reason is said, and no other reason and no advice about one.
#[test]
fn privileged_a_limit_on_open_files_is_named() {
    let Some(place) = &place() else { return };
    let mut failed = 0;
    for limit in (4..=60).step_by(4) {
        let limit = format!("--nofile={limit}:{limit}");
        let build = by(place, &["prlimit", &limit], &BUILD);
        if build.code == Some(0) {
            continue;
        }
        failed += 1;
        build.fails(5, &["Too many open files"]);
        // What steps run in is no reason.
        let said: Vec<&str> = build
            .stderr
            .lines()
            .filter(|line| *line != "sandbox: namespaces made by root, overlay")
            .collect();
        for wrong in ["namespace", "root or allow", "as root", "chmod", "space left", "damaged", "bug"] {
            assert!(!said.iter().any(|line| line.contains(wrong)), "{limit}: {wrong}: {}", build.stderr);
        }
        for hint in build.stderr.lines().filter(|line| line.starts_with("hint:")) {
            assert!(hint.contains("ulimit -n"), "{limit}: {hint}");
        }
    }
    assert!(failed > 4, "{failed}");
}

#[test]
fn privileged_a_limit_on_the_size_of_files_is_an_error_with_a_path() {
    let Some(place) = &place() else { return };
    for limit in ["--fsize=100:100", "--fsize=1000:1000"] {
        let build = by(place, &["prlimit", limit], &BUILD);
        build.fails(5, &["File too large", "ulimit -f"]);
    }
    let archive = by(place, &["prlimit", "--fsize=300000:300000"], &["save", "-o", "image.tar", "base"]);
    archive.fails(5, &["File too large", "image.tar"]);
    // The command has what every command has: it is ended by the signal.
    let step = ["run", "base", "sh", "-c", "head -c 3000000 /dev/zero > /large; exit $?"];
    let run = by(place, &["prlimit", "--fsize=2500000:2500000"], &step);
    assert_eq!(run.code, Some(128 + 25), "{}", run.stderr);
}

/// With one process the program has no thread but its first; with none to spare it does the work there.
#[test]
fn privileged_threads_that_do_not_start_are_no_bug() {
    const USER: &str = "41322";
    if !has_tool("setpriv") {
        return;
    }
    let place = Place::with("FROM scratch\nCOPY data /data\nCOPY data /again\n");
    place.write("data", &"some text\n".repeat(400_000));
    for path in ["", "data", "Dockerfile"] {
        let user = USER.parse().ok();
        std::os::unix::fs::chown(place.path(path), user, user).unwrap();
    }
    let run = |limit: &str, args: &[&str]| {
        let user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"];
        by(&place, &[&user[..], &["prlimit", limit, "env", "SOURCE_DATE_EPOCH=1"]].concat(), args)
    };
    let build =
        |limit| run(limit, &[&BUILD[..], &["-o", "type=oci,dest=out.tar", "--iidfile", "id"]].concat());
    build("--nproc=1:1").fails(5, &["cannot start a thread", "ulimit -u"]);
    // One that listens to the build, one that carries it out, and one that compresses.
    build("--nproc=3:3").succeeds();
    let few = place.read("id");
    build("--nproc=200:200").succeeds();
    assert_eq!(place.read("id"), few, "the bytes do not depend on threads");
    // Names are looked up, too; nobody listens at this port.
    run("--nproc=2:2", &["pull", "--retry", "0", "localhost:1/app"]).fails(4, &["localhost:1"]);
}

/// A disk that fails is no damage of what is read from it, and no mistake of who builds.
#[test]
fn privileged_a_disk_that_fails_is_this_hosts_fault() {
    let Some(place) = &place() else { return };
    if !has_tool("strace") {
        return;
    }
    let mut failed = 0;
    for (call, times) in
        [("read", &[9, 60][..]), ("openat2", &[1, 8]), ("statx", &[5]), ("getdents64", &[1]), ("write", &[4])]
    {
        for time in times {
            let inject = format!("inject={call}:error=EIO:when={time}");
            let starter = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let build = by(place, &starter, &BUILD);
            if build.code == Some(0) {
                continue;
            }
            failed += 1;
            assert_eq!(build.code, Some(5), "{inject}: {}", build.stderr);
            for wrong in ["damaged", "chmod", "as root", "bug", "space left"] {
                assert!(!build.stderr.contains(wrong), "{inject}: {wrong}: {}", build.stderr);
            }
        }
    }
    assert!(failed > 2, "{failed}");
}

#[test]
fn privileged_control_sequences_of_steps_reach_no_pipe() {
    let Some(place) = &place() else { return };
    let script =
        "printf '\\033]0;owned\\007\\033[31mred\\033[0m\\033[2J\\b\\302\\233 \\ttab\\r\\nlast\\033['; exit 3";
    place.write("Colours", &format!("FROM base\nRUN {script}\n"));
    for progress in ["plain", "ci", "auto", "quiet", "json"] {
        let args = ["build", "--no-cache", "--progress", progress, "-f", "Colours", "."];
        let build = place.run(&args);
        build.fails(1, &["exit code: 3"]);
        let is_control = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
        let found: Vec<char> = build.stderr.chars().filter(is_control).collect();
        assert_eq!(found, Vec::<char>::new(), "{progress}: {:?}", build.stderr);
        if progress != "json" {
            assert!(build.stderr.contains("red"), "{progress}: {}", build.stderr);
        }
    }
}

#[test]
fn privileged_capabilities_are_dropped_for_all_steps() {
    let Some(place) = &place() else { return };
    place.write("Caps", "FROM base AS one\nRUN grep ^CapBnd /proc/self/status\nFROM base\nCOPY --from=one /bin/sh /x\nRUN grep ^CapEff /proc/self/status\n");
    let build = |flags: &[&str]| {
        let build = place.run(&[&["build", "--progress", "plain", "-f", "Caps"], flags, &["."]].concat());
        build.succeeds();
        build.stderr
    };
    let all = build(&[]);
    for set in ["CapBnd:\t00000000a80425fb", "CapEff:\t00000000a80425fb"] {
        assert!(all.contains(set), "{all}");
    }
    for (flags, rest) in [
        (&["--cap-drop", "NET_RAW"][..], "00000000a80405fb"),
        (&["--cap-drop=cap_net_raw,MKNOD", "--cap-drop", "chown"], "00000000a00405fa"),
        (&["--cap-drop", "ALL"], "0000000000000000"),
    ] {
        for runtime in runtimes() {
            // What other capabilities gave is not taken, and what these give only here.
            let text = build(&[flags, runtime, &["--no-cache"]].concat());
            for set in ["CapBnd", "CapEff"] {
                assert!(text.contains(&format!("{set}:\t{rest}")), "{flags:?} {runtime:?}: {text}");
            }
            let script = ["base", "grep", "^CapBnd", "/proc/self/status"];
            let run = place.run(&[&["run"], flags, runtime, &script].concat());
            assert_eq!(run.succeeds(), format!("CapBnd:\t{rest}\n"), "{flags:?} {runtime:?}");
        }
    }
    // Order and spelling are no reason to run again; another set is.
    assert!(build(&["--cap-drop", "CHOWN,MKNOD,NET_RAW"]).contains("CACHED"));
    assert!(!build(&["--cap-drop", "CHOWN,MKNOD"]).contains("RUN grep ^CapBnd /proc/self/status\n#2 CACHED"));
    let typo = place.run(&["build", "--cap-drop", "NET_ROW", "."]);
    typo.fails(2, &["--cap-drop NET_ROW: unknown capability", "did you mean --cap-drop NET_RAW?"]);
}
