//! `index`: images of several platforms under one name.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ocibuild::CancelToken;
use ocibuild::registry::Registry;
use ocibuild::spec::{Descriptor, Digest, Index, MediaType, json};
use ocibuild_testkit::{
    DockerRegistry, Fault, ImageBlobs, LoggedRequest, TestImage, TestRegistry, has_tool, output_of, podman,
    skip,
};
use serde_json::Value;

use crate::program::{Ended, Place, ended};

const EXPECTED: &str = "linux/amd64,linux/arm64,linux/s390x";
const ARCHITECTURES: [&str; 3] = ["amd64", "arm64", "s390x"];

/// A place where an image for this architecture was built as `app:ARCHITECTURE`.
fn build(place: &Place, architecture: &str, text: &str) {
    place.write(
        "Dockerfile",
        &format!("FROM scratch\nARG TARGETARCH\nLABEL text={text}\nCOPY Dockerfile /for/$TARGETARCH\n"),
    );
    let (platform, name) = (format!("linux/{architecture}"), format!("app:{architecture}"));
    place.build(&["--platform", &platform, "-t", &name]).succeeds();
}

fn with_images(architectures: &[&str]) -> Place {
    let place = Place::new();
    for architecture in architectures {
        build(&place, architecture, "1");
    }
    place
}

/// The index that a name stands for at the registry.
fn index_at(server: &TestRegistry, repository: &str, tag: &str) -> Option<Index> {
    let (media_type, bytes) = server.manifest(repository, tag)?;
    assert_eq!(media_type, MediaType::ImageIndex.as_ref());
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn platforms(index: &Index) -> Vec<String> {
    index.manifests.iter().map(|entry| entry.platform.as_ref().unwrap().to_string()).collect()
}

/// Everything that the index reaches is in the repository.
fn assert_complete(server: &TestRegistry, repository: &str, index: &Index) {
    for entry in &index.manifests {
        let (_, bytes) = server.manifest(repository, entry.digest.as_str()).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        for part in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let digest: Digest = part["digest"].as_str().unwrap().parse().unwrap();
            assert_eq!(Digest::of(server.blob(repository, &digest).unwrap()), digest);
        }
    }
}

#[test]
fn images_that_are_here_become_an_index() {
    let (place, server) = (with_images(&["s390x", "arm64", "amd64"]), TestRegistry::start());
    let name = server.reference("team/app", "1.0");
    let created = place.run(&["index", "create", &name, "app:s390x", "app:arm64"]);
    assert_eq!(created.succeeds(), format!("{name}: drafted for linux/arm64, linux/s390x\n"));
    place.run(&["index", "create", "--amend", &name, "app:amd64"]).succeeds();
    place.run(&["index", "annotate", "--annotation", "k=<v>", &name]).succeeds();
    let annotate = ["index", "annotate", "--annotation", "d=1", "--os-version", "6", &name, "app:arm64"];
    place.run(&annotate).succeeds();
    let shown = place.run(&["index", "inspect", &name]);
    assert!(shown.succeeds().contains("Annotation: k=<v>\n"), "{}", shown.stdout);
    assert!(shown.stderr.contains("a draft"), "{}", shown.stderr);
    let rows: Vec<Vec<&str>> =
        shown.stdout.lines().skip(5).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PLATFORM", "DIGEST", "SIZE", "IMAGE"]);
    let columns: Vec<_> = rows[1..].iter().map(|row| (row[0], row[3])).collect();
    assert_eq!(
        columns,
        [("linux/amd64", "app:amd64"), ("linux/arm64", "app:arm64"), ("linux/s390x", "app:s390x")]
    );
    let drafted = place.run(&["index", "inspect", "--format", "json", &name]);
    assert!(server.requests().is_empty(), "a draft needs no registry");
    let pushed = place.run(&["index", "push", &name]);
    let (media_type, bytes) = server.manifest("team/app", "1.0").unwrap();
    assert_eq!(media_type, MediaType::ImageIndex.as_ref());
    assert_eq!(drafted.succeeds().trim_end().as_bytes(), bytes);
    let line = format!("1.0: digest: {} size: {}\n", Digest::of(&bytes), bytes.len());
    assert_eq!(pushed.succeeds(), line);
    let index = index_at(&server, "team/app", "1.0").unwrap();
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64", "linux/s390x"]);
    assert_eq!(index.annotations["k"], "<v>");
    assert_eq!(index.manifests[1].annotations["d"], "1");
    assert_eq!(index.manifests[1].platform.as_ref().unwrap().os_version, "6");
    assert_complete(&server, "team/app", &index);
    // Once more it moves no more than documents, and is the same.
    let (received, _) = server.moved();
    assert_eq!(place.run(&["index", "push", "--purge", "-q", &name]).succeeds(), format!("{name}\n"));
    assert!(server.moved().0 - received < 8_000);
    assert_eq!(server.manifest("team/app", "1.0").unwrap().1, bytes);
    let shown = place.run(&["index", "inspect", &name]);
    assert!(shown.succeeds().contains(Digest::of(&bytes).as_str()));
    assert!(shown.stderr.contains("at its registry"), "{}", shown.stderr);
    place.run(&["index", "rm", &name]).fails(2, &["there is no draft"]);
    // Here it is once it was pulled.
    place.run(&["pull", "--all-platforms", "-q", &name]).succeeds();
    let shown = place.run(&["index", "inspect", "--format", "json", &name]);
    assert!(shown.stderr.contains("in the state directory"), "{}", shown.stderr);
    assert_eq!(shown.succeeds().trim_end().as_bytes(), bytes);
}

