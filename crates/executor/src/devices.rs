//! The devices of a step: the few that every container has, and no others.
//!
//! A step may make a node of any number, because packages do and layers keep them. What keeps it from opening them is a
//! cgroup that says which devices there are, where root can have one. Elsewhere it is mounts that have none (`nodev`): all
//! that the step sees, with the nodes that it may open bound in from a file system that it does not see. It cannot change
//! mounts.

use std::borrow::Cow;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use ocibuild_sys::{AllowedDevice, CgroupError, DirHandle, FileType, MountOptions, Operation, device};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::bundle::path_mount;
use crate::error::Repr;
use crate::mount::{is_bind, kind, options, path, text};
use crate::{Bundle, Error, Outside};

/// Devices that every container has, with their numbers.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links that are in `/dev` from the start, and what they say.
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Terminals: the device that makes them, and they themselves, of which a step sees its own alone.
const TERMINALS: [AllowedDevice; 2] =
    [AllowedDevice { major: 5, minor: Some(2) }, AllowedDevice { major: 136, minor: None }];

/// What keeps a step from the devices of the host.
#[derive(Debug)]
pub(crate) enum Barrier {
    /// Nothing: the bundle asks for all devices, or a runtime sees to it.
    None,
    /// A cgroup.
    Cgroup,
    /// The mounts.
    Mounts {
        /// Why there is no cgroup, where there might have been one.
        reason: Option<CgroupError>,
    },
}

impl Barrier {
    /// The bundle as it is, or with mounts that keep the step from devices; its own nodes come from `nodes`.
    pub(crate) fn bundle<'b>(&self, bundle: &'b Bundle, nodes: Nodes) -> Result<Cow<'b, Bundle>, Error> {
        match self {
            Self::Mounts { .. } => confined(bundle, nodes).map(Cow::Owned),
            Self::None | Self::Cgroup => Ok(Cow::Borrowed(bundle)),
        }
    }
}

/// What a step may open.
pub(crate) fn allowed() -> Vec<AllowedDevice> {
    let named = DEVICES.map(|(_, major, minor)| AllowedDevice { major, minor: Some(minor) });
    [&named[..], &TERMINALS].concat()
}

/// Fails unless something outside, such as the cgroup of a container, keeps this process, and so the step, from the devices of
/// the host. It is tried with a number that no driver has: what is denied is denied before a driver is looked for.
pub(crate) fn check_denied(state: &Path) -> Result<(), Error> {
    const NOBODYS: (u32, u32) = (240, 1);
    let failed = |source| Repr::Place { verb: "make a device in", path: state.to_owned(), source };
    let directory = DirHandle::open(state).map_err(failed)?;
    let name = "device";
    directory.mknod(name, FileType::CharDevice, 0o600, device(NOBODYS.0, NOBODYS.1)).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&directory, name, flags, Mode::empty());
    directory.unlink(name).map_err(failed)?;
    match opened {
        Err(Errno::PERM) => Ok(()),
        Err(Errno::ACCESS) => Err(Repr::NoDevices { path: state.to_owned() }.into()),
        _ => Err(Repr::OpenDevices.into()),
    }
}

/// Who puts nodes into the `/dev` of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// The mounts of the bundle.
    Bundle,
    /// The runtime, from the `/dev` that it sees.
    Runtime,
}

/// Where the file system with the nodes is mounted, in the mount namespace of the step alone.
pub(crate) fn device_directory(state: &Path) -> PathBuf {
    state.join("devices")
}

fn node(state: &Path, name: &str) -> PathBuf {
    device_directory(state).join(name)
}

/// Makes the nodes of the step. Nothing that it does with them reaches those of the host.
pub(crate) fn operations(state: &Path) -> Result<Vec<Operation>, Error> {
    let options = ["nosuid", "noexec", "mode=0755", "size=64k", "nr_inodes=16"];
    let mut operations = vec![Operation::HostMount {
        source: c"tmpfs".to_owned(),
        target: path(&device_directory(state))?,
        fstype: c"tmpfs".to_owned(),
        options: MountOptions::parse(options).ok_or_else(|| Error::invalid("a mount", "contains NUL"))?,
        from: None,
    }];
    for (name, major, minor) in DEVICES {
        operations.push(Operation::HostDevice {
            path: path(&node(state, name))?,
            host: text(&format!("/dev/{name}"))?,
            rdev: device(major, minor),
            mode: 0o666,
        });
    }
    Ok(operations)
}

