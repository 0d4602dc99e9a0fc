//! What images are written as, and destinations that cannot be written.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use fs_err as fs;
use ocibuild::spec::{Digest, ImageSource};
use ocibuild::store::{ArchiveSource, LayoutSource};
use ocibuild::{Build, BuiltImage, Destination, ErrorKind, Output, OutputKind};
use ocibuild_testkit::TestImage;
use serde_json::Value;

use super::support::{World, chain, name, platform, tar_file, tar_paths, validate, write_files};

const EPOCH: i64 = 1_700_000_000;

const DOCKERFILE: &str = "FROM base
WORKDIR /srv
COPY --chmod=751 folder/ /srv/
COPY one.txt /etc/motd
LABEL key=value
CMD [\"/bin/true\"]
";

/// The files of the image, without directories and links.
const RESULT: [(&str, &str); 5] =
    [("etc/keep", "k"), ("etc/motd", "one"), ("other/file", "other"), ("srv/a", "a"), ("srv/sub/b", "b")];

fn world() -> World {
    let mut world = World::new();
    let base = TestImage::new(&platform())
        .layer(&[
            ("etc/", ""),
            ("etc/gone", "g"),
            ("etc/keep", "k"),
            ("etc/motd", "hello\n"),
            ("tree/x", "x"),
        ])
        .layer(&[("etc/.wh.gone", ""), (".wh.tree", ""), ("other/file", "other")])
        .config(|config| config.env = vec!["PATH=/bin".to_owned()])
        .gzip()
        .build();
    world.base("base", &base);
    world.files(&[("one.txt", "one"), ("folder/a", "a"), ("folder/sub/b", "b")]);
    symlink("sub/b", world.path("context/folder/link")).unwrap();
    world
}

fn build(world: &World) -> Build {
    let build = world.prepare(DOCKERFILE).source_date_epoch(EPOCH);
    build.tag(name("app:1")).tag(name("localhost:5000/team/app:2"))
}

fn check(source: &dyn ImageSource, image: &BuiltImage) {
    for text in ["app:1", "localhost:5000/team/app:2"] {
        let (found, problems) = validate(source, text);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(found.descriptor.digest, image.descriptor.digest);
        assert_eq!(found.config_bytes, image.config_bytes);
        assert_eq!(found.manifest.layers().len(), 5);
    }
}

/// The entries of an `index.json`: one for each name.
fn check_index(bytes: &[u8], image: &BuiltImage) {
    let index: Value = serde_json::from_slice(bytes).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let expected = [("docker.io/library/app:1", "1"), ("localhost:5000/team/app:2", "2")];
    assert_eq!(entries.len(), expected.len());
    for (entry, (full, tag)) in entries.iter().zip(expected) {
        assert_eq!(entry["digest"], image.descriptor.digest.as_str());
        assert_eq!(entry["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(entry["platform"]["os"], "linux");
        let annotations = &entry["annotations"];
        assert_eq!(annotations["io.containerd.image.name"], full);
        assert_eq!(annotations["org.opencontainers.image.ref.name"], tag);
        assert_eq!(annotations["org.opencontainers.image.created"], "2023-11-14T22:13:20Z");
    }
}

#[test]
fn an_oci_layout() {
    let world = world();
    let (image, seen) = world.build(build(&world).output(world.output(OutputKind::OciLayout, "out")));
    assert_eq!(seen.exported, 1);
    for tag in ["1", "2"] {
        let source = LayoutSource::open(world.path("out"), Some(tag), None).unwrap();
        check(&source, &image);
    }
    check_index(&fs::read(world.path("out/index.json")).unwrap(), &image);
    assert_eq!(
        fs::read_to_string(world.path("out/oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    assert_eq!(fs::read_dir(world.path("out/blobs/sha256")).unwrap().count(), 5 + 2);
    assert_eq!(fs::read_dir(world.path("out/blobs")).unwrap().count(), 1, "no temporary file");
    // A second image comes beside the first, and the same name moves.
    let other = world.prepare("FROM base\nLABEL b=c\n").tag(name("app:1"));
    let (other, _) = world.build(other.output(world.output(OutputKind::OciLayout, "out")));
    for (tag, image) in [("1", &other), ("2", &image)] {
        let source = LayoutSource::open(world.path("out"), Some(tag), None).unwrap();
        let (found, problems) = validate(&source, "x");
        assert_eq!((&found.descriptor.digest, problems.len()), (&image.descriptor.digest, 0));
    }
}

#[test]
fn archives() {
    let world = world();
    let outputs = [(OutputKind::OciArchive, "oci.tar"), (OutputKind::DockerArchive, "docker.tar")];
    let mut wanted = build(&world);
    for (kind, file) in outputs {
        wanted = wanted.output(world.output(kind, file));
    }
    let (image, seen) = world.build(wanted);
    assert_eq!(seen.exported, 2);
    for (kind, file) in outputs {
        let path = world.path(file);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let source = ArchiveSource::open(&path).unwrap();
        let names: Vec<_> = source.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "localhost:5000/team/app:2"]);
        check(&source, &image);
        check_index(&tar_file(&bytes, "index.json").unwrap(), &image);
        let manifest = tar_file(&bytes, "manifest.json");
        assert_eq!(manifest.is_some(), kind == OutputKind::DockerArchive);
        if let Some(manifest) = manifest {
            check_docker_manifest(&bytes, &manifest, &image);
        }
    }
    // Written again, byte for byte the same.
    world.build(build(&world).output(world.output(OutputKind::OciArchive, "again.tar")));
    assert_eq!(fs::read(world.path("again.tar")).unwrap(), fs::read(world.path("oci.tar")).unwrap());
}

fn check_docker_manifest(archive: &[u8], manifest: &[u8], image: &BuiltImage) {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let [entry] = manifest.as_array().unwrap().as_slice() else { panic!("{manifest}") };
    assert_eq!(entry["RepoTags"], serde_json::json!(["app:1", "localhost:5000/team/app:2"]));
    let config = tar_file(archive, entry["Config"].as_str().unwrap()).unwrap();
    assert_eq!(config, image.config_bytes);
    let layers = entry["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), image.layers().count());
    for (path, (_, layer)) in layers.iter().zip(image.layers()) {
        assert_eq!(Digest::of(tar_file(archive, path.as_str().unwrap()).unwrap()), layer.digest);
    }
}

/// Paths and contents of the files in a directory; links as what they name.
fn listing(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(directory).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
        if entry.file_type().is_symlink() {
            found.insert(path, format!("-> {}", fs::read_link(entry.path()).unwrap().display()));
        } else if entry.file_type().is_file() {
            found.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

fn expected_files() -> BTreeMap<String, String> {
    let mut files: BTreeMap<_, _> =
        RESULT.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    files.insert("srv/link".to_owned(), "-> sub/b".to_owned());
    files
}

#[test]
fn the_files_in_a_directory() {
    let world = world();
    write_files(&world.path("out"), &[("etc/motd", "old"), ("etc/mine", "mine"), ("srv/sub", "a file")]);
    world.build(build(&world).output(world.output(OutputKind::Local, "out")));
    let mut expected = expected_files();
    // What is there and not in the image stays; what is in the way goes.
    expected.insert("etc/mine".to_owned(), "mine".to_owned());
    assert_eq!(listing(&world.path("out")), expected);
    for (path, mode) in [("srv/a", 0o751), ("etc/keep", 0o644), ("srv/sub", 0o751), ("srv", 0o755)] {
        let metadata = fs::metadata(world.path("out").join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (mode, EPOCH), "{path}");
    }
}

#[test]
fn links_in_the_directory_lead_nowhere_outside() {
    let world = world();
    let (out, canary) = (world.path("out"), world.path("canary"));
    write_files(&canary, &[("motd", "alive"), ("keep", "alive"), ("sub/b", "alive")]);
    let before = listing(&canary);
    for (link, target) in
        [("etc", canary.clone()), ("srv", "../canary".into()), ("etc/motd", canary.join("motd"))]
    {
        fs::create_dir_all(out.join(link).parent().unwrap()).unwrap();
        symlink(target, out.join(link)).unwrap();
        let (result, _) = world.try_build(build(&world).output(world.output(OutputKind::Local, "out")));
        match result {
            // The link was replaced by what the image has there.
            Ok(_) => assert_eq!(listing(&out), expected_files(), "{link}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Host, "{}", chain(&error)),
        }
        assert_eq!(listing(&canary), before, "{link}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn the_files_as_one_tar() {
    let world = world();
    world.build(build(&world).output(world.output(OutputKind::Tar, "out.tar")));
    let bytes = fs::read(world.path("out.tar")).unwrap();
    let expected = [
        "etc/",
        "etc/keep",
        "etc/motd",
        "other/",
        "other/file",
        "srv/",
        "srv/a",
        "srv/link",
        "srv/sub/",
        "srv/sub/b",
    ];
    assert_eq!(tar_paths(&bytes), expected);
    for (path, text) in RESULT {
        assert_eq!(tar_file(&bytes, path).unwrap(), text.as_bytes(), "{path}");
    }
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        assert_eq!(entry.unwrap().header().mtime().unwrap(), EPOCH as u64);
    }
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const STREAMS: [OutputKind; 3] = [OutputKind::OciArchive, OutputKind::DockerArchive, OutputKind::Tar];

#[test]
fn streams_are_the_files() {
    let world = world();
    for kind in STREAMS {
        let stream = Shared::default();
        let output = Output::new(kind, Destination::Writer(Box::new(stream.clone())));
        world.build(build(&world).output(output).output(world.output(kind, "file.tar")));
        assert_eq!(*stream.0.lock().unwrap(), fs::read(world.path("file.tar")).unwrap());
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing_half_done() {
    let world = world();
    let folder = world.path("folder");
    write_files(&folder, &[("directory/x", ""), ("file", "mine")]);
    let before = listing(&folder);
    for kind in STREAMS.into_iter().chain([OutputKind::OciLayout, OutputKind::Local]) {
        let places = if STREAMS.contains(&kind) {
            ["folder/none/out.tar", "folder/directory"]
        } else {
            ["folder/file", "folder/file/out"]
        };
        for place in places {
            let (error, seen) = world.fail(build(&world).output(world.output(kind, place)));
            assert_eq!(error.kind(), ErrorKind::Host, "{kind:?} {place}: {error}");
            let text = chain(&error);
            assert!(text.contains("folder/"), "the path is named: {text}");
            assert_eq!((seen.exported, listing(&folder)), (0, before.clone()), "{kind:?} {place}");
        }
    }
    // A directory of something else is not made a layout.
    let (error, _) = world.fail(build(&world).output(world.output(OutputKind::OciLayout, "folder")));
    assert!(chain(&error).contains("folder"), "{error}");
    assert_eq!(listing(&folder), before);
}

#[test]
fn a_full_disk_is_an_error() {
    let world = world();
    for kind in STREAMS {
        for room in [0, 700] {
            let output = Output::new(kind, Destination::Writer(Box::new(Full(room))));
            let (error, seen) = world.fail(build(&world).output(output));
            assert_eq!((error.kind(), seen.exported), (ErrorKind::Host, 0), "{kind:?}: {}", chain(&error));
        }
    }
}

#[test]
fn an_output_that_was_there_stays_until_the_new_one_is_whole() {
    let world = world();
    world.build(build(&world).output(world.output(OutputKind::OciArchive, "image.tar")));
    let before = fs::read(world.path("image.tar")).unwrap();
    let second = || world.prepare("FROM base\nCOPY one.txt /new\n");
    let (image, _) = world.build(second());
    // The blob that the second output needs has other bytes by now.
    let (_, layer) = image.layers().last().unwrap();
    let blob = world.blobs().join(layer.digest.hex());
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![b'x'; layer.size as usize]).unwrap();
    let (error, _) = world.fail(second().output(world.output(OutputKind::OciArchive, "image.tar")));
    assert!(chain(&error).contains(layer.digest.as_str()), "{}", chain(&error));
    assert_eq!(fs::read(world.path("image.tar")).unwrap(), before);
    let mut names: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bases", "context", "image.tar", "state"]);
}

#[test]
fn a_directory_needs_a_path() {
    let world = world();
    for kind in [OutputKind::Local, OutputKind::OciLayout] {
        let output = Output::new(kind, Destination::Writer(Box::new(io::sink())));
        let (error, _) = world.fail(build(&world).output(output));
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

#[test]
fn names_of_an_output_replace_those_of_the_build() {
    let world = world();
    let output = world.output(OutputKind::DockerArchive, "out.tar").names(vec![name("other:9")]);
    world.build(build(&world).output(output));
    let source = ArchiveSource::open(world.path("out.tar")).unwrap();
    assert_eq!(source.names(), [name("other:9")]);
}