#[test]
fn what_makes_no_sense_is_said() {
    let (place, server) = (with_images(&["amd64"]), TestRegistry::start());
    build(&place, "amd64", "2");
    place.run(&["tag", "app:amd64", "other:1"]).succeeds();
    build(&place, "amd64", "3");
    let name = server.reference("app", "1");
    let digest = format!("{}@sha256:{}", name, "0".repeat(64));
    let missing = server.reference("missing", "1");
    let table: [(&[&str], i32, &[&str]); 15] = [
        (
            &["create", &name, "app:amd64", "other:1"],
            2,
            &["linux/amd64", "app:amd64", "other:1", "--replace"],
        ),
        (&["create", &name], 2, &["<IMAGE>"]),
        (&["create", &digest, "app:amd64"], 2, &["an index is named by a tag"]),
        (&["create", &name, &missing], 4, &["404", "MANIFEST_UNKNOWN", "in the state directory either"]),
        (&["create", &name, "Upper"], 2, &["lower case"]),
        (&["create", "--annotation", "manifest:a=b", &name, "app:amd64"], 2, &["no place in an index"]),
        (&["annotate", "--os", "linux", &name, "app:amd64"], 2, &["there is no draft", "index create"]),
        (&["annotate", &name], 2, &["nothing to change"]),
        (&["push", &name], 2, &["there is no draft"]),
        (&["push", &name, "app:amd64"], 2, &["--expect"]),
        (&["push", "--run", "1", &name], 2, &["--expect"]),
        (&["push", "--expect", "linux/amd64,linux/x86_64", &name, "app:amd64"], 2, &["expected twice"]),
        (&["push", "--expect", "linux/arm64", "--run", "", &name, "app:amd64"], 2, &["the run has no name"]),
        (&["push", "--expect", "linux/arm64", &name, "app:amd64"], 2, &["app:amd64 is for linux/amd64"]),
        (&["push", "--expect", "linux/amd64", "--run", "a b", &name, "app:amd64"], 2, &["1-a b-linux-amd64"]),
    ];
    for (args, code, words) in table {
        place.run(&[&["index"], args].concat()).fails(code, words);
    }
    assert!(server.manifest("app", "1").is_none() && server.moved().0 == 0);
    place.run(&["index", "create", "--replace", &name, "app:amd64", "other:1"]).succeeds();
    place.run(&["index", "create", &name, "app:amd64"]).fails(2, &["already", "--append", "index rm"]);
    place
        .run(&["index", "annotate", "--os", "linux", &name, "nobody"])
        .fails(2, &["is not in the draft", "other:1"]);
    assert_eq!(place.run(&["index", "rm", &name]).succeeds(), format!("{name}\n"));
}

