use std::io::Read;
use std::sync::Mutex;

use ocibuild_registry::{BlobPush, BlobUpload, ManifestPush, Registry};
use ocibuild_spec::{CancelToken, Descriptor, Manifest, MediaType, SourceError, SourceErrorKind, json};
use ocibuild_testkit::{Fault, TestImage, TestRegistry};

use super::{client, name};

fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

/// Pushes these bytes, with repositories to take them over from.
fn push_from(
    registry: &Registry,
    repository: &str,
    bytes: &[u8],
    mount_from: &[String],
) -> Result<(BlobPush, Descriptor), SourceError> {
    let descriptor = Descriptor::of(MediaType::ImageLayerGzip, bytes);
    let open =
        || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))) };
    let seen = Mutex::new(0);
    let progress = |at: u64| *seen.lock().unwrap() = at;
    let upload = BlobUpload { descriptor: &descriptor, open: &open, mount_from, progress: &progress };
    let pushed = registry.push_blob(&name(repository), &upload, &CancelToken::new())?;
    Ok((pushed, descriptor))
}

fn push(registry: &Registry, repository: &str, bytes: &[u8]) -> Result<(BlobPush, Descriptor), SourceError> {
    push_from(registry, repository, bytes, &[])
}

fn methods(server: &TestRegistry) -> Vec<String> {
    server.requests().into_iter().map(|request| request.method).collect()
}

#[test]
fn blobs_are_found_taken_over_or_sent() {
    let server = TestRegistry::start();
    let (registry, small) = (client(), bytes_of(1000));
    let here = server.reference("app", "1");
    let (pushed, descriptor) = push(&registry, &here, &small).unwrap();
    assert_eq!(pushed, BlobPush::Sent);
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), small);
    assert_eq!(methods(&server), ["HEAD", "POST", "PUT"]);
    assert_eq!(push(&registry, &here, &small).unwrap().0, BlobPush::Exists);
    let other = server.reference("other", "1");
    let from = ["nobody".to_owned(), "app".to_owned()];
    // A repository without it makes the registry begin an upload, which is then used.
    assert_eq!(push_from(&registry, &other, &small, &from).unwrap().0, BlobPush::Sent);
    let third = server.reference("third", "1");
    let mounted = push_from(&registry, &third, &small, &from[1..]).unwrap().0;
    assert_eq!(mounted, BlobPush::Mounted("app".to_owned()));
    assert_eq!(server.blob("third", &descriptor.digest).unwrap(), small);
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let server = TestRegistry::start();
    let bytes = bytes_of(5 << 20);
    server.fault_of("PATCH", "/uploads/", 0, 1, Fault::Reset(4 << 20));
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
    assert_eq!(server.moved().0, bytes.len() as u64);
}

#[test]
fn an_upload_that_was_forgotten_is_begun_again() {
    let server = TestRegistry::start();
    let bytes = bytes_of(3 << 20);
    server.fault_of("PATCH", "/uploads/", 0, 1, Fault::LoseUploads);
    server.fault_of("PUT", "/uploads/", 0, 1, Fault::LoseUploads);
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
    // But not for ever.
    server.fault_of("PATCH", "/uploads/", 0, usize::MAX, Fault::LoseUploads);
    let error = push(&client(), &server.reference("other", "1"), &bytes).unwrap_err();
    assert!(error.to_string().contains("BLOB_UPLOAD_UNKNOWN"), "{error}");
}

#[test]
fn early_refusals_are_heard_and_smaller_pieces_tried() {
    let server = TestRegistry::start();
    let bytes = bytes_of(40 << 20);
    server.fault_of("PATCH", "/uploads/", 0, 1, Fault::Early(413, Vec::new(), b"too much at once".to_vec()));
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
    let pieces: Vec<u64> =
        server.requests().iter().filter(|r| r.method == "PATCH").map(|r| r.received >> 20).collect();
    assert_eq!(pieces, [0, 16, 16, 8]);
    let refusal = Fault::Early(413, Vec::new(), b"quota of team exceeded".to_vec());
    server.fault_of("PATCH", "/uploads/", 0, usize::MAX, refusal);
    let error = push(&client(), &server.reference("other", "1"), &bytes).unwrap_err();
    assert!(error.to_string().contains("quota of team exceeded"), "{error}");
}

