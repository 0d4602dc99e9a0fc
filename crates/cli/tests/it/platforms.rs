//! `--platform` with several platforms, `--annotation`, and what they leave behind.

use crate::program::Place;

const DOCKERFILE: &str =
    "FROM scratch\nARG TARGETARCH UNUSED\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /for/$TARGETARCH\n";

#[test]
fn an_index_is_what_files_and_flags_tell_of() {
    let place = Place::with(DOCKERFILE);
    let files = ["--iidfile", "id", "--metadata-file", "meta.json", "-t", "app:1"];
    let args =
        ["--platform", "linux/amd64,linux/arm64", "--platform", "linux/arm64/v8", "--provenance=false"];
    let more = ["--annotation", "index:a=b", "--attest", "type=sbom,disabled=true"];
    place.build(&[&files[..], &args, &more].concat()).succeeds();
    let metadata: serde_json::Value = serde_json::from_str(&place.read("meta.json")).unwrap();
    let descriptor = &metadata["containerimage.descriptor"];
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.index.v1+json");
    for digest in [&descriptor["digest"], &metadata["containerimage.digest"]] {
        assert_eq!(*digest, place.read("id").as_str());
    }
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    assert!(metadata.get("containerimage.config.digest").is_none(), "an index has no config");
    let (_, hex) = place.read("id").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let index: serde_json::Value =
        serde_json::from_str(&place.read(&format!("state/blobs/sha256/{hex}"))).unwrap();
    assert_eq!(index["annotations"]["a"], "b");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let quiet = place.build(&[&args[..], &["-q", "--annotation", "index:a=b"]].concat());
    quiet.succeeds();
    assert_eq!(quiet.stdout.trim(), place.read("id"));
}

#[test]
fn what_has_no_place_is_refused() {
    let place = Place::with(DOCKERFILE);
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let table: [(&[&str], &str); 4] = [
        (
            &["-o", "type=docker,dest=a.tar"],
            "docker exporter does not currently support exporting manifest lists",
        ),
        (&["--annotation", "manifest[linux/s390x]:a=b"], "no platform linux/s390x found in source"),
        (&["-o", "type=local,dest=.,mode=delete"], "mode=delete would empty"),
        (&["-o", "type=oci,dest=a.tar,oci-mediatypes=false", "--annotation", "a=b"], "oci-mediatypes=false"),
    ];
    for (args, text) in table {
        place.build(&[&both[..], args].concat()).fails(2, &[text]);
    }
    let one = place.build(&["--annotation", "index:a=b"]);
    one.fails(2, &["index annotations not supported for single platform export"]);
    assert!(!place.path("a.tar").exists() && place.path("Dockerfile").exists());
}

#[test]
fn files_and_archives() {
    let place = Place::with(DOCKERFILE);
    let both = ["--platform", "linux/amd64,linux/arm64", "-o", "out", "-o", "type=oci,tar=false,dest=layout"];
    place.build(&both).succeeds();
    assert!(place.path("out/linux_amd64/for/amd64").is_file());
    assert!(place.path("out/linux_arm64/for/arm64").is_file());
    assert!(place.path("layout/index.json").is_file());
}

#[test]
fn a_plan_of_each_platform() {
    let place = Place::with(DOCKERFILE);
    let args = ["plan", "--platform", "linux/amd64,linux/arm64", "--build-arg", "UNUSED=1"];
    let text = place.run(&[&args[..], &["."]].concat());
    text.succeeds();
    for line in ["platform linux/amd64", "platform linux/arm64", "    destination \"/for/arm64\""] {
        assert!(text.stdout.lines().any(|found| found == line), "{line}: {}", text.stdout);
    }
    let text = place.run(&[&args[..], &["--format", "json", "."]].concat());
    text.succeeds();
    let json: serde_json::Value = serde_json::from_str(&text.stdout).unwrap();
    assert_eq!((&json["v"], &json["platforms"][1]["platform"]), (&1.into(), &"linux/arm64".into()));
}
