//! Which certificates and which mirrors count, through the program.

use ocibuild_testkit::{
    CertificateFiles, Certificates, DockerRegistry, Fault, TestImage, TestRegistry, TlsFront, skip,
};

use super::program::{Ended, Place};

/// A place with an image, and a real registry that has this certificate.
struct Scene {
    place: Place,
    server: DockerRegistry,
    data: tempfile::TempDir,
}

impl Scene {
    fn new(own: &CertificateFiles, more: &str) -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let (certificate, key) = (own.certificate.display(), own.key.display());
        let tls = format!(", tls: {{certificate: {certificate}, key: {key}{more}}}");
        let server = DockerRegistry::start(data.path(), &tls, "")?;
        let place = Place::with("FROM scratch\nCOPY Dockerfile /\n");
        let scene = Self { place, server, data };
        let name = scene.name();
        scene.place.build(&["-t", &name]).succeeds();
        Some(scene)
    }

    fn name(&self) -> String {
        format!("{}/team/app:1", self.server.authority())
    }

    fn push(&self, flags: &[&str]) -> Ended {
        let name = self.name();
        let mut args = vec!["push", "--retry", "0"];
        args.extend(flags);
        args.push(&name);
        self.place.run(&args)
    }

    /// Puts a file into one of the folders about the registry.
    fn put(&self, kind: &str, file: &str, from: &std::path::Path) {
        let path = format!(".config/{kind}/certs.d/{}/{file}", self.server.authority());
        self.place.write(&path, &fs_err::read_to_string(from).unwrap());
    }
}

fn certificates() -> Option<Certificates> {
    let made = Certificates::new();
    if made.is_none() {
        skip("openssl is not installed");
    }
    made
}

#[test]
fn a_self_signed_registry_is_trusted_when_its_certificate_is_named() {
    let Some(certificates) = certificates() else { return };
    let own = certificates.self_signed("own", "IP:127.0.0.1");
    let Some(scene) = Scene::new(&own, "") else { return };
    let host = scene.server.authority();
    let folder = format!("certs.d/{host}/ca.crt");
    scene.push(&[]).fails(4, &["CaUsedAsEndEntity", "https://127.0.0.1", "--cacert FILE", &folder]);
    let other = certificates.self_signed("other", "IP:127.0.0.1");
    scene.push(&["--cacert", other.certificate.to_str().unwrap()]).fails(4, &["invalid peer certificate"]);
    scene.push(&["--cacert", own.certificate.to_str().unwrap()]).succeeds();
    for kind in ["docker", "containers", "containerd"] {
        scene.push(&[]).fails(4, &["CaUsedAsEndEntity"]);
        scene.put(kind, "ca.crt", &own.certificate);
        scene.push(&[]).succeeds();
        fs_err::remove_dir_all(scene.place.path(&format!(".config/{kind}"))).unwrap();
    }
    scene.push(&["--insecure-registry", &host]).succeeds();
    assert!(scene.data.path().join("registry").is_dir());
}

#[test]
fn names_dates_and_unknown_issuers_are_told_apart() {
    let Some(certificates) = certificates() else { return };
    let authority = certificates.self_signed("ca", "DNS:ca");
    let cases = [
        (
            certificates.self_signed("name", "DNS:registry.test"),
            "certificate not valid for name \"127.0.0.1\"; certificate is only valid for DnsName(\"registry.test\")",
            "subjectAltName has 127.0.0.1",
        ),
        (certificates.expired("old", "IP:127.0.0.1"), "certificate expired", "needs a new certificate"),
        (
            certificates.issued("issued", &authority, "IP:127.0.0.1", "serverAuth"),
            "UnknownIssuer",
            "certificate authority of its own",
        ),
    ];
    for (own, words, hint) in cases {
        let Some(scene) = Scene::new(&own, "") else { return };
        // Only the one whose issuer is unknown is fine once it is named itself.
        let named = own.certificate.to_str().unwrap();
        if words == "UnknownIssuer" {
            scene.push(&[]).fails(4, &[words, hint]);
            scene.push(&["--cacert", authority.certificate.to_str().unwrap()]).succeeds();
        } else {
            scene.push(&["--cacert", named]).fails(4, &[words, hint]);
        }
    }
}

