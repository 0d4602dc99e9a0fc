//! `pull`, `push` and `build --push` against registries: one in this process that counts, and a real one.

use std::io::Read as _;
use std::path::Path;
use std::process::Output;

use fs_err as fs;
use ocibuild::spec::{Descriptor, MediaType, json};
use ocibuild::store::{BlobSink as _, ImageLayout};
use ocibuild_testkit::{DockerRegistry, Fault, Reply, TestImage, TestRegistry, WebServer, index_of, skip};
use rustix::process::{Pid, Signal, kill_process};

use super::program::DEFAULT_SIGNALS;
use super::support::{Place, stderr};

const LARGE: u64 = 1 << 30;

/// Bytes that nothing compresses, the same every time.
struct Noise {
    state: u64,
    left: u64,
}

impl std::io::Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        for chunk in buffer[..length].chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            chunk.copy_from_slice(&self.state.to_le_bytes()[..chunk.len()]);
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// Puts an image with one layer of `size` bytes into the state directory; its layer.
fn large_image(place: &Place, name: &str, size: u64) -> Descriptor {
    let layout = ImageLayout::open_or_create(place.path().join("state")).unwrap();
    // A tar with one file, so that builds can use it.
    let mut tar = tar_of(size);
    let mut hasher = ocibuild::spec::Hasher::new();
    let length = std::io::copy(&mut tar, &mut hasher).unwrap();
    let layer = Descriptor::new(MediaType::ImageLayer, hasher.finish(), length);
    layout.put_from(&layer, &mut tar_of(size)).unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    });
    let config = layout.put(MediaType::ImageConfig, config.to_string().as_bytes()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.as_ref(), "config": config, "layers": [layer],
    });
    let manifest = layout.put(MediaType::ImageManifest, &json::to_vec_pretty(&manifest).unwrap()).unwrap();
    layout.tag(&name.parse().unwrap(), &manifest).unwrap();
    layer
}

fn tar_of(size: u64) -> impl std::io::Read + Send {
    let mut header = vec![0_u8; 512];
    header[..4].copy_from_slice(b"blob");
    header[100..108].copy_from_slice(b"0000644\0");
    for id in [108, 116] {
        header[id..id + 8].copy_from_slice(b"0000000\0");
    }
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = size.next_multiple_of(512) - size;
    std::io::Cursor::new(header)
        .chain(Noise { state: 0x9e37_79b9_7f4a_7c15, left: size })
        .chain(std::io::repeat(0).take(padding + 1024))
}

