use std::path::Path;

use oci_spec::runtime::{Capability, PosixRlimitType};
use ocibuild_sys::{IdMap, IdRange};

use super::*;
use crate::Rlimit;

fn step() -> Step {
    let mut step = Step::new(Rootfs::at("/r"), "/s");
    step.args = vec!["true".to_owned()];
    step
}

fn rootless() -> Host {
    let one = vec![IdRange { inside: 0, outside: 1000, count: 1 }];
    let ids = IdMap { users: one.clone(), groups: one, setgroups: false };
    Host { privileged: false, ids, ..Host::root() }
}

fn list(bundle: &Bundle) -> Vec<String> {
    let mounts = bundle.spec.mounts().as_deref().unwrap();
    let line = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default().join(",");
        let source = mount.source().as_deref().unwrap_or(Path::new("")).display().to_string();
        let typ = mount.typ().as_deref().unwrap_or_default();
        format!("{} {typ} {source} {options}", mount.destination().display())
    };
    mounts.iter().map(line).collect()
}

#[test]
fn what_cannot_be_mounted_anew_is_bound() {
    let hidden = Host { own_proc: false, own_sys: false, own_hostname: false, ..rootless() };
    let mut step = step();
    for network in [Network::Host, Network::None] {
        step.network = network;
        let bundle = bundle(&step, &hidden);
        let mounts = list(&bundle);
        assert_eq!(mounts[0], "/proc bind /proc rbind,nosuid,noexec,nodev");
        assert!(mounts.iter().any(|mount| mount.starts_with("/sys bind /sys rbind")), "{mounts:?}");
        assert_eq!(bundle.spec.hostname(), &None);
    }
    assert!(list(&bundle(&step, &rootless())).iter().any(|mount| mount.starts_with("/sys sysfs")));
}

#[test]
fn a_private_network_is_joined_by_its_path() {
    let mut step = step();
    step.network = Network::Private;
    step.resolv_conf = crate::resolv_conf("nameserver 127.0.0.53\n", step.network);
    let bundle = bundle(&step, &Host::root());
    let namespaces = bundle.spec.linux().as_ref().unwrap().namespaces().as_deref().unwrap();
    let network = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    assert_eq!(network.unwrap().path().as_deref(), Some(Path::new("/s/network/namespace")));
    assert_eq!(bundle.private_network, Some(PrivateNetwork { program: None, forwards: true }));
    let process = bundle.spec.process().as_ref().unwrap();
    let bounding = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
    assert!(!bounding.contains(&Capability::NetRaw) && bounding.contains(&Capability::NetBindService));
}

#[test]
fn mounts_of_root() {
    assert_eq!(
        list(&bundle(&step(), &Host::root())),
        [
            "/proc proc proc nosuid,noexec,nodev",
            "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
            "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
            "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
            "/sys sysfs sysfs nosuid,noexec,nodev,ro",
            "/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev,relatime,ro",
            "/etc/resolv.conf bind /s/resolv.conf bind,ro,nosuid,nodev,noexec",
            "/etc/hosts bind /s/hosts bind,ro,nosuid,nodev,noexec",
        ]
    );
}

#[test]
fn without_privilege_sys_is_the_hosts_and_groups_are_few() {
    let bundle = bundle(&step(), &rootless());
    let mounts = list(&bundle);
    assert!(mounts.contains(&"/sys bind /sys rbind,nosuid,noexec,nodev,ro,rro".to_owned()), "{mounts:?}");
    assert!(!mounts.iter().any(|mount| mount.contains("gid=5") || mount.starts_with("/sys/fs/cgroup")));
    let user = bundle.spec.process().as_ref().unwrap().user();
    assert_eq!(user.additional_gids(), &None);
}

#[test]
fn an_own_network_makes_an_own_sys() {
    let mut step = step();
    step.network = Network::None;
    let bundle = bundle(&step, &rootless());
    assert!(list(&bundle).contains(&"/sys sysfs sysfs nosuid,noexec,nodev,ro".to_owned()));
    let namespaces = bundle.spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap();
    assert!(namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Network));
}

