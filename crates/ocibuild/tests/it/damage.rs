//! Archives and layers that are damaged, mean harm, or say what no image can have.

use std::io::Write as _;

use fs_err as fs;
use ocibuild::ErrorKind;
use ocibuild_testkit::TestImage;
use tar::EntryType;

use super::support::{World, chain, header, layer_listing, platform};

fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let size = if *kind == EntryType::Regular { text.len() as u64 } else { 0 };
        let mut header = header(*kind, 0o644, size);
        match kind {
            EntryType::Link => builder.append_link(&mut header, path, text).unwrap(),
            _ => builder.append_data(&mut header, path, text.as_bytes()).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// What `ADD` makes of a file called `x`.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Unpacked { warns: bool },
    Copied { warns: bool },
    Fails(ErrorKind),
}

fn added(bytes: &[u8], limit: Option<u64>) -> (Outcome, String) {
    let world = World::new();
    fs::write(world.path("context/x"), bytes).unwrap();
    let mut build = world.prepare("FROM scratch\nADD x /o/\n");
    if let Some(limit) = limit {
        build = build.archive_limit(limit);
    }
    let (result, seen) = world.try_build(build);
    world.check_left_nothing();
    let image = match result {
        Ok(image) => image,
        Err(error) => return (Outcome::Fails(error.kind()), chain(&error)),
    };
    let layers: Vec<String> = image
        .layers()
        .flat_map(|(_, layer)| layer_listing(&world.blobs().join(layer.digest.hex())))
        .collect();
    let text = seen.warnings.join("; ");
    let warns = !seen.warnings.is_empty();
    if layers.iter().any(|line| line.contains("o/x")) {
        (Outcome::Copied { warns }, text)
    } else {
        assert!(layers.iter().any(|line| line.contains("o/inside")), "{layers:?}");
        (Outcome::Unpacked { warns }, text)
    }
}

#[test]
fn add_reads_archives_to_their_end() {
    // Bytes that do not compress, so that the place of damage tells what it hits.
    let noise: String =
        (0..40_000_u32).map(|n| char::from(b'0' + (n.wrapping_mul(n) >> 7) as u8 % 75)).collect();
    let tar = tar_of(&[("inside", EntryType::Regular, &noise), ("second", EntryType::Regular, "2")]);
    let good = gzip(&tar);
    let changed = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 0x55;
        bytes
    };
    let end = good.len();
    let whole = Outcome::Unpacked { warns: false };
    let doubtful = Outcome::Unpacked { warns: true };
    for (what, bytes, expected) in [
        ("whole", good.clone(), &whole),
        ("wrong checksum", changed(end - 7), &doubtful),
        ("wrong length", changed(end - 2), &doubtful),
        ("no trailer", good[..end - 8].to_vec(), &doubtful),
        ("half a trailer", good[..end - 3].to_vec(), &doubtful),
        ("zeros behind it", [&good[..], &[0; 512]].concat(), &whole),
        ("text behind it", [&good[..], b"signed by nobody"].concat(), &whole),
        ("a second member that is cut", [&good[..], &good[..200]].concat(), &doubtful),
        ("half", good[..end / 2].to_vec(), &Outcome::Fails(ErrorKind::Dockerfile)),
        ("damaged before the first header", changed(12), &Outcome::Copied { warns: true }),
        ("a text", gzip(b"only text"), &Outcome::Copied { warns: false }),
        ("a text that is damaged", gzip(b"only text")[..16].to_vec(), &Outcome::Copied { warns: true }),
        ("plain, cut", tar[..20_000].to_vec(), &Outcome::Fails(ErrorKind::Dockerfile)),
        ("plain, with a tail", [&tar[..], b"tail"].concat(), &whole),
    ] {
        let (outcome, text) = added(&bytes, None);
        assert_eq!(outcome, *expected, "{what}: {text}");
        let named = text.contains("/x");
        assert_eq!(
            named,
            *expected != whole && *expected != Outcome::Copied { warns: false },
            "{what}: {text}"
        );
    }
}

#[test]
fn what_takes_too_much_memory_to_decompress_is_no_plain_file() {
    // A Zstandard frame that asks for a window of 2 GiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    let (outcome, text) = added(&frame, None);
    assert_eq!(outcome, Outcome::Fails(ErrorKind::Refused), "{text}");
    assert!(text.contains("/x") && text.contains("128 MiB"), "{text}");
}

#[test]
fn archives_unpack_to_no_more_than_is_allowed() {
    let archive = gzip(&tar_of(&[("inside", EntryType::Regular, &"x".repeat(50_000))]));
    let refused = Outcome::Fails(ErrorKind::Refused);
    let tail = gzip(&[tar_of(&[("inside", EntryType::Regular, "x")]), vec![0; 100_000]].concat());
    for (bytes, limit, expected) in [
        (&archive, None, Outcome::Unpacked { warns: false }),
        (&archive, Some(40_000), refused),
        (&archive, Some(60_000), Outcome::Unpacked { warns: false }),
        (&tail, Some(40_000), Outcome::Fails(ErrorKind::Refused)),
    ] {
        let (outcome, text) = added(bytes, limit);
        assert_eq!(outcome, expected, "{limit:?}: {text}");
        assert!(limit != Some(40_000) || text.contains("/x unpacks to more than 40000 bytes"), "{text}");
    }
}

