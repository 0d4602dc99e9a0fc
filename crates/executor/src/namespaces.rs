//! A bundle as what a sandbox of the kernel's namespaces is made of.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, PosixRlimitType, Process as SpecProcess, Spec};
use ocibuild_spec::CancelToken;
use ocibuild_sys::{Confinement, Links, MountOptions, Namespaces, Operation, Process, Sandbox, WindowSize};

use crate::cgroups::Confines;
use crate::devices::{self, DEVICE_LINKS, Nodes};
use crate::error::Repr;
use crate::mount::{is_bind, kind, options, parsed, path, text};
use crate::permissions::{capability_bits, profile};
use crate::private_network::Connected;
use crate::step::names;
use crate::{Bundle, Error, Host, MemoryFile, Outside, View, memory_directory};

/// A bundle as operations of the kernel, and what confines it and connects its network, to be held until it has ended.
pub(crate) struct Described {
    pub(crate) sandbox: Sandbox,
    pub(crate) confines: Confines,
    pub(crate) network: Option<Connected>,
}

impl Described {
    /// Writes the files of the bundle, too.
    pub(crate) fn of(bundle: &Bundle, host: &Host, cancel: &CancelToken) -> Result<Self, Error> {
        let confines = Confines::of(bundle, host)?;
        let bundle = confines.barrier.bundle(bundle, Nodes::Bundle)?;
        let mut sandbox = sandbox(&bundle, host)?;
        let joined = confines.operations()?;
        // The root of the cgroups that the step sees is its own, not that of whoever starts it.
        let own_cgroups = sandbox.namespaces.is_some_and(|namespaces| namespaces.cgroup);
        let own_root = (own_cgroups && !joined.is_empty()).then_some(Operation::CgroupNamespace);
        sandbox.operations.splice(0..0, joined.into_iter().chain(own_root));
        bundle.write_files()?;
        let network = Connected::of(&bundle, cancel)?;
        sandbox.operations.splice(0..0, network.as_ref().map(Connected::join));
        Ok(Self { sandbox, confines, network })
    }
}

/// The program that the step executes.
pub(crate) fn program_of(spec: &Spec) -> Result<String, Error> {
    let process = process_of(spec)?;
    Ok(process.args().as_deref().unwrap_or_default().first().cloned().unwrap_or_default())
}

/// Translates a bundle into operations of the kernel.
pub(crate) fn sandbox(bundle: &Bundle, host: &Host) -> Result<Sandbox, Error> {
    let spec = &bundle.spec;
    let process = process_of(spec)?;
    check_identity(process, host)?;
    let mut operations = rootfs_operations(bundle, &bundle.memory_files, host)?;
    for mount in spec.mounts().as_deref().unwrap_or_default() {
        operations.push(mount_operation(mount)?);
        if devices::is_dev(mount) {
            operations.extend(dev_operations(mount)?);
        }
    }
    let linux = spec.linux().as_ref();
    let paths = |list: Option<&Option<Vec<String>>>| list.cloned().flatten().unwrap_or_default();
    for path in paths(linux.map(Linux::readonly_paths)) {
        operations.push(Operation::ReadOnly(text(&path)?));
    }
    for path in paths(linux.map(Linux::masked_paths)) {
        operations.push(Operation::Mask { path: text(&path)?, null: devices::null(&bundle.state)? });
    }
    let namespaces = namespaces(spec);
    if let (true, Some(name)) = (namespaces.uts, spec.hostname()) {
        operations.push(Operation::Hostname(text(name)?));
    }
    if namespaces.network {
        operations.push(Operation::LoopbackUp);
    }
    operations.push(directory_operation(process)?);
    operations.push(Operation::Pivot);
    let namespaces = Some(namespaces);
    Ok(Sandbox { namespaces, operations, process: command(spec, process, host)?, keeper: true })
}

pub(crate) fn process_of(spec: &Spec) -> Result<&SpecProcess, Error> {
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid("the process", "is missing"))?;
    if process.args().as_deref().unwrap_or_default().is_empty() {
        return Err(Error::invalid("the command", "is empty"));
    }
    Ok(process)
}

