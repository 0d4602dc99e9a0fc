//! The forms of CONTEXT and of `--file` (12.1).

use std::io::Write as _;
use std::process::Stdio;

use ocibuild_testkit::{GitRepository, Reply, WebServer};

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
