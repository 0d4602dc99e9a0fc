//! Builds: those that need nothing, and those that run something.

use std::io::{BufRead as _, BufReader, Read as _};

use ocibuild_testkit::{HangGuard, HostBase, skip};

use crate::program::{Ended, Place, namespaces};

const SMALL: &str = "FROM scratch\nARG who=nobody\nLABEL who=$who\nCOPY Dockerfile /d/\n";

fn metadata(place: &Place) -> serde_json::Value {
    serde_json::from_str(&place.read("meta.json")).expect("the file is JSON")
}

#[test]
fn what_a_build_tells_programs() {
    let place = Place::with(SMALL);
    let args = ["-t", "app:1", "--iidfile", "id", "--metadata-file", "meta.json"];
    let ended = place.build(&args);
    assert_eq!(ended.succeeds(), "", "standard output is for results that were asked for");
    for line in ["#1 [1/1] COPY Dockerfile /d/\n", "#1 DONE "] {
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
    }
    let metadata = metadata(&place);
    assert_eq!(metadata["containerimage.digest"], place.read("id").as_str());
    assert_eq!(metadata["containerimage.descriptor"]["digest"], place.read("id").as_str());
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    assert!(metadata["containerimage.config.digest"].as_str().unwrap().starts_with("sha256:"));

    let again = place.build(&args);
    again.succeeds();
    assert!(again.stderr.contains("#1 CACHED"), "{}", again.stderr);
    let quiet = place.run(&["build", "-q", "-t", "app:1", "."]);
    assert_eq!(quiet.succeeds(), format!("{}\n", place.read("id")));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_failed_build_leaves_no_digest_of_an_earlier_one() {
    let place = Place::with("FROM scratch\nCOPY missing /\n");
    place.write("id", "sha256:old");
    place.build(&["--iidfile", "id"]).fails(2, &["missing"]);
    assert!(!place.path("id").exists());
}

#[test]
fn arguments_come_from_flags_and_the_environment() {
    let place = Place::with(SMALL);
    let label = |flags: &[&str]| {
        let mut args = vec!["build", "-t", "app"];
        args.extend(flags);
        args.push(".");
        let status =
            place.command(&args).env("who", "env").env("SOURCE_DATE_EPOCH", "86400").status().unwrap();
        assert!(status.success());
        let ended = place.run(&["inspect", "app"]);
        let image: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
        assert_eq!(image[0]["Created"], "1970-01-02T00:00:00Z");
        image[0]["Config"]["Labels"]["who"].as_str().unwrap().to_owned()
    };
    assert_eq!(label(&[]), "nobody");
    assert_eq!(label(&["--build-arg", "who"]), "env");
    assert_eq!(label(&["--build-arg", "who=a", "--build-arg", "who=b"]), "b");
    assert_eq!(label(&["--build-arg", "unset"]), "nobody");
}

#[test]
fn what_nobody_asked_for_is_a_warning() {
    let ended = Place::with(SMALL).build(&["--build-arg", "unknown=1", "--build-arg", "SOURCE_DATE_EPOCH=0"]);
    ended.succeeds();
    assert!(
        ended.stderr.contains("warning: no ARG takes these build arguments: unknown\n"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("stays in the cache"), "{}", ended.stderr);
}

#[test]
fn the_dockerfile_may_come_from_standard_input() {
    let place = Place::new();
    place.write("context/file", "x");
    let args = ["build", "-q", "-f", "-", "-o", "out", "context"];
    place.run_with_input(&args, b"FROM scratch\nCOPY file /\n").succeeds();
    assert_eq!(place.read("out/file"), "x");
    place.run_with_input(&args, b"FROM scratch\nCOPPY file /\n").fails(2, &["--> Dockerfile:2:1"]);
}

#[test]
fn a_plan_is_text_or_json() {
    let place = Place::with(SMALL);
    assert!(place.run(&["plan", "."]).succeeds().contains("Dockerfile:4 COPY Dockerfile /d/"));
    let ended = place.run(&["plan", "--format", "json", "--build-arg", "who=me", "."]);
    let plan: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(plan["v"], 1);
    assert_eq!(plan["stages"][0]["config"]["config"]["Labels"]["who"], "me");
}

/// A place with a base image that can run something, as `base.oci`.
fn with_base(dockerfile: &str) -> Option<Place> {
    if !namespaces() {
        skip("this process may make no namespaces");
        return None;
    }
    let place = Place::with(dockerfile);
    match HostBase::find().and_then(|base| base.write_layout(place.path("base.oci"))) {
        Ok(_) => Some(place),
        Err(error) => {
            skip(&format!("this host gives no base image: {error}"));
            None
        }
    }
}

fn build(place: &Place, args: &[&str]) -> Ended {
    let mut all = vec!["build", "--build-context", "base=oci-layout://base.oci"];
    all.extend(args);
    all.push(".");
    place.run(&all)
}

#[test]
fn privileged_a_failing_step_shows_its_output_once() {
    let Some(place) = with_base("FROM base\nRUN echo some''thing; exit 7\n") else { return };
    let plain = build(&place, &["--progress", "plain"]);
    plain.fails(1, &["error: process \"", "exit code: 7", "--> Dockerfile:2:1", "2 | RUN echo", "ERROR"]);
    // Where it was printed, and as the reason; not as a block once more.
    assert_eq!(plain.stderr.matches("something").count(), 2, "{}", plain.stderr);
    assert!(!plain.stderr.contains("output:"), "{}", plain.stderr);
    let quiet = build(&place, &["-q"]);
    quiet.fails(1, &["exit code: 7", "output:\n  something\n"]);
    let json = build(&place, &["--progress", "json"]);
    json.fails(1, &[]);
    let objects: Vec<serde_json::Value> =
        json.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().all(|object| object["v"] == 1));
    let last = objects.last().unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"], &last["step_exit_code"]),
        (&"error".into(), &1.into(), &7.into())
    );
    assert_eq!(last["reports"][0]["place"], "Dockerfile:2:1");
}

