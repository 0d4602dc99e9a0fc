use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use ocibuild_registry::Registry;
use ocibuild_spec::{CancelToken, Digest, SourceErrorKind, media_types};
use ocibuild_testkit::{TestImage, TestRegistry, index_of};

use super::{client, name, pull, resolve};

#[test]
fn an_image_comes_by_tag_and_by_digest() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("a", "1"), ("b", "2")]).gzip().build();
    server.push("team/app", "1", &image);
    let registry = client();
    let reference = server.reference("team/app", "1");
    let found = resolve(&registry, &reference).unwrap();
    assert_eq!(found.descriptor.digest, image.descriptor.digest);
    assert_eq!(found.manifest_bytes, image.manifest);
    assert_eq!(found.config_bytes, image.config.1);
    assert_eq!(pull(&registry, &reference, &image.layers[0].0).unwrap(), image.layers[0].1);
    let pinned = format!("{}/team/app@{}", server.authority(), image.descriptor.digest);
    assert_eq!(resolve(&registry, &pinned).unwrap().descriptor.digest, image.descriptor.digest);
}

#[test]
fn an_index_leads_to_the_platform() {
    let server = TestRegistry::start();
    let images = ["linux/arm64", "linux/amd64"].map(|platform| TestImage::new(platform).build());
    for image in &images {
        server.push("app", "unused", image);
    }
    let (_, index) = index_of(&[&images[0], &images[1]]);
    server.put_manifest("app", "1", media_types::DOCKER_INDEX, &index);
    // The index calls itself an OCI index: two stories are one too many.
    let error = resolve(&client(), &server.reference("app", "1")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Corrupt, "{error}");
    server.put_manifest("app", "2", "application/vnd.oci.image.index.v1+json", &index);
    let found = resolve(&client(), &server.reference("app", "2")).unwrap();
    assert_eq!(found.descriptor.digest, images[1].descriptor.digest);
    let arm = index_of(&[&images[0]]).1;
    server.put_manifest("app", "3", "application/json; charset=utf-8", &arm);
    let error = resolve(&client(), &server.reference("app", "3")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NoPlatform);
    assert!(error.to_string().contains("no match for platform in manifest"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let server = TestRegistry::start();
    let error = resolve(&client(), &server.reference("no/such", "1")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("/v2/no/such/manifests/1") && text.contains("404"), "{text}");
    assert!(text.contains("MANIFEST_UNKNOWN"), "{text}");
    assert!(error.hint_text().is_some());
}

#[test]
fn a_digest_decides_whatever_the_registry_says() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").build();
    let wanted = Digest::of("something else");
    server.put_manifest("app", wanted.as_str(), image.descriptor.media_type.as_ref(), &image.manifest);
    let pinned = format!("{}/app@{wanted}", server.authority());
    let error = resolve(&client(), &pinned).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Corrupt);
    assert!(error.to_string().contains(wanted.as_str()), "{error}");
}

#[test]
fn an_unknown_server_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = resolve(&client(), &format!("{free}/app")).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Network);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

/// A registry that is started at the same moment as who asks it.
#[test]
fn a_server_that_comes_late_is_spoken_to_as_it_speaks() {
    let server = TestRegistry::start();
    let image = TestImage::new("linux/amd64").layer(&[("file", "1")]).build();
    server.push("app", "1", &image);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = server.authority();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        for client in TcpListener::bind(address).unwrap().incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut asked, mut asks) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut asked, &mut asks);
                asks.shutdown(Shutdown::Write)
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                client.shutdown(Shutdown::Write)
            });
        }
    });
    let pause = Duration::from_millis(100);
    let registry = Registry::builder().retries(30, pause, pause).build().unwrap();
    let found = registry.manifest(&name(&format!("{address}/app:1")), &CancelToken::new()).unwrap();
    assert_eq!(found.1, image.manifest);
}
