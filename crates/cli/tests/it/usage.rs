//! What is wrong with a command line or a Dockerfile, and how it is told.

use crate::program::{Place, ended};

#[test]
fn the_dockerfile_has_to_be_a_file_with_something_in_it() {
    let place = Place::new();
    place.build(&[]).fails(2, &["error: there is no Dockerfile at", "hint:"]);
    place.write("dir/x", "");
    place.build(&["-f", "dir"]).fails(2, &["is a directory"]);
    place.write("Dockerfile", "");
    place.build(&[]).fails(2, &["error: the Dockerfile cannot be empty"]);
    place.write("Dockerfile", "# nothing\n");
    place.build(&[]).fails(2, &["error: file with no instructions"]);
    place.write("Dockerfile", "ARG a\n");
    place.build(&[]).fails(2, &["error: dockerfile contains no stages to build"]);
    place.write("Dockerfile", "RUN x\n");
    place.build(&[]).fails(2, &["no build stage in current context", "--> Dockerfile:1:1"]);
    place.write("Dockerfile", "FROM scratch\0\n");
    place.build(&[]).fails(2, &["error:"]);
}

#[test]
fn a_lower_case_name_is_found_and_files_are_relative_to_where_one_is() {
    let place = Place::new();
    place.write("context/dockerfile", "FROM scratch\nWROKDIR /\n");
    place.run(&["build", "context"]).fails(2, &["--> context/dockerfile:2:1"]);
    place.write("other/file", "FROM scratch\nEXPOES 1\n");
    place.run(&["build", "-f", "other/file", "context"]).fails(2, &["--> other/file:2:1", "EXPOSE"]);
}

