//! `build --load`: stand-ins for the clients of engines, then real ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ocibuild_testkit::{Daemon, skip};

use crate::program::{Ended, Place, ended};

const DOCKERFILE: &str = "FROM scratch\nCOPY Dockerfile /\nCMD [\"/x\"]\n";

/// Answers when it is asked for its version, keeps what it is given as `NAME.in`, and writes down how it was called.
const CLIENT: &str = "#!/bin/sh
name=${0##*/}
echo \"$name $*\" >> log
case \"$*\" in
*version*) exec cat answers/$name ;;
esac
cat > $name.in
echo \"Loaded image: by $name\"
";

/// A place where these clients are installed and these answer.
fn place(installed: &[&str], answering: &[&str]) -> Place {
    let place = Place::with(DOCKERFILE);
    for name in installed {
        install(&place, name, CLIENT);
    }
    for name in answering {
        place.write(&format!("answers/{name}"), "");
    }
    for name in ["cat", "sh"] {
        std::os::unix::fs::symlink(Path::new("/bin").join(name), place.path("bin").join(name)).unwrap();
    }
    place
}

fn install(place: &Place, name: &str, script: &str) {
    let file = format!("bin/{name}");
    place.write(&file, script);
    fs_err::set_permissions(place.path(&file), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn build(place: &Place, args: &[&str]) -> Ended {
    let mut command = place.command(&["build", "--progress", "plain"]);
    ended(command.args(args).arg(".").env("PATH", place.path("bin")).output().unwrap())
}

fn log(place: &Place) -> String {
    fs_err::read_to_string(place.path("log")).unwrap_or_default()
}

#[test]
fn the_first_engine_that_answers_gets_the_image() {
    const ALL: [&str; 3] = ["docker", "podman", "ctr"];
    let load = |answering: &[&str], client: &str, call: &str| {
        let place = place(&ALL, answering);
        let ended = build(&place, &["--load", "-t", "app:1"]);
        ended.succeeds();
        assert!(ended.stderr.contains(&format!("Loaded image: by {client}")), "{}", ended.stderr);
        assert_eq!(log(&place).lines().last(), Some(call));
        assert!(place.path(&format!("{client}.in")).exists());
        assert_eq!(place.run(&["images", "-q"]).succeeds(), "", "the image is over there");
    };
    load(&ALL, "docker", "docker load");
    load(&["podman", "ctr"], "podman", "podman load");
    load(&["ctr"], "ctr", "ctr images import -");
}

#[test]
fn an_engine_can_be_named() {
    let place = place(&["docker", "ctr"], &["docker", "ctr"]);
    build(&place, &["--load=containerd:k8s.io", "-t", "app:1"]).succeeds();
    assert_eq!(log(&place), "ctr --connect-timeout 3s version\nctr --namespace k8s.io images import -\n");
    build(&place, &["--load=containerd"]).fails(2, &["does not keep an image without a name", "--tag"]);
    let quiet = build(&place, &["--load=docker", "-q"]);
    assert!(quiet.succeeds().starts_with("sha256:") && quiet.stderr.is_empty(), "{}", quiet.stderr);
    let both = ["--platform", "linux/amd64,linux/arm64", "-t", "app"];
    build(&place, &[&both[..], &["--load=docker"]].concat())
        .fails(2, &["manifest lists", "--load=containerd"]);
    build(&place, &[&both[..], &["--load=containerd"]].concat()).succeeds();
}

#[test]
fn where_there_is_none_everything_that_was_looked_for_is_told() {
    let place = place(&["podman"], &[]);
    install(&place, "ctr", "#!/bin/sh\necho 'ctr: failed to dial' >&2\nexit 1\n");
    let words =
        ["no container engine", "docker: the program docker is not installed", "podman: cat: answers/podman"];
    build(&place, &["--load"])
        .fails(5, &[&words[..], &["containerd: ctr: failed to dial", "hint:"]].concat());
    build(&place, &["--load=podman"]).fails(5, &["podman is not available", "answers/podman"]);
    build(&place, &["--load=docker"]).fails(5, &["docker is not available", "not installed"]);
}

#[test]
fn a_client_that_fails_is_quoted() {
    let place = place(&["docker"], &["docker"]);
    place.write("big", &"x".repeat(1 << 20));
    place.write("Dockerfile", "FROM scratch\nCOPY big /\n");
    let refusing =
        "#!/bin/sh\ncase $1 in version) exit 0 ;; esac\necho 'no space left over there' >&2\nexit 3\n";
    install(&place, "docker", refusing);
    let early = build(&place, &["--load", "-o", "type=cacheonly"]);
    early.fails(2, &["cacheonly"]);
    let stored = ["--load", "--output", "type=oci,dest=a.tar,compression=uncompressed"];
    build(&place, &stored).fails(5, &["docker did not take the image", "no space left over there"]);
    let late = refusing.replace("echo", "cat > all; echo");
    install(&place, "docker", &late);
    build(&place, &stored).fails(5, &["docker did not take the image", "no space left over there"]);
}

#[test]
fn no_client_is_bothered_with_a_build_that_fails() {
    let place = place(&["docker"], &["docker"]);
    place.write("Dockerfile", "FROM scratch\nCOPY missing /\n");
    build(&place, &["--load"]).fails(2, &["missing"]);
    build(&place, &["--load", "--check"]);
    assert_eq!(log(&place), "docker version --format {{.Server.Version}}\n");
}

/// Root can start engines, where namespaces can be made.
fn may_start_engines() -> bool {
    let may = ocibuild_testkit::sys::namespaces_work().is_ok() && rustix::process::geteuid().is_root();
    if !may {
        skip("engines are started by root only");
    }
    may
}

/// Builds with two names into an engine that is found by these variables, which also tell its client.
fn load_for_real(place: &Place, load: &str, variables: &[(&str, &str)], client: &[&str]) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let mut command =
        place.command(&["build", load, "-t", "r.io/team/app:1", "-t", "other:2", "--iidfile", "id", "."]);
    ended(command.env("PATH", &path).envs(variables.iter().copied()).output().unwrap()).succeeds();
    let mut command = Command::new(client[0]);
    let output = command.args(&client[1..]).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn privileged_docker_has_it() {
    let place = Place::with(DOCKERFILE);
    let Some(daemon) = may_start_engines().then(|| Daemon::docker(&place.path("docker"))).flatten() else {
        return;
    };
    let host = format!("unix://{}", daemon.socket().display());
    let list = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"];
    let names = load_for_real(&place, "--load", &[("DOCKER_HOST", &host)], &list);
    assert!(names.contains("r.io/team/app:1") && names.contains("other:2"), "{names}");
}

#[test]
fn privileged_containerd_has_it() {
    let place = Place::with(DOCKERFILE);
    let Some(daemon) = may_start_engines().then(|| Daemon::containerd(&place.path("containerd"))).flatten()
    else {
        return;
    };
    let address = daemon.socket().to_str().unwrap();
    let variables = [("CONTAINERD_ADDRESS", address), ("CONTAINERD_SNAPSHOTTER", "native")];
    let list = ["ctr", "--namespace", "k8s.io", "images", "ls"];
    let table = load_for_real(&place, "--load=containerd:k8s.io", &variables, &list);
    let digest = place.read("id");
    for name in ["r.io/team/app:1", "docker.io/library/other:2"] {
        let line = table.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(&digest)), "{table}");
    }
}

#[test]
fn privileged_podman_has_it() {
    let place = Place::with(DOCKERFILE);
    if !may_start_engines() || Command::new("podman").arg("--version").output().is_err() {
        return skip("podman is not installed");
    }
    let at = |name: &str| place.path(name).display().to_string();
    let storage =
        format!("[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n", at("graph"), at("run"));
    place.write("storage.conf", &storage);
    place.write(
        "containers.conf",
        &format!("[engine]\nevents_logger = \"file\"\ntmp_dir = {:?}\n", at("tmp")),
    );
    let (storage, containers) = (at("storage.conf"), at("containers.conf"));
    let variables = [("CONTAINERS_STORAGE_CONF", &storage[..]), ("CONTAINERS_CONF", &containers)];
    let list = ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"];
    let names = load_for_real(&place, "--load=podman", &variables, &list);
    assert!(names.contains("r.io/team/app:1") && names.contains("other:2"), "{names}");
}
