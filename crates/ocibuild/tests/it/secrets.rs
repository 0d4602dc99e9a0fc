//! Secrets: what a step sees of them, and that nobody else ever does (5.1).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild::{CancelToken, ErrorKind, Event, OutputKind, Secret};

use crate::steps::{last_layer, worlds};
use crate::support::World;

/// Never occurs by accident, in no encoding.
const CANARY: &str = "Kanarienvogel\r\n\u{1}9f3c77 ümlaut";

#[test]
fn files_have_mode_owner_and_exact_bytes() {
    for (name, world) in worlds() {
        let dockerfile = "FROM base\nRUN --mount=type=secret,id=s \
             --mount=type=secret,id=s,target=/deep/er/file,mode=0640,uid=7,gid=8 \
             --mount=type=secret,id=s,env=TOKEN,target=also \
             --mount=type=secret,id=only,env=ONLY \
             stat -c '%n %a %u:%g %s %F' /run/secrets/s /deep/er/file /also; \
             cmp() { test \"$(cat $1)\" = \"$TOKEN\" && echo equal; }; cmp /run/secrets/s; cmp /deep/er/file; \
             echo only $ONLY; ls /run/secrets; touch /run/secrets/s 2>/dev/null || echo read-only; \
             awk '$2 == \"/deep/er/file\" { print $3, $4 }' /proc/mounts\n\
             RUN ls /run /deep /also 2>&1 || true\n";
        let build = world.prepare(dockerfile);
        let build = build.secret("s", Secret::Value(b"two\nlines".to_vec()));
        let (image, seen) = world.build(build.secret("only", Secret::Value(b"variable".to_vec())));
        let expected = [
            "/run/secrets/s 400 0:0 9 regular file",
            "/deep/er/file 640 7:8 9 regular file",
            "/also 400 0:0 9 regular file",
            "equal",
            "equal",
            "only variable",
            "s",
            "read-only",
        ];
        for line in expected {
            assert!(seen.output.lines().any(|other| other == line), "{name}: {line} in {}", seen.output);
        }
        let mount = seen.output.lines().find(|line| line.starts_with("tmpfs ro,")).unwrap_or_default();
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(mount.contains(option), "{name}: {mount:?}");
        }
        assert!(!seen.output.contains("secrets:"), "{name}: the next step sees nothing: {}", seen.output);
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
        world.check_left_nothing();
    }
}

/// As with BuildKit, the mode decides: a secret that may be executed lies on a mount that lets it, and no other does.
#[test]
fn secrets_can_be_executed_if_their_mode_says_so() {
    for (name, world) in worlds() {
        let dockerfile = "FROM base\nRUN --mount=type=secret,id=s,target=/run/tool,mode=0755 \
             --mount=type=secret,id=s,target=/run/mine,mode=0100 --mount=type=secret,id=s,target=/run/plain,mode=0644 \
             /run/tool tool; /run/mine mine; /run/plain plain 2>/dev/null || echo refused; \
             awk '$2 ~ \"^/run/\" { print $2, $4 }' /proc/mounts\n\
             FROM base\nCOPY --from=0 /etc/passwd /p\nUSER user\nRUN --mount=type=secret,id=s,target=/run/tool,mode=0755 \
             /run/tool \"as $(id -u)\"\n";
        let script = b"#!/bin/sh\necho executed $1\n".to_vec();
        let (_, seen) = world.build(world.prepare(dockerfile).secret("s", Secret::Value(script)));
        for line in ["executed tool", "executed mine", "refused", "executed as 1000"] {
            assert!(seen.output.lines().any(|other| other == line), "{name}: {line} in {}", seen.output);
        }
        for (target, noexec) in [("/run/tool", false), ("/run/mine", false), ("/run/plain", true)] {
            let options = seen.output.lines().find_map(|line| line.strip_prefix(target)).unwrap_or_default();
            assert!(options.starts_with(" ro,nosuid,nodev"), "{name}: {target}{options}");
            assert_eq!(options.contains("noexec"), noexec, "{name}: {target}{options}");
        }
        world.check_left_nothing();
    }
}

