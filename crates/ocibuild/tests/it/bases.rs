//! Where base images come from, and bases that are damaged.

use std::time::Duration;

use fs_err as fs;
use ocibuild::registry::Registry;
use ocibuild::spec::{Descriptor, MediaType};
use ocibuild::store::{ArchiveSource, LayoutSource, detect};
use ocibuild::{Build, CancelToken, ContextSource, ErrorKind, LocalContext, OutputKind};
use ocibuild_testkit::{Fault, ImageBlobs, TestImage, TestRegistry, write_layout};

use super::support::{World, chain, layer_listing, name, platform, tar_file, write_files};

const DOCKERFILE: &str = "FROM base AS other
FROM base
COPY new.txt /new
COPY --from=other /etc/motd /copied
";

fn image() -> ImageBlobs {
    TestImage::new(&platform())
        .layer(&[("etc/", ""), ("etc/motd", "hello"), ("marker-one", "1")])
        .layer(&[("usr/share/marker-two", "2")])
        .config(|config| config.env = vec!["FROM_BASE=yes".to_owned()])
        .gzip()
        .build()
}

fn world() -> World {
    let world = World::new();
    world.files(&[("new.txt", "new")]);
    world
}

/// The same image with a config that is changed as text.
fn with_config(image: &ImageBlobs, change: impl Fn(&str) -> String) -> ImageBlobs {
    let mut changed = image.clone();
    let config = change(std::str::from_utf8(&image.config.1).unwrap()).into_bytes();
    changed.config = (Descriptor::of(MediaType::ImageConfig, &config), config);
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let (old, new) = (&image.config.0, &changed.config.0);
    let text = text.replace(old.digest.as_str(), new.digest.as_str());
    let text =
        text.replace(&format!("\"size\": {}\n  }},", old.size), &format!("\"size\": {}\n  }},", new.size));
    changed.manifest = text.into_bytes();
    let platform = changed.descriptor.platform.take();
    changed.descriptor = Descriptor::of(MediaType::ImageManifest, &changed.manifest);
    changed.descriptor.platform = platform;
    changed
}

/// What Go's readers take: `null` wherever there may be nothing.
#[test]
fn a_base_may_say_nothing_with_null() {
    let mut world = world();
    let image = with_config(&image(), |config| {
        let nulls = r#"{"author":null,"variant":null,"os.version":null,"os.features":null,"#;
        let text = config.replacen('{', nulls, 1);
        let inner = r#""config":{"Labels":{"a":null,"b":"c"},"ExposedPorts":{"80/tcp":null},"Volumes":{"/v":null},"User":null,"Healthcheck":null,"Cmd":null,"Shell":[null],"#;
        let text = text.replacen("\"config\":{", inner, 1);
        text.replacen("\"history\":null", r#""history":[{"created":null,"created_by":null,"author":null,"comment":null,"empty_layer":null},null]"#, 1)
    });
    assert!(String::from_utf8_lossy(&image.config.1).contains("\"author\":null"));
    world.base("base", &image);
    let (built, _) = world.build(world.prepare("FROM base\nCOPY new.txt /new\nENV X=y\n"));
    let labels = &built.config.config.labels;
    assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("", "c"));
    assert!(built.config.config.exposed_ports.contains_key("80/tcp"));
    assert!(built.config.config.volumes.contains_key("/v"));
    assert_eq!(built.config.history.iter().filter(|entry| !entry.empty_layer).count(), 3);
    assert!(!String::from_utf8_lossy(&built.config_bytes).contains("author\":null"));
}