#[test]
fn what_a_draft_lists_is_not_pruned() {
    let (place, server) = (with_images(&["amd64"]), TestRegistry::start());
    let name = server.reference("app", "1");
    place.run(&["index", "create", &name, "app:amd64"]).succeeds();
    place.run(&["rmi", "app:amd64"]).succeeds();
    place.run(&["prune", "--all", "--force"]).succeeds();
    place.run(&["index", "push", "--purge", &name]).succeeds();
    assert_complete(&server, "app", &index_at(&server, "app", "1").unwrap());
    place.run(&["prune", "--force"]).succeeds();
    assert_eq!(fs_err::read_dir(place.path("state/blobs/sha256")).unwrap().count(), 0);
}

/// An image for an architecture with a layer of two megabytes, which gzip would not make smaller.
fn large(architecture: &str) -> ImageBlobs {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ Digest::of(architecture).as_str().len() as u64;
    let noise: String = (0..2 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'0' + (state % 64) as u8)
        })
        .collect();
    TestImage::new(&format!("linux/{architecture}")).layer(&[(architecture, &noise)]).build()
}

#[test]
fn images_of_another_repository_are_taken_over() {
    let (place, server) = (Place::new(), TestRegistry::start());
    let images = ARCHITECTURES.map(large);
    for (architecture, image) in ARCHITECTURES.iter().zip(&images) {
        server.push(&format!("built/{architecture}"), "9", image);
    }
    let name = server.reference("team/app", "1");
    let sources = ARCHITECTURES.map(|architecture| server.reference(&format!("built/{architecture}"), "9"));
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    place.run(&[&["index", "create", &name], &sources[..]].concat()).succeeds();
    let pushed = place.run(&["index", "push", &name]);
    assert!(pushed.stderr.contains("taken over from built/arm64"), "{}", pushed.stderr);
    pushed.succeeds();
    let (received, sent) = server.moved();
    assert!(received < 10_000 && sent < 10_000, "{received} bytes came and {sent} went");
    let index = index_at(&server, "team/app", "1").unwrap();
    assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
    assert_complete(&server, "team/app", &index);
    assert_eq!(fs_err::read_dir(place.path("state/blobs/sha256")).unwrap().count(), 0);
    // An index of the same repository needs nothing but its own bytes.
    let again = server.reference("team/app", "2");
    place.run(&["index", "create", &again, &name]).succeeds();
    let before = server.moved().0;
    place.run(&["index", "push", &again]).succeeds();
    assert_eq!(server.manifest("team/app", "2"), server.manifest("team/app", "1"));
    assert!(server.moved().0 - before < 2_000);
}

#[test]
fn images_of_another_registry_go_through() {
    let (place, from, to) = (Place::new(), TestRegistry::start(), TestRegistry::start());
    let image = large("arm64");
    from.push("built", "1", &image);
    let (source, name) = (from.reference("built", "1"), to.reference("app", "1"));
    place.run(&["index", "create", &name, &source]).succeeds();
    let layer = &image.layers[0].0.digest;
    let push = |name: &str| place.run(&["index", "push", "--retry-delay", "0.01", name]);
    from.fault(layer.as_str(), 1, Fault::WrongBytes);
    push(&name).fails(3, &[layer.as_str()]);
    assert!(to.manifest("app", "1").is_none() && to.blob("app", layer).is_none());
    from.fault(layer.as_str(), 1, Fault::Answer(404, Vec::new(), b"gone away".to_vec()));
    push(&name).fails(4, &["404", "gone away", &from.authority()]);
    from.fault(layer.as_str(), 1, Fault::Truncate(1_500_000));
    push(&name).succeeds();
    assert_complete(&to, "app", &index_at(&to, "app", "1").unwrap());
    assert_eq!(fs_err::read_dir(place.path("state/blobs/sha256")).unwrap().count(), 0);
}