/// The null device of the step, outside of its root.
pub(crate) fn null(state: &Path) -> Result<CString, Error> {
    path(&node(state, "null"))
}

/// Puts the nodes of the step in the place of the host's, for a runtime, which binds those where it can make none.
pub(crate) fn instead_of_the_hosts(state: &Path) -> Result<Vec<Operation>, Error> {
    let mut operations = Vec::new();
    for (name, ..) in DEVICES {
        let target = Path::new("/dev").join(name);
        if fs_err::symlink_metadata(&target).is_ok() {
            let options = MountOptions::parse(["bind"]).unwrap_or_default();
            let source = path(&node(state, name))?;
            operations.push(Operation::HostBind { source, target: path(&target)?, options });
        }
    }
    Ok(operations)
}

/// Makes the devices in `/dev` itself.
pub(crate) fn in_place() -> Result<Vec<Operation>, Error> {
    let node = |(name, major, minor): (&str, u32, u32)| {
        let path = text(&format!("/dev/{name}"))?;
        Ok(Operation::Device { host: path.clone(), path, rdev: device(major, minor), mode: 0o666 })
    };
    DEVICES.into_iter().map(node).collect()
}

/// The bundle with mounts that have no devices but those of [`operations`].
pub(crate) fn confined(bundle: &Bundle, nodes: Nodes) -> Result<Bundle, Error> {
    let mut bundle = bundle.clone();
    let dir = &bundle.rootfs.dir;
    let mounts = &mut bundle.rootfs.mounts;
    if !mounts.iter().any(|mount| mount.destination() == dir) {
        // A root must be a mount.
        mounts.push(path_mount(dir, "bind", dir, &["rbind"]));
    }
    for mount in mounts {
        without_devices(mount)?;
    }
    for outside in &mut bundle.outside {
        // A view is seen through a mount of the specification.
        if let Outside::Mount(mount) = outside {
            without_devices(mount)?;
        }
    }
    let mut mounts = bundle.spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        without_devices(mount)?;
    }
    let dev = mounts.iter().position(is_dev);
    if let (Nodes::Bundle, Some(dev)) = (nodes, dev) {
        let nodes = DEVICES.map(|(name, ..)| {
            let options = ["bind", "nosuid", "noexec"];
            path_mount(&Path::new("/dev").join(name), "bind", &node(&bundle.state, name), &options)
        });
        mounts.splice(dev + 1..=dev, nodes);
    }
    bundle.spec.set_mounts(Some(mounts));
    Ok(bundle)
}

/// Whether this is the `/dev` that every step gets.
pub(crate) fn is_dev(mount: &Mount) -> bool {
    mount.destination() == Path::new("/dev") && kind(mount) == "tmpfs"
}

/// Whether the bundle allows all devices.
pub(crate) fn has_all(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    // The last rule about a device counts.
    rules.last().is_some_and(|rule| {
        let numbers = rule.major().is_none() && rule.minor().is_none();
        rule.allow() && numbers && rule.access().as_deref() == Some("rwm")
    })
}

fn without_devices(mount: &mut Mount) -> Result<(), Error> {
    // Its nodes are terminals of this instance alone, and nobody can make others there.
    if kind(mount) == "devpts" {
        return Ok(());
    }
    let parsed = options(mount)?;
    let mut list = mount.options().clone().unwrap_or_default();
    list.retain(|option| option != "dev");
    let mut add = |option: &str| {
        if !list.iter().any(|found| found == option) {
            list.push(option.to_owned());
        }
    };
    add("nodev");
    if is_bind(mount, &parsed) && parsed.is_recursive() {
        // What is mounted below too, which `nodev` alone does not say to runtimes.
        add("rnodev");
    }
    mount.set_options(Some(list));
    Ok(())
}

/// Whether a step of this user namespace could own the nodes of the host: of those it cannot, the kernel says that
/// nobody owns them.
pub(crate) fn could_own_those_of_the_host() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let nobody = fs_err::read_to_string("/proc/sys/fs/overflowuid").ok();
    let nobody = nobody.and_then(|text| text.trim().parse().ok()).unwrap_or(65534);
    let is_owned = |(name, ..): (&str, u32, u32)| {
        fs_err::symlink_metadata(Path::new("/dev").join(name)).is_ok_and(|found| found.uid() != nobody)
    };
    DEVICES.into_iter().any(is_owned)
}
