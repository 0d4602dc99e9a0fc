//! Bind, cache and tmpfs mounts: what a step sees, what stays, and when it runs again (5.1, 9.04, 9.13, 9.17).

use std::os::unix::fs::MetadataExt as _;

use fs_err as fs;
use ocibuild::state::PruneOptions;
use ocibuild::{CancelToken, Code, Event};

use crate::steps::{last_layer, worlds};
use crate::support::{World, chain, write_files};

#[test]
fn binds_show_the_selected_path_and_forget_what_is_written() {
    for (name, world) in worlds() {
        world.files(&[("dir/a", "text a"), ("dir/sub/b", "text b"), ("file", "one file"), ("ignored", "x")]);
        world.files(&[(".dockerignore", "ignored\n")]);
        let dockerfile = "FROM base AS other\nRUN mkdir /made && echo made > /made/file && ln -s /made/file /link\n\
             FROM base\nWORKDIR /w\nRUN --mount=target=/ctx \
             --mount=source=dir,target=/d,rw \
             --mount=source=file,target=/f \
             --mount=from=other,source=/made,target=/m \
             --mount=from=other,source=/link,target=/l \
             --mount=from=base,source=/etc/passwd,target=rel \
             ls /ctx; cat /d/sub/b /f /m/file /l; grep=$(sed -n 1p /w/rel); echo \" $grep\"; \
             touch /ctx/new 2>/dev/null || echo read-only; touch /m/new 2>/dev/null || echo read-only; \
             echo changed > /d/a; touch /d/new; cat /d/a; stat -c '%u:%g %a' /d/sub /ctx/file\n\
             RUN --mount=source=dir,target=/d ls /d; cat /d/a; ls /w\n";
        let (image, seen) = world.build(world.prepare(dockerfile));
        let words = [
            "Dockerfile",
            "text bone filemade\nmade\n root:x:0:0:root:/root:/bin/sh\n",
            "read-only\nread-only\nchanged\n",
            "0:0 755\n0:0 644\n",
            "a\nsub\ntext a",
        ];
        for word in words.iter().skip(1) {
            assert!(seen.output.contains(word), "{name}: {word:?} in {}", seen.output);
        }
        assert!(!seen.output.contains("ignored"), "{name}: {}", seen.output);
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
        assert_eq!(fs::read_to_string(world.path("context/dir/a")).unwrap(), "text a");
        assert!(!world.path("context/dir/new").exists(), "{name}");
        world.check_left_nothing();
    }
}

/// What a stage has is what a mount of it shows: modes, owners, times, names of one file, links, and what later layers removed.
#[test]
fn a_stage_is_mounted_as_a_step_on_it_sees_it() {
    let stage = "FROM base AS stage\nRUN mkdir -p /t/d /t/sub/gone && cd /t && echo 1 > d/a && ln d/a d/b && \
         echo own > d/own && chown 3:4 d/own && chmod 4751 d/own && touch -d @1000 d/own d/a && echo x > sub/file && \
         ln -s /t/d/own link && mkfifo pipe && touch sub/gone/x\n\
         RUN rm -r /t/sub/gone && chmod 750 /t/d && chown 5:6 /t/d && touch -d @2000 /t/d /t/sub /t\n";
    let show =
        "stat -c '%n %F %a %u:%g %h %Y %s' . d d/own d/a d/b sub/file pipe; readlink link; ls -A . d sub";
    for (name, world) in worlds() {
        let on_it = world.build(world.prepare(&format!("{stage}RUN cd /t; {show}\n"))).1.output;
        assert!(on_it.contains("d/own regular file 4751 3:4 1 1000 4\n"), "{name}: {on_it}");
        assert!(!on_it.contains("gone"), "{name}: {on_it}");
        for flags in ["source=t,target=/m", "source=/t/../t,target=/m,rw", "target=/whole"] {
            let place = if flags.contains("whole") { "/whole/t" } else { "/m" };
            let (image, seen) =
                world.build(world.prepare(&format!(
                    "{stage}FROM base\nRUN --mount=from=stage,{flags} cd {place}; {show}\n"
                )));
            assert_eq!(seen.output, on_it, "{name}: {flags}");
            assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}: {flags}");
        }
        let is_mounted = "awk '$2 == \"/m\" { print $3, substr($4, 1, 2) }' /proc/mounts";
        let (_, seen) = world.build(world.prepare(&format!(
            "{stage}FROM base\nRUN --mount=from=stage,source=t/d,target=/m {is_mounted}\n\
             RUN --mount=from=stage,source=t/link,target=/m {is_mounted}; stat -c '%a %u:%g' /m\n"
        )));
        assert_eq!(seen.output, "overlay ro\noverlay ro\n4751 3:4\n", "{name}");
        world.check_left_nothing();
    }
}

