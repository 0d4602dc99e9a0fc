use super::*;

fn file(directory: &tempfile::TempDir, name: &str, text: &str) {
    let path = directory.path().join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
}

/// Routes by what is in a directory: `r.conf` and `certs.d`.
fn routes(directory: &tempfile::TempDir, flags: &[&str], insecure: &[&str]) -> Routes {
    let flags: Vec<MirrorRule> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
    let insecure = insecure.iter().map(|&name| name.to_owned()).collect();
    let path = |name| vec![directory.path().join(name)];
    Routes::new(&flags, insecure, path("r.conf"), path("certs.d"))
}

/// URLs and ways to speak, a line each.
fn shown(routes: &Routes, image: &str) -> Vec<String> {
    let found = routes.of(&image.parse().unwrap()).unwrap();
    let show = |route: &Route| {
        format!(
            "{}?{} {:?}",
            route.url().unwrap(),
            route.namespace.as_deref().unwrap_or_default(),
            route.speaks
        )
    };
    found.iter().map(show).collect()
}

#[test]
fn the_first_source_with_places_decides() {
    let directory = tempfile::tempdir().unwrap();
    let all = |routes: &Routes| shown(routes, "alpine:3").join(" | ");
    let itself = "https://registry-1.docker.io/v2/library/alpine/manifests/3? Tls";
    assert_eq!(all(&routes(&directory, &[], &[])), itself);
    file(&directory, "certs.d/docker.io/hosts.toml", "[host.'https://h.io']");
    let by_hosts = format!("https://h.io/v2/library/alpine/manifests/3?docker.io Tls | {itself}");
    assert_eq!(all(&routes(&directory, &[], &[])), by_hosts);
    // A file that says only how to speak to a registry says nothing of places.
    file(&directory, "r.conf", "[[registry]]\nlocation = 'docker.io'\ninsecure = true");
    assert_eq!(all(&routes(&directory, &[], &[])), by_hosts.replace("3? Tls", "3? Anything"));
    file(
        &directory,
        "r.conf",
        "[[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = 'r.io/x'",
    );
    let by_conf = format!("https://r.io/v2/x/library/alpine/manifests/3? Tls | {itself}");
    assert_eq!(all(&routes(&directory, &[], &[])), by_conf);
    let by_flag = format!("https://f.io/v2/p/library/alpine/manifests/3? Tls | {itself}");
    assert_eq!(all(&routes(&directory, &["docker.io=f.io/p"], &[])), by_flag);
    // Flags about other names do not count for this one.
    assert_eq!(all(&routes(&directory, &["docker.io/team=f.io/p"], &[])), by_conf);
    let exclusive = routes(&directory, &["f.io,exclusive"], &["f.io"]);
    assert_eq!(all(&exclusive), "https://f.io/v2/library/alpine/manifests/3? Anything");
    // What is blocked is blocked for all of them.
    file(&directory, "r.conf", "[[registry]]\nlocation = 'docker.io'\nblocked = true");
    let error = routes(&directory, &["f.io"], &[]).of(&"alpine".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("r.conf:1"), "{error}");
}

#[test]
fn hosts_have_paths_capabilities_and_schemes() {
    let directory = tempfile::tempdir().unwrap();
    file(
        &directory,
        "certs.d/ghcr.io/hosts.toml",
        "server = 'https://only.example'\n\
         [host.'https://harbor.example/v2/ghcr']\noverride_path = true\n\
         [host.'https://deep.example/sub/']\ncapabilities = ['pull']\n\
         [host.'https://push.example']\ncapabilities = ['push']\n\
         [host.'http://127.0.0.1:5000']\n\
         [host.'https://any.example']\nskip_verify = true\n\
         [host.'https://slashes.example//other.example/v2']\n",
    );
    let own = routes(&directory, &[], &[]);
    assert_eq!(
        shown(&own, "ghcr.io/a/b:1"),
        [
            "https://harbor.example/v2/ghcr/a/b/manifests/1?ghcr.io Tls",
            "https://deep.example/sub/v2/a/b/manifests/1?ghcr.io Tls",
            "http://127.0.0.1:5000/v2/a/b/manifests/1?ghcr.io Plain",
            "https://any.example/v2/a/b/manifests/1?ghcr.io AnyTls",
            "https://slashes.example//other.example/v2/a/b/manifests/1?ghcr.io Tls",
            "https://only.example/v2/a/b/manifests/1?ghcr.io Tls",
        ]
    );
    let found = own.of(&"ghcr.io/a/b:1".parse().unwrap()).unwrap();
    assert!(!found[1].resolves_tags && found[1].serves_content);
    assert_eq!(found[0].reference.to_string(), "harbor.example/ghcr/a/b:1");
    // Pushes go to the registry itself, whatever the file says.
    let pushed = own.own(&"ghcr.io/a/b:1".parse().unwrap()).unwrap();
    assert_eq!(pushed.url().unwrap().to_string(), "https://ghcr.io/v2/a/b/manifests/1");
}

