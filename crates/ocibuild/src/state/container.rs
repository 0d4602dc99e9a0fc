use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_executor::{
    Attached, Capabilities, Executor, ExitStatus, Host, Need, Network, Output, Resources, Rlimit, Rootfs,
    Step, User, WindowSize,
};
use ocibuild_snapshot::{ActiveSnapshot, MountPointKind};
use ocibuild_spec::{CancelToken, ContainerConfig, Descriptor, DiffId, MountBuilder, Reference};
use ocibuild_store::ImageLayout;

use super::{ImageDetails, State, no_such_image};
use crate::accounts::{Accounts, Identity};
use crate::error::{Error, unusable};
use crate::failure::StateFailure;
use crate::layers::{Layer, Layers};
use crate::run::{flushes, mounts_at, shell_in, unkept};
use crate::threads::ThreadBudget;

/// How an image is run; what is not given comes from its config.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ContainerOptions {
    /// Arguments instead of the image's command.
    pub args: Vec<String>,
    /// A shell instead of the image's command, where there are no arguments: the one that the image names for its commands, or
    /// one of those that images usually have.
    pub shell: bool,
    /// In place of the image's entry point; one empty word means none.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, over the image's environment.
    pub env: Vec<String>,
    /// Directory to start in.
    pub working_dir: Option<String>,
    /// User, as `USER` takes it.
    pub user: Option<String>,
    /// Paths of the host that the container sees.
    pub volumes: Vec<Volume>,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Host name; that of a build step without.
    pub hostname: Option<String>,
    /// Names for `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
    /// The network.
    pub network: Network,
    /// Capabilities that the command does not get.
    pub dropped_capabilities: Capabilities,
    /// What it may use, with all that it starts.
    pub resources: Resources,
    /// What each of its processes may use.
    pub rlimits: Vec<Rlimit>,
    /// The size of `/dev/shm` in bytes; 64 MiB without.
    pub shm_size: Option<u64>,
    /// Size of the terminal that the command gets, if it gets one.
    pub terminal: Option<WindowSize>,
}

/// A path of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether it may not be written.
    pub read_only: bool,
}

impl Volume {
    /// A path of the host, and where the container sees it and may change it.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: false }
    }

    /// Whether the container may not write there.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

impl State<'_> {
    /// Runs an image and gives the status of its command. What it changes is gone afterwards.
    pub fn run(
        &self,
        reference: &Reference,
        options: &ContainerOptions,
        executor: &dyn Executor,
        output: &mut Output<'_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let image = self.layout.resolve(reference)?.ok_or_else(|| no_such_image(reference))?;
        self.attach(&image, options, executor, Attached::to(output), cancel)
    }

    /// The same for an image by its manifest or index, and for a command that reads, gets signals and has a terminal.
    pub fn attach(
        &self,
        image: &Descriptor,
        options: &ContainerOptions,
        executor: &dyn Executor,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let work = || self.attach_as_root(image, options, executor, attached, cancel);
        self.directory.privilege().run(work)
    }

    fn attach_as_root(
        &self,
        image: &Descriptor,
        options: &ContainerOptions,
        executor: &dyn Executor,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let mounts = (!options.volumes.is_empty()).then_some(Need::Mounts);
        let network = (options.network != Network::Host).then_some(Need::OwnNetwork);
        let private = (options.network == Network::Private).then_some(Need::PrivateNetwork);
        let sized = options.shm_size.is_some().then_some(Need::SizedMounts);
        let limited = (!options.resources.is_empty()).then_some(Need::Resources);
        executor.offers().check([mounts, network, private, sized, limited].into_iter().flatten())?;
        let _lease = self.layout.lease()?;
        let details = self.details(image)?;
        let scratch = self.layout.scratch()?;
        let layers = Layers {
            store: self.layout,
            snapshots: self.snapshots,
            listings: self.cache.listings(),
            cancel,
            scratch: scratch.path().to_owned(),
            threads: std::sync::Arc::new(ThreadBudget::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
            decoded: Arc::default(),
            reads: Arc::default(),
        };
        let stack = stack(self.layout, &details);
        let _unpacked = layers.unpack(&stack)?;
        let tree = Arc::new(layers.tree(&stack)?);
        let accounts = layers.accounts(&stack, &tree)?;
        let shell = match options {
            ContainerOptions { shell: true, args, .. } if args.is_empty() => {
                let own = details.config.config.shell.first().map(String::as_str);
                Some(shell_in(&tree, own).ok_or(StateFailure::NoShell)?)
            }
            _ => None,
        };
        let mut active = self.snapshots.prepare(details.config.rootfs.layers(), tree, cancel)?;
        let directories = [scratch.path().join("rootfs"), scratch.path().join("state")];
        for directory in &directories {
            fs::create_dir_all(directory).map_err(|error| unusable(directory, error))?;
        }
        let [rootfs, state] = directories;
        let rootfs = Rootfs { mounts: mounts_at(active.rootfs_mounts(), &rootfs), dir: rootfs };
        let mut step = step((rootfs, state), options, &details.config.config, &accounts, shell)?;
        step.movable = Some(self.layout.root().to_owned());
        make_places(active.as_mut(), &step, &options.volumes)?;
        step.flushes = flushes(&step.rootfs.mounts, !options.volumes.is_empty());
        step.unkept = unkept(active.as_mut(), executor)?;
        let bundle = ocibuild_executor::bundle(&step, &Host::detect());
        executor.attach(&bundle, attached, cancel).map_err(|error| match error.exit_code() {
            // As a shell says it: 127 for what is not there, 126 for what cannot be executed.
            Some(code) => StateFailure::NotStarted { code, source: error }.into(),
            None => error.into(),
        })
    }
}