#[test]
fn what_is_written_to_a_mounted_stage_is_gone_with_the_step() {
    for (name, world) in worlds() {
        let (_, seen) = world.build(world.prepare(
            "FROM base AS stage\nRUN mkdir -p /t/d && echo 1 > /t/d/a && echo own > /t/own\n\
             FROM base\n\
             RUN --mount=from=stage,source=t,target=/m,rw --mount=from=stage,source=t,target=/n,rw \
             --mount=from=stage,source=t/own,target=/o,rw \
             echo 2 > /m/d/a; rm /m/own; mkdir /m/new; chmod 777 /m /n; echo more >> /o; cat /m/d/a /n/d/a /o; ls /m /n\n\
             RUN --mount=from=stage,source=t,target=/m touch /m/d/a 2>/dev/null || echo read-only; cat /m/d/a /m/own; \
             stat -c %a /m; mount -o remount,rw /m 2>/dev/null || echo kept\n\
             FROM stage\nCOPY --from=1 /etc/passwd /p\nRUN cat /t/d/a /t/own; stat -c %a /t\n",
        ));
        let expected =
            "2\n1\nown\nmore\n/m:\nd\nnew\n\n/n:\nd\nown\nread-only\n1\nown\n755\nkept\n1\nown\n755\n";
        assert_eq!(seen.output, expected, "{name}");
        world.check_left_nothing();
    }
}

/// The nodes of a stage are seen as they are, and open nothing.
#[test]
fn devices_of_a_mounted_stage_cannot_be_opened() {
    for (name, world) in worlds() {
        let stage =
            "FROM base AS stage\nRUN mkdir /t && mknod /t/log c 1 11 && chmod 666 /t/log\nFROM base\n";
        for flags in ["", ",rw"] {
            let (_, seen) = world.build(world.prepare(&format!(
                "{stage}RUN --mount=from=stage,source=t,target=/m{flags} stat -c '%F %t %T' /m/log; \
                 cat /m/log >/dev/null 2>&1 || echo closed\n"
            )));
            assert_eq!(seen.output, "character special file 1 b\nclosed\n", "{name}: {flags}");
        }
    }
}

/// The inode of a file of the context.
fn inode(world: &World, path: &str) -> String {
    fs::symlink_metadata(world.path("context").join(path)).unwrap().ino().to_string()
}

/// A context of which nothing has to be hidden or changed is mounted itself, and no step can write to it.
#[test]
fn a_context_is_mounted_where_it_is() {
    for (name, world) in worlds() {
        world.files(&[
            ("dir/a", "text a"),
            ("dir/sub/b", "text b"),
            ("file", "one file"),
            ("other/ignored", "x"),
        ]);
        world.files(&[(".dockerignore", "other/ignored\n")]);
        let link = world.path("context/dir/link");
        std::os::unix::fs::symlink("sub/b", link).unwrap();
        let (_, seen) = world.build(world.prepare(
            "FROM base\nRUN --mount=source=dir,target=/d --mount=source=file,target=/f stat -c %i /d/a /d/link /f; \
             cat /d/link; echo; touch /d/a /d/new 2>/dev/null || echo ro; chmod 600 /d/a 2>/dev/null || echo ro; \
             echo x 2>/dev/null > /f || true; mount -o remount,rw /d 2>/dev/null || mount -o remount,rw,bind /d 2>/dev/null || echo kept\n",
        ));
        let inodes = ["dir/a", "dir/link", "file"].map(|path| inode(&world, path)).join("\n");
        let seen =
            seen.output.lines().filter(|line| !line.contains("Read-only")).collect::<Vec<_>>().join("\n");
        assert_eq!(seen, format!("{inodes}\ntext b\nro\nro\nkept"), "{name}");
        assert_eq!(fs::read_to_string(world.path("context/file")).unwrap(), "one file", "{name}");
        assert!(!world.path("context/dir/new").exists(), "{name}");
        world.check_left_nothing();
    }
}

