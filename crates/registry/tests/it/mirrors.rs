use std::path::Path;
use std::time::Duration;

use ocibuild_registry::{
    Credential, Credentials, KnownCredential, Registry, RegistryBuilder, RegistryKey, Secret,
};
use ocibuild_spec::{CancelToken, Descriptor, SourceErrorKind};
use ocibuild_testkit::{Certificates, Fault, ImageBlobs, TestImage, TestRegistry, TlsFront, skip};

use super::{name, pull, resolve};

/// Two mirrors and the registry itself, which alone has the image.
struct Scene {
    first: TestRegistry,
    second: TestRegistry,
    own: TestRegistry,
    image: ImageBlobs,
}

impl Scene {
    fn new() -> Self {
        let [first, second, own] = std::array::from_fn(|_| TestRegistry::start());
        let image = TestImage::new("linux/amd64").layer(&[("a", &"x".repeat(50_000))]).build();
        own.push("team/app", "1", &image);
        Self { first, second, own, image }
    }

    fn reference(&self) -> String {
        self.own.reference("team/app", "1")
    }

    /// Flags of both mirrors.
    fn both(&self, attribute: &str) -> Registry {
        let host = self.own.authority();
        let flags =
            [&self.first, &self.second].map(|mirror| format!("{host}={}{attribute}", mirror.authority()));
        mirrored(&flags.each_ref().map(String::as_str)).build().unwrap()
    }

    /// Manifests and blobs that each of the three was asked for.
    fn asked(&self) -> [(usize, usize); 3] {
        [&self.first, &self.second, &self.own].map(|server| {
            let of = |part: &str| server.requests().iter().filter(|r| r.path.contains(part)).count();
            (of("/manifests/"), of("/blobs/"))
        })
    }

    fn layer(&self) -> &Descriptor {
        &self.image.layers[0].0
    }
}

fn mirrored(flags: &[&str]) -> RegistryBuilder {
    let builder = Registry::builder()
        .retries(3, Duration::from_millis(5), Duration::from_millis(20))
        .stall_timeout(Duration::from_millis(700));
    flags.iter().fold(builder, |builder, flag| builder.mirror(flag.parse().unwrap()))
}

#[test]
fn several_mirrors_are_asked_before_the_registry_itself() {
    // kaniko 1473
    let scene = Scene::new();
    let registry = scene.both("");
    resolve(&registry, &scene.reference()).unwrap();
    let bytes = pull(&registry, &scene.reference(), scene.layer()).unwrap();
    assert_eq!(bytes, scene.image.layers[0].1);
    // Who did not have the manifest is not asked for the blobs first: the config and the layer.
    assert_eq!(scene.asked(), [(1, 0), (1, 0), (1, 2)]);
    let scene = Scene::new();
    scene.second.push("team/app", "1", &scene.image);
    scene.first.fault("/v2/", usize::MAX, Fault::Hangup);
    let registry = scene.both("");
    resolve(&registry, &scene.reference()).unwrap();
    pull(&registry, &scene.reference(), scene.layer()).unwrap();
    assert_eq!(scene.asked(), [(2, 0), (1, 2), (0, 0)], "two tries, then never again");
}

#[test]
fn whatever_a_mirror_says_the_next_place_is_asked() {
    for fault in [
        Fault::Answer(401, Vec::new(), Vec::new()),
        Fault::Answer(403, Vec::new(), b"not on the list".to_vec()),
        Fault::Answer(404, Vec::new(), Vec::new()),
        Fault::Answer(429, Vec::new(), Vec::new()),
        Fault::Answer(500, Vec::new(), Vec::new()),
        Fault::Answer(200, Vec::new(), b"<html>".to_vec()),
        Fault::Redirect("http://169.254.169.254/".to_owned()),
        Fault::WrongBytes,
        Fault::Endless,
        Fault::Hangup,
    ] {
        let scene = Scene::new();
        scene.first.push("team/app", "1", &scene.image);
        scene.first.fault("/manifests/", usize::MAX, fault.clone());
        let pinned = format!("{}/team/app@{}", scene.own.authority(), scene.image.descriptor.digest);
        for reference in [scene.reference(), pinned] {
            let found = resolve(&scene.both(""), &reference);
            let found = found.unwrap_or_else(|error| panic!("{fault:?} {reference}: {error}"));
            assert_eq!(found.descriptor.digest, scene.image.descriptor.digest);
        }
    }
}

