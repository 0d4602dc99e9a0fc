//! Images that are pushed and pulled by others, through a real registry, where these are installed.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use ocibuild_testkit::{Daemon, DockerRegistry, has_tool, output_of, podman, skip};

use super::support::{Place, stderr};

const SAYS: &str = "hello from here\n";

/// A registry with an image of ours, and what is needed to use it.
struct Hub {
    place: Place,
    server: DockerRegistry,
    digest: String,
}

impl Hub {
    fn start() -> Option<Self> {
        let place = Place::with(&[("Dockerfile", "")]);
        if fs::copy("/bin/busybox", place.path().join("context/busybox")).is_err() {
            skip("there is no statically linked /bin/busybox");
            return None;
        }
        let server = DockerRegistry::start(place.path(), "", "")?;
        let mut hub = Self { place, server, digest: String::new() };
        let name = hub.at("ours/app:1");
        hub.build(
            &["--push", "-t", &name, "--iidfile", "id"],
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             ENV FROM=here\nCMD [\"/bin/sh\", \"-c\", \"echo hello from $FROM\"]\n",
        );
        hub.digest = fs::read_to_string(hub.place.path().join("id")).unwrap();
        Some(hub)
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.server.authority())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join(name)
    }

    #[track_caller]
    fn build(&self, flags: &[&str], dockerfile: &str) {
        fs::write(self.path("context/Dockerfile"), dockerfile).unwrap();
        let output = self.place.run(&[&["build"], flags, &["context"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Somebody else's image does as a base of ours, and runs.
    #[track_caller]
    fn builds_on(&self, base: &str) {
        let dockerfile =
            format!("FROM {base}\nRUN echo built on it > /built\nCMD [\"/bin/cat\", \"/built\"]\n");
        self.build(&["--pull", "-t", "on:1"], &dockerfile);
        let output = self.place.run(&["run", "--rm", "on:1"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "built on it\n", "{}", stderr(&output));
    }
}

/// What others build from: a context with a busybox and the file for it.
const THEIRS: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
                      CMD [\"/bin/sh\", \"-c\", \"echo hello from there\"]\n";

fn theirs(hub: &Hub) -> &Path {
    fs::write(hub.path("context/Dockerfile"), THEIRS).unwrap();
    hub.place.path()
}

#[test]
fn privileged_skopeo_copies_and_umoci_unpacks() {
    if !has_tool("skopeo") || !has_tool("umoci") {
        return;
    }
    let Some(hub) = Hub::start() else { return };
    let skopeo = || {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false"]);
        command.arg("--dest-tls-verify=false");
        command
    };
    let layout = format!("oci:{}:1", hub.path("layout").display());
    output_of(skopeo().arg(format!("docker://{}", hub.at("ours/app:1"))).arg(&layout));
    output_of(Command::new("umoci").args(["unpack", "--image"]).arg(&layout[4..]).arg(hub.path("bundle")));
    assert!(hub.path("bundle/rootfs/bin/busybox").is_file());
    output_of(skopeo().arg(&layout).arg(format!("docker://{}", hub.at("theirs/app:1"))));
    let pulled = hub.place.run(&["pull", &hub.at("theirs/app:1")]);
    assert!(String::from_utf8_lossy(&pulled.stdout).contains(&hub.digest), "{}", stderr(&pulled));
    hub.builds_on(&hub.at("theirs/app:1"));
}

#[test]
fn privileged_podman_pulls_runs_and_pushes() {
    if !has_tool("podman") {
        return;
    }
    let Some(hub) = Hub::start() else { return };
    let podman = || podman(&hub.path("podman"));
    let run = [
        "run",
        "--rm",
        "--network",
        "host",
        "--ulimit",
        "nofile=20000:20000",
        "--ulimit",
        "nproc=30000:30000",
    ];
    let name = hub.at("ours/app:1");
    output_of(podman().args(["pull", "-q", "--tls-verify=false", &name]));
    let digest = output_of(podman().args(["image", "inspect", "--format", "{{.Digest}}", &name]));
    assert_eq!(digest.trim(), hub.digest);
    assert_eq!(output_of(podman().args(run).arg(&name)), SAYS);
    let other = hub.at("theirs/podman:1");
    output_of(podman().args(["tag", &name, &other]));
    output_of(podman().args(["push", "-q", "--tls-verify=false", &other]));
    hub.builds_on(&other);
}

#[test]
fn privileged_buildah_builds_from_ours_and_we_from_its() {
    if !has_tool("buildah") {
        return;
    }
    let Some(hub) = Hub::start() else { return };
    let buildah = || {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(hub.path("buildah/root")).arg("--runroot").arg(hub.path("buildah/run"));
        command.args(["--storage-driver", "vfs"]);
        command
    };
    let container = output_of(buildah().args(["from", "--tls-verify=false", &hub.at("ours/app:1")]));
    let container = container.trim();
    output_of(buildah().args(["config", "--label", "by=buildah", container]));
    output_of(buildah().args(["commit", "-q", container, "theirs"]));
    for (format, name) in [("oci", "theirs/buildah:oci"), ("v2s2", "theirs/buildah:docker")] {
        let target = format!("docker://{}", hub.at(name));
        output_of(buildah().args([
            "push",
            "-q",
            "--tls-verify=false",
            "--format",
            format,
            "theirs",
            &target,
        ]));
        hub.builds_on(&hub.at(name));
        let inspected = hub.place.run(&["inspect", "on:1"]);
        assert!(
            String::from_utf8_lossy(&inspected.stdout).contains("\"by\": \"buildah\""),
            "{}",
            stderr(&inspected)
        );
    }
}

#[test]
fn privileged_docker_pulls_runs_and_pushes() {
    if !has_tool("dockerd") {
        return;
    }
    let Some(hub) = Hub::start() else { return };
    let Some(engine) = Daemon::docker(&hub.path("docker")) else { return };
    let name = hub.at("ours/app:1");
    let pulled = output_of(engine.client().args(["pull", &name]));
    assert!(pulled.contains(&hub.digest), "{pulled}");
    assert_eq!(output_of(engine.client().args(["run", "--rm", "--network", "none", &name])), SAYS);
    let other = hub.at("theirs/docker:1");
    let build = ["build", "-q", "--network", "none", "-t", &other, "context"];
    output_of(engine.client().current_dir(theirs(&hub)).env("DOCKER_BUILDKIT", "0").args(build));
    output_of(engine.client().args(["push", "-q", &other]));
    hub.builds_on(&other);
}

#[test]
fn privileged_containerd_pulls_runs_and_pushes() {
    if !has_tool("ctr") {
        return;
    }
    let Some(hub) = Hub::start() else { return };
    let Some(engine) = Daemon::containerd(&hub.path("containerd")) else { return };
    let ctr = || {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(engine.socket()).args(["-n", "k8s.io"]);
        command
    };
    let (name, other) = (hub.at("ours/app:1"), hub.at("theirs/containerd:1"));
    output_of(ctr().args(["images", "pull", "--plain-http", "--snapshotter", "native", &name]));
    let listed = output_of(ctr().args(["images", "ls", &format!("name=={name}")]));
    assert!(listed.contains(&hub.digest), "{listed}");
    let run = ["run", "--rm", "--net-host", "--snapshotter", "native", &name, "hello"];
    assert_eq!(output_of(ctr().args(run)), SAYS);
    output_of(ctr().args(["images", "tag", &name, &other]));
    output_of(ctr().args(["images", "push", "--plain-http", &other]));
    hub.builds_on(&other);
    // Without a registry between.
    output_of(ctr().args(["images", "export", &hub.path("theirs.tar").display().to_string(), &name]));
    hub.build(
        &["--build-context", "base=theirs.tar", "-o", "type=oci,dest=ours.tar,name=on:2"],
        "FROM base\nCMD [\"/bin/echo\", \"imported\"]\n",
    );
    output_of(ctr().args([
        "images",
        "import",
        "--snapshotter",
        "native",
        &hub.path("ours.tar").display().to_string(),
    ]));
    let run = ["run", "--rm", "--net-host", "--snapshotter", "native", "docker.io/library/on:2", "imported"];
    assert_eq!(output_of(ctr().args(run)), "imported\n");
}