#[test]
fn everything_that_is_wrong_with_a_file_is_told_at_once() {
    let place = Place::with("FROM scratch\nWROKDIR /x\nCOPY a\nLABEL\n");
    let ended = place.build(&[]);
    ended.fails(
        2,
        &["did you mean WORKDIR?", "Dockerfile:2:1", "2 | WROKDIR /x", "Dockerfile:3:1", "Dockerfile:4:1"],
    );
    assert_eq!(ended.stderr.matches("error:").count(), 3, "{}", ended.stderr);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let ended = Place::with("FROM scratch\nRUNN \u{1b}]0;x\u{7}\u{202e}\n").build(&[]);
    ended.fails(2, &["\\x1b]0;x\\x07\\u{202e}"]);
    assert!(!ended.stderr.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn plans_that_make_no_sense() {
    let place = Place::with("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY --from=a x /\n");
    place.build(&["--target", "c"]).fails(2, &["error:", "target stage \"c\""]);
    place.build(&[]).fails(2, &["error:", "circular", "Dockerfile:"]);
    place.write("Dockerfile", "FROM Upper\n");
    place.build(&[]).fails(2, &["error:", "must be lowercase", "Dockerfile:1"]);
    place.write("Dockerfile", "FROM scratch\nCOPY missing /\n");
    place.build(&[]).fails(2, &["error:", "missing", "--> Dockerfile:2"]);
    place.write("Dockerfile", "FROM base\n");
    place.build(&["--build-context", "base=oci-layout://nowhere"]).fails(2, &["nowhere", "Dockerfile:1"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let place = Place::with("FROM scratch\n");
    let table: [(&[&str], &str); 36] = [
        (&["--push"], "--push"),
        (&["--load=crio"], "--load=crio"),
        (&["--load", "-o", "type=cacheonly"], "--load"),
        (&["--ssh", "default=/nowhere"], "--ssh"),
        (&["--memory", "1m"], "--memory"),
        (&["--memory-swap=-1"], "--memory-swap"),
        (&["--cpus", "1", "--cpu-quota", "1000"], "--cpu-quota"),
        (&["--cpus", "some"], "--cpus some"),
        (&["--cache-from", "a"], "--cache-from"),
        (&["--cache-to", "type=inline"], "--cache-to"),
        (&["--annotation", "a"], "--annotation"),
        (&["--annotation", "what:a=b"], "unknown annotation type"),
        (&["--attest", "type=sbom"], "--attest"),
        (&["--sbom=true"], "--provenance=false"),
        (&["--provenance", "--no-cache"], "--provenance"),
        (&["--explain"], "--explain"),
        (&["--on-error", "shell"], "--on-error=shell"),
        (&["--sandbox", "chroot", "--snapshotter", "overlay"], "--snapshotter overlay"),
        (&["--sandbox", "chroot", "--runtime", "runc"], "--runtime"),
        (&["--platform", "linux/amd64,nowhere"], "--platform nowhere"),
        (&["--output", "type=oci,dest=a,compression=estargz"], "compression=estargz"),
        (&["--output", "type=oci,dest=a,compression=lzma"], "unsupported compression type lzma"),
        (&["--output", "type=oci,dest=a,mode=delete"], "mode is not an attribute of type=oci"),
        (&["--output", "type=local,dest=a,name=b"], "name is not an attribute of type=local"),
        (&["--output", "type=oci,dest=a,unpack=true"], "unpack=true"),
        (&["--progress", "rawjson"], "rawjson"),
        (&["--progress", "x"], "--progress x"),
        (&["--output", "type=image,name=a"], "push=true"),
        (&["--output", "type=registry"], "tag is needed when pushing to registry"),
        (&["--output", "type=docker"], "dest is missing"),
        (&["--add-host", "a:nowhere"], "--add-host"),
        (&["--build-context", "a=https://x/y.git#-x"], "invalid git ref"),
        (&["--build-context", "a=target:y"], "--build-context"),
        (&["-f", "http://a b:x/"], "--file"),
        (&["-t", "Upper"], "Upper"),
        (&["--runtime", "./crun"], "--runtime"),
    ];
    for (args, word) in table {
        place.build(args).fails(2, &["error:", word]);
    }
    for context in ["Dockerfile", "nowhere", "file:///etc", "ext::sh"] {
        place.run(&["build", context]).fails(2, &["error: CONTEXT"]);
    }
    for context in ["https://h/r.git#--upload-pack=x", "ssh://-oProxyCommand=x/r", "https://h/r.git?x=1"] {
        place.run(&["build", context]).fails(2, &["error:", "git"]);
    }
    place.run(&["build", "-f", "-", "-"]).fails(2, &["standard input"]);
    place.run(&["build"]).fails(2, &["CONTEXT"]);
    place.run(&["frobnicate"]).fails(2, &["frobnicate"]);
    assert!(!place.path("state").exists(), "nothing was touched");
}

#[test]
fn destinations_are_looked_at_first() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    place
        .build(&["-o", "type=oci,dest=no/such/dir.tar"])
        .fails(5, &["cannot write no/such/dir.tar", "hint:"]);
    place.write("dir/x", "");
    place.build(&["-o", "type=oci,dest=dir"]).fails(2, &["dir is a directory"]);
    place.build(&["--iidfile", "dir"]).fails(5, &["cannot replace dir"]);
    place.build(&["--runtime", "no-such-runtime"]).fails(5, &["no-such-runtime"]);
}

#[test]
fn a_directory_of_something_else_is_no_state_directory() {
    let place = Place::with("FROM scratch\n");
    place.write("state/file", "mine");
    place.build(&[]).fails(3, &["neither empty nor a state directory", "hint:"]);
    assert_eq!(place.read("state/file"), "mine");
}

#[test]
fn of_flags_given_twice_the_last_counts() {
    let place = Place::with("FROM scratch AS a\nLABEL x=a\nFROM scratch AS b\nLABEL x=b\n");
    let args = ["--target", "b", "--target", "a", "--no-cache", "--no-cache", "-t", "app", "-t", "app:2"];
    place.build(&args).succeeds();
    let ended = place.run(&["inspect", "app:2"]);
    let image: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(image[0]["Config"]["Labels"]["x"], "a");
    assert_eq!(image[0]["RepoTags"], serde_json::json!(["app:2", "app:latest"]));
}

#[test]
fn an_unknown_verb_gets_the_list_of_those_that_are_there() {
    let place = Place::new();
    for args in [
        &["exprot", "x"][..],
        &["manifest", "inspect", "x"],
        &["--root", "x", "frobnicate", "build"],
        &["help", "frobnicate"],
    ] {
        place.run(args).fails(2, &["the verbs are build, plan, images,", "prune"]);
    }
    place.run(&["index", "frobnicate", "x"]).fails(2, &["the verbs are create, "]);
    place
        .run(&["image", "inspct", "x"])
        .fails(2, &["did you mean ocibuild image inspect?", "the verbs are ls, "]);
    place.run(&["system", "df"]).fails(2, &["write ocibuild du for system df"]);
}

#[test]
fn the_state_directory_is_named_before_the_verb_or_after_it() {
    let place = Place::new();
    let (before, after) = (place.path("before"), place.path("after"));
    for args in [["--root", "before", "images"], ["images", "--root", "after"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ocibuild"));
        let status = command.args(args).current_dir(place.path("")).status().unwrap();
        assert!(status.success(), "{args:?}");
    }
    // The test itself names one, too.
    place.run(&["--root", "after", "images"]).fails(2, &["give --root <DIR> once"]);
    assert!(before.join("oci-layout").is_file() && after.join("oci-layout").is_file());
}

#[test]
fn help_is_a_verb() {
    let place = Place::new();
    let of = |args: &[&str]| place.run(args).succeeds().to_owned();
    assert_eq!(of(&["help", "build"]), of(&["build", "--help"]));
    assert_eq!(of(&["help"]), of(&["--help"]));
    assert_eq!(of(&["help", "index", "create"]), of(&["index", "create", "--help"]));
    assert!(of(&["help", "build"]).contains("--iidfile <FILE>"));
}

#[test]
fn root_without_capabilities_is_not_told_to_be_root() {
    // With CAP_SETFCAP it would make a user namespace, in which it is root.
    let place = Place::with("FROM 127.0.0.1:1/nobody/listens\nRUN true\n");
    let without = |args: &[&str]| {
        let plain = place.command(args);
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--bounding-set=-sys_admin,-setfcap,-sys_chroot", "--inh-caps=-all"])
            .arg(plain.get_program())
            .args(plain.get_args());
        ended(command.current_dir(place.path(".")).env("HOME", place.path(".")).output().unwrap())
    };
    let has_setpriv =
        ["/usr/bin/setpriv", "/bin/setpriv"].iter().any(|path| std::path::Path::new(path).exists());
    if !rustix::process::geteuid().is_root() || !has_setpriv {
        return ocibuild_testkit::skip("this takes root and setpriv");
    }
    for args in [&["build", "."][..], &["run", "127.0.0.1:1/nobody/listens"]] {
        let ended = without(args);
        let words = [
            "no usable sandbox: this process is root without CAP_SYS_ADMIN and CAP_SETFCAP, and this process does not have CAP_SYS_CHROOT",
            "hint: give the container CAP_SETFCAP",
            "--security-opt seccomp=unconfined",
            "hint: give CAP_SYS_CHROOT to the container",
        ];
        ended.fails(5, &words);
        assert!(!ended.stderr.contains("as root"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("--cap-add SYS_ADMIN"), "{}", ended.stderr);
    }
    // Nothing to run, and so the registry is asked.
    place.write("Dockerfile", "FROM 127.0.0.1:1/nobody/listens\nCOPY Dockerfile /\n");
    without(&["build", "--retry", "0", "."]).fails(4, &["127.0.0.1:1"]);
}