/// An index of the image with attestations about it, and about another; as BuildKit makes them.
fn attested(server: &TestRegistry, repository: &str, image: &ImageBlobs) -> Descriptor {
    server.push(repository, "image", image);
    let layer = b"{}".to_vec();
    let attestation = |about: &Digest| {
        let config = br#"{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let mut part = Descriptor::of(MediaType::from("application/vnd.in-toto+json"), &layer);
        part.annotations.insert("about".to_owned(), about.to_string());
        let config = Descriptor::of(MediaType::ImageConfig, config);
        server.put_blob(repository, &part.digest, &layer);
        server.put_blob(
            repository,
            &config.digest,
            br#"{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#,
        );
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest.as_ref(), "config": config, "layers": [part],
        });
        let bytes = json::to_vec_pretty(&manifest).unwrap();
        let mut entry = Descriptor::of(MediaType::ImageManifest, &bytes);
        server.put_manifest(repository, entry.digest.as_str(), MediaType::ImageManifest.as_ref(), &bytes);
        entry.platform = Some("unknown/unknown".parse().unwrap());
        entry.annotations.insert("vnd.docker.reference.digest".to_owned(), about.to_string());
        entry.annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
        entry
    };
    let own = attestation(&image.descriptor.digest);
    let others = attestation(&Digest::of("another"));
    let index = Index::new(vec![others, own.clone(), image.descriptor.clone()]);
    let bytes = json::to_vec_pretty(&index).unwrap();
    server.put_manifest(repository, "1", MediaType::ImageIndex.as_ref(), &bytes);
    own
}

#[test]
fn attestations_come_with_their_images() {
    let (place, server) = (with_images(&["amd64"]), TestRegistry::start());
    let image = large("arm64");
    let own = attested(&server, "built", &image);
    let (source, name) = (server.reference("built", "1"), server.reference("app", "1"));
    let created = place.run(&["index", "create", &name, &source, "app:amd64"]);
    created.succeeds();
    assert!(created.stderr.contains("skipped: sha256:"), "{}", created.stderr);
    assert!(created.stderr.contains(&format!("{source}: not in the state directory")), "{}", created.stderr);
    assert!(!created.stderr.contains("app:amd64"), "{}", created.stderr);
    place.run(&["index", "push", &name]).succeeds();
    let index = index_at(&server, "app", "1").unwrap();
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64", "unknown/unknown"]);
    assert_eq!(index.manifests[2], own);
    assert_complete(&server, "app", &index);
    // Jobs that meet bring them as well.
    let name = server.reference("met", "1");
    let meet =
        |image: &str| place.run(&["index", "push", "--expect", "linux/arm64,linux/amd64", &name, image]);
    assert_eq!(meet(&source).succeeds(), "1 of 2 platforms are there; missing: linux/amd64\n");
    meet("app:amd64").succeeds();
    assert_eq!(index_at(&server, "met", "1").unwrap(), index);
}

#[test]
fn indexes_of_others_are_not_believed() {
    let (place, server) = (Place::new(), TestRegistry::start());
    let image = TestImage::new("linux/arm64").layer(&[("a", "1")]).build();
    server.push("built", "image", &image);
    let name = server.reference("app", "1");
    let source = server.reference("built", "1");
    // The sources are tried one after the other under one name.
    let create = |entries: Vec<Descriptor>| {
        let bytes = json::to_vec_pretty(&Index::new(entries)).unwrap();
        server.put_manifest("built", "1", MediaType::ImageIndex.as_ref(), &bytes);
        (place.run(&["index", "create", &name, &source]), Descriptor::of(MediaType::ImageIndex, &bytes))
    };
    let untold = Descriptor { platform: None, ..image.descriptor.clone() };
    let changed = |change: fn(&mut Descriptor)| {
        let mut entry = untold.clone();
        change(&mut entry);
        create(vec![entry]).0
    };
    changed(|entry| entry.size += 1).fails(3, &["it has another size"]);
    changed(|entry| entry.size = 5 << 20).fails(3, &["too large"]);
    changed(|entry| entry.digest = Digest::of("else")).fails(4, &["404"]);
    changed(|entry| entry.media_type = MediaType::ImageIndex).fails(3, &[]);
    create(vec![image.descriptor.clone(); 1001]).0.fails(3, &["more than 1000"]);
    let mut nested = untold.clone();
    for _ in 0..6 {
        nested = create(vec![nested]).1;
        place.run(&["index", "rm", &name]);
    }
    create(vec![nested]).0.fails(3, &["nested more than 4 deep"]);
    // What the descriptor tells of a platform counts, what it tells of the bytes is looked at when they are pushed.
    let mut entry = image.descriptor.clone();
    entry.size += 1;
    entry.platform.as_mut().unwrap().variant = "v8\u{1b}[31m".to_owned();
    create(vec![entry]).0.succeeds();
    let shown = place.run(&["index", "inspect", &name]);
    assert!(shown.succeeds().contains("linux/arm64/v8\\x1b[31m"), "{}", shown.stdout);
    place.run(&["index", "push", &name]).fails(3, &["it has another size"]);
    assert!(server.manifest("app", "1").is_none());
    // A draft that was damaged is neither pushed nor written over.
    let folder = place.path("state/cache/drafts");
    let draft = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let draft = draft.filter(|path| path.file_name().unwrap() != "lock").collect::<Vec<_>>();
    fs_err::write(&draft[0], "{}").unwrap();
    place.run(&["index", "push", &name]).fails(3, &["is unreadable", "index rm"]);
    place.run(&["index", "rm", &name]).succeeds();
}

