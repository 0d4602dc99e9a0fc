//! Build contexts that come as a stream or from a URL: archives, and Dockerfiles alone.

use std::io::{Read, Write as _};

use ocibuild::dockerfile::Dockerfile;
use ocibuild::spec::Timestamp;
use ocibuild::{
    Build, BuildContext, CancelToken, ContextSource, Error, ErrorKind, Fetcher, RemoteSource, Remotes,
};
use ocibuild_testkit::{Reply, WebServer};
use tar::EntryType;

use crate::support::{World, chain, header, layer_listing};

/// An archive of entries: path, type, link target or content.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let is_file = *kind == EntryType::Regular;
        let mut header = header(*kind, 0o640, if is_file { text.len() as u64 } else { 0 });
        header.set_mtime(1_000_000);
        // Written as it is: `set_path` refuses what a hostile archive has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if !is_file {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, if is_file { text.as_bytes() } else { b"" }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file<'a>(path: &'a str, text: &'a str) -> (&'a str, EntryType, &'a str) {
    (path, EntryType::Regular, text)
}

fn with_fetcher<T>(world: &World, remotes: &Remotes, work: impl FnOnce(&Fetcher<'_>) -> T) -> T {
    let cancel = CancelToken::new();
    work(&Fetcher::new(remotes, world.store(), &cancel, Timestamp::default()))
}

fn receive(world: &World, bytes: impl Read) -> Result<BuildContext, Error> {
    with_fetcher(world, &Remotes::system().unwrap(), |fetcher| fetcher.receive(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// The entries of the only layer of the context's own Dockerfile.
fn built(world: &World, context: BuildContext) -> Result<Vec<String>, Error> {
    let dockerfile = Dockerfile::parse(context.dockerfile(None)?).unwrap();
    let (image, _) = world.try_build(Build::new(dockerfile, context));
    Ok(image?
        .layers()
        .flat_map(|(_, layer)| layer_listing(&world.blobs().join(layer.digest.hex())))
        .collect())
}

#[test]
fn an_archive_is_a_context_however_it_is_packed() {
    let world = World::new();
    let plain = archive(&[
        file("./Dockerfile", "FROM scratch\nCOPY f .dockerignore /d/\n"),
        file("f", "text"),
        // Of an archive nothing is left out (7.02).
        file(".dockerignore", "f\n"),
    ]);
    for bytes in [gzip(&plain), plain] {
        let context = receive(&world, bytes.as_slice()).unwrap();
        assert_eq!(context.time(), Some(1_000_000));
        let entries = built(&world, context).unwrap().join("\n");
        assert!(entries.contains("d/f Regular 640") && entries.contains(".dockerignore"), "{entries}");
    }
    let lower = archive(&[file("dockerfile", "FROM scratch\nWORKDIR /x\n")]);
    assert!(!built(&world, receive(&world, lower.as_slice()).unwrap()).unwrap().is_empty());
    world.check_left_nothing();
}

#[test]
fn text_is_a_dockerfile_without_files() {
    let world = World::new();
    let context = receive(&world, &b"FROM scratch\nWORKDIR /x\n"[..]).unwrap();
    assert_eq!(context.dockerfile(Some("other".as_ref())).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(built(&world, context).unwrap().len(), 1);
    let context = receive(&world, &b"FROM scratch\nCOPY x /\n"[..]).unwrap();
    assert!(built(&world, context).unwrap_err().to_string().contains("not found"));
}

#[test]
fn hostile_archives_reach_nothing() {
    let world = World::new();
    let dockerfile = |text: &'static str| file("Dockerfile", text);
    let climbing = archive(&[
        dockerfile("FROM scratch\nCOPY . /\n"),
        file("../../evil", "x"),
        file("/absolute", "x"),
        ("up", EntryType::Symlink, "../../../etc"),
        ("root", EntryType::Symlink, "/"),
    ]);
    let entries = built(&world, receive(&world, climbing.as_slice()).unwrap()).unwrap().join("\n");
    for inside in ["evil Regular", "absolute Regular", "up Symlink", "root Symlink"] {
        assert!(entries.contains(inside), "{entries}");
    }
    assert!(!entries.contains("passwd"), "{entries}");
    for source in ["up/passwd", "root/etc/passwd"] {
        let text = format!("FROM scratch\nCOPY {source} /\n");
        let bytes = archive(&[
            file("Dockerfile", &text),
            ("up", EntryType::Symlink, "../../../etc"),
            ("root", EntryType::Symlink, "/"),
        ]);
        let error = built(&world, receive(&world, bytes.as_slice()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("not found"), "{source}: {error}");
    }
    let through =
        archive(&[("out", EntryType::Symlink, "/etc"), file("out/cron", "x"), dockerfile("FROM scratch\n")]);
    assert_eq!(receive(&world, through.as_slice()).unwrap_err().kind(), ErrorKind::Refused);
    let dockerfile_link = archive(&[("Dockerfile", EntryType::Symlink, "/etc/passwd")]);
    let context = receive(&world, dockerfile_link.as_slice()).unwrap();
    assert_eq!(context.dockerfile(None).unwrap_err().kind(), ErrorKind::Usage);
    drop(context);
    let fifo = archive(&[("Dockerfile", EntryType::Fifo, "")]);
    assert!(receive(&world, fifo.as_slice()).unwrap().dockerfile(None).is_err());
    world.check_left_nothing();
}

#[test]
fn broken_streams_are_refused() {
    let world = World::new();
    let whole = archive(&[file("Dockerfile", "FROM scratch\n"), file("f", &"x".repeat(5000))]);
    let packed = gzip(&whole);
    let mut oversized = whole.clone();
    oversized[124..136].copy_from_slice(b"77777777777\0");
    let mut sum = tar::Header::new_old();
    sum.as_mut_bytes().copy_from_slice(&oversized[..512]);
    sum.set_cksum();
    oversized[..512].copy_from_slice(sum.as_bytes());
    for (what, bytes) in [
        ("a cut archive", &whole[..2000]),
        ("a cut stream", &packed[..packed.len() / 2]),
        ("a size that is not there", &oversized),
        ("no archive", &gzip(b"FROM scratch\n")),
    ] {
        let error = receive(&world, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {}", chain(&error));
    }
    let remotes = Remotes::system().unwrap().size_limit(1 << 20);
    let endless = with_fetcher(&world, &remotes, |fetcher| fetcher.receive(std::io::repeat(b'x')));
    assert_eq!(endless.unwrap_err().kind(), ErrorKind::Refused);
    world.check_left_nothing();
}

#[test]
fn urls_are_contexts_too() {
    let (world, server) = (World::new(), WebServer::start());
    let packed = gzip(&archive(&[file("Dockerfile", "FROM scratch\nCOPY f /\n"), file("f", "x")]));
    let date = "Wed, 03 Mar 2010 10:11:12 GMT";
    server.put("/c.tgz", Reply::of(packed.clone()).header("last-modified", date));
    server.put("/undated.tgz", Reply::of(packed));
    server.put("/df", Reply::of("FROM scratch\nCOPY context /d/\n"));
    let remotes = Remotes::system().unwrap();
    let fetch = |path: &str| {
        let source = RemoteSource::parse(&server.url(path)).unwrap().unwrap();
        with_fetcher(&world, &remotes, |fetcher| fetcher.fetch(&source))
    };
    assert_eq!(fetch("/c.tgz").unwrap().time(), Some(1_267_611_072));
    assert_eq!(fetch("/undated.tgz").unwrap().time(), Some(1_000_000));
    assert_eq!(built(&world, fetch("/c.tgz").unwrap()).unwrap().len(), 1);
    // The file itself is there under this name, as with BuildKit.
    let entries = built(&world, fetch("/df").unwrap()).unwrap().join("\n");
    assert!(entries.contains("d/context Regular 600"), "{entries}");
    assert_eq!(fetch("/nothing").unwrap_err().kind(), ErrorKind::Network);
    let named = RemoteSource::parse(&server.url("/c.tgz")).unwrap().unwrap();
    let build = |dockerfile: &str| {
        world.prepare(dockerfile).build_context("more", ContextSource::Remote(named.clone()))
    };
    world.build(build("FROM scratch\nCOPY --from=more f /g\n"));
    world.build(build("FROM more\nLABEL a=b\n"));
    let bad = RemoteSource::parse(&server.url("/nothing")).unwrap().unwrap();
    let unused =
        world.prepare("FROM scratch\nWORKDIR /x\n").build_context("more", ContextSource::Remote(bad));
    world.build(unused);
    world.check_left_nothing();
}