#[test]
fn plain_http_is_for_those_who_were_named_insecure() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "certs.d/x.io/hosts.toml", "\nserver = 'http://far.example:5000'");
    let image: Reference = "x.io/a".parse().unwrap();
    let error = routes(&directory, &[], &[]).of(&image).unwrap_err();
    assert!(
        error.to_string().contains("hosts.toml:2: http://far.example:5000/ would be spoken to"),
        "{error}"
    );
    let fault = std::error::Error::source(&error).and_then(|fault| fault.downcast_ref()).unwrap();
    assert!(
        matches!(fault, Fault::PlainHttp { registry, .. } if registry == "far.example:5000"),
        "{error:?}"
    );
    let allowed = routes(&directory, &[], &["far.example:5000"]);
    assert_eq!(shown(&allowed, "x.io/a"), ["http://far.example:5000/v2/a/manifests/latest?x.io Plain"]);
    file(&directory, "r.conf", "[[registry]]\nlocation = 'far.example:5000'\ninsecure = true");
    assert_eq!(
        shown(&routes(&directory, &[], &[]), "x.io/a"),
        ["http://far.example:5000/v2/a/manifests/latest?x.io Plain"]
    );
    for (image, speaks) in [
        ("far.example:5000/x", "Anything"),
        ("far.example/x", "Tls"),
        ("localhost:5000/x", "TlsOrPlain"),
        ("127.0.0.1.nip.io/x", "Tls"),
        ("localhost.evil.com/x", "Tls"),
    ] {
        let found = shown(&routes(&directory, &[], &[]), image);
        assert!(found[0].ends_with(&format!(" {speaks}")), "{found:?}");
    }
}

#[test]
fn a_default_is_for_hosts_without_a_folder() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "certs.d/_default/hosts.toml", "server = 'https://cache.example'");
    file(&directory, "certs.d/known.io/ca.crt", "");
    file(&directory, "certs.d/port.io_5000_/hosts.toml", "[host.'https://p.io']");
    let all = routes(&directory, &[], &[]);
    assert_eq!(shown(&all, "x.io/a"), ["https://cache.example/v2/a/manifests/latest?x.io Tls"]);
    assert_eq!(shown(&all, "known.io/a"), ["https://known.io/v2/a/manifests/latest? Tls"]);
    assert_eq!(shown(&all, "port.io:5000/a").len(), 2);
}

#[test]
fn what_a_file_says_about_its_own_registry_counts_for_pushes() {
    let directory = tempfile::tempdir().unwrap();
    file(
        &directory,
        "certs.d/own.io/hosts.toml",
        "server = 'https://own.io'\nskip_verify = true\nca = 'x.crt'",
    );
    let own = routes(&directory, &[], &[]).own(&"own.io/a".parse().unwrap()).unwrap();
    assert_eq!(own.speaks, Transport::AnyTls);
    assert!(own.tls.unwrap().ca[0].ends_with("certs.d/own.io/x.crt"));
}

#[test]
fn malformed_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "certs.d/bad.io/hosts.toml", "\n\nserver");
    let error = routes(&directory, &[], &[]).of(&"bad.io/x".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("certs.d/bad.io/hosts.toml:3: "), "{error}");
    // Others are not concerned.
    routes(&directory, &[], &[]).of(&"good.io/x".parse().unwrap()).unwrap();
    file(&directory, "r.conf", "[[registry]]\n\nlocation = 7");
    let error = routes(&directory, &["f.io"], &[]).of(&"x".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("r.conf:3: location"), "{error}");
    fs_err::write(directory.path().join("r.conf"), b"\xff").unwrap();
    let error = routes(&directory, &[], &[]).of(&"x".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("not Unicode text"), "{error}");
}

#[test]
fn mirrors_for_digests_do_not_say_what_tags_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    file(
        &directory,
        "r.conf",
        "[[registry]]\nprefix = 'x.io'\nlocation = 'y.io'\n[[registry.mirror]]\nlocation = 'z.io'\n\
         pull-from-mirror = 'digest-only'\n[[registry.mirror]]\nlocation = 't.io'\npull-from-mirror = 'tag-only'",
    );
    let found = routes(&directory, &[], &[]).of(&"x.io/a:1".parse().unwrap()).unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|route| (route.reference.registry(), route.resolves_tags, route.serves_content))
        .collect();
    assert_eq!(shown, [("z.io", false, true), ("t.io", true, false), ("y.io", true, true)]);
}
