//! Contexts that change while they are read: a build ends with an error that names what changed, or with an image of one
//! state of the context. What a key leads to is what it was made of, in every case.
//!
//! `OCIBUILD_TEST_RACES` is how many builds each of these tests makes while names are exchanged; 25 without it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use ocibuild::{Build, BuiltImage, Error, ErrorKind};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{World, chain};

pub(crate) fn rounds() -> usize {
    std::env::var("OCIBUILD_TEST_RACES").map_or(25, |text| text.parse().expect("a number of builds"))
}

/// Exchanges two names again and again while something else is done.
fn while_exchanging<T>(one: &Path, other: &Path, pause: usize, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exchanger = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                for _ in 0..pause {
                    std::hint::spin_loop();
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        exchanger.join().unwrap();
        result
    })
}

/// What a test saw.
#[derive(Debug, Default)]
struct Tally {
    built: usize,
    refused: usize,
}

impl Tally {
    fn take(&mut self, result: &Result<BuiltImage, Error>, names: &[&str]) {
        match result {
            Ok(_) => self.built += 1,
            Err(error) => {
                self.refused += 1;
                check_refusal(error, names);
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the figures of a large run")]
    fn tell(&self, what: &str) {
        println!("{what}: {} built, {} refused", self.built, self.refused);
    }
}

/// The error of a build whose context changed names the path, and nothing else went wrong.
fn check_refusal(error: &Error, names: &[&str]) {
    let text = chain(error);
    assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
    assert_eq!(error.reports()[0].id, "changed-while-read", "{text}");
    assert!(names.iter().any(|name| text.contains(name)), "{text}");
    assert!(error.reports()[0].location.is_some(), "{text}");
}

/// The regular files of an image's last layer.
pub(crate) fn files(world: &World, image: &BuiltImage) -> BTreeMap<PathBuf, Vec<u8>> {
    let layer = image.manifest.layers().last().unwrap();
    let blob = fs::File::open(world.blobs().join(layer.digest.hex())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(entry.path().unwrap().into_owned(), bytes);
        }
    }
    found
}

/// Large enough that reading takes a while.
fn content(letter: char, round: usize) -> String {
    format!("{round}\n{}", letter.to_string().repeat(200_000))
}

/// A pause that differs from round to round, so that the exchange hits at other moments.
fn pause(round: usize) -> usize {
    [0, 50, 500, 5_000, 50_000][round % 5] + round * 7
}

/// Exchanges a file of the context with another one while builds copy it to `/data`, and looks whether each content still
/// leads to its own image: nothing moves any more then, so whatever was recorded is found.
fn exchange_contents(world: &World, count: usize, file: &str, build: &dyn Fn() -> Build) -> Tally {
    let (inside, outside) = (world.path(file), world.path("other"));
    let mut tally = Tally::default();
    for round in 0..count {
        let contents = [content('a', round), content('b', round)];
        fs::write(&inside, &contents[0]).unwrap();
        fs::write(&outside, &contents[1]).unwrap();
        let (result, _) = while_exchanging(&inside, &outside, pause(round), || world.try_build(build()));
        tally.take(&result, &["data"]);
        for expected in &contents {
            fs::write(&inside, expected).unwrap();
            let (image, _) = world.build(build());
            assert!(files(world, &image)[Path::new("data")] == expected.as_bytes(), "round {round}");
        }
    }
    tally
}

#[test]
fn a_key_leads_to_the_content_it_was_made_of() {
    let world = World::new();
    let build = || world.prepare("FROM scratch\nCOPY data /data\n");
    exchange_contents(&world, rounds(), "context/data", &build).tell("a file exchanged");
}

#[test]
fn a_directory_is_copied_whole_or_not_at_all() {
    let world = World::new();
    let names: Vec<String> = (0..40).map(|number| format!("file-{number:02}")).collect();
    for (place, text) in [("context/other", "other"), ("context/src/deep", "src")] {
        fs::create_dir_all(world.path(place)).unwrap();
        for name in &names {
            fs::write(world.path(place).join(name), format!("{text} {name}")).unwrap();
        }
    }
    symlink("../other", world.path("link")).unwrap();
    let whole = |text: &str, below: &str| -> BTreeMap<PathBuf, Vec<u8>> {
        let one = |name: &String| (Path::new(below).join(name), format!("{text} {name}").into_bytes());
        names.iter().map(one).collect()
    };
    let mut tally = Tally::default();
    for (round, step) in
        (0..rounds()).zip(["COPY src/deep/ /x/", "COPY src /x/", "ADD src/deep /x/"].iter().cycle())
    {
        // Nothing is found from before.
        let build = || world.prepare(&format!("FROM scratch\nENV ROUND={round}\n{step}\n")).no_cache(true);
        let (one, other) = (world.path("context/src/deep"), world.path("link"));
        let (result, _) = while_exchanging(&one, &other, pause(round), || world.try_build(build()));
        tally.take(&result, &["src/deep", "file-"]);
        if let Ok(image) = &result {
            let found = files(&world, image);
            let deep = if *step == "COPY src /x/" { "x/deep" } else { "x" };
            // Of a link below what is copied, the link is copied.
            let is_link = deep == "x/deep" && found.is_empty();
            assert!(
                is_link || found == whole("src", deep) || found == whole("other", deep),
                "round {round}, {step}: {found:?}"
            );
        }
        if fs::symlink_metadata(&one).unwrap().is_symlink() {
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    }
    tally.tell("a directory and a link exchanged");
}

#[test]
fn an_archive_is_unpacked_as_its_key_says() {
    let world = World::new();
    let (inside, outside) = (world.path("context/data.tar"), world.path("other"));
    let build = || world.prepare("FROM scratch\nADD data.tar /x/\n");
    let archive = |text: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = crate::support::header(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut header, "inner", text.as_bytes()).unwrap();
        tar.into_inner().unwrap()
    };
    let mut tally = Tally::default();
    for round in 0..rounds() {
        // One is an archive, the other is a file of the same size.
        let text = content('a', round);
        let packed = archive(&text);
        let plain = content('b', round).repeat(2).into_bytes()[..packed.len()].to_vec();
        fs::write(&inside, &packed).unwrap();
        fs::write(&outside, &plain).unwrap();
        let (result, _) = while_exchanging(&inside, &outside, pause(round), || world.try_build(build()));
        tally.take(&result, &["data.tar"]);
        for (bytes, name, expected) in
            [(&packed, "x/inner", text.as_bytes()), (&plain, "x/data.tar", &plain[..])]
        {
            fs::write(&inside, bytes).unwrap();
            let (image, _) = world.build(build());
            let found = files(&world, &image);
            assert!(
                found.get(Path::new(name)).is_some_and(|found| found == expected),
                "round {round}, {name}"
            );
        }
    }
    tally.tell("an archive exchanged");
}

#[test]
fn privileged_a_mount_shows_what_its_key_says() {
    let Some(world) = World::with_shell() else { return };
    fs::create_dir(world.path("context/src")).unwrap();
    let build = || {
        let run = "RUN --mount=type=bind,source=src,target=/src cp /src/data /data";
        world.prepare(&format!("FROM base\n{run}\n"))
    };
    // Each of these runs a shell.
    let count = rounds().div_ceil(5);
    exchange_contents(&world, count, "context/src/data", &build).tell("a mounted file exchanged");
}

/// Builds until one fails while something is changed and changed back, and gives its error.
fn refused(world: &World, change: impl Fn(&World) + Sync) -> Error {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                change(world);
            }
        });
        for _ in 0..100_000 {
            let (result, _) = world.try_build(world.prepare("FROM scratch\nCOPY src /x/\n").no_cache(true));
            if let Err(error) = result {
                done.store(true, Ordering::Relaxed);
                return error;
            }
        }
        done.store(true, Ordering::Relaxed);
        panic!("no build saw the change");
    })
}

