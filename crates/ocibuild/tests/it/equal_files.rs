//! Files that a step puts where the same ones are already: its layer has none of them.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use ocibuild::BuiltImage;
use tar::EntryType;

use super::support::{World, header, layer_listing};

const SECONDS: u64 = 1_000_000;
/// Of one size.
const ONE: &str = "one content";
const TWO: &str = "two content";

/// What each layer of an image holds.
fn layers(world: &World, image: &BuiltImage) -> Vec<Vec<String>> {
    let path = |line: &String| line.split_whitespace().next().unwrap().to_owned();
    let listing = |digest: &str| layer_listing(&world.blobs().join(digest)).iter().map(path).collect();
    image.layers().map(|(_, descriptor)| listing(descriptor.digest.hex())).collect()
}

/// An archive with the file `f`.
fn archive(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = header(EntryType::Regular, 0o640, text.len() as u64);
    header.set_mtime(SECONDS);
    builder.append_data(&mut header, "f", text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// A context whose files differ in content alone.
fn world() -> World {
    let world = World::new();
    world.files(&[("one/f", ONE), ("two/f", TWO)]);
    let context = world.path("context");
    for (name, text) in [("one", ONE), ("two", TWO)] {
        fs::write(context.join(format!("{name}.tar")), archive(text)).unwrap();
        let file = fs::File::open(context.join(name).join("f")).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
        file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS)).unwrap();
    }
    world
}

#[test]
fn only_content_that_differs_is_in_a_layer() {
    let world = world();
    let dockerfile = "FROM scratch AS one\nCOPY one/f /y/\nFROM scratch AS two\nCOPY two/f /y/\nFROM scratch\n\
        COPY one/f /x/\n\
        COPY one/f /x/f\n\
        COPY one /x\n\
        COPY --from=one /y/f /x/\n\
        ADD one.tar /x/\n\
        ADD two.tar /x/\n\
        COPY --from=two /y/ /x/\n\
        COPY two/f /x/\n\
        COPY --from=one /y/ /x/\n";
    let (image, _) = world.build(world.prepare(dockerfile));
    let (all, none) = (vec!["x/".to_owned(), "x/f".to_owned()], Vec::new());
    let expected = [&all, &none, &none, &none, &none, &all, &none, &none, &all].map(Clone::clone);
    assert_eq!(layers(&world, &image), expected);
}

#[test]
fn a_listing_of_an_older_version_counts_as_none() {
    let world = world();
    let dockerfile = "FROM scratch\nCOPY one/f /x/\nCOPY one /x\n";
    let (image, _) = world.build(world.prepare(dockerfile));
    let folder = world.path("state/cache/layer-listings");
    let listings = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut older = 0;
    for path in listings() {
        let mut bytes = fs::read(&path).unwrap();
        let version = bytes.iter().position(|byte| *byte == 0).unwrap() + 1;
        bytes[version] -= 1;
        fs::write(&path, bytes).unwrap();
        older += 1;
    }
    assert_eq!(older, 2);
    let (again, seen) = world.build(world.prepare(dockerfile));
    assert_eq!(seen.done, ["COPY one/f /x/", "COPY one /x"]);
    assert_eq!(layers(&world, &again), layers(&world, &image));
    let (_, seen) = world.build(world.prepare(dockerfile));
    assert!(seen.done.is_empty(), "{:?}", seen.done);
}
