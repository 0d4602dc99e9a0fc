use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    BoxBuilder, Linux, LinuxBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder, LinuxMemoryBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit, PosixRlimitBuilder, Process, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use ocibuild_spec::Owned;
use ocibuild_sys::capability;

use crate::permissions::{MASKED_PATHS, READONLY_PATHS, calls, capabilities, seccomp};
use crate::private_network::{WAYS_OUT, namespace_path};
use crate::step::names;
use crate::{Cgroups, Host, MemoryFile, Network, Outside, PrivateNetwork, Resources, Rootfs, Step, User};

/// One RUN as an OCI runtime bundle, which either executor carries out in the same way: plain data. What is printed of
/// it has the names of variables, not their values.
#[derive(Clone, PartialEq)]
pub struct Bundle {
    /// The runtime's `config.json`.
    pub spec: Spec,
    /// What `/` is, and what is mounted there before.
    pub rootfs: Rootfs,
    /// What is mounted on paths of this host then, for the mounts of the specification to refer to.
    pub outside: Vec<Outside>,
    /// Files that the mounts of the specification refer to, written before they are made.
    pub files: Vec<StateFile>,
    /// Files that they refer to and that are in memory only.
    pub memory_files: Vec<MemoryFile>,
    /// The private directory of the step.
    pub state: PathBuf,
    /// See [`Step::movable`].
    pub movable: Option<PathBuf>,
    /// Owners and devices that the root file system should have and its disk cannot, by path below the root.
    pub unkept: Vec<(PathBuf, Owned)>,
    /// The same of what is mounted in it.
    pub unkept_mounted: Vec<(PathBuf, Owned)>,
    /// How the network namespace is connected whose path the specification has, if it has one.
    pub private_network: Option<PrivateNetwork>,
}

/// A file in the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// Newer ones are refused by crun before 1.9.
const OCI_VERSION: &str = "1.0.2";

/// What is mounted below is read-only too, which `ro` alone does not say to runtimes.
const RECURSIVELY: &str = "rro";