#[test]
fn a_registry_that_wants_a_client_certificate_says_so() {
    let Some(certificates) = certificates() else { return };
    let authority = certificates.self_signed("ca", "DNS:ca");
    let own = certificates.issued("server", &authority, "IP:127.0.0.1", "serverAuth");
    let client = certificates.issued("client", &authority, "DNS:client", "clientAuth");
    let wants = format!(", clientcas: ['{}']", authority.certificate.display());
    let Some(scene) = Scene::new(&own, &wants) else { return };
    scene.put("docker", "ca.crt", &authority.certificate);
    // Go's servers call it so when nothing is shown, and when the wrong thing is.
    scene
        .push(&[])
        .fails(4, &["received fatal alert", "client.cert and client.key", &scene.server.authority()]);
    scene.put("docker", "client.cert", &client.certificate);
    scene.push(&[]).fails(2, &["client.cert: client.key is missing beside it"]);
    scene.put("docker", "client.key", &client.key);
    scene.push(&[]).succeeds();
}

#[test]
fn an_insecure_registry_does_not_make_its_token_service_so() {
    let Some(certificates) = certificates() else { return };
    let own = certificates.self_signed("own", "IP:127.0.0.1");
    let registry = TestRegistry::start();
    registry.push("app", "1", &TestImage::new("linux/amd64").build());
    let front = |server: &TestRegistry| TlsFront::start(&server.authority(), &own, None);
    let (registry_front, tokens) = (front(&registry), TestRegistry::start());
    let token_front = front(&tokens);
    registry.require_token("t", Some(&format!("https://{}/token", token_front.authority())));
    let place = Place::new();
    let name = format!("{}/app:1", registry_front.authority());
    let pull = |flags: &[&str]| {
        let mut args = vec!["pull", "--retry", "0", "--platform", "linux/amd64"];
        args.extend(flags);
        args.push(&name);
        place.run(&args)
    };
    let host = registry_front.authority();
    let words = format!("https://{}/token", token_front.authority());
    pull(&["--insecure-registry", &host]).fails(4, &[&words, "CaUsedAsEndEntity"]);
    assert!(tokens.requests().is_empty());
}

#[test]
fn proxies_are_named_without_their_password() {
    let place = Place::new();
    for proxy in [
        "http://user:pr0xy-secret@127.0.0.1:1",
        "socks5://user:pr0xy-secret@127.0.0.1:1",
        "http://user:pr0xy-secret@",
    ] {
        let mut command = place.command(&["pull", "--retry", "0", "registry.test/x:1"]);
        let ended = super::program::ended(command.env("HTTPS_PROXY", proxy).output().unwrap());
        assert_ne!(ended.code, Some(0));
        assert!(!ended.stderr.contains("pr0xy-secret"), "{}", ended.stderr);
    }
}

