//! One `RUN`: its root file system, its mounts, its command, and the layer it leaves.

pub(crate) mod caches;
mod held;
mod mounted;
mod mounts;
mod secret;
mod shells;
mod views;

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_dockerfile::Dockerfile;
use ocibuild_executor::{
    Emulation, Ending, Executor, Host, Need, Network, Resources, Rootfs, Step, Stream, User,
};
use ocibuild_snapshot::{ActiveSnapshot, MountPointKind, Snapshotter, Tree};
use ocibuild_spec::{CancelToken, DiffId, Mount, Owned, OwnershipRecord, Platform, Timestamp};

pub(crate) use self::caches::CacheMounts;
pub(crate) use self::held::HeldStep;
use self::mounted::Files;
pub(crate) use self::mounted::{Mounted, MountedFiles, Selection};
use self::mounts::Mounts;
pub(crate) use self::shells::shell_in;
pub(crate) use self::views::MountedPath;
use self::views::PathOf;
use crate::accounts::Identity;
use crate::copy::{Source as _, TreeSource};
use crate::error::{Error, unusable};
use crate::failed::FailedStep;
use crate::failure::{RunFailure, StepFact, StepFailure};
use crate::layer_writer::{LayerWriter, NewLayer};
use crate::layers::{Layer, Layers};
use crate::request::Settings;
use crate::ssh::Agents;
use crate::stage::StageState;
use ocibuild_plan::{MountKind, RunStep, StepNetwork};

/// Bytes of a failed step's output that its error repeats.
const TAIL: usize = 64 << 10;

/// Where a step has file systems of its own.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/proc", "/dev", "/sys"];

/// What a `RUN` may touch.
pub(crate) struct StepContext<'a> {
    pub(crate) layers: &'a Layers<'a>,
    pub(crate) snapshots: &'a dyn Snapshotter,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) settings: &'a Settings,
    /// What failed, for whoever explains it.
    pub(crate) dockerfile: &'a Dockerfile,
    pub(crate) agents: &'a Agents,
    pub(crate) caches: &'a CacheMounts,
    /// A directory for the time of the build.
    pub(crate) scratch: &'a Path,
    pub(crate) writer: LayerWriter<'a>,
    /// Finds what is mounted of contexts, stages and images.
    pub(crate) files: &'a Files<'a>,
    /// Finds what is mounted of stages and images without a look at its files.
    pub(crate) path_of: &'a PathOf<'a>,
    /// Whether the build context has something at a path.
    pub(crate) in_context: &'a dyn Fn(&Path) -> bool,
    /// Takes what the command prints, and whether it goes to standard error.
    pub(crate) output: &'a (dyn Fn(bool, &[u8]) + Sync),
    /// The time that what is made now gets.
    pub(crate) now: &'a dyn Fn() -> Timestamp,
    pub(crate) cancel: &'a CancelToken,
    /// Takes a step whose command failed, if it is to be held.
    pub(crate) hold: Option<&'a (dyn Fn(HeldStep) + Sync)>,
}

/// A step to run.
pub(crate) struct Job<'j> {
    /// What it runs on.
    pub(crate) state: &'j StageState<'j>,
    pub(crate) step: &'j RunStep,
    /// The network that it has, which is not the one of the step when the build is offline.
    pub(crate) network: StepNetwork,
    /// What the key has of its mounts.
    pub(crate) mounted: &'j Mounted<'j>,
    pub(crate) platform: &'j Platform,
    /// Its number among all steps.
    pub(crate) id: usize,
    /// It runs whatever the cache has.
    pub(crate) fresh: bool,
}