/// Runs the program on another state directory of the same place.
fn elsewhere(place: &Place, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_ocibuild");
    place.command(program).args(["--root", "other"]).args(arguments).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// At most 1.15 times what there is to move.
#[track_caller]
fn moved_little_more(moved: u64, layer: &Descriptor) {
    assert!(moved >= layer.size, "{moved}");
    assert!(moved * 100 <= layer.size * 115, "{moved} bytes for {}", layer.size);
}

#[test]
fn a_gibibyte_that_breaks_near_its_end_is_not_moved_twice() {
    let (place, server) = (Place::with(&[]), TestRegistry::start());
    let name = server.reference("team/large", "1");
    let layer = large_image(&place, &name, LARGE);
    let cut = usize::try_from(LARGE / 10 * 9).unwrap();
    server.fault_of("PATCH", "/uploads/", 0, 1, Fault::Reset(cut));
    succeeded(&place.run(&["push", "--retry-delay", "0.1", &name]));
    let (up, down) = server.moved();
    moved_little_more(up, &layer);
    server.fault_of("GET", layer.digest.as_str(), 0, 1, Fault::Truncate(cut));
    succeeded(&elsewhere(&place, &["pull", "--retry-delay", "0.1", &name]));
    moved_little_more(server.moved().1 - down, &layer);
    assert_eq!(fs::metadata(blob(&place.path().join("other"), &layer)).unwrap().len(), layer.size);
}

/// Of an image for several platforms the registry is asked what the name stands for, and nothing that is here.
#[test]
fn what_did_not_change_is_one_request() {
    let server = TestRegistry::start();
    let place = Place::with(&[("app", "one")]);
    let image = TestImage::new(&ocibuild::spec::Platform::host().to_string()).layer(&[("base", "1")]).build();
    server.push("bases/small", "of-host", &image);
    let other = TestImage::new("linux/s390x").layer(&[("base", "1")]).build();
    let (index, bytes) = index_of(&[&image, &other]);
    server.push("bases/small", "other", &other);
    server.put_manifest("bases/small", "1", index.media_type.as_ref(), &bytes);
    let base = server.reference("bases/small", "1");
    fs::write(place.path().join("context/Dockerfile"), format!("FROM {base}\nCOPY app /app\n")).unwrap();
    let both = format!("{},linux/s390x", ocibuild::spec::Platform::host());
    for arguments in [
        &["build", "context"][..],
        &["build", "--platform", &both, "-t", "app", "context"],
        &["pull", &base],
        &["pull", "--all-platforms", &base],
    ] {
        let run = || succeeded(&place.run(arguments));
        run();
        let before = server.requests().len();
        run();
        let asked: Vec<String> =
            server.requests()[before..].iter().map(|one| format!("{} {}", one.method, one.path)).collect();
        assert_eq!(asked, ["GET /v2/bases/small/manifests/1"], "{arguments:?}");
        // Each of them begins with nothing.
        fs::remove_dir_all(place.path().join("state")).unwrap();
    }
}

/// Ways for a build to read the layers of its base: the end of the Dockerfile, and flags.
const WAYS: [(&str, &[&str]); 7] = [
    ("COPY app /app", &["-t", "app"]),
    ("RUN [\"/app\"]", &["-t", "app"]),
    ("ENV a=b", &["-t", "app"]),
    ("ENV a=b", &["-o", "type=oci,dest=out.tar"]),
    ("ENV a=b", &["-o", "out"]),
    ("ENV a=b", &["-o", "type=oci,dest=out.tar,compression=zstd,force-compression=true"]),
    ("ENV a=b", &["--push", "-t", "{other}/app"]),
];

/// A layer that does not come is the registry's fault, and not that of the file or of the registry it was meant for.
#[test]
fn layers_that_do_not_come_are_told_from_damage_and_from_full_disks() {
    let (server, other) = (TestRegistry::start(), TestRegistry::start());
    let large = "x".repeat(100_000);
    let image =
        TestImage::new(&ocibuild::spec::Platform::host().to_string()).layer(&[("file", &large)]).build();
    server.push("base", "1", &image);
    let base = server.reference("base", "1");
    let layer = &image.layers[0].0.digest;
    for (end, flags) in WAYS {
        let place = Place::with(&[("app", "one"), ("Dockerfile", &format!("FROM {base}\n{end}\n"))]);
        let flags: Vec<String> =
            flags.iter().map(|flag| flag.replace("{other}", &other.authority())).collect();
        // One thread: with more, a step asks again for what could not be fetched ahead of it.
        let arguments: Vec<&str> =
            ["build", "--retry", "0", "--jobs", "1", "--snapshotter", "copy", "context"]
                .into_iter()
                .chain(flags.iter().map(String::as_str))
                .collect();
        server.fault_of("GET", layer.as_str(), 0, 1, Fault::Truncate(50_000));
        let failed = place.run(&arguments);
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(4), "{end} {flags:?}: {said}");
        assert!(said.contains("the connection ended too early") && said.contains(&base), "{said}");
        server.fault_of("GET", layer.as_str(), 0, 1, Fault::Stall(50_000));
        let program = env!("CARGO_BIN_EXE_ocibuild");
        let mut waiting = place.command("/usr/bin/env");
        waiting
            .args([DEFAULT_SIGNALS, program, "--root", "state"])
            .args(&arguments)
            .stderr(std::process::Stdio::piped());
        let before = server.requests().len();
        let child = waiting.spawn().unwrap();
        let is_asked =
            || server.requests()[before..].iter().any(|request| request.path.contains(layer.as_str()));
        while !is_asked() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let cancelled = child.wait_with_output().unwrap();
        let said = stderr(&cancelled);
        assert_eq!(cancelled.status.code(), Some(130), "{end} {flags:?}: {said}");
        assert!(said.contains("error: cancelled"), "{said}");
    }
}

