use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_executor::{
    ErrorKind, Host, MemoryFile, Network, Outside, PosixRlimitType, Private, Rlimit, View, bundle,
    memory_directory,
};

use crate::world::{World, all_executors, chain, executors, mount};

#[test]
fn privileged_all_executors_give_the_same() {
    let Some(mut world) = World::privileged() else { return };
    // crun alone makes a link /dev/core.
    world.shell(
        "echo pid $$; id; pwd; hostname; env | sort; umask; cat | wc -c; \
         grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; ls -l /dev | grep -v ' core ' | awk '{print $1, $NF}'; \
         for d in /proc /sys /dev /dev/shm /dev/pts /dev/mqueue /etc/hosts; do \
           awk -v d=$d '$2 == d { print d, $3, substr($4, 1, 2) }' /proc/mounts | head -1; done; \
         df -k /dev/shm | awk 'NR == 2 {print $2}'; cat /etc/hosts /etc/resolv.conf; \
         touch /sys/x /proc/sys/x /etc/hosts 2>&1; ls /proc/acpi /sys/firmware | wc -l; cat /proc/keys; \
         unshare -m true 2>&1; stat -c '%a %U' /dev /dev/shm /dev/null; ls /proc/self/fd | wc -l; exit 3",
    );
    world.step.user.additional_gids = vec![0, 10];
    world.step.resolv_conf = "nameserver 192.0.2.1\n".to_owned();
    world.step.shm_size = 32 << 20;
    let mut outputs = Vec::new();
    for (name, executor) in executors() {
        let (result, text) = world.run_with(&*executor);
        let status = result.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(status.code(), 3, "{name}: {text}");
        outputs.push((name, text));
    }
    for (name, text) in &outputs[1..] {
        assert_eq!(*text, outputs[0].1, "{name} differs from {}", outputs[0].0);
    }
    let text = &outputs[0].1;
    for line in [
        "pid 1",
        "uid=0(root) gid=0(root) groups=0(root),10",
        "buildkitsandbox",
        "HOME=/root",
        "0022",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "/sys sysfs ro",
        "/dev tmpfs rw",
        "32768",
        "nameserver 192.0.2.1",
        "unshare: unshare(0x20000): Operation not permitted",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn privileged_users_have_no_capabilities_and_own_the_directory_made_for_them() {
    let Some(mut world) = World::privileged() else { return };
    world.step.user.uid = 1000;
    world.step.user.gid = 1001;
    world.step.user.additional_gids = vec![1001, 2000];
    world.step.cwd = "/new/deep".into();
    for (name, executor) in executors() {
        world.shell("id -u; id -G; pwd; stat -c '%u:%g %a' /new /new/deep; grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status");
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(
            text,
            "1000\n1001 2000\n/new/deep\n1000:1001 755\n1000:1001 755\n\
             CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n",
            "{name}"
        );
        fs::remove_dir_all(world.rootfs().join("new")).unwrap();
    }
}

#[test]
fn privileged_without_a_network_there_is_loopback() {
    let Some(mut world) = World::privileged() else { return };
    world.step.network = Network::None;
    world.shell("ls /sys/class/net; cat /sys/class/net/lo/flags");
    for (name, executor) in executors() {
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        // IFF_UP and IFF_LOOPBACK.
        assert_eq!(text, "lo\n0x9\n", "{name}");
    }
}

#[test]
fn privileged_programs_that_cannot_be_executed_are_told() {
    let Some(mut world) = World::privileged() else { return };
    fs::write(world.rootfs().join("bin/plain"), "text").unwrap();
    for (name, executor) in executors() {
        for (program, kind, code, text) in [
            ("nope", ErrorKind::ProgramNotFound, 127, "exec: \"nope\": executable file not found in $PATH"),
            (
                "/no/pe",
                ErrorKind::ProgramNotFound,
                127,
                "exec: \"/no/pe\": stat /no/pe: no such file or directory",
            ),
            ("/bin/plain", ErrorKind::ProgramRefused, 126, "exec: \"/bin/plain\": permission denied"),
        ] {
            world.step.args = vec![program.to_owned()];
            let error = world.run_with(&*executor).0.unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {}", chain(&error));
            assert_eq!((error.exit_code(), error.to_string()), (Some(code), text.to_owned()), "{name}");
        }
    }
}

#[test]
fn privileged_limits_and_signals_reach_the_command() {
    let Some(mut world) = World::privileged() else { return };
    world.step.rlimits = vec![Rlimit { resource: PosixRlimitType::RlimitNofile, soft: 123, hard: 456 }];
    for (name, executor) in executors() {
        let (result, text) = world
            .shell("ulimit -n; ulimit -Hn; sh -c 'kill -9 $$' 2>/dev/null; exit $?")
            .run_with(&*executor);
        assert_eq!(
            result.map(ocibuild_executor::ExitStatus::code).map_err(|error| chain(&error)),
            Ok(137),
            "{name}"
        );
        assert!(text.contains("123\n456\n"), "{name}: {text}");
    }
}

#[test]
fn privileged_mounts_of_the_step_are_made() {
    let Some(mut world) = World::privileged() else { return };
    let source = world.dir.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("file"), "content\n").unwrap();
    world.step.mounts = vec![
        mount(Path::new("/m/sub"), "tmpfs", Path::new("tmpfs"), &["size=1m", "nosuid"]),
        mount(Path::new("/m"), "bind", &source, &["rbind", "ro"]),
        mount(Path::new("/made/here"), "bind", &source.join("file"), &["bind"]),
    ];
    for (name, executor) in executors() {
        world.shell(
            "cat /m/file /made/here; touch /m/sub/x && touch /m/x 2>&1; echo more >> /made/here; ls /m/sub",
        );
        let (result, text) = world.run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, "content\ncontent\ntouch: /m/x: Read-only file system\nx\n", "{name}");
        assert_eq!(fs::read_dir(source.join("sub")).unwrap().count(), 0);
        fs::write(source.join("file"), "content\n").unwrap();
    }
}

