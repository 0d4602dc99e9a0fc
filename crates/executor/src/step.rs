use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::PosixRlimitType;
use ocibuild_spec::{Mount, Owned};
use ocibuild_sys::{Capabilities, Private, WindowSize};

use crate::NetworkProgram;

/// One RUN, with everything about it decided. What is printed of it has the names of variables, not their values.
#[derive(Clone, PartialEq)]
pub struct Step {
    /// Program and arguments; a program without a slash is looked for in the `PATH` of `env`.
    pub args: Vec<String>,
    /// Environment in order, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Value of `HOME` where `env` has none (see [`home_of`](crate::home_of)).
    pub home: String,
    /// Working directory. Missing components are made, mode 0755, owned by the user of the step.
    pub cwd: PathBuf,
    /// Whom the command runs as.
    pub user: User,
    /// Host name.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// What connects a private network; nothing for the best there is.
    pub network_program: Option<NetworkProgram>,
    /// All capabilities, no filter of system calls, nothing masked.
    pub insecure: bool,
    /// Capabilities that the step does not get, whoever it runs as and whatever else it may.
    pub dropped_capabilities: Capabilities,
    /// Mounts of the step itself: binds of paths of this host, tmpfs. Applied parents first; of several on one
    /// target the last wins. Mount points that are missing are made, and left to whoever keeps the rootfs.
    pub mounts: Vec<Mount>,
    /// What is mounted on paths of this host for `mounts` to bind it from, in this order, once the root file system is there.
    pub outside: Vec<Outside>,
    /// Files that are in memory only, in [`memory_directory`] of `state`: what `mounts` bind from there.
    pub memory_files: Vec<MemoryFile>,
    /// Resource limits; those not named are inherited.
    pub rlimits: Vec<Rlimit>,
    /// Limits of a cgroup, and where it is.
    pub resources: Resources,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Content of `/etc/hosts` (see [`hosts`](crate::hosts)).
    pub hosts: String,
    /// Content of `/etc/resolv.conf` (see [`resolv_conf`](crate::resolv_conf)).
    pub resolv_conf: String,
    /// Size of the terminal that the command gets, if it gets one.
    pub terminal: Option<WindowSize>,
    /// The root file system.
    pub rootfs: Rootfs,
    /// An existing private directory for the files of this step alone, to be removed by the caller afterwards.
    pub state: PathBuf,
    /// What is below this directory is for steps alone: an executor that cannot mount moves the sources of `mounts` from there
    /// into the root file system for the time of the step. Others it refuses.
    pub movable: Option<PathBuf>,
    /// Whether what the command asks to be flushed to a disk is (`fsync` and its kind, which do nothing otherwise). A root file
    /// system that is not complete when the machine ends is thrown away, and an overlay can be mounted so that it knows that;
    /// any other takes as long to flush what packages ask for as for twenty times the rest.
    pub flushes: bool,
    /// Owners and devices that the root file system should have and its disk cannot, by path below the root: where there is
    /// one id. An executor that offers [`Need::Owners`](crate::Need::Owners) pretends them.
    pub unkept: Vec<(PathBuf, Owned)>,
    /// The same of what `mounts` bring.
    pub unkept_mounted: Vec<(PathBuf, Owned)>,
}

impl Step {
    /// A step with nothing to execute yet and BuildKit's defaults for everything else.
    pub fn new(rootfs: Rootfs, state: impl Into<PathBuf>) -> Self {
        let hostname = "buildkitsandbox".to_owned();
        Self {
            args: Vec::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            home: "/root".to_owned(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            hosts: crate::hosts(&hostname, &[]),
            hostname,
            network: Network::Host,
            network_program: None,
            insecure: false,
            dropped_capabilities: Capabilities::NONE,
            mounts: Vec::new(),
            outside: Vec::new(),
            memory_files: Vec::new(),
            rlimits: Vec::new(),
            resources: Resources::default(),
            shm_size: 64 << 20,
            resolv_conf: String::new(),
            terminal: None,
            rootfs,
            state: state.into(),
            movable: None,
            flushes: true,
            unkept: Vec::new(),
            unkept_mounted: Vec::new(),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("args", &self.args)
            .field("env", &names(&self.env))
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("mounts", &self.mounts)
            .field("rootfs", &self.rootfs)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The names of variables: their values may be secrets.
pub(crate) fn names(env: &[String]) -> Vec<&str> {
    env.iter().map(|variable| variable.split_once('=').map_or(variable.as_str(), |(name, _)| name)).collect()
}

/// A file that is never on a disk: it is made in a file system of the step's own, in memory, and gone with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// Where it is for the mounts of the step: right below [`memory_directory`].
    pub path: PathBuf,
    /// What is in it.
    pub content: Private,
    /// Permission bits.
    pub mode: u32,
    /// User it belongs to.
    pub uid: u32,
    /// Group it belongs to.
    pub gid: u32,
}

impl MemoryFile {
    /// Whether its mode lets anybody execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// Where the file system for [`MemoryFile`]s is mounted, in the mount namespace of the step alone.
pub fn memory_directory(state: &Path) -> PathBuf {
    state.join("memory")
}

/// What a cgroup limits; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// The cgroup that the step's own is made in. It is made where it is missing, and stays.
    pub cgroup_parent: Option<String>,
    /// Bytes of memory; -1 is without limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is without limit. Without it, it is twice the memory, where the kernel counts swap.
    pub memory_swap: Option<i64>,
    /// Number of processes and threads; -1 is without limit.
    pub processes: Option<i64>,
    /// Weight against others.
    pub cpu_shares: Option<u64>,
    /// Length of a period, in microseconds.
    pub cpu_period: Option<u64>,
    /// Time in each period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// CPUs, as `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, likewise.
    pub cpuset_mems: Option<String>,
}

impl Resources {
    /// Whether nothing is limited or asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The root file system of a step: a directory, and what is mounted there first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rootfs {
    /// Mounts with absolute destinations on this host, usually one overlay or bind on `dir`. They are made in a
    /// mount namespace of the step and die with it.
    pub mounts: Vec<Mount>,
    /// The directory that becomes `/`.
    pub dir: PathBuf,
}

impl Rootfs {
    /// A directory that is the root file system as it is.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { mounts: Vec::new(), dir: dir.into() }
    }
}

/// A mount on a path of this host, which is made in a mount namespace of the step and dies with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outside {
    /// One with an absolute destination on this host.
    Mount(Mount),
    /// What is below a directory: no link on the way there is followed.
    View(View),
}

/// What is below a directory of this host, shown on another path of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The directory.
    pub directory: PathBuf,
    /// Path below it; empty for the directory itself.
    pub path: PathBuf,
    /// Device and inode of what must be there. If it is something else, the step fails before it begins.
    pub inode: Option<(u64, u64)>,
    /// Where it is shown: a directory, or a file for what is not one.
    pub target: PathBuf,
    /// Options of the mount. A runtime may forget them in a mount of the step that does not repeat them.
    pub options: Vec<String>,
}

/// A user by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// That of this process.
    #[default]
    Host,
    /// Only a loopback interface.
    None,
    /// One of its own, with a way out. The loopback interface of the host cannot be reached from it, nor can addresses of links,
    /// where clouds have their metadata services. Takes pasta or slirp4netns; the step has no `CAP_NET_RAW`, and cannot be
    /// [`insecure`](Step::insecure).
    Private,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rlimit {
    /// Resource.
    pub resource: PosixRlimitType,
    /// What applies.
    pub soft: u64,
    /// How far the command may raise it.
    pub hard: u64,
}
