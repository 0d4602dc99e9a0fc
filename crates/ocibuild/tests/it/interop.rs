//! Images in the hands of other tools, where these are installed.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use fs_err as fs;
use ocibuild::spec::Platform;
use ocibuild::{Built, BuiltImage, OutputKind};
use ocibuild_testkit::{Daemon, has_tool, output_of as output, podman, skip};
use serde_json::Value;

use super::support::{World, name};

const DOCKERFILE: &str = "FROM base
WORKDIR /srv
COPY --chown=1000:1000 --chmod=640 one.txt ./
RUN rm /etc/group && mkdir /data && echo made > /data/file && ln /data/file /data/hard && ln -s file /data/soft
ENV NAME=world
LABEL kind=test
CMD [\"/bin/sh\", \"-c\", \"echo hello $NAME; cat one.txt /data/hard; test ! -e /etc/group && pwd\"]
";

/// What a container of the image prints.
const SAYS: &str = "hello world\nonemade\n/srv\n";

/// The image as a layout `layout` and as an archive `image.tar`, both with the name `app:1`.
fn image() -> Option<(World, BuiltImage)> {
    let world = World::with_shell()?;
    world.files(&[("one.txt", "one")]);
    let build = world.prepare(DOCKERFILE).tag(name("app:1"));
    let build = build.output(world.output(OutputKind::OciLayout, "layout"));
    let (image, _) = world.build(build.output(world.output(OutputKind::DockerArchive, "image.tar")));
    Some((world, image))
}

#[test]
fn privileged_skopeo_inspects_and_copies() {
    if !has_tool("skopeo") {
        return;
    }
    let Some((world, image)) = image() else { return };
    for source in [
        format!("oci:{}:1", world.path("layout").display()),
        format!("docker-archive:{}:app:1", world.path("image.tar").display()),
    ] {
        let text = output(Command::new("skopeo").args(["inspect", "--config", "--raw", &source]));
        assert_eq!(text.as_bytes(), image.config_bytes, "{source}");
        let copy = world.path("copy");
        let target = format!("dir:{}", copy.display());
        output(Command::new("skopeo").args(["--insecure-policy", "copy", &source, &target]));
        fs::remove_dir_all(copy).unwrap();
    }
    let source = format!("oci:{}:1", world.path("layout").display());
    let text = output(Command::new("skopeo").args(["inspect", &source]));
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["Digest"], image.descriptor.digest.as_str());
    assert_eq!(found["Labels"]["kind"], "test");
    let layers: Vec<_> = image.layers().map(|(_, layer)| Value::from(layer.digest.as_str())).collect();
    assert_eq!(found["Layers"], Value::from(layers));
}

#[test]
fn privileged_umoci_unpacks() {
    if !has_tool("umoci") {
        return;
    }
    let Some((world, _)) = image() else { return };
    let source = format!("{}:1", world.path("layout").display());
    output(Command::new("umoci").args(["unpack", "--image", &source]).arg(world.path("bundle")));
    let root = world.path("bundle/rootfs");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!((read("srv/one.txt"), read("data/soft")), ("one".to_owned(), "made\n".to_owned()));
    assert!(!root.join("etc/group").exists());
    let of = |path: &str| fs::metadata(root.join(path)).unwrap();
    assert_eq!((of("srv/one.txt").uid(), of("srv/one.txt").mode() & 0o7777), (1000, 0o640));
    assert_eq!(of("data/file").ino(), of("data/hard").ino());
}

#[test]
fn privileged_podman_loads_and_runs() {
    if !has_tool("podman") {
        return;
    }
    let Some((world, image)) = image() else { return };
    let podman = || podman(&world.path("podman"));
    let loaded = output(podman().args(["load", "-q", "-i"]).arg(world.path("image.tar")));
    assert!(loaded.contains("app:1"), "{loaded}");
    let id = output(podman().args(["images", "--no-trunc", "-q"]));
    assert_eq!(id.trim(), image.manifest.config.digest.as_str());
    let limits = ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=30000:30000"];
    let run = ["run", "--rm", "--network", "host"];
    let text = output(podman().args(run).args(limits).arg(id.trim()));
    assert_eq!(text, SAYS);
}

#[test]
fn privileged_docker_loads_and_runs() {
    if !has_tool("docker") || !has_tool("dockerd") {
        return;
    }
    let Some((world, image)) = image() else { return };
    let Some(engine) = Daemon::docker(&world.path("docker")) else { return };
    let loaded = output(engine.client().args(["load", "-q", "-i"]).arg(world.path("image.tar")));
    assert!(loaded.contains("app:1"), "{loaded}");
    let id = output(engine.client().args(["image", "inspect", "--format", "{{.Id}}", "app:1"]));
    let known = [image.manifest.config.digest.as_str(), image.descriptor.digest.as_str()];
    assert!(known.contains(&id.trim()), "{id}");
    let text = output(engine.client().args(["run", "--rm", "--network", "none", "app:1"]));
    assert_eq!(text, SAYS);
}

/// An index for two platforms as a layout `layout` and as an archive `index.tar`, both with the name `app:1`.
fn index() -> (World, Built) {
    let world = World::new();
    world.files(&[("one.txt", "one")]);
    let build = world
        .prepare("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY one.txt /\n")
        .tag(name("app:1"));
    let build = ["linux/amd64", "linux/arm64"]
        .iter()
        .fold(build, |build, text| build.platform(text.parse().unwrap()));
    let build = build.output(world.output(OutputKind::OciLayout, "layout"));
    let (built, _) = world.build_all(build.output(world.output(OutputKind::OciArchive, "index.tar")));
    (world, built)
}

#[test]
fn privileged_skopeo_reads_an_index() {
    if !has_tool("skopeo") {
        return;
    }
    let (world, built) = index();
    for source in [
        format!("oci:{}:1", world.path("layout").display()),
        format!("oci-archive:{}:1", world.path("index.tar").display()),
    ] {
        let raw = output(Command::new("skopeo").args(["inspect", "--raw", &source]));
        assert_eq!(raw.as_bytes(), built.index.as_ref().unwrap().bytes, "{source}");
        for (architecture, image) in ["amd64", "arm64"].iter().zip(&built.images) {
            let arguments =
                ["--override-os", "linux", "--override-arch", architecture, "inspect", "--config", "--raw"];
            let config = output(Command::new("skopeo").args(arguments).arg(&source));
            assert_eq!(config.as_bytes(), image.config_bytes, "{source} {architecture}");
        }
        let target = format!("dir:{}", world.path("copy").display());
        output(Command::new("skopeo").args(["--insecure-policy", "copy", "--all", &source, &target]));
    }
}

#[test]
fn privileged_umoci_lists_an_index() {
    if !has_tool("umoci") {
        return;
    }
    let (world, _) = index();
    let listed = output(Command::new("umoci").args(["ls", "--layout"]).arg(world.path("layout")));
    assert_eq!(listed.trim(), "1");
}

#[test]
fn privileged_podman_loads_its_image_of_an_index() {
    if !has_tool("podman") {
        return;
    }
    let (world, built) = index();
    let own = ["amd64", "arm64"].iter().position(|name| *name == Platform::host().architecture);
    let Some(own) = own else { return skip("this host is for neither of the platforms") };
    let podman = || podman(&world.path("podman"));
    output(podman().args(["load", "-q", "-i"]).arg(world.path("index.tar")));
    let id = output(podman().args(["images", "--no-trunc", "-q"]));
    assert_eq!(id.trim(), built.images[own].manifest.config.digest.as_str());
}
