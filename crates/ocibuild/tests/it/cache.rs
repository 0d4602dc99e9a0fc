//! What runs again and what does not (section 9 of the semantics), and a cache that was damaged.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild::failure::{CacheFailure, Failure};
use ocibuild::store::LayoutSource;
use ocibuild::{Build, ErrorKind, OutputKind};
use ocibuild_testkit::TestImage;

use super::support::{World, name, platform, shell_image, shell_layer, validate};

const DOCKERFILE: &str = "FROM base
ARG USED=1
ARG UNUSED=1
ENV NAME=value
WORKDIR /w
COPY one.txt /w/
RUN echo $USED > used
COPY folder /folder/
RUN echo last  > /last
";

const FILES: [(&str, &str); 5] = [
    ("one.txt", "one"),
    ("folder/a", "a"),
    ("folder/sub/b", "b"),
    ("elsewhere/c", "c"),
    (".dockerignore", "**/*.log\n"),
];

/// Steps of [`DOCKERFILE`].
const STEPS: [&str; 5] =
    ["WORKDIR /w", "COPY one.txt /w/", "RUN echo 1 > used", "COPY folder /folder/", "RUN echo last  > /last"];

fn reset(world: &mut World) {
    fs::remove_dir_all(world.path("context")).unwrap();
    world.files(&FILES);
    for (path, _) in FILES {
        mode(world, path, 0o644);
    }
    if let Some(image) = shell_image() {
        world.base("base", image);
    }
}