#[test]
fn a_blob_that_was_stored_in_spite_of_an_error_is_not_sent_again() {
    let server = TestRegistry::start();
    let bytes = bytes_of(2 << 20);
    server.fault_of("PUT", "/uploads/", 0, 1, Fault::DoneButAnswers(500, Vec::new(), Vec::new()));
    push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(methods(&server), ["HEAD", "POST", "PATCH", "PUT", "HEAD"]);
}

#[test]
fn a_token_that_ends_in_the_middle_is_replaced() {
    let server = TestRegistry::start();
    server.require_token("first", None);
    let bytes = bytes_of(2 << 20);
    server.fault_of("PATCH", "/uploads/", 0, 1, Fault::ExpireToken("second".to_owned()));
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
}

#[test]
fn no_byte_goes_to_a_foreign_location() {
    let (server, other) = (TestRegistry::start(), TestRegistry::start());
    server.require_token("secret", None);
    let elsewhere = format!("http://{}/v2/app/blobs/uploads/1", other.authority());
    for bytes in [bytes_of(100), bytes_of(2 << 20)] {
        server.fault_of("POST", "/uploads/", 0, 1, Fault::Header("location".to_owned(), elsewhere.clone()));
        let error = push(&client(), &server.reference("app", "1"), &bytes).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    }
    server.fault_of("PUT", "/uploads/", 0, 1, Fault::Redirect(elsewhere));
    assert!(push(&client(), &server.reference("app", "1"), &bytes_of(10)).is_err());
    assert_eq!(other.requests(), []);
}

#[test]
fn bytes_that_are_not_the_blob_are_not_pushed() {
    let server = TestRegistry::start();
    let bytes = bytes_of(2 << 20);
    let mut wrong = Descriptor::of(MediaType::ImageLayerGzip, &bytes);
    wrong.digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let open =
        || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.clone()))) };
    let upload = BlobUpload { descriptor: &wrong, open: &open, mount_from: &[], progress: &|_| {} };
    let error =
        client().push_blob(&name(&server.reference("app", "1")), &upload, &CancelToken::new()).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Corrupt, "{error}");
    assert!(!methods(&server).contains(&"PUT".to_owned()));
}

#[test]
fn manifests_come_after_what_they_list() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("a", "1")]).build();
    let (registry, reference) = (client(), name(&server.reference("app", "1")));
    let cancel = CancelToken::new();
    let put =
        || registry.put_manifest(&reference, &image.descriptor.media_type, &image.manifest, &cancel).unwrap();
    let said = "MANIFEST_BLOB_UNKNOWN (no MANIFEST_BLOB_UNKNOWN here)".to_owned();
    assert_eq!(put(), ManifestPush::MissingParts { said });
    for (_, bytes) in image.layers.iter().chain([&image.config]) {
        push(&registry, &reference.to_string(), bytes).unwrap();
    }
    assert_eq!(put(), ManifestPush::Stored { lists_subject: false });
    assert_eq!(registry.stat_manifest(&reference, &cancel).unwrap().unwrap().digest, image.descriptor.digest);
    assert_eq!(registry.tags(&reference, &cancel).unwrap(), ["1"]);
    registry.delete_manifest(&reference, &cancel).unwrap();
    assert_eq!(registry.stat_manifest(&reference, &cancel).unwrap(), None);
}

