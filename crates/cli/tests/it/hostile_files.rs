//! Files that are none, too large, unreadable or not where they seem to be, as Dockerfile and as ignore file. Nothing
//! here waits: a program that opened a pipe would.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode};

use crate::program::{Place, ended};

fn pipe(place: &Place, name: &str) {
    let path = place.path(name);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("a pipe can be made");
}

#[test]
fn pipes_sockets_devices_and_directories_are_no_dockerfiles() {
    let place = Place::new();
    pipe(&place, "pipe");
    let _socket = UnixListener::bind(place.path("socket")).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    let table = [
        ("pipe", "a named pipe"),
        ("socket", "a socket"),
        ("/dev/zero", "a device"),
        ("folder", "a directory"),
    ];
    for (name, what) in table {
        place.build(&["-f", name]).fails(2, &[name, what, "hint: -f names a file", "  --> "]);
    }
}

#[test]
fn pipes_and_directories_are_no_ignore_files() {
    let place = Place::with("FROM scratch\n");
    pipe(&place, ".dockerignore");
    place.build(&[]).fails(2, &[".dockerignore is a named pipe"]);
    fs::remove_file(place.path(".dockerignore")).unwrap();
    fs::create_dir(place.path(".dockerignore")).unwrap();
    place.build(&[]).fails(2, &[".dockerignore is a directory"]);
}

#[test]
fn links_do_not_lead_out_of_the_context() {
    let place = Place::new();
    place.write("outside", "FROM scratch\nSECRETWORD\n");
    place.write("context/x", "");
    symlink("../outside", place.path("context/Dockerfile")).unwrap();
    let ended = place.run(&["build", "context"]);
    ended.fails(3, &["context/Dockerfile is a link that leads out of the build context", "hint:"]);
    assert!(!ended.stderr.contains("SECRETWORD"), "{}", ended.stderr);
    fs::remove_file(place.path("context/Dockerfile")).unwrap();
    place.write("context/Dockerfile", "FROM scratch\n");
    symlink("../outside", place.path("context/.dockerignore")).unwrap();
    place.run(&["build", "context"]).fails(3, &["context/.dockerignore is a link that leads out"]);
    // Within the context a link is as good as the file.
    fs::remove_file(place.path("context/.dockerignore")).unwrap();
    place.write("context/docker/file", "FROM scratch\nWROKDIR /\n");
    fs::remove_file(place.path("context/Dockerfile")).unwrap();
    symlink("docker/file", place.path("context/Dockerfile")).unwrap();
    place.run(&["build", "context"]).fails(2, &["WROKDIR", "context/Dockerfile:2:1"]);
}

#[test]
fn large_files_are_not_read_to_their_end() {
    let place = Place::new();
    let file = fs::File::create(place.path("Dockerfile")).unwrap();
    file.set_len(1 << 30).unwrap();
    place.build(&[]).fails(2, &["Dockerfile is larger than 16 MiB", "hint:"]);
    place.write("Dockerfile", "FROM scratch\n");
    let file = fs::File::create(place.path(".dockerignore")).unwrap();
    file.set_len(1 << 30).unwrap();
    place.build(&[]).fails(2, &[".dockerignore is larger than 16 MiB"]);
}

#[test]
fn files_without_a_size_are_read_up_to_a_limit() {
    // What the kernel makes up says that it is empty.
    let place = Place::new();
    place.build(&["-f", "/proc/self/status"]).fails(2, &["unknown instruction", "/proc/self/status:1"]);
}

#[test]
fn unreadable_files_are_named() {
    let place = Place::with("FROM scratch\n");
    fs::set_permissions(place.path("Dockerfile"), std::fs::Permissions::from_mode(0o0)).unwrap();
    let mut command = place.command(&["build", "."]);
    if rustix::process::geteuid().is_root() {
        // Root reads every file: somebody else is to try.
        const NOBODY: u32 = 65534;
        let program = place.path("program");
        fs::copy(env!("CARGO_BIN_EXE_ocibuild"), &program).unwrap();
        for path in [place.path("."), place.path("state")] {
            fs::create_dir_all(&path).unwrap();
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let arguments = command.get_args().map(std::ffi::OsStr::to_owned).collect::<Vec<_>>();
        command = std::process::Command::new(program);
        command.args(arguments).current_dir(place.path(".")).uid(NOBODY).gid(NOBODY);
    }
    ended(command.output().unwrap())
        .fails(5, &["cannot read ", "/Dockerfile", "hint: let this user read it"]);
}

#[test]
fn bombs_end_with_a_message() {
    let nested = format!("FROM scratch\nENV a={}x{}\n", "${a:-".repeat(10_000), "}".repeat(10_000));
    let list = format!("FROM scratch\nCMD {}\n", "[".repeat(60_000));
    let mut growing = "FROM scratch\nENV a=xxxxxxxx\n".to_owned();
    for _ in 0..60 {
        growing.push_str("ENV a=$a$a\n");
    }
    let long = format!("FROM scratch\nRUN {}\n", "x".repeat(70_000));
    let table: [(&str, &str, &[&str]); 5] = [
        ("nesting", &nested, &["Dockerfile:2"]),
        ("growth", &growing, &["Dockerfile:"]),
        ("a long line", &long, &["greater than max allowed size", "line 2 is longer"]),
        ("a NUL", "FROM scratch\nRUN a\0b\n", &["NUL byte", "Dockerfile:2"]),
        ("no UTF-8", "FROM scratch\nRUN \u{7}\u{1b}[2J\nBAD\u{1b}[2J x\n", &["BAD\\x1b[2J"]),
    ];
    for (what, text, words) in table {
        let ended = Place::with(text).build(&[]);
        assert!(!ended.stderr.contains('\u{1b}'), "{what}: {:?}", ended.stderr);
        ended.fails(2, words);
        assert!(ended.stderr.contains("hint:"), "{what}: {}", ended.stderr);
        assert!(ended.stderr.len() < 20_000, "{what}: {} bytes are printed", ended.stderr.len());
    }
    // A list in a list is not a JSON form and means a command.
    Place::with(&list).build(&[]).succeeds();
}

#[test]
fn bombs_of_patterns_are_read() {
    let place = Place::with("FROM scratch\nCOPY . /\n");
    let patterns: Vec<String> = (0..20_000).map(|number| format!("**/x{number}/**/*.y")).collect();
    place.write(".dockerignore", &patterns.join("\n"));
    place.build(&[]).succeeds();
    place.write(".dockerignore", &format!("{}\n", "*a".repeat(30_000)));
    place.build(&[]).succeeds();
    place.write(".dockerignore", &format!("a\n{}\n", "x".repeat(70_000)));
    place.build(&[]).fails(2, &[".dockerignore:2", "hint: break line 2"]);
}
