//! Builds that cannot succeed: what they say, and what they leave.

use fs_err as fs;
use ocibuild::executor::{ErrorKind as ExecutorErrorKind, RuntimeExecutor};
use ocibuild::{CancelToken, ErrorKind, Event};
use ocibuild_testkit::TestImage;

use super::support::{World, chain, mounts_below, name, platform};

fn world() -> World {
    let mut world = World::new();
    world.files(&[("a.txt", "a"), ("folder/b.txt", "b"), (".dockerignore", "*.log\n"), ("x.log", "")]);
    world.base("base", &TestImage::new(&platform()).layer(&[("etc/motd", "hello")]).gzip().build());
    world
}

/// A Dockerfile that is wrong, the line that is, and what is said about it.
const WRONG: [(&str, u32, &str); 11] = [
    ("FROM scratch\nCOPY missing /\n", 2, "missing"),
    ("FROM scratch\nCOPY a.txt missing /x/\n", 2, "missing"),
    ("FROM scratch\nCOPY a.txt folder /x\n", 2, "/"),
    ("FROM scratch\nCOPY x.log /\n", 2, "x.log"),
    ("FROM base AS one\nFROM scratch\nCOPY --from=one /nothing /\n", 3, "nothing"),
    ("FROM scratch\nCOPY --chown=nobody a.txt /\n", 2, "nobody"),
    ("FROM base\nCOPY a.txt /etc/motd/below\n", 2, "motd"),
    ("FROM two AS one\nFROM one\n", 1, "two"),
    ("FROM scratch AS a\nCOPY --from=b /x /\nFROM a AS b\n", 2, "b"),
    ("FROM scratch AS self\nCOPY --from=self /x /\n", 2, "self"),
    ("FROM scratch\nRUN --mount=type=bind,source=missing,target=/m true\n", 2, "missing"),
];

#[test]
fn mistakes_have_a_line_and_a_name() {
    let world = world();
    for (dockerfile, line, word) in WRONG {
        let (error, _) = world.fail(world.prepare(dockerfile).tag(name("app")));
        let text = chain(&error);
        assert_eq!(error.kind(), ErrorKind::Dockerfile, "{dockerfile}{text}");
        assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(line), "{dockerfile}{text}");
        assert!(text.contains(word), "{dockerfile}{text}");
        assert_eq!(world.store().list().unwrap(), []);
        world.check_left_nothing();
    }
}

#[test]
fn a_source_above_the_context_is_looked_for_within_it() {
    let world = world();
    fs::write(world.path("secret"), "not for images").unwrap();
    for source in ["../secret", "folder/../../secret", "/../../secret"] {
        let (error, _) = world.fail(world.prepare(&format!("FROM scratch\nCOPY {source} /\n")));
        let report = &error.reports()[0];
        let text = format!("{} {}", report.message, report.hint_texts().join(" "));
        assert!(text.contains("context") && text.contains("secret"), "{text}");
    }
    // Cut, not followed: what is there under the same name in the context is meant.
    let (_, seen) = world.build(world.prepare("FROM scratch\nCOPY ../a.txt /\n"));
    assert_eq!(seen.done.len(), 1);
}

#[test]
fn a_link_out_of_the_context_is_not_followed() {
    let world = world();
    fs::write(world.path("secret"), "not for images").unwrap();
    std::os::unix::fs::symlink("../secret", world.path("context/link")).unwrap();
    std::os::unix::fs::symlink(world.path(""), world.path("context/up")).unwrap();
    for source in ["link", "up/secret"] {
        let (error, _) = world.fail(world.prepare(&format!("FROM scratch\nCOPY {source} /\n")));
        assert_eq!(error.kind(), ErrorKind::Dockerfile, "{}", chain(&error));
    }
}

#[test]
fn a_target_that_is_no_stage_is_a_wrong_option() {
    let world = world();
    let (error, _) = world.fail(world.prepare("FROM scratch AS build\n").target("biuld"));
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(chain(&error).contains("did you mean build"), "{error}");
}

#[test]
fn privileged_a_failing_step_says_what_it_printed() {
    let Some(world) = World::with_shell() else { return };
    let cases = [
        ("RUN echo last words; echo worse >&2; exit 7", 7, "last words\nworse\n"),
        ("RUN sh -c 'kill -9 $$'; exit $?", 137, ""),
        ("RUN no-such-program", 127, "no-such-program"),
        ("RUN [\"/no/such/program\"]", 127, ""),
        ("RUN [\"/etc/passwd\"]", 126, ""),
        ("RUN seq 1 100000; false", 1, "\n99999\n100000\n"),
    ];
    for (step, code, words) in cases {
        let (error, seen) =
            world.fail(world.prepare(&format!("FROM base\nRUN true\n{step}\n")).tag(name("app")));
        let text = chain(&error);
        assert_eq!(error.kind(), ErrorKind::StepFailed(code), "{step}: {text}");
        assert_eq!(error.reports()[0].location.map(|at| at.start_line), Some(3), "{step}");
        assert!(text.contains(&format!("exit code: {code}")), "{step}: {text}");
        let output = error.output().unwrap();
        assert!(output.contains(words), "{step}: {output}");
        assert!(seen.output.ends_with(output) && output.len() <= 64 << 10, "{step}");
        assert_eq!(seen.failed.len(), 1);
        assert_eq!(world.store().list().unwrap(), []);
        world.check_left_nothing();
    }
}