/// What a step writes to a context is gone with the step, whether it has an overlay or a copy.
#[test]
fn what_is_written_to_a_mounted_context_is_gone_with_the_step() {
    for (name, world) in worlds() {
        world.files(&[
            ("dir/a", "a\n"),
            ("dir/sub/b", "b\n"),
            ("file", "file\n"),
            ("other/ignored", ""),
            ("other/c", "c\n"),
        ]);
        world.files(&[(".dockerignore", "other/ignored\n")]);
        let before = fs::symlink_metadata(world.path("context/dir")).unwrap();
        let (image, seen) = world.build(world.prepare(
            "FROM base\n\
             RUN --mount=source=dir,target=/m,rw --mount=source=dir,target=/n,rw --mount=source=file,target=/f,rw \
             --mount=source=other,target=/o,rw --mount=type=tmpfs,target=/m/inner \
             echo 2 > /m/a; rm -r /m/sub; mkdir /m/new; chmod 700 /m; chown 7:7 /m /n/a; echo more >> /f; touch /o/new /m/inner/x; \
             cat /m/a /n/a /f; ls /m /n /o; awk '$2 == \"/m\" || $2 == \"/o\" { print $2, $3 == \"overlay\" }' /proc/mounts | sort\n\
             RUN --mount=source=dir,target=/m,rw cat /m/a /m/sub/b; ls /m; stat -c '%a %u:%g' /m\n",
        ));
        let written = "2\na\nfile\nmore\n/m:\na\ninner\nnew\n\n/n:\na\nsub\n\n/o:\nc\nnew\n/m 1\n/o 0\n";
        assert_eq!(seen.output, format!("{written}a\nb\na\nsub\n755 0:0\n"), "{name}");
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
        assert_eq!(fs::read_to_string(world.path("context/dir/a")).unwrap(), "a\n", "{name}");
        assert_eq!(fs::read_to_string(world.path("context/file")).unwrap(), "file\n", "{name}");
        let after = fs::symlink_metadata(world.path("context/dir")).unwrap();
        let times =
            |found: &std::fs::Metadata| (found.ctime(), found.ctime_nsec(), found.uid(), found.mode());
        assert_eq!(times(&after), times(&before), "{name}");
        world.check_left_nothing();
    }
}

