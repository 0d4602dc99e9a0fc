//! System calls, counted: what a build must not do.

use std::process::Command;

use fs_err as fs;

use crate::support::{Place, stderr};

fn has_strace() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// A base of many files as an OCI layout, and a context that adds one to it.
fn with_base() -> Place {
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY . /base\n")]);
    for number in 0..300 {
        fs::write(place.path().join(format!("context/file{number}")), vec![b'x'; 10_000]).unwrap();
    }
    let made =
        place.run(&["build", "--output", "type=oci,tar=false,dest=base", "-t", "base:latest", "context"]);
    assert!(made.status.success(), "{}", stderr(&made));
    fs::remove_dir_all(place.path().join("context")).unwrap();
    fs::remove_dir_all(place.path().join("state")).unwrap();
    fs::create_dir(place.path().join("context")).unwrap();
    fs::write(place.path().join("context/Dockerfile"), "FROM base\nCOPY new /base/sub/\n").unwrap();
    fs::write(place.path().join("context/new"), "new").unwrap();
    place
}

fn traced(place: &Place) -> Vec<String> {
    traced_build(place, &["--build-context", "base=oci-layout://base", "-t", "app", "context"])
}

/// The calls of a build that made, linked or opened something.
fn traced_build(place: &Place, arguments: &[&str]) -> Vec<String> {
    let calls = "trace=open,openat,openat2,creat,mkdir,mkdirat,link,linkat,symlink,symlinkat,mknod,mknodat";
    let output = place
        .command("strace")
        .args(["-f", "-o", "trace", "-s", "4096", "-e", calls, env!("CARGO_BIN_EXE_ocibuild")])
        .args(["--root", "state", "build"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let trace = fs::read_to_string(place.path().join("trace")).unwrap();
    trace.lines().filter(|line| !line.contains(" = -1 ")).map(str::to_owned).collect()
}

#[test]
fn a_build_without_run_makes_no_file_of_its_base() {
    if !has_strace() {
        return ocibuild_testkit::skip("strace is not installed");
    }
    let place = with_base();
    let trace = traced(&place);
    let made = |line: &&String| line.contains("O_CREAT") || line.contains("mkdir") || line.contains("link");
    let of_base: Vec<_> = trace.iter().filter(made).filter(|line| line.contains("file1")).collect();
    assert!(of_base.is_empty(), "{of_base:?}");
    assert!(trace.iter().filter(made).count() < 100, "{trace:?}");
}

#[test]
fn an_unchanged_build_opens_no_layer() {
    if !has_strace() {
        return ocibuild_testkit::skip("strace is not installed");
    }
    let place = with_base();
    traced(&place);
    let layers: Vec<String> = fs::read_dir(place.path().join("state/blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(layers.len(), 2);
    let trace = traced(&place);
    let opened: Vec<_> =
        trace.iter().filter(|line| layers.iter().any(|layer| line.contains(layer))).collect();
    assert!(opened.is_empty(), "{opened:?}");
}

/// The commonest Dockerfile there is: dependencies first, then everything.
#[test]
fn a_file_that_two_steps_copy_is_opened_for_its_key_and_for_its_layer() {
    if !has_strace() {
        return ocibuild_testkit::skip("strace is not installed");
    }
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY src src\nCOPY . .\n")]);
    fs::create_dir(place.path().join("context/src")).unwrap();
    for number in 0..100 {
        fs::write(place.path().join(format!("context/src/counted{number}")), format!("{number}")).unwrap();
    }
    fs::write(place.path().join("context/beside"), "beside").unwrap();
    let trace = traced_build(&place, &["-t", "app", "context"]);
    let opened = |name: &str| trace.iter().filter(|line| line.contains(&format!("\"{name}\""))).count();
    for number in 0..100 {
        assert_eq!(opened(&format!("counted{number}")), 2, "{number}: {trace:?}");
    }
    assert_eq!(opened("beside"), 2);
}