/// Each registry gets its image, or its own line in the error; what was pushed is said.
#[test]
fn a_registry_that_fails_is_nothing_to_the_others() {
    let (first, second) = (TestRegistry::start(), TestRegistry::start());
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let (bad, good) = (first.reference("app", "1"), second.reference("app", "1"));
    succeeded(&place.run(&["build", "-t", &bad, "-t", &good, "context"]));
    let refusal = br#"{"errors":[{"code":"DENIED","message":"not today"}]}"#;
    first.fault("/uploads/", 100, Fault::Answer(403, Vec::new(), refusal.to_vec()));
    let output = place.run(&["push", &bad, &good]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("DENIED (not today)"), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("1: digest: sha256:"), "{output:?}");
    assert!(second.manifest("app", "1").is_some());
    let output = place.run(&["push", "-q", &bad, &good]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{good}\n"));
}

/// Who waits is told what for, unless he wants silence.
#[test]
fn waits_are_said() {
    let server = TestRegistry::start();
    let image = TestImage::new(&ocibuild::spec::Platform::host().to_string()).layer(&[("file", "1")]).build();
    server.push("app", "1", &image);
    let name = server.reference("app", "1");
    for (quiet, said) in [(false, true), (true, false)] {
        let place = Place::with(&[]);
        server.fault_of("GET", "/manifests/", 0, 1, Fault::Answer(503, Vec::new(), Vec::new()));
        server.fault_of("GET", image.layers[0].0.digest.as_str(), 0, 1, Fault::Truncate(10));
        let mut arguments = vec!["pull", "--retry-delay", "0.7", &name];
        arguments.extend(quiet.then_some("-q"));
        let output = place.run(&arguments);
        succeeded(&output);
        let text = stderr(&output);
        for why in ["answered 503", "the connection ended too early"] {
            assert_eq!(text.contains(&format!("{why}; trying again in 1 s")), said, "{quiet} {text}");
        }
        assert!(said || text.is_empty(), "{text}");
    }
}

/// Of a tag with a digest the digest counts, and the registry is not asked for the tag: nothing is called by it.
#[test]
fn a_tag_beside_a_digest_names_nothing() {
    let (server, place) = (TestRegistry::start(), Place::with(&[]));
    let image = TestImage::new(&ocibuild::spec::Platform::host().to_string()).layer(&[("file", "1")]).build();
    server.push("app", "1", &image);
    let (name, digest) = (server.reference("app", "other"), &image.descriptor.digest);
    succeeded(&place.run(&["pull", &format!("{name}@{digest}")]));
    succeeded(&place.run(&["pull", &server.reference("app", &format!("1@{digest}"))]));
    let listed = succeeded(&place.run(&["images", "--digests", "--format", "{{.Tag}} {{.Digest}}"]));
    assert_eq!(listed, format!("<none> {digest}\n"));
    let pinned = format!("{}@{digest}", name.trim_end_matches(":other"));
    let shown = succeeded(&place.run(&["inspect", "--format", "{{.RepoTags}} {{.RepoDigests}}", &pinned]));
    assert_eq!(shown, format!("[] [{pinned}]\n"));
    let refused = place.run(&["push", "--all-tags", name.trim_end_matches(":other")]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(!server.requests().iter().any(|request| request.path.contains("other")));
}

/// What is not an image is refused with what can be done with it, and fetched as it is by who asks for that; among images
/// it is in nobody's way.
#[test]
fn artifacts_are_moved_and_nothing_else() {
    const TYPE: &str = "application/vnd.cncf.helm.config.v1+json";
    let (server, place) = (TestRegistry::start(), Place::with(&[]));
    let config = Descriptor::of(MediaType::from(TYPE), b"{}");
    server.put_blob("chart", &config.digest, b"{}");
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.as_ref(), "config": config, "layers": [],
    });
    server.put_manifest("chart", "1", MediaType::ImageManifest.as_ref(), manifest.to_string().as_bytes());
    // An index without any image is another thing to have a name.
    manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageIndex.as_ref(), "manifests": [],
    });
    server.put_manifest("chart", "none", MediaType::ImageIndex.as_ref(), manifest.to_string().as_bytes());
    let image = TestImage::new(&ocibuild::spec::Platform::host().to_string()).layer(&[("file", "1")]).build();
    server.push("app", "1", &image);
    let (chart, none, app) =
        (server.reference("chart", "1"), server.reference("chart", "none"), server.reference("app", "1"));
    for (name, code, said) in [(&chart, 3, TYPE), (&none, 2, "no match for platform in manifest")] {
        let refused = place.run(&["pull", name]);
        assert_eq!(refused.status.code(), Some(code), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("--all-platforms"), "{}", stderr(&refused));
        succeeded(&place.run(&["pull", "--all-platforms", name]));
    }
    succeeded(&place.run(&["pull", &app]));
    succeeded(&place.run(&["prune"]));
    let listed = succeeded(&place.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]));
    assert!([&chart, &none, &app].iter().all(|name| listed.lines().any(|line| line == *name)), "{listed}");
    let refused = place.run(&["run", &chart]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains(TYPE), "{}", stderr(&refused));
    let copy = server.reference("copy", "1");
    succeeded(&place.run(&["tag", &chart, &copy]));
    succeeded(&place.run(&["push", &copy]));
    assert_eq!(server.manifest("copy", "1"), server.manifest("chart", "1"));
    let ids = succeeded(&place.run(&["images", "-q"]));
    for id in ids.lines().collect::<std::collections::BTreeSet<_>>() {
        succeeded(&place.run(&["rmi", "-f", id]));
    }
    assert_eq!(succeeded(&place.run(&["images", "-q"])), "");
}

