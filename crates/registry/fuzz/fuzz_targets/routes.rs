//! A `registries.conf` or a `hosts.toml`: no panic, every place has a URL on its own server, and none is spoken to in
//! the clear unless it is this machine or somebody said so.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use ocibuild_registry::fuzzing::{hosts_toml, registries_conf};
use ocibuild_registry::{MirrorRule, Route, Scheme, Transport, Url};
use ocibuild_spec::Reference;

const NAMES: [&str; 6] = [
    "alpine",
    "docker.io/team/app:1",
    "r.test:5000/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "localhost:5000/x",
    "a.b.r.test/deep/er/name",
    "10.0.0.1/x",
];

fuzz_target!(|text: &str| {
    let references = NAMES.map(|name| name.parse::<Reference>().expect("a name"));
    for line in text.lines().take(8) {
        let _ = line.parse::<MirrorRule>();
    }
    for found in [registries_conf(text, &references), hosts_toml(text, &references)] {
        for routes in found.into_iter().flatten().flatten() {
            routes.iter().for_each(|route| check(route, text.contains("insecure")));
        }
    }
});

fn check(route: &Route, allows_plain: bool) {
    let registry = route.reference.registry();
    let server = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let server = Url::new(Scheme::Https, server, "/").expect("a registry is a server");
    let url = route.url().expect("a place has a URL");
    assert_eq!(url.authority(), server.authority(), "{route:?}");
    let rest = url.path().strip_prefix(&route.root).expect("the root comes first");
    assert!(rest.starts_with(&format!("/{}/manifests/", route.reference.repository())), "{url}");
    assert!(route.resolves_tags || route.serves_content, "{route:?}");
    let address = url.host().trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = url.host() == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_verified = matches!(route.speaks, Transport::Tls | Transport::AnyTls);
    assert!(is_verified || is_here || allows_plain, "{route:?}");
}