/// `index push --expect` of one job.
fn meet(place: &Place, name: &str, run: Option<&str>, image: &[&str]) -> Child {
    let mut args = vec!["index", "push", "--retry-delay", "0.01", "--expect", EXPECTED];
    args.extend(run.iter().flat_map(|run| ["--run", run]));
    place.command(&[&args[..], &[name], image].concat()).spawn().unwrap()
}

fn met(place: &Place, name: &str, run: Option<&str>, image: &[&str]) -> Ended {
    ended(meet(place, name, run, image).wait_with_output().unwrap())
}

/// Three machines, each with an image of its own.
fn machines() -> [(Place, String); 3] {
    ARCHITECTURES.map(|architecture| (with_images(&[architecture]), format!("app:{architecture}")))
}

#[test]
fn the_last_job_puts_the_index_and_no_other_touches_the_name() {
    let (machines, server) = (machines(), TestRegistry::start());
    let name = server.reference("app", "1");
    let [amd64, arm64, s390x] = &machines;
    let meet = |(place, image): &(Place, String), run: &str| met(place, &name, Some(run), &[image]);
    let finish = |run: &str| met(&amd64.0, &name, Some(run), &[]);
    let line = meet(arm64, "1");
    assert_eq!(line.succeeds(), "1 of 3 platforms are there; missing: linux/amd64, linux/s390x\n");
    // The same job once more, as after a crash.
    meet(arm64, "1").succeeds();
    assert_eq!(meet(amd64, "1").succeeds(), "2 of 3 platforms are there; missing: linux/s390x\n");
    finish("1").fails(4, &["2 of 3 platforms are there; missing: linux/s390x", "--run"]);
    assert!(server.manifest("app", "1").is_none());
    let last = meet(s390x, "1");
    let first = index_at(&server, "app", "1").unwrap();
    assert!(last.succeeds().starts_with("1: digest: sha256:"), "{}", last.stdout);
    assert_eq!(platforms(&first), EXPECTED.split(',').collect::<Vec<_>>());
    assert_complete(&server, "app", &first);
    assert_eq!(finish("1").succeeds(), last.stdout);

    // Images of that run do not count in the next one.
    build(&amd64.0, "amd64", "2");
    assert_eq!(
        meet(amd64, "2").succeeds(),
        "1 of 3 platforms are there; missing: linux/arm64, linux/s390x\n"
    );
    assert_eq!(index_at(&server, "app", "1").unwrap(), first);
    // Without runs they do.
    let other = server.reference("app", "norun");
    for (place, image) in &machines {
        met(place, &other, None, &[image]).succeeds();
    }
    let whole = index_at(&server, "app", "norun").unwrap();
    build(&arm64.0, "arm64", "2");
    let again = met(&arm64.0, &other, None, &[&arm64.1]);
    assert!(again.succeeds().starts_with("norun: digest:"), "{}", again.stdout);
    let mixed = index_at(&server, "app", "norun").unwrap();
    let same: Vec<bool> = mixed.manifests.iter().zip(&whole.manifests).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, false, true]);
}

#[test]
fn what_a_tag_of_a_platform_holds_has_to_be_its_image() {
    let (machines, server) = (machines(), TestRegistry::start());
    let name = server.reference("app", "1");
    server.push("app", "1-linux-arm64", &large("s390x"));
    let [amd64, _, s390x] = &machines;
    met(&amd64.0, &name, None, &[&amd64.1]).succeeds();
    let ended = met(&s390x.0, &name, None, &[&s390x.1]);
    ended.fails(3, &["1-linux-arm64 is not one image for linux/arm64", "--run"]);
    assert!(server.manifest("app", "1").is_none());
}

