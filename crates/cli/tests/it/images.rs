//! Verbs about the images that are here.

use crate::program::Place;

fn with_image() -> Place {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\nCMD [\"/x\"]\n");
    place.build(&["-t", "app:1", "-t", "127.0.0.1:5000/team/app:2"]).succeeds();
    place
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let place = with_image();
    let ended = place.run(&["images"]);
    let lines: Vec<Vec<&str>> = ended.succeeds().lines().map(|line| line.split("   ").collect()).collect();
    let columns = |line: &[&str]| {
        line.iter()
            .map(|cell| cell.trim())
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(columns(&lines[0]), ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(columns(&lines[1])[..2], ["127.0.0.1:5000/team/app", "2"]);
    assert_eq!(columns(&lines[2])[..2], ["app", "1"]);
    assert_eq!(columns(&lines[1])[2].len(), 12);
    assert!(columns(&lines[2])[3].ends_with("ago"));
    let ids = place.run(&["images", "-q", "--no-trunc"]);
    assert!(ids.succeeds().lines().all(|id| id.starts_with("sha256:") && id.len() == 71));
    let objects = place.run(&["images", "--format", "json"]);
    let first: serde_json::Value = serde_json::from_str(objects.succeeds().lines().next().unwrap()).unwrap();
    assert_eq!((&first["Tag"], &first["Size"]), (&"2".into(), &"42B".into()));
}

#[test]
fn an_empty_place_has_no_images() {
    let place = Place::new();
    assert_eq!(place.run(&["images"]).succeeds().lines().count(), 1);
    assert!(place.run(&["du"]).succeeds().starts_with("TYPE "));
}

#[test]
fn names_come_and_go() {
    let place = with_image();
    place.run(&["tag", "app:1", "other"]).succeeds();
    assert!(place.run(&["du"]).succeeds().contains("Blobs (1 images)"), "names are not images");
    assert!(place.run(&["images"]).succeeds().contains("other"));
    assert_eq!(place.run(&["rmi", "other", "app:1"]).succeeds(), "Untagged: other:latest\nUntagged: app:1\n");
    place.run(&["rmi", "other"]).fails(2, &["there is no image other:latest here", "hint:"]);
    assert_eq!(place.run(&["rmi", "-f", "other"]).succeeds(), "");
    place.run(&["tag", "nothing", "else"]).fails(2, &["nothing"]);
    let name = format!("x@sha256:{}", "0".repeat(64));
    place.run(&["tag", "127.0.0.1:5000/team/app:2", &name]).fails(2, &["digest"]);
    let name = format!("sha256:{}", "0".repeat(64));
    place.run(&["tag", "127.0.0.1:5000/team/app:2", &name]).fails(2, &["look like an ID"]);
}

#[test]
fn what_no_name_reaches_is_freed() {
    let place = with_image();
    place.run(&["rmi", "app:1", "127.0.0.1:5000/team/app:2"]).succeeds();
    let blobs = || fs_err::read_dir(place.path("state/blobs/sha256")).unwrap().count();
    for (flags, left) in [(&[][..], 1), (&["--filter", "until=1h", "--keep-storage=1g"], 1), (&["--all"], 0)]
    {
        let pruned = place.run(&[&["prune", "--force"], flags].concat());
        assert!(pruned.succeeds().contains("Total reclaimed space: "));
        assert_eq!(blobs(), left, "the layer of a step that is known: {flags:?}");
    }
    place.run(&["prune", "--filter", "label=a"]).fails(2, &["--filter label=a", "until=24h"]);
}

#[test]
fn an_image_is_shown_with_its_history() {
    let place = with_image();
    let ended = place.run(&["history", "app:1"]);
    let lines: Vec<&str> = ended.succeeds().lines().collect();
    assert!(
        lines[0].starts_with("IMAGE ")
            && lines[1].contains("CMD [\"/x\"]")
            && lines[2].contains("COPY Dockerfile /")
    );
    assert!(lines[2].starts_with("<missing>"));
    let ended = place.run(&["inspect", "app:1"]);
    let image: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(image[0]["RepoTags"], serde_json::json!(["127.0.0.1:5000/team/app:2", "app:1"]));
    assert_eq!(image[0]["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(image[0]["Config"]["Cmd"], serde_json::json!(["/x"]));
    let ended = place.run(&["inspect", "missing", "app:1", "gone"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("missing:latest") && ended.stderr.contains("gone:latest"),
        "{}",
        ended.stderr
    );
    let images: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 1, "those that are here are shown");
    assert_eq!(place.run(&["inspect", "missing"]).stdout, "[]\n");
}

#[test]
fn images_are_named_by_id_too() {
    let place = with_image();
    let id = place.run(&["images", "-q", "--no-trunc"]).succeeds().lines().next().unwrap().to_owned();
    let short = &id["sha256:".len()..][..12];
    place.run(&["tag", short, "third:3"]).succeeds();
    assert_eq!(place.run(&["inspect", "-f", "{{.Id}}", short, &id]).succeeds(), format!("{id}\n{id}\n"));
    assert!(place.run(&["history", "-q", &id]).succeeds().starts_with(short));
    place
        .run(&["rmi", short])
        .fails(2, &["conflict: unable to delete", "several names", "-f removes all of them"]);
    let ended = place.run(&["image", "rm", "-f", short]);
    assert_eq!(ended.succeeds().lines().count(), 3);
    assert_eq!(place.run(&["image", "ls", "-q"]).succeeds(), "");
}

#[test]
fn images_are_filtered() {
    let place = with_image();
    place.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nLABEL kind=test\n");
    place.build(&["-t", "labelled"]).succeeds();
    let table: [(&[&str], &[&str]); 10] = [
        (&["app"], &["app:1"]),
        (&["app:2"], &[]),
        (&["*:1"], &["app:1"]),
        (&["-f", "reference=*/*/app"], &["127.0.0.1:5000/team/app:2"]),
        (&["-f", "reference=app", "-f", "reference=lab*"], &["labelled:latest", "app:1"]),
        (&["-f", "label=kind"], &["labelled:latest"]),
        (&["-f", "label=kind=other"], &[]),
        (&["-f", "since=app:1"], &["labelled:latest"]),
        (&["-f", "before=labelled"], &["127.0.0.1:5000/team/app:2", "app:1"]),
        (&["-f", "dangling=true"], &[]),
    ];
    for (args, expected) in table {
        let mut all = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        all.extend(args);
        assert_eq!(place.run(&all).succeeds().lines().collect::<Vec<_>>(), expected, "{args:?}");
    }
    let id = place.run(&["inspect", "-f", "{{.Descriptor.digest}}", "labelled"]);
    let digest = id.succeeds().trim();
    assert!(place.run(&["images", "--digests"]).succeeds().contains(digest));
}