/// What is mounted before there is a root to be inside of, and the root.
pub(crate) fn rootfs_operations(
    bundle: &Bundle,
    files: &[MemoryFile],
    host: &Host,
) -> Result<Vec<Operation>, Error> {
    let mut operations = vec![Operation::MakePrivate];
    operations.extend(devices::operations(&bundle.state)?);
    operations.extend(memory_operations(&bundle.state, files, host)?);
    for mount in &bundle.rootfs.mounts {
        operations.push(host_mount(mount)?);
    }
    let dir = path(&bundle.rootfs.dir)?;
    if !bundle.rootfs.mounts.iter().any(|mount| mount.destination() == &bundle.rootfs.dir) {
        // A root must be a mount.
        let options = MountOptions::parse(["rbind"]).unwrap_or_default();
        operations.push(Operation::HostBind { source: dir.clone(), target: dir.clone(), options });
    }
    for outside in &bundle.outside {
        operations.push(match outside {
            Outside::Mount(mount) => host_mount(mount)?,
            Outside::View(view) => host_view(view)?,
        });
    }
    operations.push(Operation::EnterRoot(dir));
    Ok(operations)
}

/// A file system in memory that only this step sees, with what must not be on a disk.
fn memory_operations(state: &Path, files: &[MemoryFile], host: &Host) -> Result<Vec<Operation>, Error> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut options = vec!["nosuid", "nodev", "mode=0700"];
    if !files.iter().any(MemoryFile::is_executable) {
        options.push("noexec");
    }
    if host.tmpfs_without_swap {
        options.push("noswap");
    }
    let options = MountOptions::parse(options).ok_or_else(|| Error::invalid("a mount", "contains NUL"))?;
    let mut operations = vec![Operation::HostMount {
        source: c"tmpfs".to_owned(),
        target: path(&memory_directory(state))?,
        fstype: c"tmpfs".to_owned(),
        options,
        from: None,
    }];
    for file in files {
        if !host.ids.has_user(file.uid) || !host.ids.has_group(file.gid) {
            let what = format!("{}:{}, the owner of a secret,", file.uid, file.gid);
            return Err(Repr::Unmapped { what }.into());
        }
        operations.push(Operation::HostFile {
            path: path(&file.path)?,
            content: file.content.clone(),
            mode: file.mode,
            owner: (file.uid, file.gid),
        });
    }
    Ok(operations)
}

/// Makes what is missing of the working directory.
pub(crate) fn directory_operation(process: &SpecProcess) -> Result<Operation, Error> {
    let owner = (process.user().uid(), process.user().gid());
    Ok(Operation::Directory { path: path(process.cwd())?, mode: 0o755, owner })
}

fn host_mount(mount: &Mount) -> Result<Operation, Error> {
    let options = options(mount)?;
    let target = path(mount.destination())?;
    let source = mount.source().clone().unwrap_or_default();
    if is_bind(mount, &options) {
        return Ok(Operation::HostBind { source: path(&source)?, target, options });
    }
    let fstype = text(kind(mount))?;
    let (options, from) = shortened(options)?;
    Ok(Operation::HostMount { source: path(&source)?, target, fstype, options, from })
}

fn host_view(view: &View) -> Result<Operation, Error> {
    let itself = view.path.as_os_str().is_empty();
    Ok(Operation::HostView {
        directory: path(&view.directory)?,
        path: path(if itself { Path::new(".") } else { &view.path })?,
        inode: view.inode,
        target: path(&view.target)?,
        options: parsed(&view.options)?,
    })
}

