//! `deploy-manifest`: which digest, which warnings, which refusals.

use ocibuild_testkit::{TestImage, TestRegistry, index_of};

use crate::program::Place;

const DOCKERFILE: &str = "FROM scratch\nCOPY Dockerfile /\nHEALTHCHECK CMD [\"/x\"]\nEXPOSE 80\n";

#[test]
fn an_image_here_is_pinned_by_its_digest() {
    let place = Place::with(DOCKERFILE);
    place.build(&["-t", "r.example/team/app:1.0", "--iidfile", "id"]).succeeds();
    let ended = place.run(&["deploy-manifest", "r.example/team/app:1.0"]);
    let digest = place.read("id");
    let text = ended.succeeds();
    assert!(text.starts_with("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app\n"), "{text}");
    assert!(text.contains(&format!("\n          image: r.example/team/app:1.0@{digest}\n")), "{text}");
    assert!(text.contains("replicas: 1\n") && !text.contains("Service"), "{text}");
    assert_eq!(ended.stderr, "");
    let by_digest = format!("r.example/team/app@{digest}");
    let text = place.run(&["deploy-manifest", &by_digest]).succeeds().to_owned();
    assert!(text.contains(&format!("image: {by_digest}\n")), "{text}");
}

#[test]
fn an_index_is_pinned_as_a_whole() {
    let place = Place::with(DOCKERFILE);
    let both = ["--platform", "linux/s390x,linux/arm/v6"];
    place.build(&[&both[..], &["-t", "r.example/app:1", "--iidfile", "id"]].concat()).succeeds();
    let text = place.run(&["deploy-manifest", "r.example/app:1"]).succeeds().to_owned();
    assert!(text.contains(&place.read("id")), "{text}");
}

#[test]
fn flags() {
    let place = Place::with(DOCKERFILE);
    place.build(&["-t", "r.example/app:latest"]).succeeds();
    let flags = ["--name", "web", "--namespace", "prod", "--replicas", "3", "--pull-secret", "regcred"];
    let ports = ["--service", "--port", "8080", "--port", "53/udp"];
    let ended = place.run(&[&["deploy-manifest"], &flags[..], &ports, &["r.example/app"]].concat());
    let text = ended.succeeds();
    for line in [
        "  name: web\n  namespace: prod\n",
        "  replicas: 3\n",
        "      imagePullSecrets:\n        - name: regcred\n",
        "            - name: port-8080\n              containerPort: 8080\n              protocol: TCP\n",
        "            - name: udp-53\n              containerPort: 53\n              protocol: UDP\n",
        "---\napiVersion: v1\nkind: Service\n",
        "image: r.example/app@sha256:",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert!(!text.contains("port-80\n"), "{text}");
}

#[test]
fn what_a_cluster_would_not_find_is_told() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    place.build(&["-t", "app:1", "-t", "docker.io/team/app:1"]).succeeds();
    let ended = place.run(&["deploy-manifest", "app:1"]);
    ended.succeeds();
    assert!(ended.stderr.contains("docker.io/library/app at Docker Hub"), "{}", ended.stderr);
    assert!(ended.stderr.contains("no HEALTHCHECK"), "{}", ended.stderr);
    let ended = place.run(&["deploy-manifest", "docker.io/team/app:1"]);
    ended.succeeds();
    assert!(!ended.stderr.contains("Docker Hub"), "{}", ended.stderr);
}

#[test]
fn what_is_not_here_is_asked_for_at_its_registry() {
    let registry = TestRegistry::start();
    let image = |platform: &str| {
        TestImage::new(platform).layer(&[("a", "b")]).config(|config| config.user = "7".to_owned()).build()
    };
    let (one, two) = (image("linux/s390x"), image("linux/arm/v6"));
    for each in [&one, &two] {
        registry.push("team/app", each.descriptor.digest.as_str(), each);
    }
    let (index, bytes) = index_of(&[&one, &two]);
    registry.put_manifest("team/app", "1", index.media_type.as_ref(), &bytes);
    let place = Place::new();
    let text = place.run(&["deploy-manifest", &registry.reference("team/app", "1")]).succeeds().to_owned();
    assert!(text.contains(index.digest.as_str()) && text.contains("runAsUser: 7"), "{text}");
    place
        .run(&["deploy-manifest", &registry.reference("team/app", "2")])
        .fails(4, &["team/app", "MANIFEST_UNKNOWN"]);
}

#[test]
fn what_kubernetes_would_refuse_is_refused() {
    let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
    place.build(&["-t", "r.io/app"]).succeeds();
    let table: [(&[&str], &str); 9] = [
        (&["--service"], "no port for a Service"),
        (&["--service", "--port", "80", "--name", "1a"], "a letter as its first character"),
        (&["--name", "A"], "--name \"A\""),
        (&["--namespace", "a.b"], "--namespace \"a.b\""),
        (&["--pull-secret", "_"], "--pull-secret \"_\""),
        (&["--port", "0"], "\"0\" is not a port"),
        (&["--port", "80/icmp"], "\"80/icmp\" is not a port"),
        (&["--replicas", "x"], "--replicas"),
        (&["--replicas", "3000000000"], "--replicas"),
    ];
    for (flags, words) in table {
        place.run(&[&["deploy-manifest"], flags, &["r.io/app"]].concat()).fails(2, &["error:", words]);
    }
    place.run(&["deploy-manifest", "R.io/App"]).fails(2, &["r.io/app"]);
    let id = place.run(&["images", "-q"]);
    let id = id.succeeds().trim();
    place.run(&["deploy-manifest", id]).fails(2, &["is the ID of an image here", "ocibuild tag"]);
}
