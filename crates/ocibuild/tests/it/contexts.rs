//! What a directory of this machine is as a context: nothing outside of it, nothing that the build itself writes, and as
//! deep and as sparse as it likes, up to limits.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::{Build, BuiltImage, Error, ErrorKind, LocalContext, OutputKind, read_dockerfile_of};
use ocibuild_sys::DirHandle;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::races::files;
use crate::support::{World, chain};

/// An error as it is told, with all that helps.
fn told(error: &Error) -> String {
    let report = &error.reports()[0];
    format!("{}\n{}\n{}", chain(error), report.causes.join("\n"), report.hint_texts().join("\n"))
}

/// Exchanges names while something is done again and again.
fn exchanged(one: &Path, other: &Path, mut work: impl FnMut()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..crate::races::rounds() * 40 {
            work();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn files_that_are_exchanged_for_links_never_lead_out() {
    let world = World::new();
    let context = world.path("context");
    world.files(&[
        ("Dockerfile", "FROM scratch\n"),
        ("docker/file", "FROM scratch\n"),
        (".dockerignore", "own\n"),
    ]);
    fs::create_dir(world.path("away")).unwrap();
    fs::write(world.path("away/file"), "CANARY [\n").unwrap();
    symlink("../away/file", world.path("link")).unwrap();
    symlink("../away", world.path("directory")).unwrap();
    let ids = ["link-out-of-context", "no-regular-file", "no-dockerfile"];
    let checked = |result: Result<(), Error>| {
        if let Err(error) = result {
            assert!(!told(&error).contains("CANARY"), "{}", told(&error));
            assert!(ids.contains(&error.reports()[0].id), "{}", told(&error));
        }
    };
    for (inside, outside, name) in [
        ("Dockerfile", "link", "Dockerfile"),
        ("docker", "directory", "docker/file"),
        ("docker/file", "link", "docker/file"),
    ] {
        exchanged(&context.join(inside), &world.path(outside), || {
            let read = read_dockerfile_of(&context, &context.join(name));
            checked(read.map(|bytes| assert_eq!(bytes, b"FROM scratch\n")));
        });
        if fs::symlink_metadata(context.join(inside)).unwrap().is_symlink() {
            renameat_with(CWD, context.join(inside), CWD, world.path(outside), RenameFlags::EXCHANGE)
                .unwrap();
        }
    }
    exchanged(&context.join(".dockerignore"), &world.path("link"), || {
        checked(LocalContext::open(&context).map(|context| assert!(context.ignore().matches(b"own"))));
    });
}

#[test]
fn a_dockerfile_is_confined_however_it_is_named() {
    let world = World::new();
    let context = world.path("context");
    world.files(&[("sub/Dockerfile", "FROM scratch\n")]);
    fs::write(world.path("outside"), "CANARY\n").unwrap();
    symlink("../outside", context.join("Dockerfile")).unwrap();
    symlink(&context, world.path("other-name")).unwrap();
    for (named, path) in [
        (context.clone(), context.join("Dockerfile")),
        (world.path("other-name"), context.join("Dockerfile")),
        (context.clone(), world.path("other-name/Dockerfile")),
        (context.clone(), context.join("sub/../Dockerfile")),
        (world.path("context/."), world.path("./context/Dockerfile")),
    ] {
        let error = read_dockerfile_of(&named, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{}: {}", path.display(), told(&error));
        assert!(!told(&error).contains("CANARY"));
    }
    // One that lies outside is the user's own choice, and one that a link inside leads to is as good as any.
    assert_eq!(read_dockerfile_of(&context, &world.path("outside")).unwrap(), b"CANARY\n");
    assert_eq!(read_dockerfile_of(&context, &context.join("../outside")).unwrap(), b"CANARY\n");
    for target in [PathBuf::from("sub/Dockerfile"), context.join("sub/Dockerfile")] {
        fs::remove_file(context.join("Dockerfile")).unwrap();
        symlink(target, context.join("Dockerfile")).unwrap();
        assert_eq!(read_dockerfile_of(&context, &context.join("Dockerfile")).unwrap(), b"FROM scratch\n");
    }
}

#[test]
fn nothing_tells_what_is_outside_of_the_context() {
    let world = World::new();
    let context = world.path("context");
    world.files(&[("sub/x", "x")]);
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/exists-1"), "x").unwrap();
    fs::write(world.path("out/Dockerfile"), "FROM scratch\n").unwrap();
    // Whatever is said about what is there is said about what is not.
    let same = |tell: &dyn Fn(&str) -> Error| {
        let one = told(&tell("exists-1")).replace("exists-1", "NAME");
        let other = told(&tell("absent-1")).replace("absent-1", "NAME");
        assert_eq!(one, other);
    };
    let absolute = world.path("out").display().to_string();
    for step in [
        "COPY ../out/NAME /x".to_owned(),
        "COPY ../../../../../../../etc/passwd-NAME ../out/NAME /x/".to_owned(),
        "ADD sub/../../out/NAME /x".to_owned(),
        format!("COPY {absolute}/NAME /x"),
        "COPY link-NAME /x".to_owned(),
        "COPY out/NAME /x".to_owned(),
        "RUN --mount=type=bind,source=../out/NAME,target=/x true".to_owned(),
    ] {
        same(&|name| {
            let _ = fs::remove_file(context.join(format!("link-{name}")));
            symlink(format!("../out/{name}"), context.join(format!("link-{name}"))).unwrap();
            let (error, _) =
                world.fail(world.prepare(&format!("FROM scratch\n{}\n", step.replace("NAME", name))));
            fs::remove_file(context.join(format!("link-{name}"))).unwrap();
            error
        });
    }
    // Nor do the hints about Dockerfiles.
    symlink(world.path("out"), context.join("link")).unwrap();
    symlink("../out/exists-1", context.join("exists-1.link")).unwrap();
    symlink("../out/absent-1", context.join("absent-1.link")).unwrap();
    for path in ["link/NAME", "link/NAME/", "NAME.link"] {
        same(&|name| read_dockerfile_of(&context, &context.join(path.replace("NAME", name))).unwrap_err());
    }
    let error = read_dockerfile_of(&context, &context.join("link/Dockerfil")).unwrap_err();
    assert!(!told(&error).contains("did you mean"), "{}", told(&error));
}

/// Makes directories within each other and a file in the innermost.
fn nest(at: &Path, name: &OsStr, depth: usize) {
    let mut directory = DirHandle::open(at).unwrap();
    for _ in 0..depth {
        directory.mkdir(name, 0o755).unwrap();
        directory = directory.open_dir(name).unwrap();
    }
    directory.create_file("file", 0o644).unwrap();
}

fn entries(world: &World, image: &BuiltImage) -> BTreeSet<PathBuf> {
    files(world, image).into_keys().collect()
}

#[test]
fn contexts_are_as_deep_as_they_like_and_paths_are_not() {
    let world = World::new();
    // Nobody can open these by their paths, which are longer than a path may be.
    nest(&world.path("context"), OsStr::new("d"), 2_500);
    let (error, _) = world.fail(world.prepare("FROM scratch\nCOPY . /x/\n"));
    assert_eq!(
        (error.kind(), error.reports()[0].id),
        (ErrorKind::Refused, "path-too-long"),
        "{}",
        told(&error)
    );
    assert!(told(&error).contains("/d/d/d"), "{}", told(&error));
    // What is not copied may be as deep as it is.
    world.files(&[("other", "other")]);
    world.build(world.prepare("FROM scratch\nCOPY other /x/\n"));
    fs::write(world.path("context/.dockerignore"), "d\n").unwrap();
    let (image, _) = world.build(world.prepare("FROM scratch\nCOPY . /x/\n"));
    assert_eq!(entries(&world, &image), BTreeSet::from(["x/.dockerignore".into(), "x/other".into()]));
    // An exception makes the builder look.
    fs::write(world.path("context/.dockerignore"), "**\n!**/nothing\n!other\n").unwrap();
    let (image, _) = world.build(world.prepare("FROM scratch\nCOPY . /x/\n"));
    assert_eq!(entries(&world, &image), BTreeSet::from(["x/other".into()]));
    DirHandle::open(world.path("context")).unwrap().remove_tree("d").unwrap();
}

#[test]
fn only_the_path_in_the_context_has_to_be_short() {
    let world = World::new();
    let name = "n".repeat(200);
    nest(&world.path("context"), OsStr::new(&name), 19);
    // The directory, too, is so deep that both together are more than a path may have.
    let mut deep = world.path("context");
    deep.extend(std::iter::repeat_n(name.as_str(), 15));
    fs::remove_file(deep.join([name.as_str(); 4].join("/")).join("file")).unwrap();
    nest(&deep.join([name.as_str(); 4].join("/")), OsStr::new(&name), 14);
    let context = LocalContext::open(&deep).unwrap();
    let dockerfile = Dockerfile::parse("FROM scratch\nCOPY . /x/\n").unwrap();
    let (image, _) = world.build(Build::new(dockerfile, context));
    let mut path = PathBuf::from("x");
    path.extend(std::iter::repeat_n(name.as_str(), 18));
    assert_eq!(entries(&world, &image), BTreeSet::from([path.join("file")]));
    DirHandle::open(world.path("context")).unwrap().remove_tree(&name).unwrap();
}

#[test]
fn holes_are_zeros_and_have_a_limit() {
    let world = World::new();
    let file = fs::File::create(world.path("context/holes")).unwrap();
    file.set_len(20 << 30).unwrap();
    if !ocibuild_sys::is_sparse(file.file()).unwrap() {
        return ocibuild_testkit::skip("this file system has no holes");
    }
    let build = || world.prepare("FROM scratch\nCOPY holes /\n");
    let (error, _) = world.fail(build());
    assert_eq!(
        (error.kind(), error.reports()[0].id),
        (ErrorKind::Refused, "too-many-holes"),
        "{}",
        told(&error)
    );
    assert!(told(&error).contains("holes"), "{}", told(&error));
    // Together they count, too.
    file.set_len(5 << 30).unwrap();
    let other = fs::File::create(world.path("context/holes-too")).unwrap();
    other.set_len(5 << 30).unwrap();
    let (error, _) = world.fail(world.prepare("FROM scratch\nCOPY holes* /\n"));
    assert_eq!(error.reports()[0].id, "too-many-holes", "{}", told(&error));
    // A hole and zeros are the same file.
    file.set_len(3 << 20).unwrap();
    let (sparse, seen) = world.build(build());
    assert_eq!(seen.cached.len(), 0);
    assert!(files(&world, &sparse)[Path::new("holes")] == vec![0; 3 << 20]);
    fs::write(world.path("context/holes"), vec![0; 3 << 20]).unwrap();
    let (_, seen) = world.build(build());
    assert_eq!(seen.cached.len(), 1);
    // And other content is another one.
    fs::write(world.path("context/holes"), [vec![0; 2 << 20], vec![1; 1 << 20]].concat()).unwrap();
    let (other, seen) = world.build(build());
    assert_eq!(seen.cached.len(), 0);
    assert_ne!(other.descriptor.digest, sparse.descriptor.digest);
}

#[test]
fn what_a_build_writes_is_no_part_of_its_context() {
    let world = World::new();
    world.files(&[("own", "own")]);
    fs::write(world.path("mine"), "mine").unwrap();
    // The state directory lies in this context, and so do the outputs.
    let build = |steps: &str| {
        let context = LocalContext::open(world.path(".")).unwrap();
        Build::new(Dockerfile::parse(format!("FROM scratch\n{steps}\n")).unwrap(), context)
    };
    let with_outputs = || {
        build("COPY . /")
            .output(world.output(OutputKind::OciArchive, "out.tar"))
            .output(world.output(OutputKind::OciLayout, "layout"))
            .output(world.output(OutputKind::Local, "context/files"))
            .own_file(world.path("context/id"))
    };
    let (first, _) = world.build(with_outputs());
    let expected = BTreeSet::from([PathBuf::from("context/own"), PathBuf::from("mine")]);
    assert_eq!(entries(&world, &first), expected);
    fs::write(world.path("context/id"), "id").unwrap();
    fs::write(world.path("context/id.123.tmp"), "half of an id").unwrap();
    // Nothing grows from build to build.
    for _ in 0..2 {
        let (again, seen) = world.build(with_outputs());
        assert_eq!(again.descriptor.digest, first.descriptor.digest, "{:?}", entries(&world, &again));
        assert_eq!(seen.cached.len(), 1);
    }
    // By name an output is a file like any other; the state directory is not.
    let named =
        build("COPY out.tar context/files/mine /x/").output(world.output(OutputKind::OciArchive, "out.tar"));
    let (image, _) = world.build(named.output(world.output(OutputKind::Local, "context/files")));
    assert_eq!(entries(&world, &image), BTreeSet::from(["x/mine".into(), "x/out.tar".into()]));
    for step in ["COPY state /x/", "COPY state/index.json /x/", "ADD state/blobs/ /x/"] {
        let (error, _) = world.fail(build(step));
        let text = told(&error);
        assert!(text.contains("state directory"), "{step}: {text}");
        assert!(text.contains("not found"), "{step}: {text}");
    }
}
