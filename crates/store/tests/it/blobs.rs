use std::io::{Read as _, Write as _};

use ocibuild_spec::{Descriptor, Digest, MediaType};
use ocibuild_store::{BlobSink as _, ErrorKind, LayoutDirectory, OutputImage, copy_image};
use ocibuild_testkit::{TestImage, index_of};

use super::{name, open, put};

#[test]
fn only_verified_bytes_become_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let wanted = Descriptor::of(MediaType::ImageLayer, b"right");
    for wrong in [&b"wrong"[..], b"righ", b"right!", b""] {
        let error = layout.put_from(&wanted, &mut &wrong[..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(layout.stat(&wanted.digest).unwrap(), None);
    }
    for wrong in [&b"righ"[..], b"right!", b""] {
        let mut writer = layout.hashed_writer().unwrap();
        writer.write_all(wrong).unwrap();
        assert_eq!(writer.finish(&wanted).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    drop(layout.writer().unwrap());
    drop(layout.hashed_writer().unwrap());
    assert_eq!(fs_err::read_dir(layout.root().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(fs_err::read_dir(layout.private_dir("tmp")).unwrap().count(), 0);
    layout.put_from(&wanted, &mut &b"right"[..]).unwrap();
    layout.put_from(&wanted, &mut &b"not even read"[..]).unwrap();
    let mut bytes = Vec::new();
    layout.open_blob(&wanted).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"right");
    let hashed = Descriptor::of(MediaType::ImageLayer, b"hashed");
    let mut writer = layout.hashed_writer().unwrap();
    writer.write_all(b"hashed").unwrap();
    assert!(!layout.has(&hashed).unwrap());
    writer.finish(&hashed).unwrap();
    bytes.clear();
    layout.open_blob(&hashed).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"hashed");
}

#[test]
fn a_blob_that_shrank_is_noticed_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let blob = layout.put(MediaType::ImageLayer, b"some bytes").unwrap();
    let path = layout.root().join("blobs/sha256").join(blob.digest.hex());
    fs_err::write(&path, "").unwrap();
    let error = layout.open_blob(&blob).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!layout.has(&blob).unwrap());
    let mut writer = layout.writer().unwrap();
    writer.write_all(b"some bytes").unwrap();
    writer.finish(MediaType::ImageLayer).unwrap();
    assert!(layout.has(&blob).unwrap());
    fs_err::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert_eq!(layout.open_blob(&blob).err().unwrap().kind(), ErrorKind::Corrupt);
    assert_eq!(
        layout.open_blob(&Descriptor::of(MediaType::ImageLayer, b"?")).err().unwrap().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn sha512_blobs_are_kept_apart() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let digest: Digest = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e".parse().unwrap();
    let empty = Descriptor::new(MediaType::ImageLayer, digest, 0);
    layout.put_from(&empty, &mut &b""[..]).unwrap();
    assert!(layout.has(&empty).unwrap());
    layout.flush(&[empty]).unwrap();
}

#[test]
fn an_image_of_several_platforms_is_copied_into_a_plain_layout() {
    let directory = tempfile::tempdir().unwrap();
    let layout = open(&directory.path().join("state"));
    let images = ["linux/amd64", "linux/arm64"].map(|p| TestImage::new(p).layer(&[("a", p)]).build());
    for image in &images {
        put(&layout, image);
    }
    let (index, bytes) = index_of(&[&images[0], &images[1]]);
    layout.put_from(&index, &mut bytes.as_slice()).unwrap();
    let output = directory.path().join("out");
    for tag in ["app:1", "app:2", "app:1"] {
        let target = LayoutDirectory::open_or_create(&output).unwrap();
        copy_image(&layout, &index, &target).unwrap();
        let created = Some("2024-01-01T00:00:00Z".parse().unwrap());
        let image = OutputImage { descriptor: index.clone(), names: vec![name(tag)], created };
        target.finish(&[image]).unwrap();
    }
    assert_eq!(fs_err::read_dir(output.join("blobs/sha256")).unwrap().count(), 7);
    let written = fs_err::read_to_string(output.join("index.json")).unwrap();
    assert_eq!(written.matches("\"org.opencontainers.image.ref.name\":\"1\"").count(), 1, "{written}");
    assert!(written.contains("\"io.containerd.image.name\":\"docker.io/library/app:2\""), "{written}");
    assert!(written.contains("\"org.opencontainers.image.created\":\"2024-01-01T00:00:00Z\""), "{written}");
    let mut names: Vec<_> =
        fs_err::read_dir(&output).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
}