/// Squashed and converted images tell of layers that they no longer have.
#[test]
fn a_history_of_more_layers_than_there_are_is_made_to_fit() {
    let mut world = world();
    let entries = (1..=5)
        .map(|number| format!(r#"{{"created":"2020-01-0{number}T00:00:00Z","created_by":"RUN {number}"}}"#));
    let history = format!("\"history\":[{}]", entries.collect::<Vec<_>>().join(","));
    let squashed = with_config(&image(), |config| config.replacen("\"history\":null", &history, 1));
    world.base("squashed", &squashed);
    let (built, _) = world.build(world.prepare("FROM squashed\nCOPY new.txt /new\nENV X=y\n"));
    assert_eq!(built.layers().count(), 3);
    let made: Vec<bool> = built.config.history.iter().map(|entry| !entry.empty_layer).collect();
    // As BuildKit counts, from the bottom.
    assert_eq!(made, [true, true, true, false, false, false, false]);
    assert_eq!(built.config.history[5].created_by, "COPY new.txt /new # buildkit");
    // What comes of it is a base like any other.
    let again = world.prepare("FROM squashed AS a\nCOPY new.txt /new\nFROM a\nCOPY new.txt /newer\n");
    let (built, _) = world.build(again);
    assert_eq!(built.config.history.iter().filter(|entry| !entry.empty_layer).count(), 4);
    let docker = world.prepare("FROM squashed\nCOPY new.txt /new\n").tag(name("a:b"));
    world.build(docker.output(world.output(OutputKind::DockerArchive, "docker.tar")));
    ArchiveSource::open(world.path("docker.tar")).unwrap();
}

/// Builds on `base`, and checks that its files and its environment are the image's.
fn check(world: &World, base: ContextSource, has_config: bool) {
    let build = world.prepare(DOCKERFILE).build_context("base", base);
    check_build(world, build, has_config);
}

fn check_build(world: &World, build: Build, has_config: bool) {
    let (image, _) = world.build(build.output(world.output(OutputKind::Tar, "out.tar")));
    let tar = fs::read(world.path("out.tar")).unwrap();
    let expected =
        [("etc/motd", "hello"), ("marker-one", "1"), ("usr/share/marker-two", "2"), ("new", "new")];
    for (path, text) in expected.into_iter().chain([("copied", "hello")]) {
        assert_eq!(tar_file(&tar, path).as_deref(), Some(text.as_bytes()), "{path}");
    }
    let expected: &[&str] = if has_config { &["FROM_BASE=yes"] } else { &[] };
    assert_eq!(
        image.config.config.env.iter().filter(|text| text.starts_with("FROM_BASE")).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn every_source_gives_the_same_files() {
    let mut world = world();
    let layout = world.path("layout");
    fs::create_dir(&layout).unwrap();
    let other = TestImage::new(&platform()).layer(&[("other", "")]).build();
    let image = image();
    write_layout(&layout, &[("1", &image), ("2", &other)]);
    let source = |tag: Option<&str>, digest: Option<&Descriptor>| ContextSource::Image {
        source: Box::new(LayoutSource::open(&layout, tag, digest.map(|it| &it.digest)).unwrap()),
        reference: name("base"),
    };
    check(&world, source(Some("1"), None), true);
    check(&world, source(None, Some(&image.descriptor)), true);

    // Archives are our own outputs of that image.
    for (kind, file) in [(OutputKind::OciArchive, "oci.tar"), (OutputKind::DockerArchive, "docker.tar")] {
        let build =
            world.prepare("FROM base\n").build_context("base", source(Some("1"), None)).tag(name("a:b"));
        world.build(build.output(world.output(kind, file)));
        let archive = ArchiveSource::open(world.path(file)).unwrap();
        check(&world, ContextSource::Image { source: Box::new(archive), reference: name("a:b") }, true);
        // Recognised without being told what it is.
        let reference = name("a:b");
        let platform = platform().parse().unwrap();
        let found =
            detect(world.path(file)).unwrap().resolve(&reference, &platform, &CancelToken::new()).unwrap();
        assert_eq!(found.config.config.env[0], "FROM_BASE=yes");
    }

    // A name that stands for another one, which the state directory has.
    let build = world.prepare("FROM base\n").build_context("base", source(Some("1"), None));
    world.build(build.tag(name("mine:latest")));
    check(&world, ContextSource::Renamed(name("mine")), true);

    // A directory.
    write_files(
        &world.path("folder"),
        &[("etc/motd", "hello"), ("marker-one", "1"), ("usr/share/marker-two", "2")],
    );
    check(&world, ContextSource::Local(LocalContext::open(world.path("folder")).unwrap()), false);

    // A registry.
    let registry = TestRegistry::start();
    registry.push("team/app", "1", &image);
    world.registry = Some(Box::new(client()));
    check(&world, ContextSource::Renamed(name(&registry.reference("team/app", "1"))), true);
    let dockerfile =
        DOCKERFILE.replace("FROM base", &format!("FROM {}", registry.reference("team/app", "1")));
    check_build(&world, world.prepare(&dockerfile), true);
}

#[test]
fn scratch_has_nothing() {
    let world = world();
    let scratch = world.prepare("FROM scratch\nCOPY new.txt /\n");
    let renamed = world.prepare("FROM base\nCOPY new.txt /\n").build_context("base", ContextSource::Scratch);
    for build in [scratch, renamed] {
        let (image, _) = world.build(build.output(world.output(OutputKind::Tar, "out.tar")));
        assert_eq!((image.layers().count(), image.new_layers), (1, 1));
        let tar = fs::read(world.path("out.tar")).unwrap();
        assert_eq!(super::support::tar_paths(&tar), ["new.txt"]);
    }
    // Not even a layer, and the image can be written all the same.
    let build = world.prepare("FROM scratch\nLABEL a=b\n").tag(name("empty"));
    let (image, _) = world.build(build);
    assert_eq!(image.layers().count(), 0);
    assert!(String::from_utf8_lossy(&image.manifest_bytes).contains(r#""layers": null"#));
    world.check_named("empty");
}

fn client() -> Registry {
    Registry::builder()
        .retries(2, Duration::from_millis(5), Duration::from_millis(50))
        .stall_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

#[test]
fn a_copy_onto_a_base_of_a_registry_writes_no_file_of_the_base() {
    let mut world = world();
    let registry = TestRegistry::start();
    registry.push("app", "1", &image());
    world.registry = Some(Box::new(client()));
    let dockerfile = format!("FROM {}\nWORKDIR /srv\nCOPY new.txt ./\n", registry.reference("app", "1"));
    world.build(world.prepare(&dockerfile).tag(name("app")));
    assert_eq!(world.state.snapshots().list().unwrap(), []);
    let files = |folder: &str| {
        let below = walkdir::WalkDir::new(world.path(folder)).into_iter().map(|entry| entry.unwrap());
        let markers = below.filter(|entry| entry.file_name().to_string_lossy().starts_with("marker"));
        markers.count()
    };
    assert_eq!(files("state"), 0);
    world.check_named("app");
    // The same without a name: the layers of the base stay where they are.
    let mut second = World::new();
    second.registry = Some(Box::new(client()));
    second.files(&[("new.txt", "new")]);
    let before = registry.requests().len();
    second.build(second.prepare(&dockerfile).keep_incomplete(true));
    let asked: Vec<_> =
        registry.requests().split_off(before).into_iter().map(|request| request.path).collect();
    let last = image().layers[1].0.digest.to_string();
    assert!(asked.iter().any(|path| path.contains("/manifests/")), "{asked:?}");
    assert!(!second.blobs().join(&last["sha256:".len()..]).exists());
}

/// Something wrong with a base, as the kind of error it is.
struct Case {
    what: &'static str,
    kind: ErrorKind,
    damage: fn(&TestRegistry, &ImageBlobs),
}

fn cases() -> [Case; 6] {
    fn layer(image: &ImageBlobs) -> &(Descriptor, Vec<u8>) {
        &image.layers[0]
    }
    [
        Case {
            what: "other bytes",
            kind: ErrorKind::Refused,
            damage: |registry, _| registry.fault("/blobs/", usize::MAX, Fault::WrongBytes),
        },
        Case {
            what: "a shorter layer",
            kind: ErrorKind::Refused,
            damage: |registry, image| {
                let (descriptor, bytes) = layer(image);
                registry.put_blob("app", &descriptor.digest, &bytes[..bytes.len() - 1]);
            },
        },
        Case {
            what: "a longer layer",
            kind: ErrorKind::Refused,
            damage: |registry, image| {
                let (descriptor, bytes) = layer(image);
                registry.put_blob("app", &descriptor.digest, &[bytes, b"x".as_slice()].concat());
            },
        },
        Case {
            what: "another layer of the same size",
            kind: ErrorKind::Refused,
            damage: |registry, image| {
                let (descriptor, bytes) = layer(image);
                let mut bytes = bytes.clone();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                registry.put_blob("app", &descriptor.digest, &bytes);
            },
        },
        Case {
            what: "another config",
            kind: ErrorKind::Refused,
            damage: |registry, image| registry.put_blob("app", &image.config.0.digest, b"{}"),
        },
        Case {
            what: "connections that break",
            kind: ErrorKind::Network,
            damage: |registry, _| registry.fault("/blobs/", usize::MAX, Fault::Truncate(10)),
        },
    ]
}

#[test]
fn a_damaged_base_is_refused_and_earlier_images_stay() {
    for case in cases() {
        let mut world = world();
        let registry = TestRegistry::start();
        let (good, image) = (TestImage::new(&platform()).layer(&[("good", "")]).build(), image());
        registry.push("app", "good", &good);
        registry.push("app", "1", &image);
        world.registry = Some(Box::new(client()));
        let of = |tag: &str| format!("FROM {}\nCOPY new.txt /etc/motd\n", registry.reference("app", tag));
        let (earlier, _) = world.build(world.prepare(&of("good")).tag(name("earlier")));
        (case.damage)(&registry, &image);
        let (error, _) = world.fail(world.prepare(&of("1")).tag(name("earlier")).tag(name("new")));
        let text = chain(&error);
        assert_eq!(error.kind(), case.kind, "{}: {text}", case.what);
        let digests = image.all().into_iter().map(|(descriptor, _)| descriptor.digest.to_string());
        assert!(digests.into_iter().any(|digest| text.contains(&digest)), "{}: {text}", case.what);
        assert_eq!(
            world.check_named("earlier").descriptor.digest,
            earlier.descriptor.digest,
            "{}",
            case.what
        );
        assert_eq!(world.store().resolve(&name("new")).unwrap(), None);
        world.check_blobs();
    }
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn damaged_layouts_are_refused() {
    let damages: [(&str, Damage); 3] = [
        ("short", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| bytes[20] ^= 4),
        ("empty", Vec::clear),
    ];
    let image = image();
    for (what, damage) in damages {
        for (descriptor, bytes) in image.all() {
            let mut world = world();
            world.base("base", &image);
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            fs::write(world.path("bases/base/blobs/sha256").join(descriptor.digest.hex()), bytes).unwrap();
            let dockerfile = "FROM base\nCOPY --from=base /usr/share /etc/motd /x/\n";
            let (error, _) = world.fail(world.prepare(dockerfile).tag(name("app")));
            let text = chain(&error);
            assert_eq!(error.kind(), ErrorKind::Refused, "{what} {}: {text}", descriptor.media_type);
            assert!(text.contains(descriptor.digest.hex()), "{what}: {text}");
            assert_eq!(world.store().list().unwrap(), []);
            world.check_blobs();
        }
    }
}

#[test]
fn a_base_that_lies_about_its_layers_is_refused() {
    let mut image = image();
    let other = TestImage::new(&platform()).layer(&[("x", "x")]).layer(&[("y", "y")]).gzip().build();
    // The layers of one image under the config of the other.
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let config = (&image.config.0, &other.config.0);
    let manifest = manifest
        .replace(config.0.digest.as_str(), config.1.digest.as_str())
        .replace(&format!("\"size\": {}", config.0.size), &format!("\"size\": {}", config.1.size));
    image.descriptor = Descriptor::of(image.descriptor.media_type.clone(), manifest.as_bytes());
    image.manifest = manifest.into_bytes();
    image.config = other.config;
    let mut world = world();
    world.base("base", &image);
    let (error, _) = world.fail(world.prepare("FROM base\nCOPY new.txt /x/\n").tag(name("app")));
    let text = chain(&error);
    assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
    assert!(text.contains(image.layers[0].0.digest.as_str()), "{text}");
    assert_eq!(world.store().list().unwrap(), []);
}

#[test]
fn times_of_an_image_that_replaces_a_stage_are_those_of_the_stage() {
    const EPOCH: i64 = 1_700_000_000;
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mtime) in [("later", 1_800_000_000), ("earlier", 1_600_000_000)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        tar.append_data(&mut header, path, &[][..]).unwrap();
    }
    let image = TestImage::new(&platform()).layer_tar(tar.into_inner().unwrap()).gzip().build();
    let mut world = World::new();
    world.base("app", &image);
    world.files(&[("file", "")]);
    let times = |file: &str, rewrite: bool| -> Vec<String> {
        let build = world.prepare(file).source_date_epoch(EPOCH).rewrite_timestamps(rewrite);
        let (image, _) = world.build(build.tag(name("result")));
        world.check_named("result");
        let (_, descriptor) = image.layers().next().unwrap();
        let listing = layer_listing(&world.blobs().join(descriptor.digest.hex()));
        listing.iter().map(|line| line.split(" at ").last().unwrap().to_owned()).collect()
    };
    let (kept, cut) = (["1800000000 -> ", "1600000000 -> "], ["1700000000 -> ", "1600000000 -> "]);
    // The image below a FROM stays as it is.
    assert_eq!(times("FROM app\nCOPY file /\n", true), kept);
    for file in [
        "FROM scratch AS app\nFROM app\nCOPY file /\n",
        "FROM scratch AS app\nFROM app AS b\nFROM b\nLABEL a=b\n",
    ] {
        assert_eq!(times(file, false), kept, "{file}");
        // Once made, and once found.
        assert_eq!(times(file, true), cut, "{file}");
        assert_eq!(times(file, true), cut, "{file}");
    }
}