fn mode(world: &World, path: &str, mode: u32) {
    fs::set_permissions(world.path("context").join(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn touch(world: &World, path: &str) {
    let file = fs::File::open(world.path("context").join(path)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    file.file().set_modified(time).unwrap();
}

#[test]
fn privileged_an_unchanged_build_runs_nothing() {
    let Some(mut world) = World::with_shell() else { return };
    reset(&mut world);
    let (first, seen) = world.build(world.prepare(DOCKERFILE));
    assert_eq!((seen.done.as_slice(), seen.cached.len()), (&STEPS.map(str::to_owned)[..], 0));
    for _ in 0..2 {
        let (again, seen) = world.build(world.prepare(DOCKERFILE));
        assert_eq!((seen.cached.as_slice(), seen.done.len()), (&STEPS.map(str::to_owned)[..], 0));
        assert_eq!(again.descriptor, first.descriptor);
        assert_eq!(again.config_bytes, first.config_bytes);
    }
    // Another process with the same state directory finds it too.
    world.state = ocibuild::StateDirectory::open(world.path("state")).unwrap();
    assert_eq!(world.build(world.prepare(DOCKERFILE)).0.descriptor, first.descriptor);
}

/// A change, and the first step that runs again; none runs when there is no number.
struct Change {
    what: &'static str,
    first_miss: Option<usize>,
    /// Whether the image is another one though no step ran again.
    other_image: bool,
    make: fn(&mut World) -> Build,
}

fn miss(what: &'static str, step: usize, make: fn(&mut World) -> Build) -> Change {
    Change { what, first_miss: Some(step), other_image: true, make }
}

fn hit(what: &'static str, make: fn(&mut World) -> Build) -> Change {
    Change { what, first_miss: None, other_image: false, make }
}

fn hit_of_another_image(what: &'static str, make: fn(&mut World) -> Build) -> Change {
    Change { what, first_miss: None, other_image: true, make }
}

fn edited(world: &World, from: &str, to: &str) -> Build {
    assert!(DOCKERFILE.contains(from), "{from}");
    world.prepare(&DOCKERFILE.replace(from, to))
}

fn changes() -> Vec<Change> {
    vec![
        miss("content of a file", 1, |world| {
            world.files(&[("one.txt", "two")]);
            world.prepare(DOCKERFILE)
        }),
        miss("mode of a file", 1, |world| {
            mode(world, "one.txt", 0o755);
            world.prepare(DOCKERFILE)
        }),
        miss("content of a file in a directory", 3, |world| {
            world.files(&[("folder/sub/b", "B")]);
            world.prepare(DOCKERFILE)
        }),
        miss("a new file in a directory", 3, |world| {
            world.files(&[("folder/new", "")]);
            world.prepare(DOCKERFILE)
        }),
        miss("a file that became a link", 3, |world| {
            fs::remove_file(world.path("context/folder/a")).unwrap();
            std::os::unix::fs::symlink("sub/b", world.path("context/folder/a")).unwrap();
            world.prepare(DOCKERFILE)
        }),
        miss("a build argument that a step uses", 2, |world| {
            world.prepare(DOCKERFILE).build_arg("USED", "2")
        }),
        miss("a build argument that no step uses", 2, |world| {
            world.prepare(DOCKERFILE).build_arg("UNUSED", "2")
        }),
        miss("another ARG with a value", 2, |world| {
            edited(world, "ARG USED=1\n", "ARG USED=1\nARG MORE=1\n")
        }),
        miss("the order of the environment", 2, |world| {
            edited(world, "ARG USED=1\nARG UNUSED=1\n", "ARG UNUSED=1\nARG USED=1\n")
        }),
        miss("ENV", 2, |world| edited(world, "NAME=value", "NAME=other")),
        miss("WORKDIR", 0, |world| edited(world, "/w\n", "/v\n")),
        miss("the destination of a COPY", 3, |world| edited(world, " /folder/", " /other/")),
        miss("the owner a COPY gives", 3, |world| edited(world, "COPY folder", "COPY --chown=7 folder")),
        miss("blanks in a RUN", 4, |world| edited(world, "echo last  >", "echo last >")),
        miss("the user of a RUN", 4, |world| edited(world, "RUN echo last", "USER 0:0\nRUN echo last")),
        miss("files of the base", 0, |world| {
            let layer = shell_layer().unwrap();
            let image = TestImage::new(&platform()).layer_tar(layer).layer(&[("more", "")]).gzip().build();
            world.base("base", &image);
            world.prepare(DOCKERFILE)
        }),
        miss("the environment of the base", 2, |world| {
            let image = TestImage::new(&platform())
                .layer_tar(shell_layer().unwrap())
                .config(|config| config.env.push("PATH=/bin:/sbin".to_owned()))
                .gzip()
                .build();
            world.base("base", &image);
            world.prepare(DOCKERFILE)
        }),
        hit_of_another_image("labels of the base", |world| {
            let image = TestImage::new(&platform())
                .layer_tar(shell_layer().unwrap())
                .config(|config| drop(config.labels.insert("a".to_owned(), "b".to_owned())))
                .gzip()
                .build();
            world.base("base", &image);
            world.prepare(DOCKERFILE)
        }),
        hit_of_another_image("LABEL above the steps", |world| {
            edited(world, "WORKDIR", "LABEL a=b\nEXPOSE 80\nCMD [\"x\"]\nWORKDIR")
        }),
        hit_of_another_image("ENV below the steps", |world| {
            world.prepare(&format!("{DOCKERFILE}ENV LATE=1\nUSER user\n"))
        }),
        hit("comments", |world| edited(world, "RUN echo last", "# why\nRUN echo last")),
        hit("case and blanks of keywords", |world| edited(world, "COPY one.txt /w/", "copy   one.txt   /w/")),
        hit_of_another_image("an ARG without a value", |world| {
            edited(world, "ARG USED=1\n", "ARG USED=1\nARG MORE\n")
        }),
        hit("a build argument's default, given", |world| world.prepare(DOCKERFILE).build_arg("USED", "1")),
        hit("times", |world| {
            for path in ["one.txt", "folder/a", "folder/sub", "folder"] {
                touch(world, path);
            }
            world.prepare(DOCKERFILE)
        }),
        hit("a file written anew", |world| {
            fs::remove_file(world.path("context/one.txt")).unwrap();
            world.files(&[("one.txt", "one")]);
            mode(world, "one.txt", 0o644);
            world.prepare(DOCKERFILE)
        }),
        hit("files that no step copies", |world| {
            world.files(&[("elsewhere/c", "C"), ("new.txt", "")]);
            world.prepare(DOCKERFILE)
        }),
        hit("files that are ignored", |world| {
            world.files(&[("folder/sub/x.log", "")]);
            world.prepare(DOCKERFILE)
        }),
    ]
}

#[test]
fn privileged_what_changed_decides_where_a_build_begins_to_run() {
    let Some(mut world) = World::with_shell() else { return };
    reset(&mut world);
    let (first, _) = world.build(world.prepare(DOCKERFILE));
    for change in changes() {
        reset(&mut world);
        let build = (change.make)(&mut world);
        let (image, seen) = world.build(build);
        let expected = change.first_miss.unwrap_or(STEPS.len());
        assert_eq!(
            (seen.cached.len(), seen.done.len()),
            (expected, STEPS.len() - expected),
            "{}: {seen:?}",
            change.what
        );
        let is_other = image.descriptor.digest != first.descriptor.digest;
        // What ran again may give the same files.
        assert!(is_other || change.first_miss.is_some() || !change.other_image, "{}", change.what);
        assert!(!is_other || change.other_image, "{}", change.what);
    }
}

#[test]
fn privileged_what_follows_a_copy_of_equal_content_is_found() {
    let Some(world) = World::with_shell() else { return };
    let dockerfile = "FROM base AS make
COPY input /input
RUN cat /input > /unrelated; echo same > /out
FROM base
COPY --from=make /out /out
RUN echo after > /after
";
    world.files(&[("input", "1")]);
    let (first, seen) = world.build(world.prepare(dockerfile));
    assert_eq!((seen.done.len(), seen.cached.len()), (4, 0), "{seen:?}");
    let (_, seen) = world.build(world.prepare(dockerfile));
    assert_eq!((seen.done.len(), seen.cached.len()), (0, 4), "{seen:?}");
    world.files(&[("input", "2")]);
    let (second, seen) = world.build(world.prepare(dockerfile));
    assert_eq!(seen.done, ["COPY input /input", "RUN cat /input > /unrelated; echo same > /out"]);
    assert_eq!(seen.cached, ["COPY --from=make /out /out", "RUN echo after > /after"]);
    assert_eq!(second.descriptor, first.descriptor);
    // A source that is another file is another result.
    let (_, seen) = world.build(world.prepare(&dockerfile.replace("echo same", "echo other")));
    assert_eq!((seen.done.len(), seen.cached.len()), (3, 1), "{seen:?}");
}

#[test]
fn privileged_without_the_cache_everything_runs_and_is_kept() {
    let Some(mut world) = World::with_shell() else { return };
    reset(&mut world);
    let dockerfile = "FROM base AS first\nRUN cat /proc/sys/kernel/random/uuid > /a\nFROM first\nCOPY one.txt /\nRUN cat /a > /b\n";
    let (first, _) = world.build(world.prepare(dockerfile));
    let (second, seen) = world.build(world.prepare(dockerfile).no_cache(true));
    assert_eq!((seen.done.len(), seen.cached.len()), (3, 0), "{seen:?}");
    assert_ne!(second.descriptor.digest, first.descriptor.digest);
    let (third, seen) = world.build(world.prepare(dockerfile));
    assert_eq!((seen.done.len(), seen.cached.len()), (0, 3), "{seen:?}");
    assert_eq!(third.descriptor, second.descriptor, "the later results count");
    // Only one stage, by name; what builds on its new files runs too.
    let (_, seen) = world.build(world.prepare(dockerfile).no_cache_stage("FIRST"));
    assert_eq!((seen.done.len(), seen.cached.len()), (3, 0), "{seen:?}");
    let (_, seen) = world.build(world.prepare(dockerfile).no_cache_stage("other"));
    assert_eq!((seen.done.len(), seen.cached.len()), (0, 3), "{seen:?}");
}

#[test]
fn what_must_be_cached_is_never_made() {
    let world = World::new();
    world.files(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let file =
        "FROM scratch AS make\nCOPY a /out\nFROM scratch AS last\nCOPY b /b\nCOPY --from=make /out /o\n";
    let missed = |build: Build| {
        let (error, seen) = world.fail(build);
        assert_eq!((error.kind(), error.code()), (ErrorKind::NotCached, "not-cached"), "{error}");
        let Some(Failure::Cache(CacheFailure::NotCached { step })) = error.failure() else {
            panic!("{error:?}")
        };
        (step.clone(), error.reports()[0].location.unwrap().start_line, seen.done, seen.failed.len())
    };
    // Found out before anything began.
    let first = || world.prepare(file).require_cache(true);
    assert_eq!(missed(first()), ("[make 1/1] COPY a /out".to_owned(), 2, Vec::new(), 0));
    world.build(world.prepare(file));
    let (_, seen) = world.build(first());
    assert_eq!((seen.done.len(), seen.cached.len()), (0, 3), "{seen:?}");
    // A stage of which nothing is required may run, and the copy of what it made is then missed.
    world.files(&[("a", "other")]);
    let last = || world.prepare(file).require_cached_stage("LAST");
    let step = "[last 2/2] COPY --from=make /out /o".to_owned();
    assert_eq!(missed(last()), (step, 5, vec!["COPY a /out".to_owned()], 1));
    world.build(world.prepare(file));
    world.build(last());
    // A stage that nobody needs is not looked at; one that does not exist cannot be required.
    world.build(world.prepare(&format!("FROM scratch AS unused\nCOPY c /\n{file}")).require_cache(true));
    let (error, _) = world.fail(world.prepare(file).require_cached_stage("lest"));
    let Some(Failure::Cache(CacheFailure::UnknownStage { stage, nearest })) = error.failure() else {
        panic!("{error:?}")
    };
    assert_eq!((stage.as_str(), nearest.as_deref(), error.kind()), ("lest", Some("last"), ErrorKind::Usage));
}

#[test]
fn privileged_a_failed_step_is_not_kept_and_those_before_it_are() {
    let Some(world) = World::with_shell() else { return };
    let records = || fs::read_dir(world.store().private_dir("cache").join("records")).unwrap().count();
    let dockerfile = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two && false\nRUN echo 3 > /three\n";
    for round in 0..3 {
        let (error, seen) = world.fail(world.prepare(dockerfile).tag(name("never")));
        assert_eq!(error.kind(), ErrorKind::StepFailed(1));
        assert_eq!(seen.failed, ["RUN echo 2 > /two && false"]);
        assert_eq!((seen.done.len(), seen.cached.len()), (usize::from(round == 0), usize::from(round > 0)));
        assert_eq!(records(), 1);
    }
    assert_eq!(world.store().resolve(&name("never")).unwrap(), None);
    let (_, seen) = world.build(world.prepare(&dockerfile.replace("false", "true")));
    assert_eq!((seen.done.len(), seen.cached.len()), (2, 1), "{seen:?}");
}

/// A file of the state directory that is damaged before a build.
struct Damage {
    what: &'static str,
    folder: &'static str,
    /// Whether steps have to run again for it.
    runs: bool,
    make: fn(&Path),
}

fn damages() -> Vec<Damage> {
    fn cut(path: &Path) {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }
    fn empty(path: &Path) {
        fs::write(path, "").unwrap();
    }
    fn remove(path: &Path) {
        fs::remove_file(path).unwrap();
    }
    fn garbage(path: &Path) {
        fs::write(path, [0xff; 100]).unwrap();
    }
    fn later_version(path: &Path) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(r#""v":1"#), "{text}");
        fs::write(path, text.replace(r#""v":1"#, r#""v":2"#)).unwrap();
    }
    let damage = |what, folder, runs, make| Damage { what, folder, runs, make };
    let (records, layers, blobs) = ("cache/records", "cache/layer-listings", "blobs/sha256");
    vec![
        damage("records cut short", records, true, cut),
        damage("empty records", records, true, empty),
        damage("records that are gone", records, true, remove),
        damage("records of garbage", records, true, garbage),
        damage("records of a later version", records, true, later_version),
        damage("blobs that are gone", blobs, true, remove),
        damage("blobs cut short", blobs, true, cut),
        damage("empty blobs", blobs, true, empty),
        damage("indexes that are gone", layers, true, remove),
        damage("indexes cut short", layers, false, cut),
        damage("empty indexes", layers, false, empty),
        damage("indexes of garbage", layers, false, garbage),
        damage("aliases cut short", "cache/aliases", false, cut),
        damage("aliases that are gone", "cache/aliases", false, remove),
    ]
}

const DAMAGED: &str = "FROM base AS make
RUN echo made > /made
FROM base
WORKDIR /w
COPY one.txt /w/
RUN cat one.txt > two.txt; chmod 700 one.txt
COPY --from=make /made /w/
RUN cat /w/made > /w/more
";

/// One whose image is the same each time it is made.
fn reproducible(world: &World) -> Build {
    // Later than the epoch, as times are: what is made meanwhile is clamped to it.
    let build = world.prepare(DAMAGED).now(std::time::SystemTime::now());
    build.source_date_epoch(1_700_000_000).rewrite_timestamps(true).tag(name("app"))
}

fn documents(world: &World, folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(world.path("state").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    assert!(!paths.is_empty(), "{folder}");
    paths
}

#[test]
fn privileged_a_damaged_state_directory_never_gives_a_wrong_image() {
    for damage in damages() {
        let Some(mut world) = World::with_shell() else { return };
        reset(&mut world);
        let (first, _) = world.build(reproducible(&world));
        for path in documents(&world, damage.folder) {
            (damage.make)(&path);
        }
        let (result, seen) = world.try_build(reproducible(&world));
        let image = match result {
            Ok(image) => image,
            // What cannot be repaired is at least said.
            Err(error) => panic!("{}: {}", damage.what, super::support::chain(&error)),
        };
        assert_eq!(image.descriptor, first.descriptor, "{}", damage.what);
        assert_eq!(!seen.done.is_empty(), damage.runs, "{}: {seen:?}", damage.what);
        world.check_blobs();
        world.check_named("app");
        // All is whole again.
        let (image, seen) = world.build(reproducible(&world));
        assert_eq!((&image.descriptor, seen.done.len()), (&first.descriptor, 0), "{}", damage.what);
    }
}

#[test]
fn privileged_documents_in_each_others_places_are_not_believed() {
    // Two copies from a stage, so that there are two documents of each kind.
    let dockerfile = format!("{DAMAGED}COPY --from=make /etc/group /last\n");
    let build = |world: &World, dockerfile: &str| {
        let build = world.prepare(dockerfile).now(std::time::SystemTime::now());
        build.source_date_epoch(1_700_000_000).rewrite_timestamps(true)
    };
    let edited = dockerfile.replace("chmod 700", "chmod 711");
    let Some(mut world) = World::with_shell() else { return };
    reset(&mut world);
    let expected = [&dockerfile, &edited].map(|text| world.build(build(&world, text)).0.descriptor);
    for folder in ["cache/records", "cache/aliases", "cache/layer-listings"] {
        let mut world = World::with_shell().unwrap();
        reset(&mut world);
        world.build(build(&world, &dockerfile));
        let paths = documents(&world, folder);
        assert!(paths.len() > 1, "{folder}");
        let contents: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for (number, path) in paths.iter().enumerate() {
            fs::write(path, &contents[(number + 1) % contents.len()]).unwrap();
        }
        let found = [&dockerfile, &edited].map(|text| world.build(build(&world, text)).0.descriptor);
        assert_eq!(found, expected, "{folder}");
    }
}

#[test]
fn privileged_a_blob_with_other_bytes_does_not_leave_the_state_directory() {
    let Some(mut world) = World::with_shell() else { return };
    reset(&mut world);
    let (first, _) = world.build(reproducible(&world));
    let (_, layer) = first.layers().last().unwrap();
    let path = world.blobs().join(layer.digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, bytes).unwrap();
    for kind in [OutputKind::OciLayout, OutputKind::OciArchive] {
        let (result, _) = world.try_build(reproducible(&world).output(world.output(kind, "out")));
        match result {
            Ok(_) => {
                let source = LayoutSource::open(world.path("out"), None, None).unwrap();
                assert_eq!(validate(&source, "app").1, Vec::<String>::new());
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                let text = super::support::chain(&error);
                assert!(text.contains(layer.digest.as_str()), "{text}");
                assert!(!world.path("out/index.json").exists());
                assert!(!world.path("out").is_file());
            }
        }
        let _ = fs::remove_dir_all(world.path("out"));
    }
}