fn blob(root: &Path, descriptor: &Descriptor) -> std::path::PathBuf {
    root.join("blobs/sha256").join(descriptor.digest.hex())
}

#[test]
fn a_small_change_over_a_large_base_is_a_small_push() {
    let (place, server) = (Place::with(&[("app", "one")]), TestRegistry::start());
    let base = server.reference("bases/large", "1");
    let layer = large_image(&place, &base, LARGE);
    succeeded(&place.run(&["push", &base]));
    fs::write(place.path().join("context/Dockerfile"), format!("FROM {base}\nCOPY app /app\n")).unwrap();
    let name = server.reference("team/app", "1");
    for (text, flags) in [("one", &["--push"][..]), ("two", &["--push"]), ("three", &[])] {
        fs::write(place.path().join("context/app"), text).unwrap();
        let before = server.moved().0;
        // Another machine, which has the base from the registry and nothing else.
        succeeded(&elsewhere(&place, &[&["build", "-t", &name][..], flags, &["context"]].concat()));
        if flags.is_empty() {
            succeeded(&elsewhere(&place, &["push", &name]));
        }
        let moved = server.moved().0 - before;
        assert!(moved < 1_000_000, "{text}: {moved} bytes");
        assert!(server.blob("team/app", &layer.digest).is_some());
    }
    let pushes = |repository: &str| {
        let of = format!("/v2/{repository}/blobs/uploads/");
        server.requests().iter().filter(|r| r.path.starts_with(&of) && r.path.contains("mount=")).count()
    };
    assert_eq!(pushes("team/app"), 1, "taken over once, then found");
}

const HELLO: &str = "FROM scratch\nCOPY app /app\nLABEL kind=test\n";

#[test]
fn what_is_pushed_to_a_real_registry_is_pulled_as_it_was() {
    let place = Place::with(&[("Dockerfile", HELLO), ("app", "hello")]);
    let Some(server) = DockerRegistry::start(place.path(), "", "") else { return };
    let at = |name: &str| format!("{}/{name}", server.authority());
    let (one, two) = (at("app:1.0"), at("other/app:1.0"));
    succeeded(&place.run(&["build", "-t", &one, "-t", "app:dev", "context"]));
    succeeded(&place.run(&["tag", "app:dev", &two]));
    let text = succeeded(&place.run(&["push", &one, &two]));
    let digest = text.lines().next().unwrap().split(' ').nth(2).unwrap().to_owned();
    assert_eq!(text.matches(&digest).count(), 2, "{text}");
    // By tag, and by digest from another repository; then once more.
    for name in [one.clone(), format!("{}@{digest}", at("other/app"))] {
        let text = succeeded(&elsewhere(&place, &["pull", &name]));
        assert!(text.starts_with(&format!("Digest: {digest}\nStatus: Downloaded newer image")), "{text}");
        let text = succeeded(&elsewhere(&place, &["pull", &name]));
        assert!(text.contains("Status: Image is up to date"), "{text}");
        let inspected = succeeded(&elsewhere(&place, &["inspect", &name]));
        assert!(inspected.contains(&digest), "{inspected}");
    }
    let missing = elsewhere(&place, &["pull", &at("app:2.0")]);
    assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("MANIFEST_UNKNOWN"), "{}", stderr(&missing));
    let missing = place.run(&["push", &at("app:2.0")]);
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
}

