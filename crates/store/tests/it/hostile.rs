use std::path::Path;

use ocibuild_spec::{CancelToken, Descriptor, Digest, MediaType, SourceErrorKind};
use ocibuild_store::{ArchiveSource, ErrorKind, Fault, LayoutSource, StoredImages, detect};
use ocibuild_testkit::{HangGuard, ImageBlobs, TestImage, index_of, write_layout, write_layout_of};

use super::{read, resolve};

fn image() -> ImageBlobs {
    TestImage::new("linux/amd64").layer(&[("a", "1")]).build()
}

fn layout(image: &ImageBlobs) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_layout(directory.path(), &[("latest", image)]);
    directory
}

fn blob(directory: &Path, descriptor: &Descriptor) -> std::path::PathBuf {
    directory.join("blobs/sha256").join(descriptor.digest.hex())
}

fn open(directory: &Path) -> LayoutSource {
    LayoutSource::open(directory, None, None).unwrap()
}

#[test]
fn an_intact_layout_is_read() {
    let image = image();
    let directory = layout(&image);
    let found = resolve(&open(directory.path())).unwrap();
    assert_eq!(found.manifest_bytes, image.manifest);
    assert_eq!(read(&open(directory.path()), &image.layers[0].0).unwrap(), image.layers[0].1);
    assert!(detect(directory.path()).is_ok());
    for (tag, fits) in [("latest", true), ("v2", false)] {
        let source = LayoutSource::open(directory.path(), Some(tag), None).unwrap();
        assert_eq!(resolve(&source).is_ok(), fits, "{tag}");
    }
    let digest = &image.descriptor.digest;
    assert!(resolve(&LayoutSource::open(directory.path(), Some("no"), Some(digest)).unwrap()).is_ok());
    let other = Digest::of("other");
    let error = resolve(&LayoutSource::open(directory.path(), None, Some(&other)).unwrap()).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NotFound);
}

#[test]
fn each_damaged_blob_is_noticed() {
    let image = image();
    for (descriptor, bytes) in image.all() {
        let directory = layout(&image);
        let path = blob(directory.path(), &descriptor);
        let mut changed = bytes.clone();
        changed[0] ^= 1;
        for damage in [changed, bytes[1..].to_vec(), [bytes.as_slice(), b"x"].concat(), Vec::new()] {
            fs_err::write(&path, damage).unwrap();
            let source = open(directory.path());
            let whole = resolve(&source)
                .map_err(|error| error.to_string())
                .and_then(|found| read(&source, &found.manifest.layers()[0]));
            assert!(whole.unwrap_err().contains(descriptor.digest.hex()));
        }
    }
}