#[test]
fn privileged_an_overlay_is_mounted_for_the_step_alone() {
    let Some(mut world) = World::privileged() else { return };
    if let Err(error) = ocibuild_sys::overlay_works(world.dir.path()) {
        return ocibuild_testkit::skip(&chain(&error));
    }
    let path = |name: &str| world.dir.path().join(name);
    for name in ["upper", "work", "merged"] {
        fs::create_dir(path(name)).unwrap();
    }
    let mut options = vec![
        format!("lowerdir={}", world.rootfs().display()),
        format!("upperdir={}", path("upper").display()),
    ];
    options.push(format!("workdir={}", path("work").display()));
    if !ocibuild_sys::in_initial_user_namespace() {
        options.push("userxattr".to_owned());
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let merged = path("merged");
    world.step.rootfs.mounts = vec![mount(&merged, "overlay", Path::new("overlay"), &options)];
    world.step.rootfs.dir.clone_from(&merged);
    for (name, executor) in executors() {
        let (result, text) =
            world.shell(&format!("echo {name} > /{name}; rm -f /etc/group; ls /{name}")).run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, format!("/{name}\n"));
        assert!(world.dir.path().join("upper").join(&name).exists(), "{name}");
        assert_eq!(fs::read_dir(&merged).unwrap().count(), 0);
    }
    assert!(world.rootfs().join("etc/group").exists());
}