#[test]
fn build_pushes_under_all_names_and_by_digest() {
    let place = Place::with(&[("Dockerfile", HELLO), ("app", "hello")]);
    let server = TestRegistry::start();
    let (one, latest) = (server.reference("app", "1"), server.reference("app", "latest"));
    let id = ["--iidfile", "id"];
    succeeded(&place.run(&[&["build", "--push", "-t", &one, "-t", &latest][..], &id, &["context"]].concat()));
    let digest = fs::read_to_string(place.path().join("id")).unwrap();
    for tag in ["1", "latest"] {
        let (_, bytes) = server.manifest("app", tag).unwrap();
        assert_eq!(ocibuild::spec::Digest::of(&bytes).to_string(), digest);
    }
    assert!(succeeded(&place.run(&["images", "-q"])).is_empty(), "pushed names are no names here");
    let by_digest = format!("type=registry,name={},push-by-digest=true", server.reference("lib", "1"));
    succeeded(&place.run(&["build", "-o", &by_digest, "context"]));
    assert!(server.manifest("lib", &digest).is_some());
    assert!(server.manifest("lib", "1").is_none());
    let several = ["build", "--push", "--platform", "linux/amd64,linux/arm64", "-t", &one, "context"];
    succeeded(&place.run(&several));
    let (media_type, _) = server.manifest("app", "1").unwrap();
    assert_eq!(media_type, MediaType::ImageIndex.as_ref());
    let nameless = place.run(&["build", "--push", "context"]);
    assert_eq!(nameless.status.code(), Some(2));
    assert!(stderr(&nameless).contains("tag is needed when pushing to registry"), "{}", stderr(&nameless));
}

#[test]
fn all_platforms_go_through_the_state_directory_as_they_are() {
    let place = Place::with(&[("Dockerfile", HELLO), ("app", "hello")]);
    let server = TestRegistry::start();
    let (name, copy) = (server.reference("app", "1"), server.reference("copy", "1"));
    succeeded(&place.run(&["build", "--platform", "linux/amd64,linux/arm64", "-t", &name, "context"]));
    succeeded(&place.run(&["push", &name]));
    succeeded(&elsewhere(&place, &["pull", "--all-platforms", &name]));
    succeeded(&elsewhere(&place, &["tag", &name, &copy]));
    succeeded(&elsewhere(&place, &["push", "--all-tags", copy.trim_end_matches(":1")]));
    assert_eq!(server.manifest("copy", "1"), server.manifest("app", "1"));
    // One platform of it is another image.
    succeeded(&elsewhere(&place, &["pull", "--platform", "linux/arm64", &name]));
    let text = succeeded(&elsewhere(&place, &["inspect", &name]));
    assert!(text.contains("\"Architecture\": \"arm64\""), "{text}");
    let unknown = elsewhere(&place, &["pull", "--platform", "linux/s390x", &name]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("linux/s390x"), "{}", stderr(&unknown));
}

#[test]
fn run_fetches_what_is_not_here() {
    let place = Place::with(&[("Dockerfile", "FROM scratch\nCOPY busybox /busybox\n")]);
    if fs::copy("/bin/busybox", place.path().join("context/busybox")).is_err() {
        return skip("there is no statically linked /bin/busybox");
    }
    if !ocibuild_testkit::sys::namespaces_work().is_ok_and(|()| rustix::process::geteuid().is_root()) {
        return skip("containers are tried as root only");
    }
    let server = TestRegistry::start();
    let name = server.reference("app", "1");
    succeeded(&place.run(&["build", "--push", "-t", &name, "context"]));
    let pulls = || server.requests().iter().filter(|request| request.path.contains("/manifests/1")).count();
    let never = elsewhere(&place, &["run", "--pull", "never", &name]);
    assert_eq!(never.status.code(), Some(2), "{}", stderr(&never));
    let before = pulls();
    for _ in 0..2 {
        assert_eq!(succeeded(&elsewhere(&place, &["run", &name, "/busybox", "echo", "ran"])), "ran\n");
    }
    assert_eq!(pulls(), before + 1, "what is here is not asked for");
    succeeded(&elsewhere(&place, &["run", "--pull", "always", &name, "/busybox", "true"]));
    assert_eq!(pulls(), before + 2);
    let missing = elsewhere(&place, &["run", &server.reference("app", "2")]);
    assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("MANIFEST_UNKNOWN"), "{}", stderr(&missing));
}