#[test]
fn blobs_are_regular_files() {
    let image = image();
    let (layer, _) = &image.layers[0];
    for kind in ["link", "pipe", "directory", "missing"] {
        let directory = layout(&image);
        let path = blob(directory.path(), layer);
        fs_err::remove_file(&path).unwrap();
        match kind {
            "link" => std::os::unix::fs::symlink("/etc/hostname", &path).unwrap(),
            "pipe" => {
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            "directory" => fs_err::create_dir(&path).unwrap(),
            _ => {}
        }
        assert!(read(&open(directory.path()), layer).is_err(), "{kind}");
    }
}

#[test]
fn hostile_indexes_are_refused() {
    let image = image();
    let missing = LayoutSource::open(tempfile::tempdir().unwrap().path(), None, None).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(matches!(missing.fault(), Some(Fault::NotALayout { .. })), "{missing:?}");
    for text in [
        "",
        "{",
        "null",
        "[]",
        r#"{"schemaVersion":2,"manifests":{}}"#,
        r#"{"schemaVersion":3,"manifests":[]}"#,
    ] {
        let directory = layout(&image);
        fs_err::write(directory.path().join("index.json"), text).unwrap();
        let error = LayoutSource::open(directory.path(), None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
    }
    // As Go reads it: an index of nothing.
    let directory = layout(&image);
    fs_err::write(directory.path().join("index.json"), r#"{"schemaVersion":2,"manifests":null}"#).unwrap();
    assert!(LayoutSource::open(directory.path(), None, None).is_ok());
    let directory = layout(&image);
    fs_err::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert_eq!(LayoutSource::open(directory.path(), None, None).unwrap_err().kind(), ErrorKind::Unsupported);
    fs_err::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs_err::remove_file(directory.path().join("index.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", directory.path().join("index.json")).unwrap();
    assert_eq!(LayoutSource::open(directory.path(), None, None).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn nested_indexes_are_followed_some_way() {
    let image = image();
    for (depth, fits) in [(1, true), (3, true), (6, false)] {
        let directory = tempfile::tempdir().unwrap();
        let mut blobs = image.all();
        let mut top = image.clone();
        for _ in 0..depth {
            let (mut descriptor, bytes) = index_of(&[&top]);
            blobs.push((descriptor.clone(), bytes));
            descriptor.platform.clone_from(&image.descriptor.platform);
            top.descriptor = descriptor;
        }
        write_layout_of(directory.path(), &blobs, vec![top.descriptor.clone()]);
        assert_eq!(resolve(&open(directory.path())).is_ok(), fits, "{depth}");
    }
}

#[test]
fn layouts_without_names_are_chosen_from_by_platform() {
    let images = ["linux/arm64", "linux/amd64"].map(|platform| TestImage::new(platform).build());
    let blobs: Vec<_> = images.iter().flat_map(ImageBlobs::all).collect();
    let directory = tempfile::tempdir().unwrap();
    write_layout_of(directory.path(), &blobs, images.iter().map(|image| image.descriptor.clone()).collect());
    let found = resolve(&open(directory.path())).unwrap();
    assert_eq!(found.descriptor.digest, images[1].descriptor.digest);
    write_layout_of(directory.path(), &blobs[..2], vec![images[0].descriptor.clone()]);
    assert_eq!(
        resolve(&open(directory.path())).unwrap().config.architecture,
        "arm64",
        "a single one is taken"
    );
}

/// A tar of these members: name, kind and content or target.
fn tar(members: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::new(*kind));
        let is_link = matches!(kind, b'1' | b'2');
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
        }
        let content = if is_link { &b""[..] } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn open_tar(bytes: &[u8]) -> Result<ArchiveSource, ocibuild_store::Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    fs_err::write(&path, bytes).unwrap();
    ArchiveSource::open(&path)
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
    .into_bytes()
}

#[test]
fn docker_archives_with_links_are_read() {
    let (a, b) = (b"layer a".as_slice(), b"layer b".as_slice());
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar","2/layer.tar"]}]"#;
    let bytes = tar(&[
        ("1/", b'5', b""),
        ("1/layer.tar", b'0', a),
        ("2/layer.tar", b'2', b"../3/layer.tar"),
        ("3/layer.tar", b'1', b"4/layer.tar"),
        ("4/layer.tar", b'0', b),
        ("c.json", b'0', &config_of(&[a, b])),
        ("manifest.json", b'0', manifest),
    ]);
    let source = open_tar(&bytes).unwrap();
    let found = resolve(&source).unwrap();
    assert_eq!(read(&source, &found.manifest.layers()[1]).unwrap(), b);
    assert_eq!(found.manifest.layers()[0].media_type, MediaType::ImageLayer);
    // A layer that is not what the config says.
    let bytes = tar(&[
        ("l", b'0', b"layer x"),
        ("c", b'0', &config_of(&[a])),
        ("manifest.json", b'0', br#"[{"Config":"c","Layers":["l"]}]"#),
    ]);
    let source = open_tar(&bytes).unwrap();
    let found = resolve(&source).unwrap();
    assert!(read(&source, &found.manifest.layers()[0]).unwrap_err().contains("have the digest"));
}

#[test]
fn hostile_archives_are_refused() {
    let config = config_of(&[]);
    let manifest = br#"[{"Config":"c","Layers":[]}]"#.as_slice();
    let manifests = |config: &[u8]| tar(&[("manifest.json", b'0', manifest), ("c", b'0', config)]);
    assert!(resolve(&open_tar(&manifests(&config)).unwrap()).is_ok());
    for bytes in [
        tar(&[("manifest.json", b'2', b"c"), ("c", b'2', b"manifest.json")]),
        tar(&[("manifest.json", b'0', manifest), ("manifest.json", b'0', manifest)]),
        tar(&[("manifest.json", b'0', manifest), ("./manifest.json", b'2', b"c")]),
        tar(&[("../manifest.json", b'0', manifest)]),
        tar(&[("/manifest.json", b'0', manifest)]),
        tar(&[("a/b", b'2', b"../../x")]),
        tar(&[("device", b'3', b"")]),
        tar(&[("sparse", b'S', b"")]),
        tar(&[("x", b'x', b"999 path=y\n"), ("y", b'0', b"")]),
        tar(&[("x", b'x', b"6 a=b\n"), ("y", b'g', b"10 size=1\n")]),
        tar(&[("manifest.json", b'0', b"[]")]),
        tar(&[("manifest.json", b'0', b"{")]),
        tar(&[("unrelated", b'0', b"x")]),
        manifests(&config)[..1024].to_vec(),
        b"not a tar at all".repeat(100),
        Vec::new(),
    ] {
        assert!(open_tar(&bytes).is_err(), "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
    }
    let cases: [(&[u8], &[u8]); 4] = [
        (br#"[{"Config":"c","Layers":["l"]}]"#, &config),
        (br#"[{"Config":"no","Layers":[]}]"#, &config),
        (manifest, b"[]"),
        (br#"[{"Config":"../../etc/passwd","Layers":[]}]"#, &config),
    ];
    for (manifest, config) in cases {
        let source = open_tar(&tar(&[("manifest.json", b'0', manifest), ("c", b'0', config)])).unwrap();
        assert_eq!(resolve(&source).unwrap_err().kind(), SourceErrorKind::Corrupt);
    }
    let gzip = open_tar(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(gzip.kind(), ErrorKind::Unsupported);
    assert!(gzip.hint().unwrap().contains("gunzip"));
}

#[test]
fn sizes_beyond_the_archive_are_refused() {
    let mut bytes = tar(&[("manifest.json", b'0', b"x")]);
    for size in [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 40, 5000] {
        let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
        header.set_size(size);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        assert_eq!(open_tar(&bytes).unwrap_err().kind(), ErrorKind::Corrupt, "{size}");
    }
}

fn images_of(tar: &[u8]) -> Result<usize, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    fs_err::write(&path, tar).unwrap();
    let images = StoredImages::open(&path).map_err(|error| error.to_string())?;
    images.list(&CancelToken::new()).map(|images| images.len()).map_err(|error| error.to_string())
}

#[test]
fn what_an_archive_repeats_costs_little() {
    // Each entry was once compared with all before it: with so many that lasts longer than the guard allows.
    let entry = |number: usize| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{number:064x}","size":1}}"#
        )
    };
    let entries: Vec<_> = (0..400_000).map(entry).collect();
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let oci = tar(&[("oci-layout", b'0', version), ("index.json", b'0', index.as_bytes())]);
    let _guard = HangGuard::new("an index of 400,000 entries");
    assert_eq!(images_of(&oci), Ok(400_000));

    // Each image has its config read.
    let mut config = config_of(&[]);
    config.resize(2 << 20, b' ');
    for (count, expected) in [(3, Ok(1)), (40, Err("image.tar: the configs of its images have more than"))] {
        let list = format!("[{}]", vec![r#"{"Config":"c","Layers":[]}"#; count].join(","));
        let found = images_of(&tar(&[("c", b'0', &config), ("manifest.json", b'0', list.as_bytes())]));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (found, _) => panic!("{count}: {found:?}"),
        }
    }

    // A manifest with so many layers would be refused by all who read it.
    let layers = vec!["l"; 1025];
    let config = config_of(&vec![&b""[..]; 1025]);
    let list = serde_json::json!([{"Config": "c", "Layers": layers}]).to_string();
    let members: [(&str, u8, &[u8]); 3] =
        [("c", b'0', &config), ("l", b'0', b""), ("manifest.json", b'0', list.as_bytes())];
    let error = images_of(&tar(&members)).unwrap_err();
    assert!(error.contains("1025 layers"), "{error}");
}