/// What `registry resolve` prints, without the blanks that line it up.
fn resolved(place: &Place, args: &[&str]) -> Vec<String> {
    let mut all = vec!["registry", "resolve"];
    all.extend(args);
    let ended = place.run(&all);
    ended.succeeds().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_places_of_an_image_are_shown_with_who_named_them() {
    let place = Place::new();
    let itself = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20 the registry itself";
    assert_eq!(resolved(&place, &["alpine:3.20"]), [itself]);
    assert_eq!(
        resolved(&place, &["--registry-mirror", "docker.io=mirror.example.com/proxy", "alpine:3.20"]),
        [
            "https://mirror.example.com/v2/proxy/library/alpine/manifests/3.20 \
             --registry-mirror docker.io=mirror.example.com/proxy",
            itself,
        ]
    );
    let hosts = ".config/containerd/certs.d/docker.io/hosts.toml";
    place.write(hosts, "[host.'https://h.example/v2/hub']\noverride_path = true\ncapabilities = ['pull']\n");
    let path = |name: &str| place.path(name).display().to_string();
    assert_eq!(
        resolved(&place, &["alpine:3.20"]),
        [
            format!(
                "https://h.example/v2/hub/library/alpine/manifests/3.20?ns=docker.io {}:1 by digest only",
                path(hosts)
            ),
            itself.to_owned(),
        ]
    );
    let conf = ".config/containers/registries.conf";
    let text = "[[registry]]\nprefix = 'docker.io'\nlocation = 'inner.example/hub'\n\
                [[registry.mirror]]\nlocation = 'near.example:5000'\ninsecure = true\n";
    place.write(conf, text);
    let expected = [
        format!(
            "https://near.example:5000/v2/library/alpine/manifests/3.20 {}:4 any certificate, http if it does not \
             speak TLS",
            path(conf)
        ),
        format!("https://inner.example/v2/hub/library/alpine/manifests/3.20 {}:1", path(conf)),
    ];
    assert_eq!(resolved(&place, &["alpine:3.20"]), expected);
    place.write(
        ".config/containers/registries.conf.d/50.conf",
        "[[registry]]\nlocation = 'ghcr.io'\nblocked = true\n",
    );
    assert_eq!(resolved(&place, &["alpine:3.20"]), expected);
    place.run(&["registry", "resolve", "ghcr.io/x"]).fails(3, &["ghcr.io/x is blocked by", "50.conf:1"]);
    let json = place.run(&["registry", "resolve", "--format", "json", "alpine:3.20"]);
    let places: serde_json::Value = serde_json::from_str(json.succeeds()).unwrap();
    assert_eq!(places[0]["speaks"], "tls-unverified-or-http");
    assert_eq!(places[1]["image"], "inner.example/hub/library/alpine:3.20");
    // A file that is named is all there is.
    place.write("named.conf", "");
    let run = |name: &str| {
        let mut command = place.command(&["registry", "resolve", "ghcr.io/x"]);
        super::program::ended(command.env("CONTAINERS_REGISTRIES_CONF", place.path(name)).output().unwrap())
    };
    assert!(run("named.conf").succeeds().starts_with("https://ghcr.io/v2/x/manifests/latest"));
    run("missing.conf").fails(2, &["CONTAINERS_REGISTRIES_CONF", "missing.conf"]);
}

#[test]
fn malformed_configuration_is_a_usage_error_with_its_line() {
    let place = Place::with("FROM registry.test/x\n");
    for (flag, words) in [
        ("http://m.io", "a registry that does not speak TLS has to be named insecure"),
        ("m.io,sometimes", "\"sometimes\" is not an attribute of a mirror"),
        ("docker.io=m.io/a:1", "has a tag or a digest"),
    ] {
        place.run(&["pull", "--registry-mirror", flag, "x"]).fails(2, &[words, "--registry-mirror"]);
    }
    place.write(".config/containers/registries.conf", "\n[[registry]]\nlocation = 1\n");
    for args in [&["pull", "registry.test/x"][..], &["registry", "resolve", "x"]] {
        place.run(args).fails(2, &["registries.conf:3: location: it has to be a text"]);
    }
    place.build(&[]).fails(2, &["registries.conf:3: location"]);
    place.write(".config/containers/registries.conf", "");
    place.write(".config/docker/certs.d/registry.test/hosts.toml", "server = \n");
    place.build(&[]).fails(2, &["registry.test/hosts.toml:1: "]);
}

#[test]
fn a_build_takes_its_base_from_the_mirror() {
    let (mirror, own) = (TestRegistry::start(), TestRegistry::start());
    let image = TestImage::new("linux/amd64").layer(&[("etc/motd", "hello")]).build();
    mirror.push("cache/library/alpine", "3.20", &image);
    let place = Place::with("FROM alpine:3.20\nCOPY Dockerfile /\n");
    let flag = format!("{}/cache,exclusive", mirror.authority());
    let build = |flags: &[&str]| {
        let mut args = vec!["--platform", "linux/amd64", "--retry", "0"];
        args.extend(flags);
        place.build(&args)
    };
    assert_eq!(build(&["--registry-mirror", &flag]).code, Some(0));
    // Two mirrors, of which none may be passed over for the registry.
    mirror.fault("/v2/", usize::MAX, Fault::Answer(403, Vec::new(), b"not on the list".to_vec()));
    let second = format!("{}/cache", own.authority());
    let failed = build(&["--pull", "--registry-mirror", &second, "--registry-mirror", &flag]);
    failed.fails(4, &["2 places were asked", "not on the list", "MANIFEST_UNKNOWN", &flag, &second]);
}

#[test]
fn a_mirror_that_gives_wrong_bytes_is_passed_over() {
    let (mirror, own) = (TestRegistry::start(), TestRegistry::start());
    let image = TestImage::new("linux/amd64").layer(&[("etc/motd", "hello")]).build();
    let layer = image.layers[0].0.digest.to_string();
    for server in [&mirror, &own] {
        server.push("app", "1", &image);
    }
    let name = own.reference("app", "1");
    let flag = format!("{}={}", own.authority(), mirror.authority());
    let place = Place::new();
    mirror.fault(&layer, usize::MAX, Fault::WrongBytes);
    let pull = |place: &Place| {
        place.run(&["pull", "--retry", "0", "--platform", "linux/amd64", "--registry-mirror", &flag, &name])
    };
    pull(&place).succeeds();
    assert_eq!(own.requests().iter().filter(|request| request.path.contains(&layer)).count(), 1);
    // Where nobody has the right ones, it ends with what the last one gave.
    own.fault(&layer, usize::MAX, Fault::WrongBytes);
    pull(&Place::new()).fails(3, &["have the digest"]);
    own.fault(&layer, usize::MAX, Fault::Answer(404, Vec::new(), Vec::new()));
    let alone = format!("{flag},exclusive");
    let pulled = Place::new().run(&["pull", "--platform", "linux/amd64", "--registry-mirror", &alone, &name]);
    pulled.fails(3, &["they came from", &mirror.authority(), &alone]);
}
