use ocibuild_spec::SourceErrorKind;
use ocibuild_testkit::{Fault, TestImage, TestRegistry};

use super::{client, pull, resolve};

#[test]
fn a_token_is_fetched_once_and_only_for_pulling() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("a", "1")]).build();
    server.push("app", "1", &image);
    server.require_token("t0ken", None);
    let (registry, reference) = (client(), server.reference("app", "1"));
    resolve(&registry, &reference).unwrap();
    pull(&registry, &reference, &image.layers[0].0).unwrap();
    let asked: Vec<_> =
        server.requests().into_iter().filter(|r| r.path.starts_with("/token")).map(|r| r.path).collect();
    assert_eq!(asked, ["/token?service=test&scope=repository:app:pull"]);
    // A token that is taken no longer is replaced.
    server.require_token("next", None);
    pull(&registry, &reference, &image.layers[0].0).unwrap();
}

#[test]
fn a_token_that_does_not_do_is_a_denial() {
    let server = TestRegistry::start();
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    server.require_token("t", None);
    server.fault("/token", 1, Fault::Answer(200, Vec::new(), br#"{"token":"other"}"#.to_vec()));
    let error = resolve(&client(), &server.reference("app", "1")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    for answer in ["", "{}", "{\"token\":\"a\\r\\nx: y\"}"] {
        server.fault("/token", 1, Fault::Answer(200, Vec::new(), answer.into()));
        assert!(resolve(&client(), &server.reference("app", "1")).is_err(), "{answer}");
    }
    // Redirects of a token service are not followed.
    server.fault("/token", 1, Fault::Redirect("/token".to_owned()));
    assert!(resolve(&client(), &server.reference("app", "1")).is_err());
}

#[test]
fn token_services_at_forbidden_addresses_are_not_asked() {
    for realm in [
        "http://169.254.169.254/token",
        "http://0.0.0.0:1/token",
        "http://[::]:1/token",
        "http://2130706433/token",
        "http://user:pass@127.0.0.1/token",
        "file:///etc/passwd",
        "",
    ] {
        let server = TestRegistry::start();
        server.require_token("t", Some(realm));
        let error = resolve(&client(), &server.reference("app", "1")).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied, "{realm}: {error}");
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
    let server = TestRegistry::start();
    let challenge = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
    server.fault("/v2/", 1, Fault::Answer(401, challenge, Vec::new()));
    let error = resolve(&client(), &server.reference("app", "1")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Denied);
    assert!(error.to_string().contains("login"), "{error}");
}

#[test]
fn redirects_lead_elsewhere_without_the_token() {
    let (server, store) = (TestRegistry::start(), TestRegistry::start());
    let image = TestImage::new("linux/amd64").layer(&[("a", "1")]).build();
    let (layer, bytes) = &image.layers[0];
    server.push("app", "1", &image);
    store.push("app", "1", &image);
    server.require_token("secret", None);
    let elsewhere = format!("http://{}/v2/app/blobs/{}?sig=x", store.authority(), layer.digest);
    server.fault(layer.digest.as_str(), 1, Fault::Redirect("/unused".to_owned()));
    let (registry, reference) = (client(), server.reference("app", "1"));
    resolve(&registry, &reference).unwrap();
    assert!(pull(&registry, &reference, layer).is_err(), "a redirect to where nothing is");
    server.fault(layer.digest.as_str(), 1, Fault::Redirect(elsewhere.clone()));
    assert_eq!(pull(&registry, &reference, layer).unwrap(), *bytes);
    assert!(store.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    // The other host's wish for a token is not met.
    store.require_token("other", Some(&format!("http://{}/token", server.authority())));
    server.fault(layer.digest.as_str(), 1, Fault::Redirect(elsewhere));
    let before = server.requests().len();
    let error = pull(&registry, &reference, layer).unwrap_err();
    assert!(error.contains("401") && !error.contains("sig="), "{error}");
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn redirects_end_and_stay_away_from_forbidden_addresses() {
    let server = TestRegistry::start();
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    let reference = server.reference("app", "1");
    server.fault("/manifests/", usize::MAX, Fault::Redirect("/v2/app/manifests/1".to_owned()));
    let error = resolve(&client(), &reference).unwrap_err();
    assert!(error.to_string().contains("5 redirects"), "{error}");
    for target in ["http://169.254.169.254/x", "http://0.0.0.0/x", "ftp://x/y", "http://u:p@x/"] {
        let server = TestRegistry::start();
        server.fault("/manifests/", 1, Fault::Redirect(target.to_owned()));
        let error = resolve(&client(), &server.reference("app", "1")).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied, "{target}: {error}");
    }
}