/// Runs a step on the files of a stage and writes the layer it makes.
pub(crate) fn run(context: &StepContext<'_>, job: &Job<'_>) -> Result<NewLayer, Error> {
    let Job { state, step, mounted, platform, id, fresh, .. } = *job;
    if let Some((_, value)) = step.env.iter().find(|(name, _)| name.is_empty()) {
        return Err(RunFailure::EmptyVariableName { value: value.clone() }.into());
    }
    let network = network(job, context.settings);
    if network == Network::Private && step.insecure {
        return Err(RunFailure::InsecureInPrivateNetwork.into());
    }
    context.executor.offers().check(needs(job, context.settings))?;
    let tree = state.tree(context.layers)?;
    let accounts = context.layers.accounts(&state.stack, &tree)?;
    let identity = accounts.identity(&step.user)?;
    let unpacked = context.layers.unpack(&state.stack)?;
    let stack: Vec<DiffId> = state.stack.iter().map(|layer| layer.diff_id.clone()).collect();
    let mut active = context.snapshots.prepare(&stack, Arc::clone(&tree), context.cancel)?;
    // The active snapshot holds the layers by itself.
    drop(unpacked);
    let directory = context.scratch.join(format!("step-{id}"));
    for folder in ["rootfs", "state", "mounts"] {
        fs::create_dir_all(directory.join(folder)).map_err(|error| unusable(&directory, error))?;
    }
    let mut mounts = Mounts::new(context, mounted, &directory);
    mounts.make(step, &tree, fresh)?;
    for (target, point) in &mounts.made {
        if !is_hidden(Path::new(target.destination())) {
            active.create_mount_point(target.destination(), *point).map_err(of_the_instruction)?;
        }
    }
    let has_mounts_below = |system: &str| {
        let shared_memory = context.settings.shm_size.is_some() && system == "/dev";
        shared_memory || mounts.made.iter().any(|(mount, _)| mount.destination().starts_with(system))
    };
    for system in SYSTEM_DIRECTORIES {
        // A parent of a mount point goes with it, this one too.
        if has_mounts_below(system) {
            active.create_mount_point(Path::new(system), MountPointKind::Directory)?;
        } else {
            active.create_directory(Path::new(system), 0, 0)?;
        }
    }
    prepare_directories(active.as_mut(), step, &identity)?;
    let mut described =
        describe(context, job, &identity, accounts.home(identity.uid), &mounts, active.as_ref(), &directory);
    described.unkept = unkept(active.as_mut(), context.executor)?;
    described.unkept_mounted = std::mem::take(&mut mounts.unkept);
    let secret_names: Vec<&str> = mounts.env.iter().map(|(name, _)| &name[..]).collect();
    let record = match execute(context, &described, step, platform) {
        Ok(record) => record,
        Err(Ended::Otherwise(error)) => return Err(error),
        Err(Ended::Failed { failure, record }) => {
            let error = explained(failure, context, step, (&tree, &state.stack), secret_names);
            if let Some(hold) = context.hold {
                hold(HeldStep::new((id, step, described), (active, tree), record, mounts));
            }
            return Err(error);
        }
    };
    mounts.check_unchanged()?;
    active.remove_mount_points()?;
    let (_, changeset) = active.diff(record.as_ref(), context.cancel)?;
    let written = context
        .writer
        .write(changeset, |diff_id, entries| active.commit(diff_id, entries).map_err(Error::from))?;
    fs::remove_dir_all(&directory).map_err(|error| unusable(&directory, error))?;
    Ok(written)
}

/// What the disk of a root file system cannot have of it, and the executor is to pretend.
pub(crate) fn unkept(
    active: &mut dyn ActiveSnapshot,
    executor: &dyn Executor,
) -> Result<Vec<(PathBuf, Owned)>, Error> {
    let unkept = active.unkept();
    // Devices that are not there are missed by few, and stay in the layers that have them.
    let has_owners = unkept.iter().any(|(_, owned)| (owned.uid, owned.gid) != (0, 0));
    executor.offers().check(has_owners.then_some(Need::Owners))?;
    Ok(unkept)
}

/// Whether a command is to flush what it writes, with this root file system and mounts whose files outlive it.
pub(crate) fn flushes(root: &[Mount], has_lasting_mounts: bool) -> bool {
    let flushes_nothing = |mount: &Mount| {
        mount.options().as_deref().unwrap_or_default().iter().any(|option| option == "volatile")
    };
    has_lasting_mounts || root.iter().any(flushes_nothing)
}

fn network(job: &Job<'_>, settings: &Settings) -> Network {
    match job.network {
        StepNetwork::None => Network::None,
        StepNetwork::Default if settings.private_network => Network::Private,
        StepNetwork::Default | StepNetwork::Host => Network::Host,
    }
}

/// What the step cannot do without.
fn needs(job: &Job<'_>, settings: &Settings) -> impl Iterator<Item = Need> {
    let has_size = settings.shm_size.is_some() || job.step.mounts.iter().any(|mount| mount.size.is_some());
    let network = network(job, settings);
    let needs = [
        (!job.step.mounts.is_empty(), Need::Mounts),
        (network != Network::Host, Need::OwnNetwork),
        (network == Network::Private, Need::PrivateNetwork),
        (settings.resources != Resources::default(), Need::Resources),
        (has_size, Need::SizedMounts),
    ];
    needs.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, need)| need)
}

