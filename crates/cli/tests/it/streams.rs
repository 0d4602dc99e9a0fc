//! Files that are not regular ones where a flag takes a file: pipes, descriptors, `<(…)` and `>(…)` of a shell.

use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::process::Command;

use fs_err as fs;
use ocibuild_testkit::{Certificates, skip};

use crate::program::{Ended, Place, ended};

/// A place with a Dockerfile, or the reason why there is nothing to try.
fn place() -> Option<Place> {
    if !std::path::Path::new("/bin/bash").exists() {
        skip("bash is not here");
        return None;
    }
    let place = Place::new();
    place.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    place.write("ctx/other", "FROM scratch\nLABEL of=other\n");
    Some(place)
}

/// Runs a script in which `o` is the program.
fn bash(place: &Place, script: &str) -> Ended {
    let mut command = Command::new("/bin/bash");
    let program = env!("CARGO_BIN_EXE_ocibuild");
    command.arg("-c").arg(format!("set -eo pipefail\no() {{ {program} --root ../state \"$@\"; }}\n{script}"));
    fs::create_dir_all(place.path("work")).unwrap();
    command
        .current_dir(place.path("work"))
        .env_clear()
        .env("HOME", place.path("."))
        .env("PATH", "/usr/bin:/bin");
    ended(command.output().unwrap())
}

fn id(place: &Place) -> String {
    bash(place, "o build -q -f ../ctx/Dockerfile ../ctx").succeeds().trim().to_owned()
}

#[test]
fn results_go_into_pipes_and_descriptors() {
    let Some(place) = place() else { return };
    let id = id(&place);
    for (script, wanted) in [
        ("o build --iidfile >(cat >got) ../ctx; wait $!; cat got", id.clone()),
        ("o build --iidfile /dev/stdout ../ctx", id.clone()),
        ("o build --iidfile /proc/self/fd/1 ../ctx | cat", id.clone()),
        (
            "{ echo before; o build --iidfile /dev/stdout ../ctx; echo; echo after; } >got; cat got",
            format!("before\n{id}\nafter"),
        ),
        ("echo before >got; o build --iidfile /dev/fd/5 ../ctx 5>>got; cat got", format!("before\n{id}")),
        (
            "mkfifo pipe; cat pipe >got & o build --iidfile pipe ../ctx; wait; test -p pipe; cat got",
            id.clone(),
        ),
        ("o build -q --iidfile /dev/stderr ../ctx 2>got >/dev/null; cat got", id.clone()),
    ] {
        let ended = bash(&place, script);
        assert!(ended.succeeds().trim().ends_with(&wanted), "{script}: {}{}", ended.stdout, ended.stderr);
    }
    let metadata = bash(&place, "o build --metadata-file >(cat >got) ../ctx; wait $!; cat got");
    let metadata: serde_json::Value = serde_json::from_str(metadata.succeeds()).unwrap();
    assert_eq!(metadata["containerimage.digest"], id);
    assert!(fs::symlink_metadata("/dev/stdout").unwrap().file_type().is_symlink());
}

