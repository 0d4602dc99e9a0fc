use fs_err as fs;

use crate::support::{Place, stderr};

/// A Dockerfile that cannot be built: what it is, the exit code, and what the message must say.
const FILES: &[(&str, &str, i32, &[&str])] = &[
    ("an empty file", "", 2, &["cannot be empty"]),
    ("only comments", "# nothing\n", 2, &["no instructions"]),
    ("no FROM", "RUN true\n", 2, &["no build stage", "Dockerfile:1"]),
    ("an unknown instruction", "FROM scratch\nCOPPY f /\n", 2, &["COPPY", "COPY", "Dockerfile:2"]),
    ("a missing source", "FROM scratch\nCOPY nothing /\n", 2, &["/nothing", "Dockerfile:2", "context"]),
    ("a source above the context", "FROM scratch\nCOPY ../../f2 /\n", 2, &["/f2", "Dockerfile:2", "ends"]),
    ("a later stage", "FROM scratch AS a\nCOPY --from=b f /\nFROM a AS b\n", 2, &["Dockerfile:2", "b"]),
    ("a stage that needs itself", "FROM scratch AS a\nCOPY --from=a f /\n", 2, &["circular", "Dockerfile:2"]),
    ("a malformed image", "FROM Upper/Case:x:y\n", 2, &["invalid reference", "Dockerfile:1"]),
    ("a chmod that is none", "FROM scratch\nCOPY --chmod=999 f /\n", 2, &["chmod", "Dockerfile:2"]),
];

#[test]
fn dockerfiles_that_cannot_be_built_say_where_and_why() {
    for (what, dockerfile, code, words) in FILES {
        let place = Place::with(&[("Dockerfile", dockerfile), ("f", "f")]);
        let output = place.run(&["build", "--output", "type=oci,dest=out.tar", "context"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{what}: {said}");
        for word in *words {
            assert!(said.contains(word), "{what}: no {word:?} in {said}");
        }
        assert!(!place.path().join("out.tar").exists(), "{what}: something was written");
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let place = Place::with(&[("Dockerfile", "FROM scratch\nENV\nCOPPY a b\nWORKDIR\n")]);
    let said = stderr(&place.run(&["build", "context"]));
    for line in ["Dockerfile:2", "Dockerfile:3", "Dockerfile:4"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn files_that_are_no_files_are_named() {
    let place = Place::with(&[("folder/x", "x")]);
    for (arguments, code, word) in [
        (&["build", "context"][..], 2, "Dockerfile"),
        (&["build", "-f", "context/folder", "context"], 2, "directory"),
        (&["build", "-f", "context/nothing", "context"], 2, "nothing"),
        (&["build", "nowhere"], 2, "nowhere"),
        (&["build", "--no-such-flag", "context"], 2, "no-such-flag"),
        (&["inspect", "nothing:1"], 2, "nothing:1"),
    ] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn an_unknown_target_is_named_with_the_nearest() {
    let place = Place::with(&[("Dockerfile", "FROM scratch AS release\n")]);
    let output = place.run(&["build", "--target", "relase", "context"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("relase") && stderr(&output).contains("release"), "{}", stderr(&output));
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing_and_spoils_nothing() {
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "f")]);
    assert!(place.run(&["build", "-t", "first", "context"]).status.success());
    let output = place.run(&["build", "--output", "type=oci,dest=nowhere/out.tar", "context"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("nowhere/out.tar"), "{}", stderr(&output));
    assert!(place.run(&["inspect", "first"]).status.success());
    let left: Vec<_> = fs::read_dir(place.path().join("state/tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_damaged_base_is_refused_by_its_digest() {
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "text")]);
    let made =
        place.run(&["build", "--output", "type=oci,tar=false,dest=base", "-t", "base:latest", "context"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let blobs = place.path().join("base/blobs/sha256");
    let layer = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]))
        .expect("one blob is the compressed layer");
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&layer, bytes).unwrap();
    fs::write(place.path().join("context/Dockerfile"), "FROM base\nCOPY f /g\n").unwrap();
    // The state directory has the blob as it was made; without it the base is read.
    fs::remove_dir_all(place.path().join("state")).unwrap();
    let arguments =
        ["build", "--build-context", "base=oci-layout://base", "--output", "type=oci,dest=o.tar", "context"];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let digest = layer.file_name().unwrap().to_str().unwrap();
    assert!(stderr(&output).contains(digest), "{}", stderr(&output));
}

#[test]
fn privileged_a_failing_step_shows_its_output_and_code() {
    let busybox = std::path::Path::new("/bin/busybox");
    if !busybox.exists() || !rustix::process::geteuid().is_root() {
        return ocibuild_testkit::skip("it takes root and a static busybox in /bin/busybox");
    }
    let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo told; exit 37\n";
    let place = Place::with(&[("Dockerfile", dockerfile)]);
    fs::copy(busybox, place.path().join("context/busybox")).unwrap();
    let output = place.run(&["build", "--progress", "plain", "context"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["told", "exit code: 37", "Dockerfile:3", "^"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}