#[test]
fn a_name_is_replaced_only_while_it_stands_for_what_was_read() {
    let server = TestRegistry::start();
    let (registry, reference, cancel) = (client(), name(&server.reference("app", "1")), CancelToken::new());
    assert_eq!(registry.tagged_manifest(&reference, &cancel).unwrap(), None);
    let images = ["1", "2", "3"].map(|text| TestImage::new("linux/amd64").layer(&[("a", text)]).build());
    for image in &images {
        server.push("app", "1", image);
    }
    server.push("app", "1", &images[0]);
    let replace = |image: &ocibuild_testkit::ImageBlobs, etag: &str| {
        let manifest = (&image.descriptor.media_type, &image.manifest[..]);
        registry.replace_manifest(&reference, manifest, etag, &cancel).unwrap()
    };
    let found = registry.tagged_manifest(&reference, &cancel).unwrap().unwrap();
    assert_eq!(found.bytes, images[0].manifest);
    let etag = found.etag.unwrap();
    // Without a promise to look at the condition, it is stored.
    assert!(replace(&images[1], "\"other\"").is_some());
    server.honour_conditions();
    assert_eq!(replace(&images[2], &etag), None);
    assert_eq!(server.manifest("app", "1").unwrap().1, images[1].manifest);
    let etag = registry.tagged_manifest(&reference, &cancel).unwrap().unwrap().etag.unwrap();
    assert!(replace(&images[2], &etag).is_some());
    assert_eq!(server.manifest("app", "1").unwrap().1, images[2].manifest);
}

#[test]
fn pages_of_lists_stay_on_the_registry_and_end() {
    let (server, other) = (TestRegistry::start(), TestRegistry::start());
    let (registry, reference) = (client(), name(&server.reference("app", "1")));
    let page = |link: &str, tags: &str| {
        let link = vec![("link".to_owned(), format!("<{link}>; rel=\"next\""))];
        Fault::Answer(200, link, format!("{{\"tags\":[{tags}]}}").into_bytes())
    };
    server.fault("/tags/list", 1, page("/v2/app/tags/list?last=a", "\"a\""));
    server.fault("/tags/list", 1, Fault::Answer(200, Vec::new(), br#"{"tags":["b"]}"#.to_vec()));
    assert_eq!(registry.tags(&reference, &CancelToken::new()).unwrap(), ["a", "b"]);
    server.fault("/tags/list", 1, page(&format!("http://{}/v2/x", other.authority()), ""));
    assert_eq!(registry.tags(&reference, &CancelToken::new()).unwrap_err().kind(), SourceErrorKind::Denied);
    assert_eq!(other.requests(), []);
    server.fault("/tags/list", usize::MAX, page("/v2/app/tags/list", ""));
    let error = registry.tags(&reference, &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains("pages"), "{error}");
}

#[test]
fn referrers_are_listed_by_tag_where_the_registry_lists_none() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").build();
    server.push("app", "1", &image);
    let (registry, reference) = (client(), name(&server.reference("app", "1")));
    let cancel = CancelToken::new();
    let subject = &image.descriptor.digest;
    assert_eq!(registry.referrers(&reference, subject, None, &cancel).unwrap(), []);
    let mut digests = Vec::new();
    for text in ["one", "two"] {
        let (_, content) = push(&registry, &reference.to_string(), Descriptor::EMPTY_JSON).unwrap();
        assert_eq!(content.digest, Descriptor::empty().digest);
        let mut manifest = Manifest::new(Descriptor::empty(), vec![Descriptor::empty()]);
        manifest.artifact_type = Some("text/plain".to_owned());
        manifest.subject = Some(Descriptor::of(MediaType::ImageManifest, &image.manifest));
        manifest.annotations.insert("name".to_owned(), text.to_owned());
        let bytes = json::to_vec_pretty(&manifest).unwrap();
        let entry = registry.put_referrer(&reference, &bytes, &cancel).unwrap();
        assert_eq!(entry.artifact_type.as_deref(), Some("text/plain"));
        assert_eq!(entry.annotations, manifest.annotations);
        digests.push(entry.digest);
    }
    let error = registry.put_referrer(&reference, &image.manifest, &cancel).unwrap_err();
    assert!(error.to_string().contains("has no subject"), "{error}");
    let found = registry.referrers(&reference, subject, Some("text/plain"), &cancel).unwrap();
    assert_eq!(found.into_iter().map(|entry| entry.digest).collect::<Vec<_>>(), digests);
    assert_eq!(registry.referrers(&reference, subject, Some("other"), &cancel).unwrap(), []);
}

#[test]
fn who_takes_nothing_is_told_from_who_is_not_there() {
    let (server, registry) = (TestRegistry::start(), client());
    server.fault_of(
        "POST",
        "/uploads/",
        0,
        1,
        Fault::Answer(405, Vec::new(), b"Method not allowed".to_vec()),
    );
    let error = push(&registry, &server.reference("app", "1"), b"layer").unwrap_err();
    assert!(error.to_string().contains("answered 405: Method not allowed"), "{error}");
    assert!(error.hint_text().unwrap().contains("read-only"), "{error:?}");
}

#[test]
fn a_registry_that_takes_no_pieces_is_sent_the_whole() {
    for status in [405, 501, 411, 415] {
        for fault in [Fault::Answer, Fault::Early] {
            let server = TestRegistry::start();
            let fault = fault(status, Vec::new(), b"not allowed".to_vec());
            server.fault_of("PATCH", "/uploads/", 0, usize::MAX, fault);
            let (registry, bytes) = (client(), bytes_of(5 << 20));
            let (_, descriptor) = push(&registry, &server.reference("app", "1"), &bytes).unwrap();
            assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes, "{status}");
            assert_eq!(methods(&server), ["HEAD", "POST", "PATCH", "POST", "PUT"], "{status}");
            // What was learnt counts for the next blob.
            let second = bytes_of(3 << 20);
            push(&registry, &server.reference("app", "1"), &second).unwrap();
            assert_eq!(methods(&server)[5..], ["HEAD", "POST", "PUT"], "{status}");
        }
    }
}