#[test]
fn names_that_would_be_read_as_deletions_are_refused() {
    let mut world = World::new();
    world.base("base", &TestImage::new(&platform()).layer(&[("d/foo", "f"), ("d/bar", "b")]).build());
    world.files(&[(".wh.foo", "x"), ("tree/sub/.wh..wh..opq", ""), ("dirs/.wh.d/file", ""), ("plain", "x")]);
    let archive = tar_of(&[("ok", EntryType::Regular, ""), (".wh.foo", EntryType::Regular, "")]);
    fs::write(world.path("context/a.tar"), archive).unwrap();
    for (instruction, named) in [
        ("COPY .wh.foo /d/", "d/.wh.foo"),
        ("COPY plain /d/.wh.foo", "d/.wh.foo"),
        ("COPY --link plain /d/.wh.foo", "d/.wh.foo"),
        ("COPY tree /d/", "d/sub/.wh..wh..opq"),
        ("COPY dirs /d/", "d/.wh.d"),
        ("ADD .wh.foo /d/", "d/.wh.foo"),
        ("ADD a.tar /d/", "d/.wh.foo"),
        ("COPY plain /.wh.new/", ".wh.new"),
        ("COPY <<.wh.foo /d/\ntext\n.wh.foo", "d/.wh.foo"),
        ("WORKDIR /d/.wh.foo", "d/.wh.foo"),
    ] {
        let (error, _) = world.fail(world.prepare(&format!("FROM base\n{instruction}\n")));
        let text = chain(&error);
        assert_eq!(error.kind(), ErrorKind::Refused, "{instruction}: {text}");
        assert!(text.contains(&format!("{named} cannot be in a layer")), "{instruction}: {text}");
        assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(2), "{instruction}");
    }
    world.check_left_nothing();
    world.build(world.prepare("FROM base\nCOPY --exclude=**/.wh.* . /d/\nCOPY plain /d/wh.foo\n"));
}

#[test]
fn privileged_a_step_that_leaves_the_name_of_a_deletion_is_refused() {
    let Some(world) = World::with_shell() else { return };
    for command in ["touch /.wh.foo", "mkdir -p /d/.wh.foo", "ln -s x /.wh..wh..opq"] {
        let (error, _) = world.fail(world.prepare(&format!("FROM base\nRUN {command}\n")));
        let text = chain(&error);
        assert_eq!(error.kind(), ErrorKind::Refused, "{command}: {text}");
        assert!(text.contains("cannot be in a layer"), "{command}: {text}");
    }
}

/// An image of two layers: `a`, and what is given.
fn above(entries: &[(&str, EntryType, &str)]) -> ocibuild_testkit::ImageBlobs {
    TestImage::new(&platform()).layer(&[("d/a", "content of a")]).layer_tar(tar_of(entries)).gzip().build()
}

#[test]
fn a_hard_link_of_a_layer_to_nothing_is_an_error() {
    use EntryType::{Link, Regular};
    for entries in [
        &[("l", Link, "missing")][..],
        &[("l", Link, "d/missing"), ("m", Link, "l")],
        &[("ok", Regular, ""), ("l", Link, "d/a/below")],
        &[("l", Link, "later"), (".wh.later", Regular, "")],
    ] {
        let mut world = World::new();
        let image = above(entries);
        world.base("base", &image);
        world.files(&[("f", "x")]);
        for rest in ["COPY f /f", "COPY --from=base /d /e", "WORKDIR /new"] {
            let (error, _) = world.fail(world.prepare(&format!("FROM base\n{rest}\n")));
            let text = chain(&error);
            assert_eq!(error.kind(), ErrorKind::Refused, "{rest}: {text}");
            let digest = image.layers[1].0.digest.to_string();
            assert!(text.contains(&digest) && text.contains("hard link l to "), "{rest}: {text}");
        }
    }
}

#[test]
fn a_hard_link_to_a_lower_file_has_its_content_whatever_becomes_of_that_file() {
    use EntryType::{Link, Regular};
    for entries in [
        &[("l", Link, "d/a")][..],
        &[("l", Link, "d/a"), ("d/.wh.a", Regular, "")],
        &[("d/.wh.a", Regular, ""), ("l", Link, "d/a")],
        &[("l", Link, "d/a"), (".wh.d", Regular, "")],
        &[("d/.wh..wh..opq", Regular, ""), ("l", Link, "d/a")],
    ] {
        let mut world = World::new();
        world.base("base", &above(entries));
        let (image, _) = world.build(world.prepare("FROM base AS b\nFROM scratch\nCOPY --from=b /l /copy\n"));
        let (_, layer) = image.layers().next().unwrap();
        let blob = fs::File::open(world.blobs().join(layer.digest.hex())).unwrap();
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
        let mut text = String::new();
        for entry in tar.entries().unwrap() {
            std::io::Read::read_to_string(&mut entry.unwrap(), &mut text).unwrap();
        }
        assert_eq!(text, "content of a", "{entries:?}");
    }
}

#[test]
fn layers_that_keep_too_much_are_refused_by_name() {
    let mut tar = tar::Builder::new(Vec::new());
    let value = vec![b'v'; 1 << 20];
    for number in 0..70 {
        let records = [("SCHILY.xattr.user.a", &value[..value.len() - 100])];
        tar.append_pax_extensions(records).unwrap();
        tar.append_data(&mut header(EntryType::Regular, 0o644, 0), format!("f{number}"), &[][..]).unwrap();
    }
    let image = TestImage::new(&platform()).layer_tar(tar.into_inner().unwrap()).gzip().build();
    let mut world = World::new();
    world.base("base", &image);
    world.files(&[("f", "x")]);
    let (error, _) = world.fail(world.prepare("FROM base\nCOPY f /f\n"));
    let text = chain(&error);
    assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
    let digest = image.layers[0].0.digest.to_string();
    assert!(
        text.contains(&digest) && text.contains("67108864 bytes of names, links and attributes"),
        "{text}"
    );
}
