//! `save` and `load`: archives of ours and of others, whole and damaged.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use ocibuild_testkit::{Daemon, TestImage, has_tool, index_of, output_of, podman, write_layout_of};

use crate::program::{Place, ended};

/// Two images over one layer, one of them with two names.
fn place() -> Place {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /one\nCMD [\"/one\"]\n");
    place.build(&["-t", "app:1", "-t", "app:2"]).succeeds();
    place.write("Dockerfile", "FROM app:1\nCOPY Dockerfile /two\n");
    place.build(&["-t", "127.0.0.1:5000/team/other:9"]).succeeds();
    place
}

const ALL: [&str; 2] = ["app", "127.0.0.1:5000/team/other:9"];

/// What a state directory has: names with their IDs and manifests.
fn listed(place: &Place, state: &str, digests: bool) -> Vec<String> {
    let format = if digests {
        "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}}"
    } else {
        "{{.Repository}}:{{.Tag}} {{.ID}}"
    };
    let mut lines: Vec<String> = in_state(place, state, &["images", "--no-trunc", "--format", format])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn in_state(place: &Place, state: &str, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocibuild"));
    output_of(command.arg("--root").arg(place.path(state)).args(args).current_dir(place.path("")))
}

fn save(place: &Place, format: &str, file: &str) {
    let mut args = vec!["save", "--format", format, "-o", file];
    args.extend(ALL);
    place.run(&args).succeeds();
}

#[test]
fn what_was_saved_is_loaded_again() {
    let place = place();
    for (format, digests) in [("docker", true), ("oci", true)] {
        save(&place, format, "all.tar");
        let bytes = fs::read(place.path("all.tar")).unwrap();
        save(&place, format, "again.tar");
        assert!(bytes == fs::read(place.path("again.tar")).unwrap(), "{format}: the same bytes");
        let text = in_state(&place, format, &["load", "-i", "all.tar"]);
        assert_eq!(
            text,
            "Loaded image: app:1\nLoaded image: app:2\nLoaded image: 127.0.0.1:5000/team/other:9\n"
        );
        let before = listed(&place, "state", digests);
        assert_eq!((listed(&place, format, digests), before.len()), (before, 3), "{format}");
    }
    // Standard output is an archive as well, and what is shared is in it once.
    let output = place.command(&["save", ALL[0], ALL[1]]).output().unwrap();
    let mut names: Vec<_> = tar::Archive::new(&output.stdout[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), count), (count, 2 + 6 + 3), "{names:?}");
}