/// A number that nobody can foresee, below `limit`.
fn chance(limit: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0) % limit
}

/// What the name stands for is looked at before `race` runs, all the time while it does, and after it: nothing, or an index of
/// all platforms, and that from then on.
fn watched(look: impl Fn() -> Option<Index>, race: impl FnOnce() + Send) {
    let was_there = std::cell::Cell::new(false);
    let look = || {
        let found = look();
        assert!(found.is_some() || !was_there.get(), "the index is gone again");
        was_there.set(found.is_some());
        if let Some(index) = found {
            assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
        }
    };
    look();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let race = scope.spawn(|| {
            // Whatever happens, the watch ends.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(race));
            ended.store(true, Ordering::SeqCst);
            result
        });
        while !ended.load(Ordering::SeqCst) {
            look();
        }
        race.join().unwrap().unwrap();
    });
    look();
}

/// All jobs at about the same time; how many of them put the index.
fn race(machines: &[(Place, String); 3], name: &str, run: &str) -> usize {
    let jobs: Vec<Child> = machines
        .iter()
        .map(|(place, image)| {
            std::thread::sleep(Duration::from_millis(chance(30)));
            meet(place, name, Some(run), &[image])
        })
        .collect();
    let ended: Vec<Ended> =
        jobs.into_iter().map(|job| crate::program::ended(job.wait_with_output().unwrap())).collect();
    let tag = name.rsplit(':').next().unwrap();
    ended.iter().filter(|ended| ended.succeeds().starts_with(&format!("{tag}: digest: "))).count()
}

#[test]
fn jobs_that_race_leave_a_complete_index_or_none() {
    let machines = machines();
    let faults = [
        ("PUT", "/manifests/", Fault::DoneButAnswers(503, Vec::new(), Vec::new())),
        ("PUT", "/manifests/", Fault::Hangup),
        ("PUT", "/manifests/", Fault::Answer(500, Vec::new(), Vec::new())),
        ("GET", "/manifests/", Fault::Answer(429, vec![("retry-after".into(), "0".into())], Vec::new())),
        ("GET", "/manifests/", Fault::Hangup),
        ("GET", "/blobs/", Fault::Truncate(20)),
        ("POST", "/uploads/", Fault::Hangup),
        ("HEAD", "/blobs/", Fault::Answer(502, Vec::new(), Vec::new())),
    ];
    let mut together = 0;
    for round in 0..20 {
        let server = TestRegistry::start();
        for (method, path, fault) in &faults {
            if round > 3 && chance(2) == 0 {
                // Once each: all of them may come to one request, which is tried again so many times and no more.
                server.fault_of(method, path, chance(8) as usize, 1, fault.clone());
            }
        }
        let name = server.reference("app", "1");
        watched(
            || index_at(&server, "app", "1"),
            || {
                let puts = race(&machines, &name, &format!("round{round}"));
                assert!(puts > 0, "nobody was the last");
                together += usize::from(puts > 1);
            },
        );
        assert_complete(&server, "app", &index_at(&server, "app", "1").unwrap());
    }
    println!("in {together} of 20 rounds more than one job saw all");
}