/// Whether a path lies where a step has file systems of its own, whatever the image has there.
fn is_hidden(path: &Path) -> bool {
    SYSTEM_DIRECTORIES.iter().any(|system| path.starts_with(system))
}

/// The directories that must be there before the command: some only for its time (8.20), some for good (8.13).
fn prepare_directories(
    active: &mut dyn ActiveSnapshot,
    step: &RunStep,
    identity: &Identity,
) -> Result<(), Error> {
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        active.create_mount_point(Path::new(file), MountPointKind::File)?;
    }
    if !is_hidden(Path::new(&step.cwd)) {
        let made = active.create_directory(Path::new(&step.cwd), identity.uid, identity.gid);
        made.map_err(of_the_instruction)?;
    }
    Ok(())
}

/// A path that the Dockerfile names, and at which something else is than can be there.
fn of_the_instruction(error: ocibuild_snapshot::Error) -> Error {
    use ocibuild_snapshot::ErrorKind as Kind;
    match error.kind() {
        Kind::Resolve { .. } | Kind::WrongKind { .. } => RunFailure::Path { source: error }.into(),
        _ => error.into(),
    }
}

fn describe(
    context: &StepContext<'_>,
    job: &Job<'_>,
    identity: &Identity,
    home: String,
    mounts: &Mounts<'_, '_>,
    active: &dyn ActiveSnapshot,
    directory: &Path,
) -> Step {
    let (settings, step) = (context.settings, job.step);
    let rootfs = directory.join("rootfs");
    let root = mounts_at(active.rootfs_mounts(), &rootfs);
    let is_kept = step.mounts.iter().any(|mount| mount.kind == MountKind::Cache);
    // A cache that is moved into its place is lost if the machine ends, whatever of it is flushed.
    let flushes = flushes(&root, is_kept && context.executor.offers().includes(Need::SharedMounts));
    let mut described = Step::new(Rootfs { mounts: root, dir: rootfs }, directory.join("state"));
    described.flushes = flushes;
    described.args.clone_from(&step.args);
    described.env = environment(&[&step.env, &step.proxy_env, &mounts.env]);
    described.home = home;
    described.cwd = PathBuf::from(&step.cwd);
    described.user =
        User { uid: identity.uid, gid: identity.gid, additional_gids: identity.additional_gids.clone() };
    described.hostname.clone_from(&step.hostname);
    described.network = network(job, settings);
    described.insecure = step.insecure;
    described.dropped_capabilities = settings.dropped_capabilities;
    // Files of steps, and caches.
    described.movable = Some(context.layers.store.root().to_owned());
    described.mounts = mounts.made.iter().map(|(mount, _)| mount.clone()).collect();
    described.outside.clone_from(&mounts.outside);
    described.memory_files.clone_from(&mounts.memory_files);
    described.rlimits.clone_from(&settings.rlimits);
    described.resources.clone_from(&settings.resources);
    described.shm_size = settings.shm_size.unwrap_or(described.shm_size);
    described.hosts = ocibuild_executor::hosts(&step.hostname, &settings.added_hosts);
    described.resolv_conf = ocibuild_executor::resolv_conf(&settings.resolv_conf, described.network);
    described
}

/// Variables of all lists in order, each name once, where and as it comes last (8.02, 8.03).
fn environment(lists: &[&[(String, String)]]) -> Vec<String> {
    let all: Vec<&(String, String)> = lists.iter().flat_map(|list| list.iter()).collect();
    let is_last = |(index, (name, _)): &(usize, &&(String, String))| {
        !all[index + 1..].iter().any(|(later, _)| later == name)
    };
    let last = all.iter().enumerate().filter(is_last);
    last.map(|(_, (name, value))| format!("{name}={value}")).collect()
}

/// The mounts of a root file system, made at a directory of the host.
pub(crate) fn mounts_at(mut mounts: Vec<Mount>, directory: &Path) -> Vec<Mount> {
    for mount in &mut mounts {
        let inside = mount.destination().strip_prefix("/").unwrap_or(mount.destination()).to_owned();
        mount.set_destination(directory.join(inside));
    }
    mounts
}