#[test]
fn own_mounts_come_parents_first_and_the_last_wins() {
    let mut step = step();
    let tmpfs = |destination: &str, source: &str| mount(destination, "tmpfs", source, &[]);
    step.mounts = vec![tmpfs("/a/b/c", "1"), tmpfs("/a", "2"), tmpfs("/z", "3"), tmpfs("/a/", "4")];
    let mounts = list(&bundle(&step, &Host::root()));
    assert_eq!(mounts[mounts.len() - 3..], ["/z tmpfs 3 ", "/a/ tmpfs 4 ", "/a/b/c tmpfs 1 "]);
}

#[test]
fn home_is_added_only_when_it_is_missing() {
    let mut step = step();
    step.env = vec!["HOMEX=1".to_owned(), "A=b".to_owned()];
    let env =
        |step: &Step| bundle(step, &Host::root()).spec.process().as_ref().unwrap().env().clone().unwrap();
    assert_eq!(env(&step), ["HOMEX=1", "A=b", "HOME=/root"]);
    step.env.insert(0, "HOME=".to_owned());
    assert_eq!(env(&step), ["HOME=", "HOMEX=1", "A=b"]);
}

#[test]
fn insecure_steps_are_not_held_back() {
    let mut step = step();
    step.insecure = true;
    let bundle = bundle(&step, &Host::root());
    let linux = bundle.spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_none() && linux.masked_paths().is_none() && linux.readonly_paths().is_none());
    assert!(list(&bundle).contains(&"/sys sysfs sysfs nosuid,noexec,nodev,rw".to_owned()));
}

#[test]
fn the_configuration_is_one_that_old_runtimes_read() {
    let mut step = step();
    step.rlimits = vec![Rlimit { resource: PosixRlimitType::RlimitNofile, soft: 1, hard: 2 }];
    let json = serde_json::to_value(bundle(&step, &Host::root()).spec).unwrap();
    assert_eq!(json["ociVersion"], "1.0.2");
    assert_eq!(json["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
    assert_eq!(json["process"]["user"]["umask"], 0o22);
    assert_eq!(json["process"]["oomScoreAdj"], serde_json::Value::Null);
    assert_eq!(json["linux"]["seccomp"]["defaultErrnoRet"], 1);
    assert_eq!(json["root"]["path"], "/r");
}

#[test]
fn a_confined_bundle_has_its_own_devices_and_no_others() {
    let mut step = step();
    step.mounts = vec![mount("/v", "bind", "/host", &["rbind", "dev"])];
    step.outside = vec![Outside::Mount(mount("/s/o", "overlay", "overlay", &["lowerdir=/l"]))];
    let plain = bundle(&step, &Host::root());
    let confined = crate::devices::confined(&plain, crate::devices::Nodes::Bundle).unwrap();
    let mounts = list(&confined);
    let dev = mounts.iter().position(|mount| mount.starts_with("/dev ")).unwrap();
    assert_eq!(
        mounts[dev..dev + 8],
        [
            "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k,nodev",
            "/dev/null bind /s/devices/null bind,nosuid,noexec",
            "/dev/zero bind /s/devices/zero bind,nosuid,noexec",
            "/dev/full bind /s/devices/full bind,nosuid,noexec",
            "/dev/random bind /s/devices/random bind,nosuid,noexec",
            "/dev/urandom bind /s/devices/urandom bind,nosuid,noexec",
            "/dev/tty bind /s/devices/tty bind,nosuid,noexec",
            "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ]
    );
    assert_eq!(mounts.last().unwrap(), "/v bind /host rbind,nodev,rnodev");
    let has_none = |mount: &&String| !mount.contains("nodev");
    assert_eq!(mounts.iter().filter(has_none).count(), 7, "the six nodes, and the terminals: {mounts:?}");
    let root = confined.rootfs.mounts[0].options().clone().unwrap();
    assert_eq!(root, ["rbind", "nodev", "rnodev"]);

    let Outside::Mount(outside) = &confined.outside[0] else { panic!("{:?}", confined.outside) };
    assert_eq!(outside.options().clone().unwrap(), ["lowerdir=/l", "nodev"]);

    let by_runtime = crate::devices::confined(&plain, crate::devices::Nodes::Runtime).unwrap();
    assert_eq!(list(&by_runtime).len(), mounts.len() - 6);
    step.insecure = true;
    let confines = crate::cgroups::Confines::of(&bundle(&step, &Host::root()), &Host::root()).unwrap();
    assert!(matches!(confines.barrier, crate::devices::Barrier::None), "{confines:?}");
}