/// The kernel takes a page of data. Lists of layers longer than that are given relative to the directory that
/// all of them are in.
fn shortened(mut options: MountOptions) -> Result<(MountOptions, Option<CString>), Error> {
    const PAGE: usize = 4096;
    if options.data.as_bytes().len() < PAGE {
        return Ok((options, None));
    }
    let data = options.data.to_string_lossy().into_owned();
    let layers = data.split(',').filter_map(|option| option.strip_prefix("lowerdir="));
    let paths: Vec<&str> = layers.flat_map(|list| list.split(':')).collect();
    let Some(parent) = common_parent(&paths) else { return Ok((options, None)) };
    let prefix = format!("{parent}/");
    let shorter = data.replace(&format!("={prefix}"), "=").replace(&format!(":{prefix}"), ":");
    options.data = text(&shorter)?;
    Ok((options, Some(text(&parent)?)))
}

fn common_parent(paths: &[&str]) -> Option<String> {
    let mut common = Path::new(paths.first()?).parent()?;
    while !paths.iter().all(|path| Path::new(path).starts_with(common)) {
        common = common.parent()?;
    }
    let common = common.to_str()?;
    (common.len() > 1).then(|| common.to_owned())
}

fn mount_operation(mount: &Mount) -> Result<Operation, Error> {
    let target = path(mount.destination())?;
    let links = links(mount.destination());
    let options = options(mount)?;
    let source = mount.source().clone().unwrap_or_default();
    if is_bind(mount, &options) {
        return Ok(Operation::Bind { source: path(&source)?, target, options, links });
    }
    // The specification has one word for all cgroups; bundles use it for those of v2.
    let fstype = if kind(mount) == "cgroup" { "cgroup2" } else { kind(mount) };
    Ok(Operation::Mount { source: path(&source)?, target, fstype: text(fstype)?, options, links })
}

/// What is in `/dev` from the start, but for the devices that further mounts bring.
fn dev_operations(mount: &Mount) -> Result<Vec<Operation>, Error> {
    let has_devices = !options(mount)?.has_no_devices();
    let mut operations = if has_devices { devices::in_place()? } else { Vec::new() };
    for (target, path) in DEVICE_LINKS {
        operations.push(Operation::Symlink { target: text(target)?, path: text(path)? });
    }
    Ok(operations)
}

/// An image whose `/proc` is a link to somewhere else gets no step at all; a link at `/etc/resolv.conf` is
/// usual, and followed inside the root.
fn links(destination: &Path) -> Links {
    let system = ["/proc", "/sys", "/dev"].iter().any(|dir| destination.starts_with(dir));
    if system { Links::Refuse } else { Links::Follow }
}

fn namespaces(spec: &Spec) -> Namespaces {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    // One with a path is joined.
    let has = |typ| list.iter().any(|namespace| namespace.typ() == typ && namespace.path().is_none());
    Namespaces {
        ipc: has(LinuxNamespaceType::Ipc),
        uts: has(LinuxNamespaceType::Uts),
        network: has(LinuxNamespaceType::Network),
        cgroup: has(LinuxNamespaceType::Cgroup),
    }
}

pub(crate) fn command(spec: &Spec, process: &SpecProcess, host: &Host) -> Result<Process, Error> {
    let texts = |list: &Option<Vec<String>>| -> Result<Vec<CString>, Error> {
        list.as_deref().unwrap_or_default().iter().map(|item| text(item)).collect()
    };
    let env = process.env().as_deref().unwrap_or_default();
    if let Some(variable) = env.iter().find(|variable| variable.contains('\0')) {
        // The value may be a secret.
        return Err(Error::invalid(
            format!("the variable {:?}", names(std::slice::from_ref(variable))[0]),
            "contains NUL",
        ));
    }
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    Ok(Process {
        args: texts(process.args())?,
        env: texts(process.env())?,
        search: search(env)?,
        cwd: path(process.cwd())?,
        umask: process.user().umask().unwrap_or(0o22),
        rlimits: rlimits.iter().map(|limit| (resource(limit.typ()), limit.soft(), limit.hard())).collect(),
        confinement: Some(confinement(spec, process, host)),
        terminal: terminal(process),
    })
}

/// The size of the terminal that a command gets.
pub(crate) fn terminal(process: &SpecProcess) -> Option<WindowSize> {
    let size = process.console_size().map(|size| WindowSize {
        rows: u16::try_from(size.height()).unwrap_or_default(),
        columns: u16::try_from(size.width()).unwrap_or_default(),
    });
    process.terminal().unwrap_or(false).then(|| size.unwrap_or_default())
}

