//! Input that nests as deep as it can: whoever embeds the library may call it from a thread with a small stack.

use std::fmt::Write as _;

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;

use crate::support::{World, chain, write_files};

/// More than any input that nests may take, and less than a thread of any host has.
const SMALL_STACK: usize = 256 << 10;
const STAGES: usize = 2000;
const DIRECTORIES: usize = 200;

/// Calls `body` in a thread with a small stack: where it recurses over its input, the process ends.
fn on_a_small_stack<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(SMALL_STACK).spawn_scoped(scope, body).unwrap();
        thread.join().unwrap()
    })
}

/// A file of many stages, each with these lines; `<` stands for the stage before, `=` for its own.
fn stages(first: &str, lines: &str) -> String {
    let stage =
        |number: usize| lines.replace('<', &format!("s{}", number - 1)).replace('@', &format!("s{number}"));
    first.to_owned() + &(1..STAGES).map(stage).collect::<String>()
}

#[test]
fn stages_that_copy_from_each_other_in_a_row() {
    let world = World::new();
    world.files(&[("file", "content\n")]);
    let file = stages("FROM scratch AS s0\nCOPY file /\n", "FROM scratch AS @\nCOPY --from=< file /\n");
    let (image, seen) = on_a_small_stack(|| world.build(world.prepare(&file)));
    assert_eq!((image.layers().count(), seen.failed.len()), (1, 0));
    assert_eq!(seen.done.len() + seen.cached.len(), STAGES);
    // The last stage is known from what the others are made of.
    let (again, seen) = on_a_small_stack(|| world.build(world.prepare(&file)));
    assert_eq!((again.descriptor, seen.done), (image.descriptor, Vec::<String>::new()));
    // What the first has is new, and so is the way to it.
    world.files(&[("file", "other\n")]);
    let (changed, seen) = on_a_small_stack(|| world.build(world.prepare(&file)));
    assert_eq!(changed.layers().count(), 1);
    assert_ne!(changed.config.rootfs, again.config.rootfs);
    assert!(!seen.done.is_empty());
}

#[test]
fn stages_that_start_from_each_other_in_a_row() {
    let world = World::new();
    world.files(&[("file", "content\n")]);
    let file = stages("FROM scratch AS s0\nCOPY file /\n", "FROM < AS @\n");
    let (image, seen) = on_a_small_stack(|| world.build(world.prepare(&file)));
    assert_eq!((image.layers().count(), seen.done), (1, vec!["COPY file /".to_owned()]));
}

#[test]
fn stages_that_mount_each_other_in_a_row() {
    let Some(world) = World::with_shell() else { return };
    // Only the last one is carried out: what it mounts is made first, and each of those has a mount as well.
    let count = 40;
    let mut file = "FROM base AS s0\nRUN echo 0 >/n\n".to_owned();
    for number in 1..count {
        let from = number - 1;
        writeln!(file, "FROM base AS s{number}").unwrap();
        writeln!(file, "RUN --mount=from=s{from},target=/m echo {number} >/n; cat /m/n >>/n").unwrap();
    }
    write!(file, "FROM base\nRUN --mount=from=s{},target=/m wc -l </m/n\n", count - 1).unwrap();
    let (_, seen) = on_a_small_stack(|| world.build(world.prepare(&file)));
    assert_eq!((seen.output.trim(), seen.done.len()), ("40", count + 1));
}

#[test]
fn a_failure_deep_in_a_row_is_told_once() {
    let world = World::new();
    let file = "FROM scratch AS a\nCOPY missing /\nFROM scratch AS b\nCOPY --from=a x /\nFROM scratch\nCOPY --from=b y /\n";
    let (error, seen) = world.fail(world.prepare(file));
    assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(2));
    assert_eq!(seen.failed, ["COPY missing /"], "the steps that wait for it have not begun");
}

#[test]
fn a_context_deeper_than_the_stack() {
    let world = World::new();
    let context = world.path("context");
    let deepest = context.join(vec!["d"; DIRECTORIES].join("/"));
    fs::create_dir_all(&deepest).unwrap();
    fs::write(deepest.join("file"), "here\n").unwrap();
    let pattern = vec!["*"; DIRECTORIES].join("/");
    for (lines, ignore) in [
        ("COPY --exclude=x . /".to_owned(), "d\n!**/file\n"),
        (format!("COPY {pattern}/file /\nCOPY --parents **/file /"), ""),
    ] {
        write_files(&context, &[(".dockerignore", ignore)]);
        let file = format!("FROM scratch AS a\n{lines}\nFROM scratch\nCOPY --from=a / /\n");
        let (image, _) = on_a_small_stack(|| world.build(world.prepare(&file)));
        assert_eq!(image.layers().count(), 1, "{lines}");
    }
}

#[test]
fn words_json_and_globs_that_nest() {
    on_a_small_stack(|| {
        let nested = |depth: usize| "${a:-".repeat(depth) + "x" + &"}".repeat(depth);
        let world = World::new();
        let build = |line: &str| {
            let text = format!("FROM scratch\n{line}\n");
            Dockerfile::parse(&text).map_err(|error| error.to_string())?;
            world.try_build(world.prepare(&text)).0.map(drop).map_err(|error| chain(&error))
        };
        assert_eq!(build(&format!("LABEL a={}", nested(60))), Ok(()));
        for depth in [100, 10_000] {
            let error = build(&format!("LABEL a={}", nested(depth))).unwrap_err();
            assert!(error.contains("nested deeper"), "{error}");
        }
        // No exec form, and so the text of a shell.
        let json = "[".repeat(30_000) + &"]".repeat(30_000);
        assert_eq!(build(&format!("CMD {json}")), Ok(()));
        let pattern = "**/".repeat(20_000) + "x";
        assert_eq!(build(&format!("COPY {pattern} /")), Ok(()), "a pattern may match nothing");
        let onbuild = "ONBUILD ".repeat(5_000);
        assert!(build(&format!("{onbuild}LABEL a=b")).is_err());
    });
}