/// Describes how `step` is carried out on `host`.
pub fn bundle(step: &Step, host: &Host) -> Bundle {
    let hosts = StateFile { path: step.state.join("hosts"), content: step.hosts.clone() };
    let resolv_conf = StateFile { path: step.state.join("resolv.conf"), content: step.resolv_conf.clone() };
    let mut mounts = system_mounts(step, host);
    mounts.push(file_mount("/etc/resolv.conf", &resolv_conf.path));
    mounts.push(file_mount("/etc/hosts", &hosts.path));
    mounts.extend(ordered(&step.mounts));
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(
            RootBuilder::default()
                .path(&*step.rootfs.dir)
                .readonly(false)
                .build()
                .expect("all fields are set"),
        )
        .mounts(mounts)
        .process(process(step, host))
        .linux(linux(step))
        .build()
        .expect("all required fields are set");
    spec.set_hostname(host.own_hostname.then(|| step.hostname.clone()));
    Bundle {
        spec,
        rootfs: step.rootfs.clone(),
        outside: step.outside.clone(),
        files: vec![hosts, resolv_conf],
        memory_files: step.memory_files.clone(),
        state: step.state.clone(),
        movable: step.movable.clone(),
        unkept: step.unkept.clone(),
        unkept_mounted: step.unkept_mounted.clone(),
        private_network: PrivateNetwork::of(step),
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.spec.process().as_ref();
        let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        f.debug_struct("Bundle")
            .field("args", &process.and_then(|process| process.args().as_ref()))
            .field("env", &names(env))
            .field("mounts", self.spec.mounts())
            .field("rootfs", &self.rootfs)
            .field("outside", &self.outside)
            .field("memory_files", &self.memory_files)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn process(step: &Step, host: &Host) -> Process {
    let mut builder = ProcessBuilder::default().terminal(step.terminal.is_some());
    if let Some(size) = step.terminal {
        let size = BoxBuilder::default().height(u64::from(size.rows)).width(u64::from(size.columns)).build();
        builder = builder.console_size(size.expect("both fields are set"));
    }
    let mut available = host.capabilities & !step.dropped_capabilities.bits();
    if step.network == Network::Private && !step.insecure {
        let ways_out = WAYS_OUT.iter().filter_map(|name| capability(name));
        available = ways_out.fold(available, |available, number| available & !(1 << number));
    }
    builder
        .args(step.args.clone())
        .env(environment(step))
        .cwd(&*step.cwd)
        .capabilities(capabilities(step.insecure, step.user.uid, available))
        .rlimits(step.rlimits.iter().map(rlimit).collect::<Vec<_>>())
        .no_new_privileges(false)
        .user(user(&step.user, host))
        .build()
        .expect("all fields have values")
}

fn environment(step: &Step) -> Vec<String> {
    let mut env = step.env.clone();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", step.home));
    }
    env
}

fn user(user: &User, host: &Host) -> oci_spec::runtime::User {
    let mut builder = UserBuilder::default().uid(user.uid).gid(user.gid).umask(0o22_u32);
    // Where the kernel denies setting groups, there is only the one that the step has anyway; with one id it can take itself for
    // somebody who has more.
    if host.ids.setgroups || host.ids.is_single() && !user.additional_gids.is_empty() {
        builder = builder.additional_gids(user.additional_gids.clone());
    }
    builder.build().expect("all required fields are set")
}

fn rlimit(limit: &crate::Rlimit) -> PosixRlimit {
    PosixRlimitBuilder::default()
        .typ(limit.resource)
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .expect("all fields are set")
}

fn linux(step: &Step) -> Linux {
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(step))
        .masked_paths(MASKED_PATHS.map(str::to_owned))
        .readonly_paths(READONLY_PATHS.map(str::to_owned))
        .seccomp(seccomp(&calls(step.flushes)))
        .build()
        .expect("all fields have values");
    linux.set_resources(limits(&step.resources).map(without_devices));
    if let Some(parent) = &step.resources.cgroup_parent {
        linux.set_cgroups_path(Some(cgroup(parent, &step.state)));
    }
    if step.insecure {
        let everything = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build();
        let devices = vec![everything.expect("all fields have values")];
        let mut resources = linux.resources().clone().unwrap_or_default();
        resources.set_devices(Some(devices));
        linux.set_resources(Some(resources));
        linux.set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
    }
    linux
}

/// A cgroup of the step alone below `parent`: the step's private directory has a name that no other has.
fn cgroup(parent: &str, state: &Path) -> PathBuf {
    let text = state.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let end = &text[text.len().saturating_sub(128)..];
    cgroup_parent(parent).join(format!("ocibuild-{}", end.trim_matches('-')))
}

/// One of the whole tree.
pub(crate) fn cgroup_parent(parent: &str) -> PathBuf {
    Path::new("/").join(parent.trim_start_matches('/'))
}

pub(crate) fn limits(wanted: &Resources) -> Option<LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default().build().expect("all fields have values");
    resources.set_devices(None);
    if wanted.memory.is_some() || wanted.memory_swap.is_some() {
        let mut memory = LinuxMemoryBuilder::default();
        if let Some(bytes) = wanted.memory {
            memory = memory.limit(bytes);
        }
        if let Some(bytes) = wanted.memory_swap {
            memory = memory.swap(bytes);
        }
        resources.set_memory(Some(memory.build().expect("all fields have values")));
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(shares) = wanted.cpu_shares {
        cpu = cpu.shares(shares);
    }
    if let Some(period) = wanted.cpu_period {
        cpu = cpu.period(period);
    }
    if let Some(quota) = wanted.cpu_quota {
        cpu = cpu.quota(quota);
    }
    if let Some(cpus) = &wanted.cpuset_cpus {
        cpu = cpu.cpus(cpus.as_str());
    }
    if let Some(nodes) = &wanted.cpuset_mems {
        cpu = cpu.mems(nodes.as_str());
    }
    if let Some(limit) = wanted.processes {
        let pids = LinuxPidsBuilder::default().limit(limit).build();
        resources.set_pids(Some(pids.expect("the limit is set")));
    }
    let limits_cpu =
        Resources { memory: None, memory_swap: None, processes: None, cgroup_parent: None, ..wanted.clone() };
    if !limits_cpu.is_empty() {
        resources.set_cpu(Some(cpu.build().expect("all fields have values")));
    }
    let any = resources.cpu().is_some() || resources.memory().is_some() || resources.pids().is_some();
    any.then_some(resources)
}