#[test]
fn what_appears_goes_grows_or_shrinks_is_named() {
    type Change = fn(&World);
    let changes: [(&str, Change); 4] = [
        ("src/new", |world| {
            let _ = fs::write(world.path("context/src/new"), "new");
            let _ = fs::remove_file(world.path("context/src/new"));
        }),
        ("src/b", |world| {
            let _ = fs::write(world.path("context/src/b"), "longer");
            let _ = fs::write(world.path("context/src/b"), "b");
        }),
        ("src/c", |world| {
            let _ = fs::rename(world.path("context/src/c"), world.path("away"));
            let _ = fs::rename(world.path("away"), world.path("context/src/c"));
        }),
        ("src/a", |world| {
            use std::os::unix::fs::PermissionsExt as _;
            for mode in [0o600, 0o644] {
                let _ =
                    fs::set_permissions(world.path("context/src/a"), std::fs::Permissions::from_mode(mode));
            }
        }),
    ];
    for (name, change) in changes {
        let world = World::new();
        world.files(&[("src/a", "a"), ("src/b", "b"), ("src/c/d", "d")]);
        let error = refused(&world, change);
        check_refusal(&error, &[name]);
        assert!(error.to_string().contains(name), "{error}");
        world.check_blobs();
        world.check_left_nothing();
    }
}
