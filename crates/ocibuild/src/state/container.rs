use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fs_err as fs;
use ocibuild_executor::{
    Attached, Executor, ExitStatus, Host, Network, Output, Rootfs, Step, User, WindowSize,
};
use ocibuild_snapshot::MountPointKind;
use ocibuild_spec::{CancelToken, Descriptor, MountBuilder, Reference};

use super::{State, no_such_image};
use crate::layers::{Layer, Layers};
use crate::run::mounts_at;
use crate::{Error, ErrorKind};

/// How an image is run; what is not given comes from its config.
#[derive(Debug, Clone, Default)]
pub struct ContainerOptions {
    /// Arguments in place of the image's command.
    pub args: Vec<String>,
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
    /// Size of the terminal that the command gets, if it gets one.
    pub terminal: Option<WindowSize>,
}

/// A path of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether it may not be written.
    pub read_only: bool,
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
        let details = self.details(image)?;
        let _lease = self.layout.lease()?;
        let scratch = self.layout.scratch()?;
        let layers = Layers {
            store: self.layout,
            snapshots: self.snapshots,
            cache: self.cache,
            images: Vec::new(),
            cancel,
            scratch: scratch.path().to_owned(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let diff_ids = details.config.rootfs.layers().to_vec();
        let stack: Vec<Layer> = diff_ids
            .iter()
            .zip(details.manifest.layers())
            .map(|(diff_id, descriptor)| Layer {
                diff_id: diff_id.clone(),
                descriptor: descriptor.clone(),
                image: None,
            })
            .collect();
        layers.unpack(&stack)?;
        let tree = Arc::new(layers.tree(&stack)?);
        let config = &details.config.config;
        let accounts = layers.accounts(&stack, &tree)?;
        let identity = accounts.identity(options.user.as_deref().unwrap_or(&config.user))?;
        let directories = [scratch.path().join("rootfs"), scratch.path().join("state")];
        for directory in &directories {
            fs::create_dir_all(directory).map_err(|error| {
                Error::new(ErrorKind::Host, format!("cannot use {}", directory.display())).caused_by(error)
            })?;
        }
        let [rootfs, state] = directories;
        let mut active = self.snapshots.prepare(&diff_ids, tree, cancel)?;
        for system in ["/proc", "/dev", "/sys"] {
            active.create_directory(system.as_ref(), 0, 0)?;
        }
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            active.create_mount_point(file.as_ref(), MountPointKind::File)?;
        }
        let cwd = options.working_dir.clone().unwrap_or_else(|| config.working_dir.clone());
        let cwd = PathBuf::from(if cwd.is_empty() { "/".to_owned() } else { cwd });
        active.create_directory(&cwd, identity.uid, identity.gid)?;
        let mut step =
            Step::new(Rootfs { mounts: mounts_at(active.rootfs_mounts(), &rootfs), dir: rootfs }, state);
        step.args = command(options, config)?;
        step.env = environment(&config.env, &options.env);
        step.home = accounts.home(identity.uid);
        step.cwd = cwd;
        step.user =
            User { uid: identity.uid, gid: identity.gid, additional_gids: identity.additional_gids.clone() };
        if options.terminal.is_some() && !step.env.iter().any(|variable| variable.starts_with("TERM=")) {
            step.env.push("TERM=xterm".to_owned());
        }
        step.terminal = options.terminal;
        step.network = options.network;
        if let Some(hostname) = &options.hostname {
            step.hostname.clone_from(hostname);
        }
        step.hosts = ocibuild_executor::hosts(&step.hostname, &options.hosts);
        step.resolv_conf = ocibuild_executor::resolv_conf(&options.resolv_conf, true);
        for volume in &options.volumes {
            let is_directory =
                fs::metadata(&volume.source).map(|metadata| metadata.is_dir()).map_err(|error| {
                    Error::new(ErrorKind::Usage, format!("cannot use the volume {}", volume.source.display()))
                        .caused_by(error)
                })?;
            let kind = if is_directory { MountPointKind::Directory } else { MountPointKind::File };
            active.create_mount_point(&volume.target, kind)?;
            step.mounts.push(volume_mount(volume));
        }
        let bundle = ocibuild_executor::bundle(&step, &Host::detect());
        executor.attach(&bundle, attached, cancel).map_err(|error| match error.exit_code() {
            // As a shell says it: 127 for what is not there, 126 for what cannot be executed.
            Some(code) => Error::new(ErrorKind::StepFailed(code), error.to_string()),
            None => error.into(),
        })
    }
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

fn command(
    options: &ContainerOptions,
    config: &ocibuild_spec::ContainerConfig,
) -> Result<Vec<String>, Error> {
    let entrypoint = options.entrypoint.as_ref().unwrap_or(&config.entrypoint);
    let arguments =
        if !options.args.is_empty() || options.entrypoint.is_some() { &options.args } else { &config.cmd };
    let words = entrypoint.iter().filter(|word| !word.is_empty()).chain(arguments);
    let command: Vec<String> = words.cloned().collect();
    if command.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the image says nothing about what to run")
            .hint("give the command after the image's name"));
    }
    Ok(command)
}

/// The image's environment with more on top; a name's last value counts, at its first place.
fn environment(image: &[String], more: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let mut out = image.to_vec();
    for variable in more {
        match out.iter_mut().find(|other| name(other) == name(variable)) {
            Some(other) => other.clone_from(variable),
            None => out.push(variable.clone()),
        }
    }
    let has_path = out.iter().any(|variable| name(variable) == "PATH");
    if !has_path {
        out.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    out
}