#[test]
fn privileged_a_cancelled_step_ends_and_leaves_nothing() {
    let Some(world) = World::with_shell() else { return };
    let cancel = CancelToken::new();
    // The step would take longer than any test runner waits.
    let step = "RUN trap '' TERM INT; (sleep 100000 &) ; echo started; sleep 100000; echo never";
    let build = world.prepare(&format!("FROM base\nRUN echo first\n{step}\n")).tag(name("app"));
    let (result, seen) = world.try_build_watched(build, &cancel, |event| {
        if matches!(event, Event::Output { bytes, .. } if bytes.starts_with(b"started")) {
            cancel.cancel();
        }
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
    assert_eq!(seen.output, "first\nstarted\n");
    assert_eq!(seen.done, ["RUN echo first"]);
    assert_eq!(world.store().list().unwrap(), []);
    assert_eq!(fs::read_dir(world.store().private_dir("cache").join("records")).unwrap().count(), 1);
    world.check_left_nothing();
    assert_eq!(mounts_below(&world.path("state")), Vec::<String>::new());
}

#[test]
fn a_cancelled_build_does_not_begin() {
    let world = world();
    let cancel = CancelToken::new();
    cancel.cancel();
    let (result, seen) = world.try_build_watched(world.prepare("FROM base\nCOPY a.txt /\n"), &cancel, |_| {});
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(seen.done.is_empty());
}

#[test]
fn a_runtime_that_is_not_there_is_named() {
    for program in ["no-such-runtime", "/no/such/runtime", ""] {
        let error = RuntimeExecutor::new(program).unwrap_err();
        assert_eq!(error.kind(), ExecutorErrorKind::RuntimeMissing, "{program}: {error}");
        let error = ocibuild::Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains(program), "{error}");
    }
}

#[test]
fn privileged_a_runtime_that_is_none_fails_the_step() {
    let Some(mut world) = World::with_shell() else { return };
    world.executor = Box::new(RuntimeExecutor::new("false").unwrap());
    let (error, seen) = world.fail(world.prepare("FROM base\nRUN echo 1 > /one\n").tag(name("app")));
    assert_ne!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
    assert!(seen.done.is_empty());
    assert_eq!(world.store().list().unwrap(), []);
    world.check_left_nothing();
}

/// An entry of a layer: extensions, kind, name, content.
type HostileEntry<'a> = (&'a [(&'a str, &'a [u8])], tar::EntryType, &'a str, &'a [u8]);

fn hostile_layer(entries: &[HostileEntry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (extensions, kind, name, content) in entries {
        if !extensions.is_empty() {
            builder.append_pax_extensions(extensions.iter().copied()).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What an image has that no root file system can have is the image's fault, and not this host's.
#[test]
fn privileged_images_that_no_step_can_run_on_are_refused() {
    use tar::EntryType::{Regular, Symlink};

    let Some(shell) = crate::support::shell_layer() else { return };
    let Some(mut world) = World::with_shell() else { return };
    let large = vec![b'v'; 70_000];
    for (what, entries) in [
        (
            "bad capability",
            vec![(&[("SCHILY.xattr.security.capability", &b"zz"[..])][..], Regular, "x", &b"x"[..])],
        ),
        ("large attribute", vec![(&[("SCHILY.xattr.user.a", &large[..])][..], Regular, "x", &b"x"[..])]),
        ("/dev is a file", vec![(&[][..], Regular, "dev", &b"x"[..])]),
        ("/proc is a file", vec![(&[][..], Regular, "proc", &b"x"[..])]),
        ("/dev leads in circles", vec![(&[("linkpath", &b"dev"[..])][..], Symlink, "dev", &b""[..])]),
    ] {
        let image = ocibuild_testkit::TestImage::new(&crate::support::platform())
            .layer_tar(shell.clone())
            .layer_tar(hostile_layer(&entries))
            .build();
        world.base("hostile", &image);
        let (error, _) = world.fail(world.prepare("FROM hostile\nRUN true\n"));
        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {}", crate::support::chain(&error));
    }
    // What the Dockerfile names is the Dockerfile's.
    for dockerfile in [
        "FROM base\nRUN --mount=type=tmpfs,target=/etc/passwd true\n",
        "FROM base\nRUN ln -s loop /loop\nRUN --mount=type=cache,target=/loop/x true\n",
    ] {
        let (error, _) = world.fail(world.prepare(dockerfile));
        assert_eq!(error.kind(), ErrorKind::Dockerfile, "{dockerfile}: {}", crate::support::chain(&error));
    }
}
