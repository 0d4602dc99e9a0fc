use std::path::Path;
use std::process::Command;

use ocibuild_spec::{CancelToken, ImageSource, MediaType, SourceErrorKind, Timestamp};
use ocibuild_store::{
    ArchiveFormat, ArchiveSource, BlobSink as _, ErrorKind, LayoutArchive, OutputImage, detect,
};
use ocibuild_testkit::{ImageBlobs, TestImage, index_of, skip, write_layout};

use super::{amd64, name, put, read, resolve};

fn image(content: &str) -> ImageBlobs {
    TestImage::new("linux/amd64")
        .layer(&[("etc/motd", content)])
        .layer(&[("etc/other", "x")])
        .gzip()
        .config(|config| config.env = vec!["PATH=/bin".to_owned()])
        .build()
}

fn archive(image: &ImageBlobs, names: &[&str], format: ArchiveFormat) -> Vec<u8> {
    let archive = LayoutArchive::new(Vec::new(), Timestamp::from_seconds(1_700_000_000));
    let descriptor = put(&archive, image);
    let created = Some(Timestamp::from_seconds(0));
    let names = names.iter().map(|text| name(text)).collect();
    archive.finish(&[OutputImage { descriptor, names, created }], format).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let image = image("hello");
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let bytes = archive(&image, &["app:1", "localhost:5000/app"], format);
        assert_eq!(
            bytes,
            archive(&image, &["app:1", "localhost:5000/app"], format),
            "the same bytes each time"
        );
        let path = directory.path().join("image.tar");
        fs_err::write(&path, bytes).unwrap();
        let source = ArchiveSource::open(&path).unwrap();
        let names: Vec<_> = source.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "localhost:5000/app:latest"]);
        let found = resolve(&source).unwrap();
        assert_eq!(found.descriptor.digest, image.descriptor.digest);
        for (descriptor, bytes) in &image.layers {
            assert_eq!(read(&source, descriptor).unwrap(), *bytes);
        }
        assert!(source.open(&name("x"), &image.descriptor, &CancelToken::new()).is_ok());
        assert_eq!(resolve(&*detect(&path).unwrap()).unwrap().descriptor.digest, image.descriptor.digest);
    }
}

#[test]
fn one_of_several_images_is_chosen_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (image("1"), image("2"));
    let archive = LayoutArchive::new(Vec::new(), Timestamp::default());
    let outputs = [(&first, "app:1"), (&second, "app:2")].map(|(image, text)| OutputImage {
        descriptor: put(&archive, image),
        names: vec![name(text)],
        created: None,
    });
    let path = directory.path().join("image.tar");
    fs_err::write(&path, archive.finish(&outputs, ArchiveFormat::Docker).unwrap()).unwrap();
    let source = ArchiveSource::open(&path).unwrap();
    let ask = |source: &ArchiveSource, text: &str| source.resolve(&name(text), &amd64(), &CancelToken::new());
    assert_eq!(ask(&source, "app:2").unwrap().descriptor.digest, second.descriptor.digest);
    let error = ask(&source, "app:3").unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::NotFound);
    assert!(error.hint_text().unwrap().contains("app:1"));
    let source = source.select(Some("1"), None);
    assert_eq!(ask(&source, "whatever").unwrap().descriptor.digest, first.descriptor.digest);
    let source = source.select(None, Some(&second.descriptor.digest));
    assert_eq!(ask(&source, "whatever").unwrap().descriptor.digest, second.descriptor.digest);
}

#[test]
fn an_archive_names_only_what_it_has_and_breaks_for_good() {
    let image = image("x");
    let output = || OutputImage { descriptor: image.descriptor.clone(), names: Vec::new(), created: None };
    let archive = LayoutArchive::new(Vec::new(), Timestamp::default());
    assert_eq!(archive.finish(&[output()], ArchiveFormat::Oci).unwrap_err().kind(), ErrorKind::Incomplete);
    let archive = LayoutArchive::new(Vec::new(), Timestamp::default());
    let (layer, bytes) = &image.layers[0];
    assert!(archive.put_from(layer, &mut &bytes[1..]).is_err());
    assert!(archive.put_from(layer, &mut bytes.as_slice()).is_err());
    assert!(archive.finish(&[], ArchiveFormat::Oci).is_err());
    let archive = LayoutArchive::new(Vec::new(), Timestamp::default());
    put(&archive, &image);
    let (index, bytes) = index_of(&[&image]);
    archive.put_from(&index, &mut bytes.as_slice()).unwrap();
    let several = OutputImage { descriptor: index, names: Vec::new(), created: None };
    let error = archive.finish(&[several], ArchiveFormat::Docker).unwrap_err();
    assert!(error.to_string().contains("does not currently support exporting manifest lists"), "{error}");
}

#[test]
fn a_full_output_is_told() {
    let Ok(full) = fs_err::OpenOptions::new().write(true).open("/dev/full") else {
        return skip("no /dev/full");
    };
    let archive = LayoutArchive::new(full, Timestamp::default());
    let error = archive.put(MediaType::ImageLayer, &[1; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
}

/// Runs a tool; `None` when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn skopeo_reads_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let image = image("hello");
    let path = directory.path().join("image.tar");
    for (format, transport) in
        [(ArchiveFormat::Oci, "oci-archive"), (ArchiveFormat::Docker, "docker-archive")]
    {
        fs_err::write(&path, archive(&image, &["app:1"], format)).unwrap();
        let target = directory.path().join(transport);
        let arguments = [
            "--insecure-policy",
            "copy",
            &format!("{transport}:{}", text(&path)),
            &format!("dir:{}", text(&target)),
        ];
        if run("skopeo", &arguments).is_none() {
            return skip("skopeo is not installed");
        }
        let inspected = run("skopeo", &["inspect", &format!("{transport}:{}", text(&path))]).unwrap();
        assert!(inspected.contains("PATH=/bin"), "{inspected}");
    }
}

#[test]
fn archives_of_skopeo_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let image = image("hello");
    let layout = directory.path().join("layout");
    fs_err::create_dir(&layout).unwrap();
    write_layout(&layout, &[("1", &image)]);
    for (transport, suffix) in [("oci-archive", ""), ("docker-archive", ":example.org/app:1")] {
        let path = directory.path().join(transport);
        let source = format!("oci:{}:1", text(&layout));
        let target = format!("{transport}:{}{suffix}", text(&path));
        if run("skopeo", &["--insecure-policy", "copy", &source, &target]).is_none() {
            return skip("skopeo is not installed");
        }
        let source = ArchiveSource::open(&path).unwrap();
        let found = resolve(&source).unwrap();
        assert_eq!(found.config_bytes, image.config.1, "{transport}");
        assert_eq!(found.manifest.layers().len(), 2);
        for (layer, diff_id) in found.manifest.layers().iter().zip(found.config.rootfs.layers()) {
            let bytes = read(&source, layer).unwrap();
            if layer.media_type == MediaType::ImageLayer {
                assert_eq!(layer.digest, diff_id.0);
            }
            assert!(!bytes.is_empty());
        }
    }
    let source = ArchiveSource::open(directory.path().join("docker-archive")).unwrap();
    assert_eq!(source.names(), [name("example.org/app:1")]);
}