/// Directories of the last `PATH`; an empty one is the working directory.
fn search(env: &[String]) -> Result<Vec<CString>, Error> {
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
    let directories = path.split(':').filter(|_| !path.is_empty());
    directories.map(|directory| text(if directory.is_empty() { "." } else { directory })).collect()
}

fn confinement(spec: &Spec, process: &SpecProcess, host: &Host) -> Confinement {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    let additional = process.user().additional_gids().clone().unwrap_or_default();
    Confinement {
        uid: process.user().uid(),
        gid: process.user().gid(),
        groups: host.ids.setgroups.then_some(additional),
        capabilities: bounding.map_or(0, capability_bits),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp: seccomp.map(|seccomp| profile(seccomp).compile()),
        enclosed: false,
    }
}

pub(crate) fn check_identity(process: &SpecProcess, host: &Host) -> Result<(), Error> {
    let unmapped = |what: String| Err(Repr::Unmapped { what }.into());
    let user = process.user();
    if !host.ids.has_user(user.uid()) {
        return unmapped(format!("user {}", user.uid()));
    }
    let additional = user.additional_gids().as_deref().unwrap_or_default();
    let mut groups = additional.iter().copied().chain([user.gid()]);
    groups.find(|gid| !host.ids.has_group(*gid)).map_or(Ok(()), |gid| unmapped(format!("group {gid}")))
}

/// `RLIMIT_…` numbers, the same on every architecture that this is for.
fn resource(resource: PosixRlimitType) -> u32 {
    use PosixRlimitType as Type;
    match resource {
        Type::RlimitCpu => 0,
        Type::RlimitFsize => 1,
        Type::RlimitData => 2,
        Type::RlimitStack => 3,
        Type::RlimitCore => 4,
        Type::RlimitRss => 5,
        Type::RlimitNproc => 6,
        Type::RlimitNofile => 7,
        Type::RlimitMemlock => 8,
        Type::RlimitAs => 9,
        Type::RlimitLocks => 10,
        Type::RlimitSigpending => 11,
        Type::RlimitMsgqueue => 12,
        Type::RlimitNice => 13,
        Type::RlimitRtprio => 14,
        Type::RlimitRttime => 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_layers_become_relative() {
        let layers: Vec<String> = (0..200).map(|i| format!("/var/lib/ocibuild/snapshots/{i:040}")).collect();
        let list = format!("lowerdir={},upperdir=/var/lib/ocibuild/u,index=off", layers.join(":"));
        let options = MountOptions::parse([list]).unwrap();
        let (shorter, from) = shortened(options).unwrap();
        assert_eq!(from.unwrap().to_str(), Ok("/var/lib/ocibuild/snapshots"));
        let data = shorter.data.to_str().unwrap();
        assert!(data.starts_with("lowerdir=00000"), "{data}");
        assert!(
            data.contains(":00000") && data.ends_with("upperdir=/var/lib/ocibuild/u,index=off"),
            "{data}"
        );
    }

    #[test]
    fn programs_are_searched_in_the_last_path() {
        let env = ["PATH=/a".to_owned(), "X=1".to_owned(), "PATH=/b::/c".to_owned()];
        let found: Vec<String> =
            search(&env).unwrap().into_iter().map(|directory| directory.into_string().unwrap()).collect();
        assert_eq!(found, ["/b", ".", "/c"]);
        assert!(search(&["PATH=".to_owned()]).unwrap().is_empty());
    }

    #[test]
    fn targets_of_the_system_may_not_be_links() {
        assert_eq!(links(Path::new("/proc")), Links::Refuse);
        assert_eq!(links(Path::new("/dev/shm")), Links::Refuse);
        assert_eq!(links(Path::new("/etc/hosts")), Links::Follow);
        assert_eq!(links(Path::new("/device")), Links::Follow);
    }
}