#[test]
fn a_build_that_fails_leaves_pipes_and_links_alone_and_forgets_files() {
    let Some(place) = place() else { return };
    place.write("work/old", "of an earlier build");
    symlink("old", place.path("work/link")).unwrap();
    bash(&place, "mkfifo pipe; echo 'FROM scratch\nCOPY missing /' >bad").succeeds();
    // Nobody reads the pipe: opening it would wait.
    bash(&place, "o build --iidfile link --metadata-file pipe -f bad .").fails(2, &["missing"]);
    assert!(fs::symlink_metadata(place.path("work/pipe")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(place.path("work/link")).unwrap().is_symlink());
    assert!(!place.path("work/old").exists(), "nobody takes it for the result of this build");
    let id = id(&place);
    bash(&place, "o build --iidfile link -f ../ctx/Dockerfile ../ctx").succeeds();
    assert!(fs::symlink_metadata(place.path("work/link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(place.path("work/old")).unwrap(), id);
}

#[test]
fn archives_go_into_pipes_and_descriptors() {
    let Some(place) = place() else { return };
    for script in [
        "o build -o type=tar,dest=/dev/stdout ../ctx | tar t",
        "o build -o type=tar,dest=/dev/stdout ../ctx >got.tar; tar tf got.tar",
        "o build -o type=tar,dest=/dev/fd/7 ../ctx 7>got.tar; tar tf got.tar",
        "o build -o type=tar,dest=>(tar t >got) ../ctx; wait $!; cat got",
        "o build -o - ../ctx | tar t",
        "mkfifo pipe; tar t <pipe >got & o build -o type=tar,dest=pipe ../ctx; wait; test -p pipe; cat got",
        "ln -s real.tar link.tar; o build -o type=tar,dest=link.tar ../ctx; test -L link.tar; tar tf real.tar",
    ] {
        assert_eq!(bash(&place, script).succeeds(), "Dockerfile\n", "{script}");
    }
    bash(&place, "o build -t a ../ctx; o save -o /dev/stdout a >a.tar; o save -o >(cat >b.tar) a; wait $!; cmp a.tar b.tar")
        .succeeds();
    for script in [
        "o load -i <(cat a.tar)",
        "o load -i /dev/stdin <a.tar",
        "cat a.tar | o load -i /dev/stdin",
        "o load -i a.tar",
    ] {
        assert_eq!(bash(&place, script).succeeds(), "Loaded image: a:latest\n", "{script}");
    }
}

#[test]
fn dockerfiles_come_from_pipes_and_descriptors() {
    let Some(place) = place() else { return };
    let wanted = bash(&place, "o build -q -f ../ctx/other ../ctx").succeeds().to_owned();
    for script in [
        "o build -q -f <(cat ../ctx/other) ../ctx",
        "o build -q -f /dev/stdin ../ctx <../ctx/other",
        "cat ../ctx/other | o build -q -f /dev/stdin ../ctx",
        "o build -q -f /dev/fd/5 ../ctx 5<../ctx/other",
        "mkfifo pipe; mkdir empty; cat ../ctx/other >pipe & o build -q -f pipe empty",
    ] {
        assert_eq!(bash(&place, script).succeeds(), wanted, "{script}");
    }
    for script in ["o ast <(cat ../ctx/other)", "o ast /dev/stdin <../ctx/other"] {
        assert_eq!(
            bash(&place, script).succeeds(),
            bash(&place, "o ast ../ctx/other").succeeds(),
            "{script}"
        );
    }
    assert_eq!(bash(&place, "printf 'a\\nb\\n' | o ignore <(echo a)").code, Some(0));
    // One in the context may be there for anybody to wait at, and nothing ends some devices.
    bash(&place, "mkfifo ../ctx/pipe; o build -f ../ctx/pipe ../ctx")
        .fails(2, &["a named pipe", "hint: -f names a file"]);
    bash(&place, "o build -f /dev/zero ../ctx").fails(2, &["a device"]);
    bash(&place, "o build -f <(cat /dev/zero) ../ctx").fails(2, &["larger than 16 MiB"]);
    bash(&place, "o build -f <(echo FRMO x) ../ctx").fails(2, &["FRMO", "/dev/fd/"]);
}

#[test]
fn certificates_come_from_a_pipe_that_is_read_once() {
    let Some(place) = place() else { return };
    let Some(certificates) = Certificates::new() else { return skip("openssl is not installed") };
    fs::copy(certificates.self_signed("ca", "").certificate, place.path("ca.pem")).unwrap();
    // More than one client takes them.
    bash(&place, "o build -q --cacert <(cat ../ca.pem) ../ctx").succeeds();
    bash(&place, "o build -q --cacert <(echo none) ../ctx").fails(2, &["certificate"]);
}