#[test]
fn archives_may_be_compressed_and_come_through_a_pipe() {
    let place = place();
    save(&place, "docker", "all.tar");
    let tar = fs::read(place.path("all.tar")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let compressed = gzip.finish().unwrap();
    fs::write(place.path("all.tar.gz"), &compressed).unwrap();
    let expected = listed(&place, "state", true);
    in_state(&place, "file", &["image", "load", "--input", "all.tar.gz"]);
    assert_eq!(listed(&place, "file", true), expected);
    for (number, bytes) in [tar, compressed].iter().enumerate() {
        let state = format!("pipe{number}");
        let root = place.path(&state).display().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ocibuild"))
            .args(["--root", &root, "load"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        assert_eq!(ended(child.wait_with_output().unwrap()).succeeds().lines().count(), 3);
        assert_eq!(listed(&place, &state, true), expected);
    }
}

#[test]
fn images_without_a_name_are_kept_by_id() {
    let place = place();
    let id = place.run(&["inspect", "-f", "{{.Id}}", "app:1"]).succeeds().trim().to_owned();
    place.run(&["save", "-o", "id.tar", &id]).succeeds();
    assert_eq!(in_state(&place, "new", &["load", "-i", "id.tar"]), format!("Loaded image ID: {id}\n"));
    assert_eq!(listed(&place, "new", false), [format!("<none>:<none> {id}")]);
    assert_eq!(in_state(&place, "new", &["images", "-qf", "dangling=true", "--no-trunc"]), format!("{id}\n"));
    assert_eq!(in_state(&place, "new", &["inspect", "-f", "{{.RepoTags}}", &id[7..20]]), "[]\n");
    in_state(&place, "new", &["tag", &id, "named"]);
    assert_eq!(listed(&place, "new", false), [format!("named:latest {id}")]);
    // One that stays without a name goes with the next cleaning, or by its ID.
    for clean in [&["prune"][..], &["rmi", &id]] {
        in_state(&place, "other", &["load", "-i", "id.tar"]);
        in_state(&place, "other", clean);
        assert_eq!(listed(&place, "other", false), Vec::<String>::new());
    }
}

#[test]
fn directories_are_layouts() {
    let place = place();
    save(&place, "oci", "all.tar");
    tar::Archive::new(fs::File::open(place.path("all.tar")).unwrap()).unpack(place.path("layout")).unwrap();
    in_state(&place, "new", &["load", "-i", "layout"]);
    assert_eq!(listed(&place, "new", true), listed(&place, "state", true));
}

#[test]
fn of_an_index_that_is_not_whole_the_image_that_is_gets_taken() {
    let place = Place::new();
    let host = ocibuild::spec::Platform::host().to_string();
    let own = TestImage::new(&host).layer(&[("own", "x")]).build();
    let other = TestImage::new("linux/s390x").layer(&[("other", "x")]).build();
    let (mut root, bytes) = index_of(&[&other, &own]);
    root.annotations.insert("io.containerd.image.name".to_owned(), "docker.io/library/multi:1".to_owned());
    let mut blobs = own.all();
    blobs.push((root.clone(), bytes));
    fs::create_dir(place.path("layout")).unwrap();
    write_layout_of(&place.path("layout"), &blobs, vec![root.clone()]);
    let ended = place.run(&["load", "-i", "layout"]);
    assert_eq!(ended.succeeds(), "Loaded image: multi:1\n");
    assert!(ended.stderr.contains("not loaded: linux/s390x"), "{}", ended.stderr);
    let digest = place.run(&["inspect", "-f", "{{.Descriptor.digest}}", "multi:1"]);
    assert_eq!(digest.succeeds().trim(), own.descriptor.digest.as_str());
    // With all of them it is the index.
    blobs.extend(other.all());
    write_layout_of(&place.path("layout"), &blobs, vec![root.clone()]);
    place.run(&["load", "-i", "layout"]).succeeds();
    let line = place.run(&["images", "--format", "{{.Digest}}"]);
    assert_eq!(line.succeeds().trim(), root.digest.as_str());
    place.run(&["save", "--format", "oci", "-o", "multi.tar", "multi:1"]).succeeds();
    in_state(&place, "new", &["load", "-i", "multi.tar"]);
    assert_eq!(listed(&place, "new", true), listed(&place, "state", true));
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    let place = place();
    save(&place, "oci", "all.tar");
    let whole = fs::read(place.path("all.tar")).unwrap();
    // Past the two directories and the first header: inside of a blob.
    let mut flipped = whole.clone();
    flipped[3 * 512 + 20] ^= 1;
    let lying = lying_image();
    let outside = docker_archive(&serde_json::json!([{ "Config": "../config.json", "Layers": [] }]));
    let cases: [(&str, &[u8], &str); 8] = [
        ("cut.tar", &whole[..whole.len() / 2], "cut.tar"),
        ("flipped.tar", &flipped, "the digest"),
        ("empty.tar", &[0; 1024], "neither `oci-layout`"),
        ("text", b"this is no archive, but it is longer than one block of a tar".as_slice(), "ends early"),
        ("bad.tar.gz", &[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6], "cannot be decompressed"),
        ("lying.tar", &lying, "but the image says"),
        ("without.tar", &docker_archive(&serde_json::json!([])), "holds no image"),
        ("outside.tar", &outside, "leads out of it"),
    ];
    for (name, bytes, words) in cases {
        fs::write(place.path(name), bytes).unwrap();
        let root = place.path("damaged").display().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_ocibuild"))
            .args(["--root", &root, "load", "-i", name])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        ended(output).fails(3, &["error:", words, name]);
        let output = Command::new(env!("CARGO_BIN_EXE_ocibuild"))
            .args(["--root", &root, "load"])
            .stdin(fs::File::open(place.path(name)).unwrap().into_parts().0)
            .output()
            .unwrap();
        let ended = ended(output);
        ended.fails(3, &["error:", words.trim_start_matches(name), "standard input"]);
        assert!(!ended.stderr.contains("damaged/"), "a temporary file: {}", ended.stderr);
        assert_eq!(listed(&place, "damaged", false), Vec::<String>::new(), "{name}");
    }
    assert_eq!(fs::read_dir(place.path("damaged/tmp")).unwrap().count(), 0, "nothing is left behind");
}

/// An archive with a `manifest.json` alone.
fn docker_archive(manifest: &serde_json::Value) -> Vec<u8> {
    let text = manifest.to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "manifest.json", text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

/// An archive whose config says of a layer what it is not.
fn lying_image() -> Vec<u8> {
    let place = Place::new();
    let truth = TestImage::new("linux/amd64").layer(&[("a", "x")]).gzip().build();
    let lie = TestImage::new("linux/amd64").layer(&[("b", "x")]).gzip().build();
    let layer = &truth.layers[0];
    let docker = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["lie:1"], "Layers": ["layer.tar"],
    }]);
    fs::write(place.path("config.json"), &lie.config.1).unwrap();
    fs::write(place.path("layer.tar"), &layer.1).unwrap();
    fs::write(place.path("manifest.json"), docker.to_string()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["config.json", "layer.tar", "manifest.json"] {
        tar.append_path_with_name(place.path(name), name).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_cannot_be_saved_leaves_no_file() {
    let place = place();
    place.run(&["save", "-o", "x.tar", "app:1", "missing"]).fails(2, &["missing:latest"]);
    place.run(&["save", "-o", "no/such/x.tar", "app:1"]).fails(5, &["no/such/x.tar", "mkdir -p"]);
    place.run(&["save", "-o", "state", "app:1"]).fails(2, &["is a directory"]);
    place.run(&["load", "-i", "nowhere.tar"]).fails(2, &["nowhere.tar", "hint:"]);
    // A blob that is damaged is found out while it is written.
    for entry in fs::read_dir(place.path("state/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(place.run(&["save", "-o", "x.tar", "app:1"]).code, Some(3));
    let names: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names.iter().any(|name| name == "x.tar" || name.to_string_lossy().starts_with(".tmp")),
        "{names:?}"
    );
}

/// The IDs of the two images.
fn ids(place: &Place) -> Vec<String> {
    let text = place.run(&["inspect", "-f", "{{.Id}}", "app:1", ALL[1]]);
    text.succeeds().lines().map(str::to_owned).collect()
}

#[test]
fn privileged_docker_and_containerd_take_and_give_archives() {
    if !has_tool("docker") || !has_tool("dockerd") || !has_tool("ctr") {
        return;
    }
    let place = place();
    let Some(engine) = Daemon::docker(&place.path("docker")) else { return };
    save(&place, "docker", "all.tar");
    save(&place, "oci", "oci.tar");
    let ids = ids(&place);
    let expected = listed(&place, "state", false);
    output_of(engine.client().args(["load", "-i"]).arg(place.path("all.tar")));
    let text = output_of(engine.client().args(["inspect", "-f", "{{.Id}}", "app:1", "app:2", ALL[1]]));
    assert_eq!(text, format!("{}\n{0}\n{}\n", ids[0], ids[1]));
    output_of(
        engine.client().args(["save", "-o"]).arg(place.path("docker.tar")).args(["app:1", "app:2", ALL[1]]),
    );
    in_state(&place, "docker-state", &["load", "-i", "docker.tar"]);
    assert_eq!(listed(&place, "docker-state", false), expected);
    let ctr = || {
        let mut command = Command::new("ctr");
        let socket = place.path("docker/exec/containerd/containerd.sock");
        command.arg("-a").arg(socket).args(["-n", "test", "images"]);
        command
    };
    for (archive, state) in [("oci.tar", "ctr1"), ("all.tar", "ctr2")] {
        output_of(ctr().args(["import", "--no-unpack"]).arg(place.path(archive)));
        let names = ["docker.io/library/app:1", "docker.io/library/app:2", ALL[1]];
        output_of(ctr().arg("export").arg(place.path("ctr.tar")).args(names));
        in_state(&place, state, &["load", "-i", "ctr.tar"]);
        assert_eq!(
            listed(&place, state, true),
            listed(&place, "state", true),
            "{archive}: every digest stays"
        );
        output_of(ctr().arg("rm").args(names));
    }
}

#[test]
fn privileged_podman_skopeo_and_umoci_take_and_give_archives() {
    if !["podman", "skopeo", "umoci"].into_iter().all(has_tool) {
        return;
    }
    let place = place();
    save(&place, "docker", "all.tar");
    save(&place, "oci", "oci.tar");
    let ids = ids(&place);
    let podman = || podman(&place.path("podman"));
    output_of(podman().args(["load", "-q", "-i"]).arg(place.path("all.tar")));
    let text = output_of(podman().args(["inspect", "-f", "{{.Id}}", "localhost/app:1", ALL[1]]));
    assert_eq!(text.lines().map(|id| format!("sha256:{id}")).collect::<Vec<_>>(), ids);
    output_of(
        podman()
            .args(["save", "-q", "-m", "-o"])
            .arg(place.path("podman.tar"))
            .args(["localhost/app:1", ALL[1]]),
    );
    in_state(&place, "podman-state", &["load", "-i", "podman.tar"]);
    let loaded = listed(&place, "podman-state", false);
    assert_eq!(loaded, [format!("{} {}", ALL[1], ids[1]), format!("localhost/app:1 {}", ids[0])]);
    output_of(
        podman()
            .args(["save", "-q", "--format", "oci-archive", "-o"])
            .arg(place.path("podman-oci.tar"))
            .arg("localhost/app:1"),
    );
    assert_eq!(
        in_state(&place, "podman-oci", &["load", "-i", "podman-oci.tar"]),
        "Loaded image: localhost/app:1\n"
    );
    let at = |kind: &str, path: &Path, name: &str| format!("{kind}:{}:{name}", path.display());
    let copy = |from: &str, to: &str| {
        output_of(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", from, to]))
    };
    copy(
        &at("docker-archive", &place.path("all.tar"), "app:2"),
        &at("docker-archive", &place.path("skopeo.tar"), "sk:1"),
    );
    assert_eq!(in_state(&place, "skopeo", &["load", "-i", "skopeo.tar"]), "Loaded image: sk:1\n");
    assert_eq!(listed(&place, "skopeo", false), [format!("sk:1 {}", ids[0])]);
    copy(&at("oci-archive", &place.path("oci.tar"), "9"), &at("oci", &place.path("layout"), "9"));
    let id =
        output_of(Command::new("skopeo").args(["inspect", "--raw", &at("oci", &place.path("layout"), "9")]));
    assert!(id.contains(&ids[1]), "{id}");
    assert_eq!(output_of(Command::new("umoci").args(["ls", "--layout"]).arg(place.path("layout"))), "9\n");
    // Its tag is not a full name.
    assert_eq!(
        in_state(&place, "umoci", &["load", "-i", "layout"]),
        format!("Loaded image ID: {}\n", ids[1])
    );
}

#[test]
fn an_archive_that_unpacks_to_too_much_is_refused_until_it_is_allowed() {
    let place = Place::with("FROM scratch\nADD large.tar /\n");
    let large = docker_archive(&serde_json::json!("x".repeat(5000)));
    fs::write(place.path("large.tar"), large).unwrap();
    let ended = place.build(&["--archive-limit", "4k"]);
    ended.fails(3, &["error:", "/large.tar unpacks to more than 4096 bytes", "hint:", "--archive-limit"]);
    place.build(&["--archive-limit", "much"]).fails(2, &["--archive-limit much: not a size"]);
    place.build(&["--archive-limit", "1m"]).succeeds();
}