#[test]
fn a_config_with_wrong_bytes_is_asked_for_elsewhere() {
    for fault in [Fault::WrongBytes, Fault::Truncate(10), Fault::OneMore, Fault::Stall(10)] {
        let scene = Scene::new();
        scene.first.push("team/app", "1", &scene.image);
        scene.first.fault("/blobs/", usize::MAX, fault.clone());
        let found = resolve(&scene.both(""), &scene.reference());
        assert!(found.is_ok(), "{fault:?}: {}", found.unwrap_err());
    }
}

#[test]
fn an_exclusive_mirror_never_falls_back() {
    // kaniko 2445: the mirror has a list of what is allowed.
    let scene = Scene::new();
    scene.second.fault("/v2/", usize::MAX, Fault::Answer(403, Vec::new(), b"not on the list".to_vec()));
    let registry = scene.both(",exclusive");
    let error = resolve(&registry, &scene.reference()).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    let text = error.to_string();
    for words in ["2 places were asked", "answered 404", "MANIFEST_UNKNOWN", "not on the list", ",exclusive)"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(pull(&registry, &scene.reference(), scene.layer()).is_err());
    assert!(scene.own.requests().is_empty());
}

#[test]
fn a_mirror_has_a_path() {
    // kaniko 1618, 2315: below a path, and of any registry.
    let scene = Scene::new();
    scene.first.push("cache/hub/library/alpine", "3", &scene.image);
    scene.first.push("other/team/app", "1", &scene.image);
    let mirror = scene.first.authority();
    let registry = mirrored(&[
        &format!("{mirror}/cache/hub,exclusive"),
        &format!("ghcr.io/team={mirror}/other/team,exclusive"),
    ])
    .build()
    .unwrap();
    resolve(&registry, "alpine:3").unwrap();
    resolve(&registry, "ghcr.io/team/app:1").unwrap();
    pull(&registry, "ghcr.io/team/app:1", scene.layer()).unwrap();
}

#[test]
fn an_insecure_mirror_is_used() {
    // kaniko 1764: the mirror has a certificate that nobody vouches for.
    let scene = Scene::new();
    let Some(certificates) = Certificates::new() else { return skip("openssl is not installed") };
    scene.first.push("team/app", "1", &scene.image);
    let own = certificates.self_signed("mirror", "DNS:elsewhere");
    let front = TlsFront::start(&scene.first.authority(), &own, None);
    let flag = format!("{}={}", scene.own.authority(), front.authority());
    let registry = mirrored(&[&flag]).insecure(front.authority()).build().unwrap();
    resolve(&registry, &scene.reference()).unwrap();
    assert!(scene.own.requests().is_empty());
    // Otherwise it is passed over, and what it was is said.
    scene.own.fault("/v2/", 1, Fault::Answer(404, Vec::new(), Vec::new()));
    let error = resolve(&mirrored(&[&flag]).build().unwrap(), &scene.reference()).unwrap_err();
    assert!(error.to_string().contains("CaUsedAsEndEntity"), "{error}");
}

#[test]
fn credentials_of_a_registry_are_none_of_its_mirror() {
    let password = |server: &TestRegistry| {
        let key = RegistryKey::parse(&server.authority()).unwrap();
        let credential = Credential::password("alice", Secret::new("pa55-c4n4ry"));
        Credentials::new(vec![Box::new(KnownCredential::new("test", "THERE", key, credential))])
    };
    let scene = Scene::new();
    scene.first.push("team/app", "1", &scene.image);
    scene.first.require_token("mirror's", None);
    scene.own.require_token("own", None);
    let flag = format!("{}={}", scene.own.authority(), scene.first.authority());
    // The registry's: the mirror is asked without any, and says what it says.
    scene.first.fault("/token", usize::MAX, Fault::Answer(401, Vec::new(), Vec::new()));
    let registry = mirrored(&[&flag]).credentials(password(&scene.own)).build().unwrap();
    resolve(&registry, &scene.reference()).unwrap();
    let has_basic = |server: &TestRegistry| {
        let is_basic = |value: &String| value.starts_with("Basic ");
        server.requests().iter().any(|request| request.headers.get("authorization").is_some_and(is_basic))
    };
    assert!(!has_basic(&scene.first) && has_basic(&scene.own));
    // The mirror's (buildkit 5939).
    let scene = Scene::new();
    scene.first.push("team/app", "1", &scene.image);
    scene.first.require_token("mirror's", None);
    let flag = format!("{}={}", scene.own.authority(), scene.first.authority());
    let registry = mirrored(&[&flag]).credentials(password(&scene.first)).build().unwrap();
    resolve(&registry, &scene.reference()).unwrap();
    assert!(has_basic(&scene.first) && scene.own.requests().is_empty());
}

#[test]
fn wrong_bytes_of_a_layer_are_blamed_on_the_mirror() {
    let scene = Scene::new();
    scene.first.push("team/app", "1", &scene.image);
    scene.first.fault(scene.layer().digest.as_str(), 1, Fault::WrongBytes);
    let registry = scene.both("");
    resolve(&registry, &scene.reference()).unwrap();
    let error = pull(&registry, &scene.reference(), scene.layer()).unwrap_err();
    assert!(error.contains("the mirror ") && error.contains(&scene.first.authority()), "{error}");
    assert_eq!(pull(&registry, &scene.reference(), scene.layer()).unwrap(), scene.image.layers[0].1);
    assert_eq!(scene.asked()[0], (1, 2), "the config and the layer, once");
}

#[test]
fn a_layer_that_breaks_off_goes_on_elsewhere() {
    let scene = Scene::new();
    scene.first.push("team/app", "1", &scene.image);
    let layer = scene.layer().digest.as_str();
    scene.first.fault(layer, 1, Fault::Truncate(20_000));
    scene.first.fault(layer, usize::MAX, Fault::Answer(503, Vec::new(), Vec::new()));
    let registry = scene.both("");
    resolve(&registry, &scene.reference()).unwrap();
    assert_eq!(pull(&registry, &scene.reference(), scene.layer()).unwrap(), scene.image.layers[0].1);
    let ranges = scene.own.requests().iter().filter_map(|r| r.headers.get("range").cloned()).count();
    assert_eq!(ranges, 1, "only the rest was asked for");
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
}

#[test]
fn containers_and_containerds_files_count() {
    let scene = Scene::new();
    let directory = tempfile::tempdir().unwrap();
    let (own, first, second) = (scene.own.authority(), scene.first.authority(), scene.second.authority());
    // The first one has the blobs and is not trusted with tags; the second does not even exist.
    scene.first.push("team/app", "1", &scene.image);
    let text = format!(
        "server = 'http://{own}'\n[host.'http://{first}']\ncapabilities = ['pull']\n[host.'http://127.0.0.1:1']\n"
    );
    write(directory.path(), &format!("certs.d/{own}/hosts.toml"), &text);
    let registry = mirrored(&[]).certs_d(directory.path().join("certs.d")).build().unwrap();
    resolve(&registry, &scene.reference()).unwrap();
    pull(&registry, &scene.reference(), scene.layer()).unwrap();
    assert_eq!(scene.asked(), [(0, 2), (0, 0), (1, 0)]);
    let namespace = format!("?ns={own}");
    assert!(scene.first.requests().iter().all(|request| request.path.ends_with(&namespace)));
    // This file decides before the other. A mirror for digests only is not asked for the tag, but for the rest.
    let scene = Scene { second: scene.second, ..Scene::new() };
    let own = scene.own.authority();
    scene.second.push("mirror/app", "1", &scene.image);
    let text = format!(
        "[[registry]]\nprefix = '{own}/team'\nlocation = '{own}/team'\nmirror-by-digest-only = true\n\
         [[registry.mirror]]\nlocation = '{second}/mirror'\n"
    );
    write(directory.path(), "registries.conf", &text);
    let registry = mirrored(&[])
        .certs_d(directory.path().join("certs.d"))
        .registries_conf(directory.path().join("registries.conf"))
        .build()
        .unwrap();
    resolve(&registry, &scene.reference()).unwrap();
    assert_eq!(scene.asked(), [(0, 0), (0, 1), (1, 0)]);
    let pinned = format!("{own}/team/app@{}", scene.image.descriptor.digest);
    resolve(&registry, &pinned).unwrap();
    assert_eq!(scene.asked(), [(0, 0), (1, 2), (1, 0)]);
}

#[test]
fn pushes_go_to_the_registry_itself() {
    let scene = Scene::new();
    let registry = scene.both(",exclusive");
    let (descriptor, cancel) = (&scene.image.descriptor, CancelToken::new());
    let reference = name(&scene.own.reference("team/app", "2"));
    registry.put_manifest(&reference, &descriptor.media_type, &scene.image.manifest, &cancel).unwrap();
    assert!(scene.own.manifest("team/app", "2").is_some());
    assert!(registry.stat_manifest(&reference, &cancel).unwrap().is_some());
    // What is to be changed is read where it is.
    let there = registry.tagged_manifest(&reference, &cancel).unwrap().unwrap();
    assert_eq!(there.bytes, scene.image.manifest);
    assert!(scene.first.requests().is_empty() && scene.second.requests().is_empty());
}