/// What of the other mounts of a step can be executed, and whether as somebody else: as BuildKit mounts them.
#[test]
fn other_mounts_let_programs_be_executed() {
    for (name, world) in worlds() {
        world.files(&[("tool", "#!/bin/sh\necho executed $1\n")]);
        let dockerfile = "FROM base\nRUN --mount=type=bind,target=/b --mount=type=cache,target=/c \
             --mount=type=tmpfs,target=/t for d in /c /t; do cp /b/tool $d/tool; chmod 755 $d/tool; $d/tool $d; done; \
             awk '$2 ~ \"^/[bct]$\" { print $2, $4 }' /proc/mounts\n";
        let (_, seen) = world.build(world.prepare(dockerfile));
        for line in ["executed /c", "executed /t"] {
            assert!(seen.output.lines().any(|other| other == line), "{name}: {line} in {}", seen.output);
        }
        for (target, nosuid) in [("/b", false), ("/c", false), ("/t", true)] {
            let options = seen.output.lines().find_map(|line| line.strip_prefix(target)).unwrap_or_default();
            assert!(!options.contains("noexec"), "{name}: {target}{options}");
            assert_eq!(options.contains("nosuid"), nosuid, "{name}: {target}{options}");
        }
    }
}

#[test]
fn missing_secrets_are_optional_unless_required() {
    for (name, world) in worlds() {
        let (_, seen) = world.build(world.prepare(
            "FROM base\nENV TOKEN=image\nRUN --mount=type=secret,id=s,env=TOKEN --mount=type=secret,id=f \
             echo \"[$TOKEN]\"; ls /run/secrets 2>&1 || true\n",
        ));
        assert!(seen.output.contains("[]\n"), "{name}: it is set, to nothing: {}", seen.output);
        assert!(seen.output.contains("No such file"), "{name}: {}", seen.output);
        let (error, _) = world.fail(world.prepare("FROM base\nRUN --mount=type=secret,id=s,required true\n"));
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Usage, "secret s: not found (line 2)")
        );
    }
}

#[test]
fn values_win_over_the_environment_and_never_count_in_keys() {
    let Some(world) = World::with_shell() else { return };
    let dockerfile = "FROM base\nENV TOKEN=image\nRUN --mount=type=secret,id=s,env=TOKEN \
         --mount=type=secret,id=s,target=/f echo $TOKEN; cat /f\n";
    let build = |value: &str| world.prepare(dockerfile).secret("s", Secret::Value(value.into()));
    let (_, seen) = world.build(build("one"));
    assert!(seen.output.contains("one\none"), "{}", seen.output);
    let (_, seen) = world.build(build("two"));
    assert_eq!((seen.output.as_str(), seen.cached.len()), ("", 1), "another value is no reason to run again");
    let other = dockerfile.replace("id=s,target=/f", "id=s,target=/f,mode=0444");
    let (_, seen) = world.build(world.prepare(&other).secret("s", Secret::Value(b"two".to_vec())));
    assert_eq!(seen.cached.len(), 0, "another mode is");
}

#[test]
fn files_are_read_when_a_step_mounts_them_and_have_a_largest_size() {
    let Some(world) = World::with_shell() else { return };
    let path = world.path("secret file");
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s wc -c /run/secrets/s\n";
    let build = || world.prepare(dockerfile).no_cache(true).secret("s", Secret::File(path.clone()));
    for (size, words) in [(0, "0 /run/secrets/s"), (500 << 10, "512000 /run/secrets/s")] {
        fs::write(&path, vec![0_u8; size]).unwrap();
        let (_, seen) = world.build(build());
        assert!(seen.output.contains(words), "{}", seen.output);
    }
    fs::write(&path, vec![b'x'; (500 << 10) + 1]).unwrap();
    let (error, _) = world.fail(build());
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("secret s has more than 500 KiB"), "{error}");
    fs::remove_file(&path).unwrap();
    let (error, _) = world.fail(build());
    assert_eq!(error.kind(), ErrorKind::Host, "{error}");
    let value = Secret::Value(format!("{CANARY}\0").into_bytes());
    let (error, _) =
        world.fail(world.prepare("FROM base\nRUN --mount=type=secret,id=s,env=X true\n").secret("s", value));
    assert!(
        error.to_string().contains("contains NUL") && !format!("{error:?}").contains("9f3c77"),
        "{error:?}"
    );
}

#[test]
fn names_of_steps_have_stars_for_secrets() {
    let Some(world) = World::with_shell() else { return };
    let build = world.prepare(
        "FROM base\nENV A=set\nRUN --mount=type=secret,id=s,env=TOKEN : \"$TOKEN\" ${A} $OTHER '$A' ${TOKEN:-x} $(true)\n",
    );
    let (_, seen) = world.build(build.secret("s", Secret::Value(CANARY.into())));
    let shown = "RUN --mount=type=secret,id=s,env=TOKEN : \"****\" set $OTHER '$A' **** $(true)";
    assert_eq!(seen.done, [shown]);
}

