//! What a step finds around itself, and what it leaves behind (section 8), for every executor.

use std::net::IpAddr;

use ocibuild::executor::{Exceeded, PosixRlimitType, Resources, Rlimit};
use ocibuild::failure::StepFact;
use ocibuild::{ErrorKind, Failure, SshAgent};

use crate::steps::{last_layer, worlds};
use crate::support::{World, layer_listing};

/// A script and what it prints.
const TABLE: [(&str, &str); 24] = [
    // 8.02
    (
        "env | sort",
        "HOME=/root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSHLVL=1\n",
    ),
    // 8.04
    ("cat /proc/sys/kernel/hostname", "buildkitsandbox\n"),
    // 8.05
    (
        "stat -c '%a %F' /etc/hosts; sed -n 1,2p /etc/hosts",
        "644 regular file\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    ),
    ("rm -f /etc/hosts 2>/dev/null || echo busy", "busy\n"),
    ("mv /etc/resolv.conf /x 2>/dev/null || echo busy", "busy\n"),
    ("{ echo x > /etc/hosts; } 2>/dev/null || echo read-only", "read-only\n"),
    // 8.06
    ("cat /etc/resolv.conf", "nameserver 127.0.0.53\nsearch test\n"),
    // 8.07
    (
        "ls /dev | sed '/^core$/d'",
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
    ),
    (
        "stat -c '%a %F' /dev /dev/shm /dev/null",
        "755 directory\n1777 directory\n666 character special file\n",
    ),
    ("stat -f -c '%b %S' /dev /dev/shm | awk '{ print $1 * $2 }'", "67108864\n67108864\n"),
    (
        "awk '$2 == \"/sys\" || $2 ~ \"^/sys/fs/cgroup\" { split($4, o, \",\"); print o[1] }' /proc/mounts | sed 's/ro/read-only/' | awk '!seen[$0]++'",
        "read-only\n",
    ),
    ("ls -d /run /tmp 2>/dev/null; awk '$2 == \"/tmp\"' /proc/mounts", "/tmp\n"),
    // 8.08
    (
        "sed -n 's/^Cap\\(Inh\\|Prm\\|Eff\\|Bnd\\|Amb\\):.//p' /proc/self/status",
        "0000000000000000\n00000000a80425fb\n00000000a80425fb\n00000000a80425fb\n0000000000000000\n",
    ),
    ("sed -n 's/^\\(NoNewPrivs\\|Seccomp\\):.//p' /proc/self/status", "0\n2\n"),
    ("wc -c < /proc/keys; ls /sys/firmware | wc -l", "0\n0\n"),
    (
        "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do { echo x > $f; } 2>/dev/null || echo no; done",
        "no\nno\n",
    ),
    // 8.10
    ("umask; cat; echo $$; wc -c < /dev/stdin", "0022\n1\n0\n"),
    ("test -t 0 || test -t 1 || echo no terminal", "no terminal\n"),
    ("ls /proc/self/fd | wc -l", "4\n"),
    ("sleep 1000 & echo over", "over\n"),
    // 5.90, 5.91
    ("id", "uid=0(root) gid=0(root) groups=0(root)\n"),
    ("sed -n 's/^Groups:.//p' /proc/self/status", "0 \n"),
    // 8.11
    ("touch /new && echo writable; rm /new", "writable\n"),
    ("cat /proc/1/cmdline | wc -c | awk '{ print ($1 > 0) }'", "1\n"),
];

#[test]
fn steps_find_what_they_should() {
    for (name, world) in worlds() {
        for (script, expected) in TABLE {
            let build = world.prepare(&format!("FROM base\nRUN {script}\n"));
            let (image, seen) = world.build(build.resolv_conf("nameserver 127.0.0.53\nsearch test\n"));
            assert_eq!(seen.output, expected, "{name}: {script}");
            assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}: {script}");
            let (_, descriptor) = image.layers().last().unwrap();
            let listing = layer_listing(&world.blobs().join(descriptor.digest.hex()));
            let expected = ["dev/ Directory 755 0:0", "proc/ Directory 755 0:0", "sys/ Directory 755 0:0"];
            assert!(listing.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{listing:?}");
        }
        world.check_left_nothing();
    }
}

#[test]
fn directories_and_homes_are_of_the_user() {
    for (name, world) in worlds() {
        let (image, seen) = world.build(world.prepare(
            "FROM base\nUSER user\nRUN echo $HOME; id -u; sed -n 's/^CapEff:.//p' /proc/self/status\n\
             USER 4321:7\nRUN echo $HOME; id -G\nUSER 1000\nRUN id -g\nUSER 77\nRUN id -g\n\
             ENV HOME=/set\nRUN echo $HOME\nUSER root\nRUN mkdir /q && touch -d @1000 /q\n\
             USER user\nWORKDIR /made/by\nUSER 5:6\nRUN true\n",
        ));
        let expected = "/home/user\n1000\n0000000000000000\n/\n7\n1000\n0\n/set\n";
        assert_eq!(seen.output, expected, "{name}");
        assert_eq!(last_layer(&world, &image), Vec::<String>::new(), "{name}");
        for (user, message) in [
            ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
            ("user:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ] {
            let (error, _) = world.fail(world.prepare(&format!("FROM base\nUSER {user}\nRUN true\n")));
            assert_eq!(error.to_string(), format!("{message} (line 3)"), "{name}");
        }
    }
}

#[test]
fn limits_hosts_and_names_are_as_asked_for() {
    for (name, world) in worlds() {
        let build = world.prepare(
            "FROM base\nRUN awk '/open files/ { print $4, $5 }' /proc/self/limits; sed -n '3,$p' /etc/hosts; \
             cat /proc/sys/kernel/hostname; stat -f -c '%b %S' /dev/shm | awk '{ print $1 * $2 }'\n",
        );
        let build = build.rlimit(Rlimit { resource: PosixRlimitType::RlimitNofile, soft: 100, hard: 200 });
        let build = build.add_host("other", IpAddr::from([10, 1, 2, 3])).shm_size(1 << 20);
        let (_, seen) = world.build(build.build_arg("BUILDKIT_SANDBOX_HOSTNAME", "named"));
        assert_eq!(seen.output, "100 200\n10.1.2.3\tother\nnamed\n1048576\n", "{name}");
    }
}

/// 9.02, 9.03: what changes the key of a step and what does not.
#[test]
fn keys_have_what_steps_can_see() {
    let Some(world) = World::with_shell() else { return };
    let build = || world.prepare("FROM base\nRUN --mount=type=secret,id=s --mount=type=ssh echo ran\n");
    let host = |address: [u8; 4]| build().add_host("h", IpAddr::from(address));
    let limit = |soft| Rlimit { resource: PosixRlimitType::RlimitNofile, soft, hard: 200 };
    let ran = |build| world.build(build).1.output.contains("ran");
    assert!(ran(build()));
    let same = [
        build().build_arg("http_proxy", "http://user:password@proxy.test"),
        build().build_arg("BUILDKIT_CACHE_MOUNT_NS", "other"),
        build().secret("s", ocibuild::Secret::Value(b"value".to_vec())),
        build().ssh("unused", SshAgent::Socket(world.path("nowhere"))),
    ];
    for build in same {
        let shown = format!("{build:?}");
        assert!(!ran(build), "{shown}");
    }
    assert!(ran(host([10, 0, 0, 1])), "a host's name counts");
    assert!(!ran(host([10, 0, 0, 2])), "its address does not");
    assert!(ran(build().rlimit(limit(100))));
    assert!(ran(build().rlimit(limit(101))));
    assert!(ran(build().shm_size(1 << 20)));
    assert!(ran(build().build_arg("BUILDKIT_SANDBOX_HOSTNAME", "x")));
    assert!(ran(build().network(ocibuild::plan::StepNetwork::None)));
}

#[test]
fn proxies_are_in_the_environment_only() {
    let Some(world) = World::with_shell() else { return };
    let build = world.prepare("FROM base\nENV http_proxy=image\nRUN [\"/bin/busybox\", \"env\"]\n");
    let build = build.build_arg("HTTP_PROXY", "upper").build_arg("http_proxy", "lower");
    let (image, seen) = world.build(build.build_arg("No_Proxy", "mixed"));
    let expected = "HTTP_PROXY=lower\nhttp_proxy=lower\nNO_PROXY=mixed\nno_proxy=mixed\nHOME=/root\n";
    assert!(seen.output.ends_with(expected) && seen.output.starts_with("PATH="), "8.02: {}", seen.output);
    let config = format!("{:?}", image.config);
    assert!(!config.contains("lower") && !config.contains("mixed"), "{config}");
}

#[test]
fn networks_are_as_asked_for() {
    for (name, world) in worlds() {
        let script = "sed -n '3,$p' /proc/net/dev | awk -F: '{ print $1 }' | awk '{ print $1 }' | sort";
        let (_, seen) = world.build(
            world.prepare(&format!("FROM base\nRUN --network=none {script}\n").replace("sort", "cat")),
        );
        assert_eq!(seen.output, "lo\n", "{name}");
        let (error, _) = world.fail(world.prepare("FROM base\nRUN --network=host true\n"));
        assert_eq!(error.to_string(), "network.host is not allowed (line 2)", "{name}");
        world.build(world.prepare("FROM base\nRUN --network=host true\n").allow(true, false));
        let (error, _) = world.fail(world.prepare("FROM base\nRUN --security=insecure true\n"));
        assert_eq!(error.to_string(), "security.insecure is not allowed (line 2)", "{name}");
        let build = world.prepare(
            "FROM base\nRUN --security=insecure sed -n 's/^Seccomp:.//p' /proc/self/status; \
             sed -n 's/^CapEff:.//p' /proc/self/status | awk '{ print length($1), $1 != \"00000000a80425fb\" }'\n",
        );
        let (_, seen) = world.build(build.allow(false, true));
        assert_eq!(seen.output, "0\n16 1\n", "{name}");
    }
    let Some(world) = World::with_shell() else { return };
    let (error, _) =
        world.fail(world.prepare("FROM base\nLABEL a=b\nRUN --device=vendor.com/class=name true\n"));
    assert_eq!(error.kind(), ErrorKind::Dockerfile);
    assert!(error.to_string().contains("RUN --device=vendor.com/class=name is not supported"), "{error}");
    assert_eq!(error.reports()[0].location.map(|location| location.start_line), Some(3));
}

/// Whether limits were refused for want of cgroups that can be written to, as of a container; it is said which.
fn refused(name: &str, error: &ocibuild::Error) -> bool {
    let refused = error.is(ocibuild::Code::NoLimits);
    if refused {
        assert_eq!(error.kind(), ErrorKind::Host, "{name}: {error}");
        ocibuild_testkit::skip(&format!("{name}: {error}"));
    }
    refused
}

#[test]
fn cgroup_limits_are_carried_out_or_refused() {
    for (name, world) in worlds() {
        let build = world.prepare("FROM base\nRUN echo ready; sleep 1\n");
        let wanted = Resources { memory: Some(64 << 20), ..Resources::default() };
        let build = build.resources(Resources { cgroup_parent: Some("/ocibuild-test".to_owned()), ..wanted });
        let mut limits = Vec::new();
        let (result, _) = world.try_build_watched(build, &ocibuild::CancelToken::new(), |event| {
            if matches!(event, ocibuild::Event::Output { bytes, .. } if bytes.ends_with(b"ready\n")) {
                limits = memory_limits();
            }
        });
        match result {
            Ok(_) => assert_eq!(limits, ["67108864"], "{name}"),
            Err(error) => assert!(refused(name, &error), "{name}: {error}"),
        }
    }
    for place in [
        "memory", "cpu", "cpuset", "pids", "devices", "freezer", "blkio", "cpuacct", "systemd", "unified",
        ".",
    ] {
        // Where it was made; what others have in it keeps it.
        let _ = fs_err::remove_dir(format!("/sys/fs/cgroup/{place}/ocibuild-test"));
    }
}

#[test]
fn a_step_that_meets_its_limits_is_told_which() {
    let none = Resources::default;
    let much = "head -c 300000000 /dev/zero | tail | wc -c";
    let many = "i=0; while [ $i -lt 50 ]; do sleep 9 & i=$((i+1)); done";
    for (wanted, command, exceeded) in [
        (
            Resources { memory: Some(32 << 20), memory_swap: Some(32 << 20), ..none() },
            format!("{much}; exit 3"),
            Exceeded::Memory { bytes: 32 << 20 },
        ),
        (Resources { processes: Some(20), ..none() }, many.to_owned(), Exceeded::Processes { limit: 20 }),
    ] {
        for (name, world) in worlds() {
            let build = world.prepare(&format!("FROM base\nRUN {command}\n")).resources(wanted.clone());
            let (error, _) = world.fail(build);
            if refused(name, &error) {
                continue;
            }
            let Some(Failure::Step(failure)) = error.failure() else { panic!("{name}: {error}") };
            // runc puts the step into a cgroup of its own in that with the limits, where no kernel before 6.10 counts it.
            if name == "runc" && matches!(exceeded, Exceeded::Processes { .. }) {
                continue;
            }
            let is_met = |fact: &StepFact| matches!(fact, StepFact::Exceeded(met) if *met == exceeded);
            assert!(failure.facts.iter().any(is_met), "{name}: {:?}", failure.facts);
        }
    }
}

#[test]
fn limits_that_the_host_does_not_have_are_refused_before_anything_is_fetched() {
    for (name, world) in worlds() {
        let wanted = Resources { cpuset_cpus: Some("4000".to_owned()), ..Resources::default() };
        let build = world.prepare("FROM base\nRUN true\n").resources(wanted);
        let (error, seen) = world.fail(build);
        assert!(error.is(ocibuild::Code::NoLimits), "{name}: {error}");
        assert_eq!(seen.output, "", "{name}");
    }
}

fn memory_limits() -> Vec<String> {
    let mut found = Vec::new();
    for parent in ["/sys/fs/cgroup/memory/ocibuild-test", "/sys/fs/cgroup/ocibuild-test"] {
        for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
            for file in ["memory.limit_in_bytes", "memory.max"] {
                found.extend(
                    fs_err::read_to_string(entry.path().join(file)).map(|text| text.trim().to_owned()),
                );
            }
        }
    }
    found
}
