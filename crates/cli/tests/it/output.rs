//! The streams: outputs on standard output, readers that go away, and no readers at all.

use std::io::Read;
use std::process::Stdio;

use crate::program::Place;

#[test]
fn archives_go_to_standard_output() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    let output = place.command(&["build", "-o", "type=oci", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(&output.stdout[257..262], b"ustar");
    let to_file = place.build(&["-o", "type=docker,dest=a.tar,name=app"]);
    to_file.succeeds();
    assert!(place.path("a.tar").is_file());
    let both = place.build(&["-o", "out", "-o", "type=oci,tar=false,dest=layout"]);
    both.succeeds();
    assert!(place.path("out/Dockerfile").is_file() && place.path("layout/index.json").is_file());
}

#[test]
fn a_reader_that_goes_away_is_no_bug() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile big /\n");
    fs_err::write(place.path("big"), vec![7; 4 << 20]).unwrap();
    let mut child = place.command(&["build", "-q", "-o", "-", "."]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.as_ref()), (Some(141), ""));
}

#[test]
fn a_full_standard_output_is_an_error() {
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let place = Place::with("FROM scratch\n");
    let output =
        place.command(&["ast", "Dockerfile"]).stdout(Stdio::from(full.into_file())).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write standard output"));
}

#[test]
fn nobody_has_to_read_standard_error() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    for progress in ["auto", "tty", "plain", "ci", "json", "quiet"] {
        let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.command(&["build", "--no-cache", "--progress", progress, "."]);
        let status = command.stderr(Stdio::from(full.into_file())).status().unwrap();
        assert!(status.success(), "{progress}");
    }
}