fn openssl(place: &Place, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = place.command("openssl").args(arguments).output().ok()?;
    assert!(output.status.success(), "{}", stderr(&output));
    Some(output.stdout)
}

/// A token as distribution's "Token Authentication Implementation" has it, which lets its bearer do everything with
/// `repository`.
fn signed_token(place: &Place, repository: &str) -> Option<String> {
    let key =
        ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=test"];
    openssl(place, &[&["req", "-x509", "-days", "2"][..], &key].concat())?;
    openssl(place, &["x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der"])?;
    let certificate = openssl(place, &["base64", "-A", "-in", "cert.der"])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = serde_json::json!({
        "typ": "JWT", "alg": "RS256", "x5c": [String::from_utf8(certificate).unwrap()],
    });
    let claims = serde_json::json!({
        "iss": "us", "sub": "alice", "aud": "test", "exp": now + 600, "nbf": now - 60, "iat": now, "jti": "1",
        "access": [{"type": "repository", "name": repository, "actions": ["pull", "push"]}],
    });
    let encoded = |bytes: &[u8]| {
        fs::write(place.path().join("plain"), bytes).unwrap();
        let text = openssl(place, &["base64", "-A", "-in", "plain"])?;
        let text = String::from_utf8(text).unwrap();
        Some(text.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned())
    };
    let signed =
        format!("{}.{}", encoded(header.to_string().as_bytes())?, encoded(claims.to_string().as_bytes())?);
    fs::write(place.path().join("signed"), &signed).unwrap();
    let signature = openssl(place, &["dgst", "-sha256", "-sign", "key.pem", "signed"])?;
    Some(format!("{signed}.{}", encoded(&signature)?))
}

#[test]
fn the_reference_registry_takes_tokens_of_a_service() {
    let place = Place::with(&[("Dockerfile", HELLO), ("app", "hello")]);
    let Some(token) = signed_token(&place, "team/app") else { return skip("openssl is not installed") };
    let service = WebServer::start();
    let answer = serde_json::json!({ "token": token, "expires_in": 300 });
    service.put("/token", Reply::of(answer.to_string()));
    let auth = format!(
        "auth: {{token: {{realm: '{}', service: test, issuer: us, rootcertbundle: {}}}}}",
        service.url("/token"),
        place.path().join("cert.pem").display()
    );
    let Some(server) = DockerRegistry::start(place.path(), "", &auth) else { return };
    let name = format!("{}/team/app:1", server.authority());
    fs::create_dir(place.path().join("docker")).unwrap();
    // alice:c4n4ry
    let login = format!(r#"{{"auths":{{"{}":{{"auth":"YWxpY2U6YzRuNHJ5"}}}}}}"#, server.authority());
    fs::write(place.path().join("docker/config.json"), login).unwrap();
    let run = |root: &str, arguments: &[&str]| {
        let mut command = place.command(env!("CARGO_BIN_EXE_ocibuild"));
        command.env("DOCKER_CONFIG", "docker").args(["--root", root]).args(arguments).output().unwrap()
    };
    succeeded(&run("state", &["build", "--push", "-t", &name, "context"]));
    succeeded(&run("other", &["pull", &name]));
    let asked = service.requests();
    assert!(
        asked.iter().all(|request| request.headers["authorization"] == "Basic YWxpY2U6YzRuNHJ5"),
        "{asked:?}"
    );
    let scope_of = |path: &'_ str| Some(path.split("scope=").nth(1)?.split('&').next()?.to_owned());
    let scopes: Vec<String> = asked.iter().filter_map(|request| scope_of(&request.path)).collect();
    assert_eq!(scopes, ["repository:team/app:pull,push", "repository:team/app:pull"]);
    // What the token is not for is denied in the registry's words.
    let denied = run("state", &["build", "--push", "-t", &name.replace("team/app", "other"), "context"]);
    assert_eq!(denied.status.code(), Some(4), "{}", stderr(&denied));
    assert!(stderr(&denied).contains("UNAUTHORIZED (authentication required)"), "{}", stderr(&denied));
    assert!(!stderr(&denied).contains("c4n4ry") && !stderr(&denied).contains(&token), "{}", stderr(&denied));
}
