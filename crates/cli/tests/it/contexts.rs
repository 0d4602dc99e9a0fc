//! The forms of CONTEXT and of `--file` (12.1).

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ocibuild_testkit::{GitRepository, Reply, WebServer, skip};

use crate::program::Place;

/// An archive of files, in the plain format of POSIX.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The bytes as a program of this machine packs them; `None`, with the reason said, without the program.
fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let spawned = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        skip(&format!("there is no {program}"));
        return None;
    };
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn standard_input_is_an_archive_or_a_dockerfile() {
    let place = Place::new();
    let bytes = archive(&[
        ("Dockerfile", "FROM scratch\nCOPY f /\n"),
        ("f", "x"),
        ("other", "FROM scratch\nCOPY f /o\n"),
    ]);
    place.run_with_input(&["build", "-q", "-o", "out", "-"], &bytes).succeeds();
    assert_eq!(place.read("out/f"), "x");
    place.run_with_input(&["build", "-q", "-o", "out", "-f", "other", "-"], &bytes).succeeds();
    assert_eq!(place.read("out/o"), "x");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let Some(packed) = packed(program, &bytes) else { continue };
        let _ = fs_err::remove_dir_all(place.path("out"));
        place.run_with_input(&["build", "-q", "-o", "out", "-"], &packed).succeeds();
        assert_eq!(place.read("out/f"), "x", "{program}");
        place.run_with_input(&["build", "-"], &packed[..packed.len() - 9]).fails(3, &["archive"]);
    }
    let text = b"FROM scratch\nWROKDIR /x\n";
    place.run_with_input(&["build", "-"], text).fails(2, &["WROKDIR", "Dockerfile:2"]);
    place.run_with_input(&["build", "-"], &bytes[..520]).fails(3, &["archive"]);
    let plan = place.run_with_input(&["plan", "-"], b"FROM scratch\nWORKDIR /x\n");
    assert!(plan.succeeds().contains("WORKDIR"));
    assert_eq!(fs_err::read_dir(place.path("state/tmp")).unwrap().count(), 0);
}

#[test]
fn urls_and_repositories_are_contexts() {
    let (place, server) = (Place::with("FROM scratch\nCOPY --from=code a /b\n"), WebServer::start());
    server.put("/c.tar", Reply::of(archive(&[("dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "x")])));
    server.put("/df", Reply::of("FROM scratch\nCOPY Dockerfile /df\n"));
    place.run(&["build", "-q", "-o", "out", &server.url("/c.tar")]).succeeds();
    assert_eq!(place.read("out/f"), "x");
    place.run(&["build", "-q", "-o", "out", "-f", &server.url("/df"), "."]).succeeds();
    assert!(place.path("out/df").exists());
    place.run(&["build", &server.url("/nothing")]).fails(4, &["invalid response status 404"]);

    let Some(repository) = GitRepository::init(&place.path("repository")) else { return };
    repository.commit(&[("sub/Dockerfile", "FROM scratch\nCOPY a /\n"), ("sub/a", "from git")], 86_400);
    server.serve_directory("/r.git", &repository.git_directory());
    let url = server.url("/r.git#main:sub");
    let run = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SOURCE_DATE_EPOCH", "context");
        command.status().unwrap()
    };
    assert!(run(&["build", "-q", "-t", "app", "-o", "out", &url]).success());
    assert_eq!(place.read("out/a"), "from git");
    let named = format!("code={url}");
    assert!(run(&["build", "-q", "-o", "out", "--build-context", &named, "."]).success());
    assert_eq!(place.read("out/b"), "from git");
}

/// Files of a user who has configured git to run a command at every turn, and the variables that make it read them.
fn configured_git(place: &Place, mark: &Path) -> Vec<(&'static str, OsString)> {
    let command = format!("touch {}; cat", mark.display());
    let hooks = place.path("hooks");
    place.write("hooks/post-checkout", &format!("#!/bin/sh\ntouch {}\n", mark.display()));
    let hook = place.path("hooks/post-checkout");
    fs_err::set_permissions(hook, Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[filter \"run\"]\n\tsmudge = \"{command}\"\n[core]\n\thooksPath = {}\n\tfsmonitor = \"{command}\"\n",
        hooks.display(),
    );
    place.write("home/.gitconfig", &config);
    place.write("home/.config/git/attributes", "* filter=run\n");
    vec![
        ("HOME", place.path("home").into()),
        ("XDG_CONFIG_HOME", place.path("home/.config").into()),
        ("GIT_CONFIG_GLOBAL", place.path("home/.gitconfig").into()),
        ("GIT_CONFIG_SYSTEM", place.path("home/.gitconfig").into()),
        ("GIT_TEMPLATE_DIR", place.path("home").into()),
        ("GIT_CONFIG_COUNT", "1".into()),
        ("GIT_CONFIG_KEY_0", "filter.run.smudge".into()),
        ("GIT_CONFIG_VALUE_0", command.into()),
        ("PATH", std::env::var_os("PATH").unwrap_or_default()),
    ]
}

#[test]
fn how_the_user_has_configured_git_does_not_count() {
    let (place, server) = (Place::with("FROM scratch\n"), WebServer::start());
    let Some(repository) = GitRepository::init(&place.path("repository")) else { return };
    repository.commit(&[("a", "from git"), (".gitattributes", "* filter=run\n")], 86_400);
    server.serve_directory("/r.git", &repository.git_directory());
    let mark = place.path("mark");
    let variables = configured_git(&place, &mark);

    // git itself does as it is configured: otherwise there would be nothing to see below.
    let clone = place.path("clone");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--local"]).arg(place.path("repository")).arg(&clone).env_clear();
    let status = git.envs(variables.iter().map(|(name, value)| (name, value))).status().unwrap();
    assert!(status.success() && mark.exists(), "{status}");
    fs_err::remove_file(&mark).unwrap();

    place.write("Dockerfile", &format!("FROM scratch\nADD {} /\n", server.url("/r.git")));
    let mut command = place.command(&["build", "-q", "-o", "out", "."]);
    let status = command.envs(variables.iter().map(|(name, value)| (name, value))).status().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(place.read("out/a"), "from git");
    assert!(!mark.exists(), "a command of the user's configuration was run");
}

#[test]
fn a_signal_ends_the_wait_for_a_context() {
    let place = Place::new();
    let server = WebServer::start();
    server.put("/c.tar", Reply::of(vec![0; 4096]).stalled(10));
    let mut child = place.command(&["build", &server.url("/c.tar")]).spawn().unwrap();
    while server.requests().is_empty() {
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));

    let mut waiting = place.command(&["build", "-"]);
    let mut child = waiting.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: once it is written, the program reads.
    stdin.write_all(&vec![b'#'; 1 << 20]).unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}