/// A runtime that makes a cgroup for limits begins from no devices, and adds those of every container.
fn without_devices(mut resources: LinuxResources) -> LinuxResources {
    let none = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build();
    resources.set_devices(Some(vec![none.expect("all fields have values")]));
    resources
}

fn namespaces(step: &Step) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Type;
    let mut types = vec![Type::Pid, Type::Ipc, Type::Uts, Type::Mount, Type::Cgroup];
    if step.network != Network::Host {
        types.push(Type::Network);
    }
    let namespace = |typ| {
        let mut namespace = LinuxNamespaceBuilder::default().typ(typ).build().expect("the type is set");
        if typ == Type::Network && step.network == Network::Private {
            // It is made before the step, and connected.
            namespace.set_path(Some(namespace_path(&step.state)));
        }
        namespace
    };
    types.into_iter().map(namespace).collect()
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    path_mount(Path::new(destination), typ, Path::new(source), options)
}

pub(crate) fn path_mount(destination: &Path, typ: &str, source: &Path, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(typ)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .expect("all required fields are set")
}

fn file_mount(destination: &str, source: &Path) -> Mount {
    path_mount(Path::new(destination), "bind", source, &["bind", "ro", "nosuid", "nodev", "noexec"])
}

/// What every step has, whatever its image: parents first.
fn system_mounts(step: &Step, host: &Host) -> Vec<Mount> {
    let shm_size = format!("size={}", step.shm_size);
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if host.ids.has_group(5) {
        // `tty`, by convention of everyone.
        pts.push("gid=5");
    }
    let mut mounts = vec![
        proc_mount(host),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let access = if step.insecure { "rw" } else { "ro" };
    if host.privileged || (step.network != Network::Host && host.own_sys) {
        mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]));
        mounts.extend(cgroup_mount(host.cgroups, access));
    } else {
        // The kernel mounts sysfs only for who owns the network namespace, and can see all of another. This brings the cgroups
        // with it.
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro", RECURSIVELY];
        mounts.push(mount("/sys", "bind", "/sys", &options));
    }
    mounts
}

/// A bound one shows the processes of the container that the build runs in.
fn proc_mount(host: &Host) -> Mount {
    if host.own_proc {
        return mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]);
    }
    mount("/proc", "bind", "/proc", &["rbind", "nosuid", "noexec", "nodev"])
}

/// With cgroup v2 the step sees its own cgroup as the root. The many hierarchies of v1 are shown as they are, and
/// cannot be written to; crun mounts none of them anew when there is v2 beside them.
fn cgroup_mount(cgroups: Cgroups, access: &str) -> Option<Mount> {
    let target = "/sys/fs/cgroup";
    match cgroups {
        Cgroups::Unified => {
            Some(mount(target, "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]))
        }
        Cgroups::Many => {
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro", RECURSIVELY];
            Some(mount(target, "bind", target, &options))
        }
        Cgroups::Absent => None,
    }
}

/// Parents first, in the order given otherwise; the last of those with one destination.
fn ordered(mounts: &[Mount]) -> Vec<Mount> {
    let last = |(index, mount): &(usize, &Mount)| {
        !mounts[index + 1..].iter().any(|later| same_place(later.destination(), mount.destination()))
    };
    let mut ordered: Vec<Mount> =
        mounts.iter().enumerate().filter(last).map(|(_, mount)| mount.clone()).collect();
    ordered.sort_by_key(|mount| mount.destination().components().count());
    ordered
}

/// `Path` compares by components: `/a/` and `/a` are equal.
fn same_place(a: &Path, b: &Path) -> bool {
    a == b
}

#[cfg(test)]
#[path = "bundle/tests.rs"]
mod tests;