#[test]
fn privileged_images_can_be_run() {
    let Some(place) =
        with_base("FROM base\nENV WORD=image\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo $WORD\"]\n")
    else {
        return;
    };
    build(&place, &["-q", "-t", "app"]).succeeds();
    assert_eq!(place.run(&["run", "--rm", "app"]).succeeds(), "image\n");
    assert_eq!(place.run(&["run", "-e", "WORD=flag", "app"]).succeeds(), "flag\n");
    place.write("data/file", "from the host");
    let script = "read line < /data/file; echo $line; echo aside >&2; exit 3";
    let ended = place.run(&["run", "-v", "./data:/data:ro", "app", script]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(3), "from the host\n", "aside\n")
    );
    place.run(&["run", "--pull", "never", "missing"]).fails(2, &["missing"]);
}

#[test]
fn privileged_signals_end_a_build_soon() {
    use rustix::process::{Pid, Signal, kill_process};

    let Some(place) = with_base("FROM base\nRUN echo ready; while :; do :; done\n") else { return };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut command = place.command_that_heeds_signals(&["build", "--progress", "plain"]);
        let mut child = command.args(["--build-context", "base=oci-layout://base.oci", "."]).spawn().unwrap();
        // Nothing else ends the loop.
        let _guard = HangGuard::new(format!("a build that got {signal:?}"));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.ends_with(" ready\n") {
            assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "{text}");
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
        assert!(text.ends_with("error: cancelled\n"), "{text}");
    }
    let left: Vec<_> = fs_err::read_dir(place.path("state/tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_step_that_must_be_cached_and_is_not_ends_the_build() {
    let place = Place::with("FROM scratch AS first\nCOPY Dockerfile /a\nFROM first\nCOPY Dockerfile /b\n");
    let missed =
        ["the cache has no result of [first 1/1] COPY Dockerfile /a", "Dockerfile:2", "--require-cache"];
    place.build(&["--require-cache"]).fails(1, &missed);
    place.build(&["--require-cache=first"]).fails(1, &missed);
    place.build(&["--require-cache=fist"]).fails(2, &["did you mean first?"]);
    place.build(&["--require-cache", "--no-cache"]).fails(2, &["--no-cache"]);
    place.build(&["-q"]).succeeds();
    place.build(&["-q", "--require-cache"]).succeeds();
    place.build(&["-q", "--require-cache=first"]).succeeds();
}
