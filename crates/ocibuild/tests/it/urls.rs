//! `ADD` of URLs, from a server on loopback.

use std::sync::mpsc;
use std::thread;

use ocibuild::spec::Digest;
use ocibuild::{CancelToken, ErrorKind, Remotes, Secret};
use ocibuild_testkit::{Reply, WebServer};

use crate::support::{World, chain, layer_listing};

const LATE: &str = "Wed, 03 Mar 2010 10:11:12 GMT";

/// Entries of the only layer.
fn listing(world: &World, dockerfile: &str) -> Vec<String> {
    let (image, _) = world.build(world.prepare(dockerfile));
    let layer = image.layers().last().unwrap();
    layer_listing(&world.blobs().join(layer.1.digest.hex()))
}

fn methods(server: &WebServer) -> Vec<String> {
    server.requests().iter().map(|request| request.method.clone()).collect()
}

#[test]
fn a_result_is_found_again_when_the_server_has_nothing_new() {
    let (world, server) = (World::new(), WebServer::start());
    let url = server.url("/f");
    let dockerfile = format!("FROM scratch\nADD {url} /d/\n");
    let run = || world.build(world.prepare(&dockerfile)).1.done.len();
    server.put("/f", Reply::of("one").header("etag", "\"1\"").header("last-modified", LATE));
    assert_eq!(run(), 1);
    assert_eq!(methods(&server), ["GET"]);
    assert_eq!(run(), 0);
    assert_eq!(methods(&server), ["GET", "HEAD"], "the tag says enough");
    // The same time and content under another tag: asked for again, but nothing new.
    server.put("/f", Reply::of("one").header("etag", "\"2\"").header("last-modified", LATE));
    assert_eq!(run(), 0);
    // Another time alone is another result.
    server.put("/f", Reply::of("one").header("etag", "\"3\""));
    assert_eq!(run(), 1);
    server.put("/f", Reply::of("two").header("etag", "\"3\""));
    assert_eq!(run(), 0, "equal strong tags mean equal bytes");
    server.put("/f", Reply::of("two").header("etag", "W/\"4\""));
    assert_eq!(run(), 1);
    let before = server.requests().len();
    assert_eq!(run(), 0);
    assert_eq!(methods(&server)[before..], ["HEAD", "GET"], "a weak tag promises nothing");
}

#[test]
fn a_known_digest_needs_no_request() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of("text").header("etag", "\"1\""));
    let digest = Digest::of("text");
    let dockerfile = format!("FROM scratch\nADD --checksum={digest} {} /d/\n", server.url("/f"));
    assert_eq!(world.build(world.prepare(&dockerfile)).1.done.len(), 1);
    let count = server.requests().len();
    assert_eq!(world.build(world.prepare(&dockerfile)).1.done.len(), 0);
    assert_eq!(server.requests().len(), count);
}

#[test]
fn a_tag_does_not_stand_in_for_a_digest() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of("old").header("etag", "\"1\""));
    let url = server.url("/f");
    world.build(world.prepare(&format!("FROM scratch\nADD {url} /d/\n")));
    server.put("/f", Reply::of("new").header("etag", "\"1\""));
    let old = Digest::of("old");
    let wanted = format!("FROM scratch\nADD --checksum={old} {url} /e/\n");
    for _ in 0..2 {
        let (error, _) = world.fail(world.prepare(&wanted));
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains(&format!("digest mismatch {}: {old}", Digest::of("new"))), "{text}");
    }
    world.check_left_nothing();
}

#[test]
fn longer_digests_are_computed_too() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of("abc"));
    // Test vectors of FIPS 180-4.
    for digest in [
        "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ] {
        let add = |digest: &str| {
            world.prepare(&format!("FROM scratch\nADD --checksum={digest} {} /f\n", server.url("/f")))
        };
        world.build(add(digest));
        let wrong = digest.replace("a7", "a8").replace("9f", "9e");
        assert_eq!(world.fail(add(&wrong)).0.kind(), ErrorKind::Refused, "{digest}");
    }
}

#[test]
fn encoded_answers_are_decoded() {
    use std::io::Write as _;

    let (world, server) = (World::new(), WebServer::start());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"plain text").unwrap();
    server.put("/f", Reply::of(packed.finish().unwrap()).header("content-encoding", "gzip"));
    let digest = Digest::of("plain text");
    let add = format!("FROM scratch\nADD --checksum={digest} {} /f\n", server.url("/f"));
    assert!(listing(&world, &add)[0].contains('f'));
    for (encoding, body) in [("gzip", "not packed"), ("br", "x")] {
        server.put("/g", Reply::of(body).header("content-encoding", encoding));
        let (error, _) = world.fail(world.prepare(&format!("FROM scratch\nADD {} /f\n", server.url("/g"))));
        assert_eq!(error.kind(), ErrorKind::Refused, "{encoding}: {error}");
    }
}

