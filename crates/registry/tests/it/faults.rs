use std::io::Read as _;
use std::time::Duration;

use ocibuild_registry::Registry;
use ocibuild_spec::{CancelToken, ImageSource as _, SourceErrorKind};
use ocibuild_testkit::{Fault, HangGuard, ImageBlobs, TestImage, TestRegistry};

use super::{client, name, pull, resolve};

fn app() -> (TestRegistry, ImageBlobs, String) {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("a", &"x".repeat(100_000))]).build();
    server.push("app", "1", &image);
    let reference = server.reference("app", "1");
    (server, image, reference)
}

#[test]
fn a_broken_body_is_asked_for_from_where_it_broke() {
    for fault in [Fault::Truncate(40_000), Fault::Stall(40_000)] {
        let (server, image, reference) = app();
        let (layer, bytes) = &image.layers[0];
        server.fault("/blobs/", 1, fault);
        assert_eq!(pull(&client(), &reference, layer).unwrap(), *bytes);
        let ranges: Vec<_> =
            server.requests().iter().filter_map(|r| r.headers.get("range").cloned()).collect();
        assert_eq!(ranges.len(), 1, "{ranges:?}");
        assert!(ranges[0].starts_with("bytes=") && ranges[0] != "bytes=0-");
    }
}

#[test]
fn servers_that_know_no_ranges_or_give_other_ones_are_asked_for_everything() {
    for fault in [Fault::IgnoreRange, Fault::Answer(416, Vec::new(), Vec::new())] {
        let (server, image, reference) = app();
        server.fault("/blobs/", 1, Fault::Truncate(40_000));
        server.fault("/blobs/", 1, fault);
        assert_eq!(pull(&client(), &reference, &image.layers[0].0).unwrap(), image.layers[0].1);
    }
    let (server, image, reference) = app();
    server.fault("/blobs/", 1, Fault::Truncate(40_000));
    let headers = vec![("content-range".to_owned(), "bytes 7-102399/102400".to_owned())];
    server.fault("/blobs/", 1, Fault::Answer(206, headers, vec![b'x'; 102_393]));
    assert_eq!(pull(&client(), &reference, &image.layers[0].0).unwrap(), image.layers[0].1);
    // What claims to be the rest and is not is found by the digest.
    server.fault("/blobs/", 1, Fault::Truncate(40_000));
    server.fault("/blobs/", 1, Fault::WrongRange);
    let error = pull(&client(), &reference, &image.layers[0].0).unwrap_err();
    assert!(error.contains("have the digest"), "{error}");
}

#[test]
fn bodies_that_always_break_end() {
    let (server, image, reference) = app();
    server.fault("/blobs/", usize::MAX, Fault::Truncate(10));
    let error = pull(&client(), &reference, &image.layers[0].0).unwrap_err();
    assert!(error.contains("/blobs/sha256:"), "{error}");
    assert!(server.requests().len() < 30, "{}", server.requests().len());
}

#[test]
fn other_bytes_never_pass() {
    let (server, image, reference) = app();
    for fault in [Fault::WrongBytes, Fault::OneMore, Fault::Answer(200, Vec::new(), b"<html>".to_vec())] {
        server.fault("/blobs/", 1, fault);
        let error = pull(&client(), &reference, &image.layers[0].0).unwrap_err();
        assert!(error.contains("sha256:"), "{error}");
    }
    server.fault("/manifests/", 1, Fault::WrongBytes);
    assert_eq!(resolve(&client(), &reference).unwrap_err().kind(), SourceErrorKind::Corrupt);
    server.fault("/manifests/", 1, Fault::ContentType("text/html".to_owned()));
    assert!(resolve(&client(), &reference).is_err());
    server.fault("/manifests/", 1, Fault::Endless);
    assert!(resolve(&client(), &reference).unwrap_err().to_string().contains("larger than"));
    server.fault("/blobs/", 1, Fault::WrongBytes);
    assert_eq!(resolve(&client(), &reference).unwrap_err().kind(), SourceErrorKind::Corrupt);
}

#[test]
fn passing_failures_are_waited_out_and_lasting_ones_are_named() {
    let (server, image, reference) = app();
    server.fault("/manifests/", 1, Fault::Answer(503, Vec::new(), Vec::new()));
    server.fault("/manifests/", 1, Fault::Hangup);
    assert_eq!(resolve(&client(), &reference).unwrap().descriptor.digest, image.descriptor.digest);
    // Who asks for more time than there is gets no second try.
    for (retry_after, tries) in [("9999999", 1), ("Fri, 31 Dec 1999 23:59:59 GMT", 3), ("soon", 3), ("-1", 3)]
    {
        let headers = vec![("retry-after".to_owned(), retry_after.to_owned())];
        server.fault("/manifests/", tries, Fault::Answer(429, headers, b"slow down".to_vec()));
        let before = server.requests().len();
        let error = resolve(&client(), &reference).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Network);
        assert!(error.to_string().contains("429: slow down"), "{error}");
        assert!(error.hint_text().unwrap().contains("127.0.0.1"));
        let asked = server.requests().split_off(before);
        let asked = asked.iter().filter(|request| request.path.contains("/manifests/")).count();
        assert_eq!(asked, tries, "{retry_after}");
    }
    let before = server.requests().len();
    server.fault("/manifests/", 1, Fault::Answer(400, Vec::new(), vec![b'\x1b'; 100_000]));
    let error = resolve(&client(), &reference).unwrap_err();
    assert!(!error.to_string().contains('\x1b'), "{error}");
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn cancelling_ends_a_silent_server_at_once() {
    let (server, image, reference) = app();
    server.fault("/blobs/", usize::MAX, Fault::Stall(10));
    let registry = Registry::builder().build().unwrap();
    let cancel = CancelToken::new();
    let mut reader = registry.open(&name(&reference), &image.layers[0].0, &cancel).unwrap();
    let canceller = cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        canceller.cancel();
    });
    let _guard = HangGuard::new("reading from a silent server");
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    thread.join().unwrap();
    let error = registry.resolve(&name(&reference), &super::amd64(), &cancel).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
}

/// What is announced is not waited for: the server keeps the connection open and sends no more.
#[test]
fn documents_that_are_announced_as_too_large_are_refused_at_once() {
    for length in ["9223372036854775808", "99999999999999999999999999", "4194305"] {
        let (server, _, reference) = app();
        let header = Fault::Header("content-length".to_owned(), length.to_owned());
        server.fault("/manifests/", usize::MAX, header);
        let error = resolve(&client(), &reference).unwrap_err();
        let words = if length.len() > 20 { "content-length" } else { "more than 4194304" };
        assert!(error.to_string().contains(words), "{length}: {error}");
        assert_eq!(
            server.requests().iter().filter(|it| it.path.contains("/manifests/")).count(),
            1,
            "{length}"
        );
    }
    let (server, image, reference) = app();
    let header = Fault::Header("content-length".to_owned(), "9223372036854775808".to_owned());
    server.fault("/blobs/", usize::MAX, header.clone());
    assert!(resolve(&client(), &reference).unwrap_err().to_string().contains("9223372036854775808"));
    let error = pull(&client(), &reference, &image.layers[0].0).unwrap_err();
    assert!(error.contains("9223372036854775808"), "{error}");
    assert_eq!(server.requests().iter().filter(|it| it.path.contains("/blobs/")).count(), 2);
    server.fault("/tags/", usize::MAX, header);
    let error = client().tags(&name(&reference), &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains("9223372036854775808"), "{error}");
    assert_eq!(server.requests().iter().filter(|it| it.path.contains("/tags/")).count(), 1);
}