/// Waits until the registry was asked this `times` times.
fn wait_for(server: &TestRegistry, method: &str, path: &str, times: usize) {
    let begun = std::time::Instant::now();
    let is_it = |request: &&LoggedRequest| request.method == method && request.path == path;
    while server.requests().iter().filter(is_it).count() < times {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody sent {method} {path}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_job_that_runs_again_while_others_write_is_not_lost() {
    let (machines, server) = (machines(), TestRegistry::start());
    let (name, run) = (server.reference("app", "1.0"), Some("7"));
    let [amd64, arm64, s390x] = &machines;
    for (place, image) in [amd64, arm64] {
        met(place, &name, run, &[image]).succeeds();
    }
    build(&amd64.0, "amd64", "again");
    // The last job has looked, and its index is on the way for long.
    server.fault_of("PUT", "/manifests/1.0", 1, 1, Fault::Hangup);
    let last = ["index", "push", "--retry-delay", "2", "--expect", EXPECTED, "--run", "7", &name, &s390x.1];
    let last = s390x.0.command(&last).spawn().unwrap();
    wait_for(&server, "PUT", "/v2/app/manifests/1.0", 1);
    met(&amd64.0, &name, run, &[&amd64.1]).succeeds();
    let newest = index_at(&server, "app", "1.0").unwrap();
    ended(last.wait_with_output().unwrap()).succeeds();
    assert_eq!(index_at(&server, "app", "1.0").unwrap(), newest);
    let puts = server.requests().into_iter().filter(|request| request.method == "PUT");
    let puts: Vec<_> = puts.filter(|request| request.path.ends_with("/1.0")).collect();
    // The one that broke, the newer one, the older one, and what the last job made of seeing the newer image.
    assert_eq!(puts.len(), 4);
    assert_ne!(puts[2].body, puts[1].body);
}

#[test]
fn an_append_that_somebody_wrote_over_is_made_again() {
    let (machines, server) = (machines(), TestRegistry::start());
    let name = server.reference("app", "1");
    let [(amd64, _), (arm64, _), (s390x, _)] = &machines;
    amd64.run(&["index", "create", "--append", &name, "app:amd64"]).succeeds();
    amd64.run(&["index", "push", &name]).succeeds();
    arm64.run(&["index", "create", "--append", &name, "app:arm64"]).succeeds();
    arm64.run(&["index", "push", &name]).succeeds();
    let (media_type, theirs) = server.manifest("app", "1").unwrap();
    // Somebody who had begun before does not know of the image that comes now.
    s390x.run(&["index", "create", "--append", &name, "app:s390x"]).succeeds();
    server.fault_of("GET", "/manifests/1", 1, 1, Fault::Answer(503, Vec::new(), Vec::new()));
    let job = s390x.command(&["index", "push", "--retry-delay", "1", &name]).spawn().unwrap();
    wait_for(&server, "PUT", "/v2/app/manifests/1", 3);
    server.put_manifest("app", "1", &media_type, &theirs);
    ended(job.wait_with_output().unwrap()).succeeds();
    let index = index_at(&server, "app", "1").unwrap();
    assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
    wait_for(&server, "PUT", "/v2/app/manifests/1", 4);
}

#[test]
fn an_index_is_gone_on_with_whatever_became_of_it() {
    let (machines, server) = (machines(), TestRegistry::start());
    let name = server.reference("app", "1");
    let [amd64, arm64, s390x] = &machines;
    let append = |(place, image): &(Place, String)| {
        place.run(&["index", "create", "--append", &name, image]).succeeds().to_owned()
    };
    let push = |(place, _): &(Place, String)| place.run(&["index", "push", "--purge", &name]);
    append(amd64);
    push(amd64).succeeds();
    // Two begin with the same index, and neither takes the other's image away.
    assert!(append(arm64).ends_with("drafted for linux/amd64, linux/arm64\n"));
    assert!(append(s390x).ends_with("drafted for linux/amd64, linux/s390x\n"));
    push(arm64).succeeds();
    push(s390x).succeeds();
    let index = index_at(&server, "app", "1").unwrap();
    assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
    assert_complete(&server, "app", &index);
    // Somebody else's image for the same platform.
    build(&amd64.0, "amd64", "2");
    amd64.0.run(&["index", "create", "--append", &name, &amd64.1]).fails(2, &["two images for linux/amd64"]);
    amd64.0.run(&["index", "create", "--append", "--replace", &name, &amd64.1]).succeeds();
    push(amd64).succeeds();
    let replaced = index_at(&server, "app", "1").unwrap();
    assert_ne!(replaced.manifests[0], index.manifests[0]);
    assert_eq!(replaced.manifests[1..], index.manifests[1..]);
    // An annotation of what is there.
    amd64.0.run(&["index", "create", "--append", "--annotation", "a=b", &name]).succeeds();
    push(amd64).succeeds();
    assert_eq!(index_at(&server, "app", "1").unwrap().annotations["a"], "b");
}

#[test]
fn where_conditions_are_looked_at_no_append_is_lost() {
    let (machines, server) = (machines(), TestRegistry::start());
    server.honour_conditions();
    let name = server.reference("app", "1");
    let create = |(place, image): &(Place, String)| {
        place.run(&["index", "create", "--append", &name, image]).succeeds();
    };
    let [amd64, arm64, s390x] = &machines;
    create(amd64);
    amd64.0.run(&["index", "push", &name]).succeeds();
    create(arm64);
    create(s390x);
    // One has read the name, and writes when the other is through.
    server.fault_of("PUT", "/manifests/1", 0, 1, Fault::Hangup);
    let slow = s390x.0.command(&["index", "push", "--retry-delay", "2", &name]).spawn().unwrap();
    wait_for(&server, "PUT", "/v2/app/manifests/1", 2);
    arm64.0.run(&["index", "push", &name]).succeeds();
    ended(slow.wait_with_output().unwrap()).succeeds();
    let index = index_at(&server, "app", "1").unwrap();
    assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
    assert_complete(&server, "app", &index);
}

/// What a name stands for at a registry of another make.
fn raw(name: &str) -> Option<Index> {
    let (registry, cancel) = (Registry::anonymous(), CancelToken::new());
    let found = registry.tagged_manifest(&name.parse().unwrap(), &cancel).unwrap();
    found.map(|found| serde_json::from_slice(&found.bytes).unwrap())
}

#[test]
fn privileged_others_take_the_index_from_a_real_registry() {
    let machines = machines();
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = DockerRegistry::start(directory.path(), "", "") else { return };
    if !has_tool("skopeo") {
        return;
    }
    for round in 0..5 {
        let name = format!("{}/team/app{round}:1", server.authority());
        watched(|| raw(&name), || assert!(race(&machines, &name, "7") > 0));
    }
    let name = format!("{}/team/app0:1", server.authority());
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]).arg(format!("docker://{name}"));
    let index: Index = serde_json::from_str(&output_of(&mut skopeo)).unwrap();
    assert_eq!(platforms(&index), EXPECTED.split(',').collect::<Vec<_>>());
    // From one repository of it to another, by a machine that has none of the images.
    let (place, copy) = (Place::new(), format!("{}/copy:2", server.authority()));
    place.run(&["index", "create", "--annotation", "a=b", &copy, &name]).succeeds();
    let pushed = place.run(&["index", "push", &copy]);
    assert!(pushed.stderr.contains("taken over from team/app"), "{}", pushed.stderr);
    pushed.succeeds();
    assert_eq!(raw(&copy).unwrap().manifests, index.manifests);
    let layout = directory.path().join("layout");
    output_of(
        std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"])
            .arg(format!("docker://{copy}"))
            .arg(format!("oci:{}:1", layout.display())),
    );
    let blobs = fs_err::read_dir(layout.join("blobs/sha256")).unwrap().count();
    // A manifest, a config and a layer for each, and the index.
    assert_eq!(blobs, 10);
    // Appending, on a registry that looks at no condition.
    let more = with_images(&["riscv64"]);
    more.run(&["index", "create", "--append", &copy, "app:riscv64"]).succeeds();
    more.run(&["index", "push", &copy]).succeeds();
    assert_eq!(platforms(&raw(&copy).unwrap())[2], "linux/riscv64");
    if has_tool("podman") {
        let settings = directory.path().join("registries.conf");
        let text = format!("[[registry]]\nlocation = {:?}\ninsecure = true\n", server.authority());
        fs_err::write(&settings, text).unwrap();
        let run = |args: &[&str]| {
            let mut podman = podman(&directory.path().join("podman"));
            output_of(podman.env("CONTAINERS_REGISTRIES_CONF", &settings).args(args))
        };
        let shown: Value = serde_json::from_str(&run(&["manifest", "inspect", &name])).unwrap();
        assert_eq!(shown["manifests"].as_array().unwrap().len(), 3, "{shown}");
        run(&["pull", "-q", "--arch", "s390x", &name]);
        assert_eq!(run(&["image", "inspect", "--format", "{{.Architecture}}", &name]).trim(), "s390x");
    }
    if !has_tool("dockerd") {
        return;
    }
    let Some(engine) = ocibuild_testkit::Daemon::docker(&directory.path().join("docker")) else {
        return skip("no docker engine to pull with");
    };
    output_of(engine.client().args(["pull", "-q", "--platform", "linux/arm64", &name]));
    let found = output_of(engine.client().args(["image", "inspect", "--format", "{{.Architecture}}", &name]));
    assert_eq!(found.trim(), "arm64");
}