fn stack<'a>(store: &'a ImageLayout, image: &ImageDetails) -> Vec<Layer<'a>> {
    let diff_ids = image.config.rootfs.layers().iter();
    let layer = |(diff_id, descriptor): (&DiffId, &Descriptor)| {
        Layer::stored(store, diff_id.clone(), descriptor.clone())
    };
    diff_ids.zip(image.manifest.layers()).map(layer).collect()
}

/// What is run, and how.
fn step(
    (rootfs, state): (Rootfs, PathBuf),
    options: &ContainerOptions,
    config: &ContainerConfig,
    accounts: &Accounts,
    shell: Option<Vec<String>>,
) -> Result<Step, Error> {
    let mut step = Step::new(rootfs, state);
    if let Some(hostname) = &options.hostname {
        step.hostname.clone_from(hostname);
    }
    let Identity { uid, gid, additional_gids } = identity(options, config, accounts)?;
    step.user = User { uid, gid, additional_gids };
    step.home = accounts.home(uid);
    step.args = shell.map_or_else(|| command(options, config), Ok)?;
    step.env = environment(&step.hostname, options, &config.env);
    let cwd = options.working_dir.as_ref().unwrap_or(&config.working_dir);
    step.cwd = Path::new("/").join(cwd);
    step.terminal = options.terminal;
    step.network = options.network;
    step.dropped_capabilities = options.dropped_capabilities;
    step.resources = options.resources.clone();
    step.rlimits.clone_from(&options.rlimits);
    if let Some(size) = options.shm_size {
        step.shm_size = size;
    }
    step.hosts = ocibuild_executor::hosts(&step.hostname, &options.hosts);
    // Without a network it is not asked anyway.
    let network = if options.network == Network::None { Network::Host } else { options.network };
    step.resolv_conf = ocibuild_executor::resolv_conf(&options.resolv_conf, network);
    step.mounts = options.volumes.iter().map(volume_mount).collect();
    Ok(step)
}

fn identity(
    options: &ContainerOptions,
    config: &ContainerConfig,
    accounts: &Accounts,
) -> Result<Identity, Error> {
    let Some(user) = &options.user else { return accounts.identity(&config.user) };
    let unknown = |error: Error| StateFailure::UnknownUser { reason: error.reports()[0].message.clone() };
    accounts.identity(user).map_err(|error| unknown(error).into())
}

/// Makes what is missing of the paths that things are mounted at, and of the directory to start in.
fn make_places(active: &mut dyn ActiveSnapshot, step: &Step, volumes: &[Volume]) -> Result<(), Error> {
    for system in ["/proc", "/dev", "/sys"] {
        active.create_directory(system.as_ref(), 0, 0)?;
    }
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        active.create_mount_point(file.as_ref(), MountPointKind::File)?;
    }
    active.create_directory(&step.cwd, 0, 0).map_err(|error| match error.kind() {
        ocibuild_snapshot::ErrorKind::WrongKind { found, .. } => {
            Error::from(StateFailure::WorkingDirectory { path: step.cwd.clone(), found })
        }
        _ => error.into(),
    })?;
    for volume in volumes {
        let unusable = |source| StateFailure::Volume { path: volume.source.clone(), source };
        let is_directory =
            fs::metadata(&volume.source).map(|metadata| metadata.is_dir()).map_err(unusable)?;
        let kind = if is_directory { MountPointKind::Directory } else { MountPointKind::File };
        active.create_mount_point(&volume.target, kind)?;
    }
    Ok(())
}

fn volume_mount(volume: &Volume) -> ocibuild_spec::Mount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    if volume.read_only {
        options.push("ro".to_owned());
    }
    MountBuilder::default()
        .destination(&volume.target)
        .typ("bind")
        .source(&volume.source)
        .options(options)
        .build()
        .expect("every field a mount needs is set")
}

fn command(options: &ContainerOptions, config: &ContainerConfig) -> Result<Vec<String>, Error> {
    let entrypoint = options.entrypoint.as_ref().unwrap_or(&config.entrypoint);
    let arguments =
        if !options.args.is_empty() || options.entrypoint.is_some() { &options.args } else { &config.cmd };
    let words = entrypoint.iter().filter(|word| !word.is_empty()).chain(arguments);
    let command: Vec<String> = words.cloned().collect();
    if command.is_empty() {
        return Err(StateFailure::NoCommand.into());
    }
    Ok(command)
}

/// What every container has, under the image's environment, under that of the options; a name's last value counts, at its
/// first place.
fn environment(hostname: &str, options: &ContainerOptions, image: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let mut out = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
    ];
    if options.terminal.is_some() {
        out.push("TERM=xterm".to_owned());
    }
    for variable in image.iter().chain(&options.env) {
        match out.iter_mut().find(|other| name(other) == name(variable)) {
            Some(other) => other.clone_from(variable),
            None => out.push(variable.clone()),
        }
    }
    out
}