#[test]
fn a_whole_blob_that_breaks_is_sent_again_but_not_for_ever() {
    let server = TestRegistry::start();
    let refusal = Fault::Answer(405, Vec::new(), Vec::new());
    server.fault_of("PATCH", "/uploads/", 0, usize::MAX, refusal);
    server.fault_of("PUT", "/uploads/", 0, 1, Fault::Reset(2 << 20));
    let bytes = bytes_of(5 << 20);
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
    server.fault_of("PUT", "/uploads/", 0, usize::MAX, Fault::Answer(405, Vec::new(), Vec::new()));
    let error = push(&client(), &server.reference("other", "1"), &bytes).unwrap_err();
    assert!(error.to_string().contains("answered 405"), "{error}");
}

#[test]
fn a_registry_that_knows_no_path_for_pieces_is_sent_the_whole() {
    let server = TestRegistry::start();
    let refusal = Fault::Answer(404, Vec::new(), b"404 page not found".to_vec());
    server.fault_of("PATCH", "/uploads/", 0, usize::MAX, refusal);
    let bytes = bytes_of(2 << 20);
    let (_, descriptor) = push(&client(), &server.reference("app", "1"), &bytes).unwrap();
    assert_eq!(server.blob("app", &descriptor.digest).unwrap(), bytes);
}

#[test]
fn methods_that_a_registry_does_not_know_are_done_without() {
    let bytes = bytes_of(1000);
    for status in [400, 404, 405, 501] {
        let server = TestRegistry::start();
        let refusal = Fault::Answer(status, Vec::new(), b"no".to_vec());
        server.fault_of("POST", "mount=", 0, usize::MAX, refusal);
        let here = server.reference("app", "1");
        let (pushed, _) = push_from(&client(), &here, &bytes, &["other".to_owned()]).unwrap();
        assert_eq!(pushed, BlobPush::Sent, "{status}");
    }
    let server = TestRegistry::start();
    server.push("app", "1", &TestImage::new("linux/amd64").build());
    let refusal = Fault::Answer(405, Vec::new(), Vec::new());
    server.fault_of("HEAD", "", 0, usize::MAX, refusal);
    let stat = |tag: &str| {
        client().stat_manifest(&name(&server.reference("app", tag)), &CancelToken::new()).unwrap()
    };
    assert_eq!(stat("1").unwrap().digest, TestImage::new("linux/amd64").build().descriptor.digest);
    assert_eq!(stat("2"), None);
    assert_eq!(push(&client(), &server.reference("app", "1"), &bytes).unwrap().0, BlobPush::Sent);
}