/// What a copy would not be is copied.
#[test]
fn what_a_step_would_see_otherwise_is_copied() {
    let Some(world) = World::with_shell() else { return };
    if !ocibuild_sys::in_initial_user_namespace() {
        return ocibuild_testkit::skip("files can be given away by root alone");
    }
    let is_copied = |directory: &str| {
        let file = format!("{directory}/file");
        world.files(&[(&file, directory)]);
        let dockerfile = format!(
            "FROM base\nRUN --mount=source={directory},target=/m stat -c '%i %u:%g' /m/file; ls /m\n"
        );
        let (_, seen) = world.build(world.prepare(&dockerfile).no_cache(true));
        let (found, names) = seen.output.split_once('\n').unwrap();
        let (found, owner) = found.split_once(' ').unwrap();
        assert_eq!(owner, "0:0", "{directory}");
        (found != inode(&world, &file), names.replace('\n', " "))
    };
    let path = |name: &str| world.path("context").join(name);
    assert_eq!(is_copied("plain"), (false, "file ".to_owned()));
    world.files(&[
        ("owned/file", ""),
        ("grouped/sub/x", ""),
        ("piped/file", ""),
        ("wired/file", ""),
        ("raised/x", ""),
    ]);
    std::os::unix::fs::chown(path("owned/file"), Some(1), Some(0)).unwrap();
    assert_eq!(is_copied("owned"), (true, "file ".to_owned()));
    std::os::unix::fs::lchown(path("grouped/sub"), Some(0), Some(7)).unwrap();
    assert_eq!(is_copied("grouped"), (true, "file sub ".to_owned()));
    let parent = ocibuild_sys::DirHandle::open(path("piped")).unwrap();
    parent.mkfifo("pipe", 0o666).unwrap();
    assert_eq!(is_copied("piped"), (true, "file pipe ".to_owned()));
    let _socket = std::os::unix::net::UnixListener::bind(path("wired/socket")).unwrap();
    assert_eq!(is_copied("wired"), (true, "file socket ".to_owned()));
    fs::set_permissions(path("raised/x"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    assert_eq!(is_copied("raised"), (true, "file x ".to_owned()));
    world.files(&[("hiding/file", ""), ("hiding/secret", ""), (".dockerignore", "**/secret\n")]);
    assert_eq!(is_copied("hiding"), (true, "file ".to_owned()));
    assert_eq!(is_copied("plain"), (false, "file ".to_owned()));
    // Capabilities of version 2: CAP_NET_RAW.
    let capability = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    world.files(&[("capable/tool", "")]);
    let parent = ocibuild_sys::DirHandle::open(path("capable")).unwrap();
    match parent.set_xattr("tool", "security.capability", &capability) {
        Ok(()) => assert_eq!(is_copied("capable"), (true, "file tool ".to_owned())),
        Err(error) => ocibuild_testkit::skip(&format!("no capabilities of files here: {error}")),
    }
    world.check_left_nothing();
}

/// What changes, the path that the error names, and how it is changed.
type Change<'a> = (&'a str, Option<&'a str>, &'a dyn Fn());

/// A key speaks of what its step saw, to its end.
#[test]
fn a_context_that_changes_while_it_is_mounted_fails_the_step() {
    let Some(world) = World::with_shell() else { return };
    let dockerfile = "FROM base\nRUN --mount=source=dir,target=/d --mount=type=cache,target=/s \
         touch /s/waiting; echo ready; until test -e /s/go; do :; done; rm /s/go; cat /d/a\n";
    let path = |name: &str| world.path("context").join(name);
    let go = || {
        for place in fs::read_dir(world.path("state/mounts")).unwrap() {
            let place = place.unwrap().path();
            if place.join("waiting").exists() {
                fs::write(place.join("go"), "").unwrap();
            }
        }
    };
    let changes: [Change<'_>; 7] = [
        ("nothing", None, &|| {}),
        ("outside", None, &|| fs::write(path("other"), "other").unwrap()),
        ("content", Some("dir/a"), &|| fs::write(path("dir/a"), "TEXT").unwrap()),
        ("mode", Some("dir/a"), &|| {
            fs::set_permissions(path("dir/a"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }),
        ("a new file", Some("dir"), &|| fs::write(path("dir/new"), "").unwrap()),
        ("a file that is gone", Some("dir"), &|| fs::remove_file(path("dir/sub/b")).unwrap()),
        ("another directory", Some("dir"), &|| {
            fs::rename(path("dir"), path("old")).unwrap();
            write_files(&world.path("context"), &[("dir/a", "text"), ("dir/sub/b", "b")]);
        }),
    ];
    for (what, named, change) in changes {
        for directory in ["dir", "old"] {
            if path(directory).exists() {
                fs::remove_dir_all(path(directory)).unwrap();
            }
        }
        world.files(&[("dir/a", "text"), ("dir/sub/b", "b")]);
        let build = || world.prepare(dockerfile).no_cache(true);
        let mut changed = false;
        let (result, seen) = world.try_build_watched(build(), &CancelToken::new(), |event| {
            if !changed && matches!(event, Event::Output { bytes, .. } if bytes.starts_with(b"ready")) {
                change();
                changed = true;
                go();
            }
        });
        assert!(changed, "{what}: {seen:?}");
        match (result, named) {
            (Ok(_), None) => assert_eq!(seen.output, "ready\ntext", "{what}"),
            (Err(error), Some(path)) => {
                assert!(error.is(Code::ChangedWhileRead), "{what}: {}", chain(&error));
                assert!(error.to_string().starts_with(path), "{what}: {}", chain(&error));
            }
            (result, _) => panic!("{what}: {result:?}"),
        }
        world.check_left_nothing();
    }
}

#[test]
fn what_is_not_there_cannot_be_mounted() {
    let Some(world) = World::with_shell() else { return };
    for (flag, message) in [
        ("source=/x,target=/y", "\"/x\": not found (line 2)"),
        ("from=base,source=/no/such,target=/y", "\"/no/such\": not found (line 2)"),
        ("source=a*,target=/y", "\"/a*\": not found (line 2)"),
        ("source=link,target=/y", "\"/link\": not found (line 2)"),
    ] {
        world.files(&[("ab", "")]);
        let link = world.path("context/link");
        if !link.is_symlink() {
            std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        }
        let (error, _) = world.fail(world.prepare(&format!("FROM base\nRUN --mount={flag} true\n")));
        assert_eq!(error.to_string(), message, "{flag}");
    }
}

/// The mounted files count by what they are, not by what they are part of or how they came to be.
#[test]
fn mounted_files_count_by_content() {
    let Some(world) = World::with_shell() else { return };
    world.files(&[("in/a", "1"), ("out", "1")]);
    let dockerfile = |other: &str, mount: &str| {
        format!("FROM base AS s\nRUN echo same > /used; {other}\nFROM base\nRUN --mount={mount} echo ran\n")
    };
    let ran = |dockerfile: &str| {
        let (_, seen) = world.build(world.prepare(dockerfile));
        seen.output.contains("ran")
    };
    // A stage that runs again and leaves the same file.
    let of_stage = "from=s,source=/used,target=/u";
    assert!(ran(&dockerfile("echo 1 > /unused", of_stage)));
    assert!(!ran(&dockerfile("echo 1 > /unused", of_stage)), "nothing changed");
    assert!(!ran(&dockerfile("echo 2 > /unused", of_stage)), "only what is not mounted changed");
    assert!(!ran(&dockerfile("echo 2 > /unused", of_stage)), "known without a look at the files");
    assert!(ran(&dockerfile("echo other > /used", of_stage)), "what is mounted changed");
    assert!(ran(&dockerfile("chmod 600 /used", of_stage)), "its mode changed");
    // The whole stage.
    let whole = "from=s,target=/u";
    assert!(ran(&dockerfile("echo 1 > /unused", whole)));
    assert!(ran(&dockerfile("echo 2 > /unused", whole)));
    // The context.
    let of_context = dockerfile("true", "source=in,target=/i");
    assert!(ran(&of_context));
    write_files(&world.path("context"), &[("out", "2")]);
    assert!(!ran(&of_context), "only what is not mounted changed");
    write_files(&world.path("context"), &[("in/a", "2")]);
    assert!(ran(&of_context));
    // An image, by path.
    assert!(ran(&dockerfile("true", "from=base,source=/etc/passwd,target=/p")));
    assert!(!ran(&dockerfile("true", "from=base,source=/etc/passwd,target=/p")));
    assert!(ran(&dockerfile("true", "from=base,source=/etc/group,target=/p")));
}

#[test]
fn caches_outlive_builds_by_their_identity() {
    for (name, world) in worlds() {
        let run = |flags: &str, namespace: &str| {
            let dockerfile =
                format!("FROM base\nARG N\nRUN --mount=type=cache,{flags} ls /c; touch /c/left\n");
            let build = world.prepare(&dockerfile).build_arg("N", format!("{flags}{namespace}"));
            let build = build.build_arg("BUILDKIT_CACHE_MOUNT_NS", namespace).no_cache_stage("none");
            let (image, seen) = world.build(build);
            assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}: {flags}");
            seen.output.contains("left")
        };
        assert!(!run("target=/c", "a"));
        assert!(run("target=/c,sharing=locked", "a"), "{name}: the same cache");
        assert!(run("id=/c,target=/c", "a"), "{name}: the id is the target by default");
        assert!(!run("target=/c", "b"), "{name}: another namespace");
        assert!(!run("target=/c,id=x", "a"), "{name}: another id");
        assert!(!run("target=/c,uid=5", "a"), "{name}: another owner");
        assert!(!run("target=/c,mode=0700", "a"), "{name}: another mode");
        assert!(!run("target=/c,id=../../x", "a"), "{name}: an id is no path");
        assert!(run("target=/c,id=../../x,sharing=private", "a"), "{name}");
        world.check_left_nothing();
    }
}

#[test]
fn caches_begin_as_they_are_told() {
    for (name, world) in worlds() {
        let dockerfile = |seed: &str| {
            format!(
                "FROM base AS seed\nRUN mkdir -m 750 /s && echo {seed} > /s/file && chown -R 3:4 /s\nFROM base\n\
                 RUN --mount=type=cache,target=/a --mount=type=cache,target=/b,mode=0711,uid=5,gid=6 \
                 --mount=type=cache,target=/c,from=seed,source=/s --mount=type=cache,target=/d,from=seed,source=/s,ro \
                 stat -c '%n %a %u:%g' /a /b /c; cat /c/file; echo more >> /c/file; touch /d/x 2>/dev/null || echo ro\n\
                 RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/file\n"
            )
        };
        let (_, seen) = world.build(world.prepare(&dockerfile("one")));
        let expected = "/a 755 0:0\n/b 711 5:6\n/c 750 3:4\none\nro\none\nmore\n";
        assert_eq!(seen.output, expected, "{name}");
        // Other content, another cache; the first is still there.
        let (_, seen) = world.build(world.prepare(&dockerfile("two")));
        assert!(seen.output.ends_with("two\nro\ntwo\nmore\n"), "{name}: {}", seen.output);
        let (_, seen) =
            world.build(world.prepare(&dockerfile("one").replace("cat /c/file;", "cat /c/file ;")));
        assert!(seen.output.contains("one\nmore\nro\n"), "{name}: {}", seen.output);
    }
}

#[test]
fn without_the_cache_cache_mounts_begin_anew_once() {
    let Some(world) = World::with_shell() else { return };
    let dockerfile = "FROM base AS a\nRUN --mount=type=cache,target=/c ls /c; touch /c/first\n\
         RUN --mount=type=cache,target=/c ls /c; touch /c/second\n\
         FROM a AS b\nRUN --mount=type=cache,target=/c ls /c\n";
    let all = "first\nfirst\nsecond\n";
    let (_, seen) = world.build(world.prepare(dockerfile));
    assert_eq!(seen.output, all);
    let (_, seen) = world.build(world.prepare(dockerfile).no_cache(true));
    assert_eq!(seen.output, all, "emptied before the first step, and not again");
    let (_, seen) = world.build(world.prepare(dockerfile).no_cache_stage("b"));
    assert_eq!(seen.output, "", "those of one stage");
    world.check_left_nothing();
}

/// A step goes on with the cache that it has, and with all that is in it, while another build empties that cache, uses it
/// and ends.
#[test]
fn a_cache_that_is_emptied_stays_whole_for_the_step_that_uses_it() {
    for sharing in ["shared", "locked", "private"] {
        let Some(world) = World::with_shell() else { return };
        let wait = format!(
            "FROM base\nRUN --mount=type=cache,id=x,target=/c,sharing={sharing} --mount=type=cache,id=sync,target=/s \
             touch /c/mine /s/waiting; echo ready; until test -e /s/go; do :; done; touch /c/more; ls /c\n"
        );
        let (result, seen) = world.try_build_watched(world.prepare(&wait), &CancelToken::new(), |event| {
            if !matches!(event, Event::Output { bytes, .. } if bytes.starts_with(b"ready")) {
                return;
            }
            let other = World::again(&world.path(""));
            for (dockerfile, no_cache) in [("ls /c; touch /c/other", true), ("ls /c; echo more", false)] {
                let run = format!("FROM base\nRUN --mount=type=cache,id=x,target=/c {dockerfile}\n");
                let (_, seen) = other.build(other.prepare(&run).no_cache(no_cache));
                let expected = if no_cache { "" } else { "other\nmore\n" };
                assert_eq!(seen.output, expected, "{sharing}: it was emptied once");
            }
            let mut all = PruneOptions::default();
            all.all = true;
            other.state().prune(&all).unwrap();
            for place in fs::read_dir(world.path("state/mounts")).unwrap() {
                let place = place.unwrap().path();
                if place.join("waiting").exists() {
                    fs::write(place.join("go"), "").unwrap();
                }
            }
        });
        result.unwrap_or_else(|error| panic!("{sharing}: {}: {seen:?}", chain(&error)));
        assert_eq!(seen.output, "ready\nmine\nmore\n", "{sharing}");
        // What it used went with it.
        let left = fs::read_dir(world.path("state/mounts"))
            .unwrap()
            .filter(|place| place.as_ref().is_ok_and(|place| place.path().join("mine").exists()));
        assert_eq!(left.count(), 0, "{sharing}");
        let run = "FROM base\nRUN --mount=type=cache,id=x,target=/c ls /c; echo at the end\n";
        assert_eq!(world.build(world.prepare(run)).1.output, "other\nat the end\n", "{sharing}");
        world.check_left_nothing();
    }
}

/// Caches that killed builds had when they were emptied are nobody's.
#[test]
fn what_was_a_cache_is_pruned() {
    let Some(world) = World::with_shell() else { return };
    let run = "FROM base\nRUN --mount=type=cache,id=x,target=/c touch /c/file\n";
    world.build(world.prepare(run));
    let place = fs::read_dir(world.path("state/mounts")).unwrap().map(|place| place.unwrap().path());
    let place = place.into_iter().find(|place| place.is_dir()).unwrap();
    fs::create_dir(place.with_extension("7")).unwrap();
    world.state().prune(&PruneOptions::default()).unwrap();
    assert!(place.join("file").exists() && !place.with_extension("7").exists());
    fs::create_dir(place.with_extension("7")).unwrap();
    fs::write(place.with_extension("current"), "7\n").unwrap();
    assert_eq!(world.state().prune(&PruneOptions::default()).unwrap().leftovers, 1);
    assert!(!place.exists() && place.with_extension("7").exists());
}

/// Steps take the locks of their caches in one order, wherever they mount them.
#[test]
fn two_steps_do_not_wait_for_each_other_s_caches() {
    let Some(world) = World::with_shell() else { return };
    let directory = world.path("");
    std::thread::scope(|scope| {
        for (first, second) in [("one", "two"), ("two", "one")] {
            let directory = &directory;
            scope.spawn(move || {
                let world = World::again(directory);
                for round in 0..10 {
                    world.build(world.prepare(&format!(
                        "FROM base\nRUN --mount=type=cache,id={first},target=/a,sharing=locked \
                         --mount=type=cache,id={second},target=/b/c,sharing=locked echo {first} {round}\n"
                    )));
                }
            });
        }
    });
}

/// The same cache twice in one step must not wait for itself.
#[test]
fn a_locked_cache_can_be_mounted_twice() {
    let Some(world) = World::with_shell() else { return };
    let (_, seen) = world.build(world.prepare(
        "FROM base\nRUN --mount=type=cache,id=x,target=/a,sharing=locked \
         --mount=type=cache,id=x,target=/b,sharing=locked --mount=type=cache,id=x,target=/p,sharing=private \
         touch /a/file; ls /b; ls /p\n",
    ));
    assert_eq!(seen.output, "file\n");
}

#[test]
fn memory_is_limited_and_forgotten() {
    for (name, world) in worlds() {
        let (image, seen) = world.build(world.prepare(
            "FROM base\nRUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/s,size=64k \
             --mount=type=tmpfs,target=/r,ro --mount=type=tmpfs,target=/root stat -c '%a' /t /root; touch /r/x 2>/dev/null || echo ro; \
             dd if=/dev/zero of=/s/x bs=1k count=100 2>/dev/null || echo full; echo x > /t/x; \
             awk '$2 == \"/t\" { print $3, $4 }' /proc/mounts; mkdir /t/deep; \n\
             RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/t/a/b ls /t; ls -d /t/a/b\n",
        ));
        assert!(seen.output.starts_with("1777\n700\nro\nfull\ntmpfs rw,nosuid"), "{name}: {}", seen.output);
        assert!(seen.output.ends_with("a\n/t/a/b\n"), "{name}: {}", seen.output);
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
    }
}

/// 5.112, 8.20: later mounts win, parents come first, and what was made to be mounted on goes.
#[test]
fn mounts_are_ordered_and_their_points_go() {
    for (name, world) in worlds() {
        world.files(&[("one/x", "1"), ("two/x", "2"), ("file", "")]);
        let (image, seen) = world.build(world.prepare(
            "FROM base\nRUN mkdir -p /kept/empty && ln -s /dangling/target /link && touch -d @1000 /kept /\n\
             RUN --mount=source=two,target=/a/b/c --mount=source=one,target=/m --mount=source=two,target=/m \
             --mount=type=tmpfs,target=/a --mount=source=one,target=/kept/empty --mount=source=one,target=/kept/new \
             --mount=source=file,target=/link --mount=type=tmpfs,target=/filled/deep \
             cat /m/x /a/b/c/x /kept/empty/x; touch /filled/file\n\
             RUN ls -d /a /m /kept/new /dangling 2>&1 | wc -l; ls /kept /filled; stat -c %Y /kept\n",
        ));
        assert!(seen.output.starts_with("221"), "{name}: {}", seen.output);
        assert!(seen.output.contains("/filled:\nfile\n\n/kept:\nempty\n1000\n"), "{name}: {}", seen.output);
        assert_eq!(seen.output.matches("No such").count(), 0, "{name}");
        let layers: Vec<_> = image.layers().collect();
        let (_, descriptor) = layers[layers.len() - 2];
        let listing = crate::support::layer_listing(&world.blobs().join(descriptor.digest.hex()));
        let paths: Vec<&str> = listing.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(paths, ["filled/", "filled/file"], "{name}");
    }
}
