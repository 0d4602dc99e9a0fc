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
    assert_eq!(first["Tag"], "2");
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
    assert!(place.run(&["images"]).succeeds().contains("other"));
    assert_eq!(place.run(&["rmi", "other", "app:1"]).succeeds(), "Untagged: other:latest\nUntagged: app:1\n");
    place.run(&["rmi", "other"]).fails(2, &["there is no image other:latest here", "hint:"]);
    place.run(&["tag", "nothing", "else"]).fails(2, &["nothing"]);
    let name = format!("x@sha256:{}", "0".repeat(64));
    place.run(&["tag", "127.0.0.1:5000/team/app:2", &name]).fails(2, &["digest"]);
}

#[test]
fn what_no_name_reaches_is_freed() {
    let place = with_image();
    place.run(&["rmi", "app:1", "127.0.0.1:5000/team/app:2"]).succeeds();
    assert!(place.run(&["prune", "--force"]).succeeds().contains("Total reclaimed space: "));
    let blobs = fs_err::read_dir(place.path("state/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 0);
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
    place.run(&["inspect", "missing"]).fails(2, &["missing"]);
}