#[test]
fn what_goes_wrong_is_told_and_leaves_nothing() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/short", Reply::of("0123456789").truncated(3));
    server.put("/loop", Reply::redirect("/loop"));
    server.put("/file", Reply::redirect("file:///etc/passwd"));
    server.put("/near", Reply::redirect("http://169.254.169.254/latest/meta-data"));
    server.put("/gone", Reply::of("").status(410));
    for (path, kind, words) in [
        ("/short", ErrorKind::Network, "/short"),
        ("/loop", ErrorKind::Refused, "redirects"),
        ("/file", ErrorKind::Refused, "only http and https"),
        ("/near", ErrorKind::Refused, "169.254.169.254"),
        ("/gone", ErrorKind::Network, "invalid response status 410"),
        ("/missing", ErrorKind::Network, "invalid response status 404"),
    ] {
        let (error, _) = world.fail(world.prepare(&format!("FROM scratch\nADD {} /d/\n", server.url(path))));
        assert_eq!(error.kind(), kind, "{path}: {}", chain(&error));
        assert!(chain(&error).contains(words), "{path}: {}", chain(&error));
        let line = error.reports()[0].location.map(|location| location.start_line);
        assert_eq!(line, Some(2), "{path}");
    }
    world.check_left_nothing();
}

#[test]
fn endless_bodies_end_at_the_limit() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of(vec![b'x'; 8192]).endless());
    let remotes = Remotes::system().unwrap().size_limit(1 << 20);
    let build = world.prepare(&format!("FROM scratch\nADD {} /d/\n", server.url("/f"))).remotes(remotes);
    let (error, _) = world.fail(build);
    assert_eq!(error.kind(), ErrorKind::Refused, "{}", chain(&error));
    world.check_left_nothing();
}

#[test]
fn a_silent_server_is_cancelled() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of(vec![b'x'; 1 << 20]).stalled(100));
    let build = world.prepare(&format!("FROM scratch\nADD {} /d/\n", server.url("/f")));
    let (sender, asked) = mpsc::channel::<()>();
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let token = cancel.clone();
        let server = &server;
        scope.spawn(move || {
            while server.requests().is_empty() && asked.try_recv().is_err() {
                thread::yield_now();
            }
            token.cancel();
        });
        let planned = build.plan(&world.backends()).unwrap();
        let error = planned.run(&world.backends(), &cancel, |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        drop(sender);
    });
    world.check_left_nothing();
}

#[test]
fn credentials_stay_with_the_host_they_are_for() {
    let (world, server, other) = (World::new(), WebServer::start(), WebServer::start());
    server.put("/own", Reply::of("x"));
    server.put("/there", Reply::redirect(other.url("/x")));
    server.put("/here", Reply::redirect("/own"));
    other.put("/x", Reply::of("y"));
    let secret = || Secret::Value(b"canary\n".to_vec());
    for (id, sent) in
        [("HTTP_AUTH_TOKEN_127.0.0.1", "Bearer canary"), ("HTTP_AUTH_HEADER_127.0.0.1", "canary")]
    {
        for path in ["/own", "/there", "/here"] {
            let dockerfile = format!("FROM scratch\nADD {} /{id}\n", server.url(path));
            world.build(world.prepare(&dockerfile).secret(id, secret()));
        }
        for request in server.requests().iter().rev().take(2) {
            assert_eq!(request.headers.get("authorization").map(String::as_str), Some(sent));
        }
    }
    let url = server.url("/own").replace("http://", "http://user:canary@");
    let (image, _) = world.build(world.prepare(&format!("FROM scratch\nADD {url} /basic\n")));
    let last = server.requests().pop().unwrap();
    assert_eq!(last.headers.get("authorization").map(String::as_str), Some("Basic dXNlcjpjYW5hcnk="));
    assert!(!String::from_utf8_lossy(&image.config_bytes).contains("canary"));
    assert!(!other.requests().is_empty());
    for request in other.requests() {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
    }
}

#[test]
fn urls_and_files_may_be_mixed_and_links_are_copied_over() {
    let (world, server) = (World::new(), WebServer::start());
    world.files(&[("a", "local")]);
    server.put("/b", Reply::of("remote"));
    let url = server.url("/b");
    let entries = listing(&world, &format!("FROM scratch\nADD --link --chown=1:2 a {url} a /d/\n"));
    let text = entries.join("\n");
    assert!(text.contains("d/a") && text.contains("d/b"), "{text}");
}

#[test]
fn an_epoch_may_be_that_of_a_download() {
    let (world, server) = (World::new(), WebServer::start());
    server.put("/f", Reply::of("x").header("last-modified", LATE));
    let dockerfile = format!(
        "FROM scratch AS src\nARG name\nADD {}/$name /\nFROM scratch\nCOPY --from=src f /\n",
        server.url("")
    );
    let build =
        |epoch: &str| world.prepare(&dockerfile).build_arg("name", "f").build_arg("SOURCE_DATE_EPOCH", epoch);
    let planned = build("src").plan(&world.backends()).unwrap();
    assert_eq!(planned.plans[0].source_date_epoch, Some(1_267_611_072));
    let error = build("other").plan(&world.backends()).unwrap_err();
    assert!(error.to_string().contains("invalid SOURCE_DATE_EPOCH: other"), "{error}");
    let error = world
        .prepare("FROM scratch AS a\nCOPY x /\nFROM scratch\nLABEL a=b\n")
        .build_arg("SOURCE_DATE_EPOCH", "a")
        .plan(&world.backends())
        .unwrap_err();
    assert!(error.to_string().contains("unsupported copy instruction"), "{error}");
}