/// The whole state directory, everything that is written, printed or could be looked at, while the step runs and after.
#[test]
fn the_value_is_nowhere_but_in_the_step() {
    for (name, world) in worlds() {
        let encodings = encodings(CANARY);
        let dockerfile = "FROM base\nARG A=1\nRUN --mount=type=secret,id=s,env=TOKEN --mount=type=secret,id=s,target=/f \
             test \"$TOKEN\" = \"$(cat /f)\" && echo ready && sleep 1\n\
             FROM base\nCOPY --from=0 /etc/passwd /p\n\
             RUN --mount=type=secret,id=s,env=TOKEN --mount=type=secret,id=s,required sh -c 'exit 3'\n";
        let build = world.prepare(dockerfile).secret("s", Secret::Value(CANARY.into()));
        let build = build.output(world.output(OutputKind::OciArchive, "out.tar"));
        let shown = format!("{build:?}");
        let mut looked = 0;
        let mut told = String::new();
        let state = world.path("state");
        let (result, seen) = world.try_build_watched(build, &CancelToken::new(), |event| {
            write!(told, "{event:?}{event}").unwrap();
            if matches!(event, Event::Output { bytes, .. } if bytes.ends_with(b"ready\n")) {
                looked += 1;
                assert_eq!(found(&state, &encodings), Vec::<PathBuf>::new(), "{name}: while the step runs");
                assert_eq!(in_arguments(&encodings), Vec::<String>::new(), "{name}");
            }
        });
        let error = result.unwrap_err();
        assert_eq!((error.kind(), looked), (ErrorKind::StepFailed(3), 1), "{name}: {error} {}", seen.output);
        // The same without the step that fails, for the outputs.
        let dockerfile = dockerfile.replace("sh -c 'exit 3'", "true");
        let build = world.prepare(&dockerfile).secret("s", Secret::Value(CANARY.into()));
        let build = build.output(world.output(OutputKind::OciArchive, "out.tar"));
        let (image, _) = world.build(build);
        let directory = world.path("");
        assert_eq!(found(&directory, &encodings), Vec::<PathBuf>::new(), "{name}: afterwards");
        let texts = [told, shown, format!("{error:?}"), format!("{seen:?}"), format!("{image:?}")];
        for text in texts {
            assert!(!holds(text.as_bytes(), &encodings), "{name}: {text}");
        }
        world.check_left_nothing();
    }
}

/// The value as it is, in hexadecimal digits, in Base64 at each of three offsets, and as Rust and URLs write it.
fn encodings(value: &str) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02x}").unwrap();
    }
    let mut all = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    all.push(format!("{value:?}").trim_matches('"').as_bytes().to_vec());
    all.push(b"9f3c77".to_vec());
    for offset in 0..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let text = base64(&padded);
        // Without the digits that depend on what is before and behind.
        all.push(text[4..text.len() - 4].to_vec());
    }
    all
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        [18, 12, 6, 0].map(|shift| DIGITS[(number >> shift & 63) as usize])
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn holds(bytes: &[u8], encodings: &[Vec<u8>]) -> bool {
    encodings.iter().any(|text| bytes.windows(text.len()).any(|window| window == text))
}

/// Files below a directory that hold the value, also inside of gzip members.
fn found(directory: &Path, encodings: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut hits = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() && path.file_name().is_some_and(|name| name != "busybox") {
                let bytes = fs::read(&path).unwrap();
                if holds(&bytes, encodings) || holds(&unpacked(&bytes), encodings) {
                    hits.push(path);
                }
            }
        }
    }
    hits
}

/// What the gzip members in some bytes hold, wherever they begin.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, window) in bytes.windows(3).enumerate() {
        // The layer of the base is large, and not made here.
        if window == [0x1f, 0x8b, 8] && out.len() < 8 << 20 {
            let reader = flate2::read::GzDecoder::new(&bytes[at..]);
            // What is no member after all gives an error, and what came before it is looked at.
            let _ = std::io::copy(&mut std::io::Read::take(reader, 1 << 20), &mut out);
        }
    }
    out
}

/// Command lines of processes that hold the value.
fn in_arguments(encodings: &[Vec<u8>]) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        holds(&line, encodings).then(|| String::from_utf8_lossy(&line).into_owned())
    });
    lines.collect()
}