fn execute(
    context: &StepContext<'_>,
    described: &Step,
    step: &RunStep,
    platform: &Platform,
) -> Result<Option<OwnershipRecord>, Ended> {
    let mut tail = VecDeque::new();
    let mut output = |stream: Stream, bytes: &[u8]| {
        tail.extend(bytes);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
        (context.output)(stream == Stream::Stderr, bytes);
    };
    let bundle = ocibuild_executor::bundle(described, &Host::detect());
    let result = context.executor.run_recording(&bundle, &mut output, context.cancel);
    let tail: Vec<u8> = tail.into();
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let failed = |code: i32| StepFailure::new(&step.command, code, tail);
    let emulation = || Emulation::detect(platform);
    let fact = |emulation| StepFact::Emulation { emulation, platform: platform.clone() };
    match result {
        Ok(Ending { status, record, .. }) if status.success() => Ok(record),
        // How a cancelled command ends is up to the executor and says nothing about the step.
        Ok(_) if context.cancel.is_cancelled() => Err(Ended::Otherwise(Error::cancelled())),
        Ok(Ending { status, exceeded, record }) => {
            let (mut failure, emulation) = (failed(status.code()), emulation());
            failure.facts.extend(exceeded.into_iter().map(StepFact::Exceeded));
            // What a shell ends with when it cannot execute a program.
            let is_foreign = !matches!(emulation, Emulation::Native | Emulation::Interpreter(_));
            if matches!(failure.code, 126 | 127) && is_foreign {
                failure.facts.push(fact(emulation));
            }
            Err(Ended::Failed { failure, record })
        }
        Err(error) => Err(match error.exit_code() {
            Some(code) => {
                let emulation = emulation();
                if is_foreign_program(&error, &emulation) {
                    let platform = platform.clone();
                    let foreign = RunFailure::ForeignProgram { platform, emulation, source: error };
                    return Err(Ended::Otherwise(foreign.into()));
                }
                let mut failure = failed(code);
                let is_format = error.kind() == ocibuild_executor::ErrorKind::ProgramFormat;
                if is_format && matches!(emulation, Emulation::Interpreter(_)) {
                    failure.facts.push(fact(emulation));
                }
                failure.not_started = Some(Box::new(error));
                Ended::Failed { failure, record: None }
            }
            None => Ended::Otherwise(error.into()),
        }),
    }
}

/// How a command ends without success.
enum Ended {
    /// With a code of its own, and the owners that it meant.
    Failed { failure: StepFailure, record: Option<OwnershipRecord> },
    /// It is not to blame.
    Otherwise(Error),
}

/// Whether this host cannot execute a program because it is for another platform.
fn is_foreign_program(error: &ocibuild_executor::Error, emulation: &Emulation) -> bool {
    use ocibuild_executor::ErrorKind::{ProgramFormat, ProgramNotFound};

    match (error.kind(), emulation) {
        // What the file is instead, [`FailedStep`] tells.
        (ProgramFormat, Emulation::Native | Emulation::Interpreter(_)) => false,
        // The kernel looks for an interpreter without the flag F in the image, and does not find it.
        (ProgramFormat, _) | (ProgramNotFound, Emulation::OutsideOnly(_)) => true,
        _ => false,
    }
}

/// A failed command's error with what its output and its files tell.
fn explained(
    mut failure: StepFailure,
    context: &StepContext<'_>,
    step: &RunStep,
    (tree, stack): (&Arc<Tree>, &[Layer<'_>]),
    secret_names: Vec<&str>,
) -> Error {
    let failed = FailedStep {
        step,
        dockerfile: context.dockerfile,
        tree,
        secret_names,
        given_secrets: context.settings.secrets.keys().map(String::as_str).collect(),
        in_context: context.in_context,
        drops_capabilities: !context.settings.dropped_capabilities.is_empty(),
        code: failure.code,
        output: &failure.output,
        not_started: failure.not_started.is_some(),
        known: &failure.facts,
    };
    let first_line = |path: &Path| -> Option<Vec<u8>> {
        let view = TreeSource::new(Arc::clone(tree));
        let files = context.layers.files(stack, &view.origin_of(path)).ok()?;
        let mut bytes = Vec::new();
        view.with_files(files).open(path).ok()?.take(256).read_to_end(&mut bytes).ok()?;
        bytes.split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec)
    };
    let facts = failed.facts(&first_line);
    failure.facts.extend(facts);
    failure.into()
}