/// A view is what is below a directory, and nothing that a link leads to.
#[test]
fn privileged_views_show_what_they_should_or_nothing() {
    let Some(mut world) = World::privileged() else { return };
    let directory = world.dir.path().to_owned();
    let path = |name: &str| directory.join(name);
    fs::create_dir_all(path("source/sub")).unwrap();
    fs::write(path("source/sub/file"), "content\n").unwrap();
    fs::create_dir(path("canary")).unwrap();
    fs::write(path("canary/file"), "canary\n").unwrap();
    for (link, target) in [("source/out", "canary"), ("source/inner", "source/sub")] {
        symlink(path(target), path(link)).unwrap();
    }
    symlink("../canary", path("source/up")).unwrap();
    fs::create_dir(path("shown")).unwrap();
    fs::write(path("shown-file"), "").unwrap();
    let inode = |name: &str| {
        let found = fs::metadata(path(name)).unwrap();
        Some((found.dev(), found.ino()))
    };
    let view = |below: &str, inode: Option<(u64, u64)>, target: &str| View {
        directory: path("source"),
        path: below.into(),
        inode,
        target: path(target),
        options: vec!["ro".to_owned()],
    };
    world.step.mounts = vec![
        mount(Path::new("/m"), "bind", &path("shown"), &["bind", "ro"]),
        mount(Path::new("/f"), "bind", &path("shown-file"), &["bind", "ro"]),
    ];
    for (name, executor) in executors() {
        for (below, file) in [("sub", "file"), ("", "sub/file")] {
            world.step.outside = vec![
                Outside::View(view(below, inode(&format!("source/{below}")), "shown")),
                Outside::View(view("sub/file", None, "shown-file")),
            ];
            world.shell(&format!("exec 2>&1; cat /m/{file} /f; touch /m/new; echo x > /f"));
            let (result, text) = world.run_with(&*executor);
            let status = result.unwrap_or_else(|error| panic!("{name}: {below}: {}", chain(&error)));
            assert!(!status.success(), "{name}: the file could be written");
            assert!(text.starts_with("content\ncontent\n"), "{name}: {below}: {text}");
            assert_eq!(text.matches("Read-only file system").count(), 2, "{name}: {below}: {text}");
        }
        for (below, inode) in [
            ("out", None),
            ("inner", None),
            ("up", None),
            ("out/file", None),
            ("../canary", None),
            ("/none", None),
            ("sub", inode("canary")),
        ] {
            world.step.outside = vec![Outside::View(view(below, inode, "shown"))];
            let (result, text) = world.run_with(&*executor);
            let error = result.map(|_| panic!("{name}: {below}: {text}")).unwrap_err();
            assert_eq!((error.kind(), text.as_str()), (ErrorKind::Setup, ""), "{name}: {below}");
            let at_source = format!("bind {below} of {} on", path("source").display());
            assert!(chain(&error).contains(&at_source), "{name}: {}", chain(&error));
            assert!(chain(&error).contains("(at the source)"), "{name}: {}", chain(&error));
        }
    }
    assert_eq!(fs::read_dir(path("shown")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(path("source/sub/file")).unwrap(), "content\n");
}

#[test]
fn privileged_links_of_the_image_lead_nowhere() {
    let Some(mut world) = World::privileged() else { return };
    let canary = world.dir.path().join("canary");
    fs::create_dir(&canary).unwrap();
    symlink(&canary, world.rootfs().join("proc")).unwrap();
    let error = world.shell("true").run().0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(chain(&error).contains("mount proc on /proc (at the target)"), "{}", chain(&error));

    fs::remove_file(world.rootfs().join("proc")).unwrap();
    symlink(canary.join("hosts"), world.rootfs().join("etc/hosts")).unwrap();
    symlink(&canary, world.rootfs().join("out")).unwrap();
    world.step.cwd = "/out/dir".into();
    // All of it happens inside: the mount point and the directory are made where the links lead *there*.
    assert!(world.output("pwd; cat /etc/hosts").contains("localhost buildkitsandbox"));
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    assert!(world.rootfs().join(canary.strip_prefix("/").unwrap()).join("dir").is_dir());
}

#[test]
fn privileged_a_directory_of_descriptors_is_no_way_out() {
    let Some(mut world) = World::privileged() else { return };
    let _held = fs::File::open("/").unwrap();
    for fd in 3..12 {
        world.step.cwd = format!("/proc/self/fd/{fd}").into();
        let (result, text) = world.shell("pwd").run();
        let kind = result.map_err(|error| error.kind()).unwrap_err();
        assert!(matches!(kind, ErrorKind::Setup | ErrorKind::Directory), "{fd}: {kind:?} {text}");
    }
    assert_eq!(fs::read_dir(world.rootfs().join("tmp")).unwrap().count(), 0);
}

#[test]
fn privileged_insecure_steps_may_mount() {
    let Some(mut world) = World::privileged() else { return };
    world.step.insecure = true;
    for (name, executor) in executors() {
        let (result, text) = world
            .shell("mount -t tmpfs x /tmp && touch /proc/sys/kernel/hostname && echo ok")
            .run_with(&*executor);
        assert!(result.is_ok(), "{name}: {}", chain(&result.unwrap_err()));
        assert_eq!(text, "ok\n", "{name}");
    }
}

/// The kernel refuses to flush a pipe.
#[test]
fn privileged_nothing_is_flushed_where_nobody_needs_it() {
    let Some(mut world) = World::privileged() else { return };
    for (name, executor) in all_executors() {
        for (flushes, code) in [(true, 1), (false, 0)] {
            world.step.flushes = flushes;
            world.shell("(echo text | dd conv=fsync 2>/dev/null; echo $?) | cat");
            let (status, text) = world.run_with(&*executor);
            assert!(status.unwrap().success(), "{name}: {text}");
            assert_eq!(text, format!("text\n{code}\n"), "{name}, {flushes}");
        }
    }
}

#[test]
fn steps_that_cannot_be_expressed_are_refused() {
    let Some(mut world) = World::new() else { return };
    assert_eq!(world.run().0.unwrap_err().kind(), ErrorKind::InvalidStep);
    world.step.args = vec!["a\0b".to_owned()];
    assert_eq!(world.run().0.unwrap_err().kind(), ErrorKind::InvalidStep);
}

/// Files in memory have mode, owner and content, and nobody else finds them: neither on the host nor in what is printed.
#[test]
fn privileged_files_in_memory_are_the_steps_alone() {
    let Some(mut world) = World::privileged() else { return };
    let path = memory_directory(&world.step.state).join("secret");
    let content = Private::from(b"canary\r\n\0".to_vec());
    world.step.memory_files =
        vec![MemoryFile { path: path.clone(), content, mode: 0o440, uid: 1000, gid: 1001 }];
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    world.step.mounts = vec![mount(Path::new("/s/file"), "bind", &path, &options)];
    world.step.env.push("TOKEN=canary in a variable".to_owned());
    let shown = format!("{:?} {:?}", world.step, bundle(&world.step, &Host::detect()));
    assert!(shown.contains("TOKEN") && !shown.contains("canary"), "{shown}");
    world.shell("stat -c '%a %u:%g %s' /s/file; cat /s/file | tr '\\0' 0; echo $TOKEN");
    for (name, executor) in all_executors() {
        let mut looked = false;
        let directory = world.dir.path().to_owned();
        let mut text = Vec::new();
        let result = executor.run(
            &bundle(&world.step, &Host::detect()),
            &mut |_, piece| {
                text.extend_from_slice(piece);
                looked = true;
                assert_eq!(files_with(&directory, b"canary"), Vec::<PathBuf>::new(), "{name}");
            },
            &world.cancel,
        );
        assert!(result.unwrap().success() && looked, "{name}");
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "440 1000:1001 9\ncanary\r\n0canary in a variable\n", "{name}");
        assert_eq!(files_with(&directory, b"canary"), Vec::<PathBuf>::new(), "{name}");
        let left: Vec<_> = fs::read_dir(memory_directory(&world.step.state)).unwrap().collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

fn files_with(directory: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() && entry.file_name() != "busybox" {
            let bytes = fs::read(entry.path()).unwrap();
            found.extend(bytes.windows(text.len()).any(|window| window == text).then(|| entry.path()));
        }
    }
    found
}

#[test]
fn values_that_cannot_be_passed_on_are_not_repeated() {
    let Some(mut world) = World::privileged() else { return };
    world.shell("true");
    world.step.env.push("TOKEN=canary\0".to_owned());
    let (result, _) = world.run();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidStep);
    assert!(error.to_string().contains("TOKEN") && !format!("{error:?}").contains("canary"), "{error:?}");
}
