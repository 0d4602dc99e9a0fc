//! One `RUN`: its root file system, its mounts, its command, and the layer it leaves.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_executor::{Emulation, Host, Network, Rootfs, Step, Stream, User};
use ocibuild_snapshot::{ActiveSnapshot, MountPointKind, Tree};
use ocibuild_spec::{DiffId, Mount, MountBuilder, Platform};

use crate::accounts::Identity;
use crate::build::Secret;
use crate::copy::{Choice, Placement, Source, TreeSource, select};
use crate::failed::FailedStep;
use crate::keys::Framed;
use crate::layers::Layer;
use crate::plan::{FileSource, MountKind, RunStep, StepMount, StepNetwork, quote};
use crate::schedule::{NewLayer, Run};
use crate::stage::StageState;
use crate::unpacked::write_tree;
use crate::{Error, ErrorKind, Event};

/// Bytes of a failed step's output that its error repeats.
const TAIL: usize = 64 << 10;
/// Larger secrets are refused, as BuildKit does.
const MAX_SECRET: u64 = 500 << 10;

/// Runs a step on the files of a stage and writes the layer it makes.
pub(crate) fn run(
    run: &Run<'_>,
    state: &StageState,
    step: &RunStep,
    platform: &Platform,
    id: usize,
    fresh: bool,
) -> Result<NewLayer, Error> {
    let tree = state.tree(&run.layers)?;
    let accounts = run.layers.accounts(&state.stack, &tree)?;
    let identity = accounts.identity(&step.user)?;
    run.layers.unpack(&state.stack)?;
    let stack: Vec<DiffId> = state.stack.iter().map(|layer| layer.diff_id.clone()).collect();
    let mut active = run.backends.snapshots.prepare(&stack, Arc::clone(&tree), run.cancel)?;
    let directory = run.scratch.path().join(format!("step-{id}"));
    for folder in ["rootfs", "state", "mounts"] {
        fs::create_dir_all(directory.join(folder)).map_err(|error| unusable(&directory, error))?;
    }
    let mut mounts = Mounts {
        run,
        directory: directory.join("mounts"),
        made: Vec::new(),
        env: Vec::new(),
        locks: Vec::new(),
    };
    mounts.make(step, fresh)?;
    for (target, point) in &mounts.made {
        if !is_hidden(Path::new(target.destination())) {
            active.create_mount_point(target.destination(), *point)?;
        }
    }
    prepare_directories(active.as_mut(), step, &identity)?;
    let described =
        describe(run, step, &identity, accounts.home(identity.uid), &mounts, active.as_ref(), &directory);
    let secret_names: Vec<&str> = mounts.env.iter().map(|(name, _)| &name[..]).collect();
    let status = execute(run, &described, step, platform, id)
        .map_err(|error| explained(error, run, step, (&tree, &state.stack), secret_names));
    active.remove_mount_points()?;
    status?;
    let (_, changeset) = active.diff(run.cancel)?;
    let written =
        run.write(changeset, |diff_id, entries| active.commit(diff_id, entries).map_err(Error::from))?;
    fs::remove_dir_all(&directory).map_err(|error| unusable(&directory, error))?;
    Ok(written)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Host, format!("cannot use {}", path.display())).caused_by(error)
}

/// Whether a path lies where a step has file systems of its own, whatever the image has there.
fn is_hidden(path: &Path) -> bool {
    ["/dev", "/proc", "/sys"].iter().any(|system| path.starts_with(system))
}

/// The directories that must be there before the command: some only for its time (8.20), some for good (8.13).
fn prepare_directories(
    active: &mut dyn ActiveSnapshot,
    step: &RunStep,
    identity: &Identity,
) -> Result<(), Error> {
    for system in ["/proc", "/dev", "/sys"] {
        active.create_directory(Path::new(system), 0, 0)?;
    }
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        active.create_mount_point(Path::new(file), MountPointKind::File)?;
    }
    if !is_hidden(Path::new(&step.cwd)) {
        active.create_directory(Path::new(&step.cwd), identity.uid, identity.gid)?;
    }
    Ok(())
}

fn describe(
    run: &Run<'_>,
    step: &RunStep,
    identity: &Identity,
    home: String,
    mounts: &Mounts<'_, '_>,
    active: &dyn ActiveSnapshot,
    directory: &Path,
) -> Step {
    let settings = &run.build.settings;
    let rootfs = directory.join("rootfs");
    let mut described = Step::new(
        Rootfs { mounts: mounts_at(active.rootfs_mounts(), &rootfs), dir: rootfs.clone() },
        directory.join("state"),
    );
    described.args.clone_from(&step.args);
    let secrets = mounts.env.iter().map(|(name, value)| format!("{name}={value}"));
    let hidden: Vec<&str> = mounts.env.iter().chain(&step.proxy_env).map(|(name, _)| name.as_str()).collect();
    let own = step.env.iter().filter(|(name, _)| !hidden.contains(&name.as_str()));
    let proxies = step.proxy_env.iter().map(|(name, value)| format!("{name}={value}"));
    described.env =
        own.map(|(name, value)| format!("{name}={value}")).chain(proxies).chain(secrets).collect();
    described.home = home;
    described.cwd = PathBuf::from(&step.cwd);
    described.user =
        User { uid: identity.uid, gid: identity.gid, additional_gids: identity.additional_gids.clone() };
    described.hostname.clone_from(&step.hostname);
    described.network = match step.network {
        StepNetwork::None => Network::None,
        StepNetwork::Default | StepNetwork::Host => Network::Host,
    };
    described.insecure = step.insecure;
    described.mounts = mounts.made.iter().map(|(mount, _)| mount.clone()).collect();
    described.rlimits.clone_from(&settings.rlimits);
    described.shm_size = settings.shm_size;
    described.hosts = ocibuild_executor::hosts(&step.hostname, &settings.added_hosts);
    described.resolv_conf =
        ocibuild_executor::resolv_conf(&settings.resolv_conf, described.network == Network::Host);
    described
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
    run: &Run<'_>,
    described: &Step,
    step: &RunStep,
    platform: &Platform,
    id: usize,
) -> Result<(), Error> {
    let mut tail = VecDeque::new();
    let mut output = |stream: Stream, bytes: &[u8]| {
        tail.extend(bytes);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
        run.emit(Event::Output { step: id, stderr: stream == Stream::Stderr, bytes });
    };
    let bundle = ocibuild_executor::bundle(described, &Host::detect());
    let result = run.backends.executor.run(&bundle, &mut output, run.cancel);
    let tail: Vec<u8> = tail.into();
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let failed = |code: i32| {
        let message =
            format!("process {} did not complete successfully: exit code: {code}", quote(&step.command));
        Error::new(ErrorKind::StepFailed(code), message).with_output(tail.clone())
    };
    match result {
        Ok(status) if status.success() => Ok(()),
        // How a cancelled command ends is up to the executor and says nothing about the step.
        Ok(_) if run.cancel.is_cancelled() => Err(Error::cancelled()),
        Ok(status) => Err(match status.code() {
            // What a shell ends with when it cannot execute a program.
            code @ (126 | 127) if !is_executed_here(platform) => {
                failed(code).hint(Emulation::detect(platform).advice(platform))
            }
            code => failed(code),
        }),
        Err(error) => Err(match error.exit_code() {
            Some(code) => foreign_program(&error, platform)
                .unwrap_or_else(|hint| hint.into_iter().fold(failed(code), Error::hint))
                .caused_by(error),
            None => error.into(),
        }),
    }
}

/// The error of a program that this host cannot execute because it is for another platform; otherwise what could help.
fn foreign_program(error: &ocibuild_executor::Error, platform: &Platform) -> Result<Error, Option<String>> {
    use ocibuild_executor::ErrorKind::{ProgramFormat, ProgramNotFound};

    let emulation = Emulation::detect(platform);
    let advice = emulation.advice(platform);
    match (error.kind(), &emulation) {
        (ProgramFormat, Emulation::Native | Emulation::Interpreter(_)) => Err(Some(advice)),
        // The kernel looks for an interpreter without the flag F in the image, and does not find it.
        (ProgramFormat, _) | (ProgramNotFound, Emulation::OutsideOnly(_)) => {
            let host = Platform::host();
            let message = format!("programs for {platform} cannot be executed on this host, which is {host}");
            Ok(Error::new(ErrorKind::Host, message).hint(advice))
        }
        _ => Err(None),
    }
}

/// Whether the processor or an interpreter executes programs of this platform wherever they are.
fn is_executed_here(platform: &Platform) -> bool {
    matches!(Emulation::detect(platform), Emulation::Native | Emulation::Interpreter(_))
}

/// A failed command's error with what its output and its files tell.
fn explained(
    error: Error,
    run: &Run<'_>,
    step: &RunStep,
    (tree, stack): (&Arc<Tree>, &[Layer]),
    secret_names: Vec<&str>,
) -> Error {
    let ErrorKind::StepFailed(code) = error.kind() else { return error };
    let output = error.output().unwrap_or_default().to_owned();
    let not_started = std::error::Error::source(&error).is_some();
    let failed = FailedStep {
        step,
        dockerfile: &run.build.dockerfile,
        tree,
        secret_names,
        code,
        output: &output,
        not_started,
    };
    let first_line = |path: &Path| -> Option<Vec<u8>> {
        let view = TreeSource::new(Arc::clone(tree));
        let files = run.layers.files(stack, &view.origin_of(path)).ok()?;
        let mut bytes = Vec::new();
        view.with_files(files).open(path).ok()?.take(256).read_to_end(&mut bytes).ok()?;
        bytes.split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec)
    };
    failed.explain(error, &first_line)
}

/// Mounts of the instruction, as host paths that the executor can bind.
struct Mounts<'a, 'r> {
    run: &'a Run<'r>,
    directory: PathBuf,
    made: Vec<(Mount, MountPointKind)>,
    env: Vec<(String, String)>,
    /// Held while the step runs: caches that only one may use.
    locks: Vec<ocibuild_sys::FileLock>,
}

impl Mounts<'_, '_> {
    fn make(&mut self, step: &RunStep, fresh: bool) -> Result<(), Error> {
        if let Some((name, content)) = &step.script {
            let path = self.directory.join("script");
            fs::write(&path, content).map_err(|error| unusable(&path, error))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(|error| unusable(&path, error))?;
            self.bind(&path, &format!("/dev/pipes/{name}"), true, MountPointKind::File);
        }
        let mut ordered: Vec<&StepMount> = step.mounts.iter().collect();
        ordered.sort_by_key(|mount| Path::new(&mount.target).components().count());
        for (number, mount) in ordered.into_iter().enumerate() {
            let place = self.directory.join(number.to_string());
            match mount.kind {
                MountKind::Bind => self.files(mount, &place)?,
                MountKind::Cache => self.cache(mount, fresh)?,
                MountKind::Tmpfs => self.tmpfs(mount),
                MountKind::Secret => self.secret(mount)?,
                MountKind::Ssh => Self::ssh(mount)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, source: &Path, target: &str, read_only: bool, point: MountPointKind) {
        let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
        if read_only {
            options.push("ro".to_owned());
        }
        let mount = MountBuilder::default()
            .destination(target)
            .typ("bind")
            .source(source)
            .options(options)
            .build()
            .expect("every field a mount needs is set");
        self.made.push((mount, point));
    }

    /// A copy of what is mounted: it shows the context without what is ignored, and writes to it go nowhere.
    fn files(&mut self, mount: &StepMount, place: &Path) -> Result<(), Error> {
        let from = mount.from.as_ref().unwrap_or(&FileSource::Context);
        let point = self.copy_of(from, &mount.source, place)?;
        let source = if point == MountPointKind::File { place.join("file") } else { place.to_owned() };
        self.bind(&source, &mount.target, mount.read_only, point);
        Ok(())
    }

    /// Copies a path of a source into the new directory `place`, a file under the name `file`.
    fn copy_of(&self, from: &FileSource, path: &str, place: &Path) -> Result<MountPointKind, Error> {
        fs::create_dir_all(place).map_err(|error| unusable(place, error))?;
        let opened: Arc<dyn Source> = match self.run.tree_of(from)? {
            Some((tree, stack)) => {
                let view = TreeSource::new(tree);
                let selected = select(&view, &literal(path), &Choice::default())?;
                let files = self.run.layers.files(&stack, &view.origins(&selected)?)?;
                Arc::new(view.with_files(files))
            }
            None => self.run.local_source(from)?,
        };
        let selected = select(opened.as_ref(), &literal(path), &Choice::default())?;
        let mut placement = Placement::new(Tree::new(), self.run.now());
        let mut point = MountPointKind::Directory;
        for one in &selected {
            if one.node.is_directory() {
                placement.copy(opened.as_ref(), one, "/")?;
                *placement.tree.metadata_mut(placement.tree.root()) = one.node.metadata.clone();
            } else {
                point = MountPointKind::File;
                placement.copy(opened.as_ref(), one, "/file")?;
            }
        }
        write_tree(place, &placement, opened.as_ref(), self.run.cancel)?;
        Ok(point)
    }

    fn cache(&mut self, mount: &StepMount, fresh: bool) -> Result<(), Error> {
        use crate::plan::CacheSharing;
        let initial = match &mount.from {
            Some(from) => format!("{from:?} {}", mount.source),
            None => String::new(),
        };
        let (mode, uid, gid) = (mount.mode.unwrap_or(0o755), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let mut framed = Framed::new("ocibuild cache mount v1");
        framed.field(mount.id.as_bytes());
        framed.field(format!("{initial} {mode:o} {uid} {gid}").as_bytes());
        let name = framed.finish();
        let caches = self.run.backends.store.private_dir("mounts");
        let mut place = caches.join(name.hex());
        match mount.sharing {
            CacheSharing::Shared => {}
            CacheSharing::Locked => self.locks.push(ocibuild_sys::lock_exclusive(lock_of(&place))?),
            CacheSharing::Private => match ocibuild_sys::try_lock_exclusive(lock_of(&place))? {
                Some(lock) => self.locks.push(lock),
                None => place = self.directory.join(name.hex()),
            },
        }
        if fresh && place.exists() {
            fs::remove_dir_all(&place).map_err(|error| unusable(&place, error))?;
        }
        if !place.exists() {
            self.fill_cache(mount, &place, (mode, uid, gid))?;
        }
        self.bind(&place, &mount.target, mount.read_only, MountPointKind::Directory);
        Ok(())
    }

    /// Makes a cache's directory whole or not at all.
    fn fill_cache(&self, mount: &StepMount, place: &Path, owner: (u32, u32, u32)) -> Result<(), Error> {
        let new = self.directory.join("new-cache");
        fs::create_dir_all(&new).map_err(|error| unusable(&new, error))?;
        let has_content = mount.from.is_some() && !mount.starts_empty;
        if let Some(from) = mount.from.as_ref().filter(|_| has_content) {
            self.copy_of(from, &mount.source, &new)?;
        }
        if !has_content {
            let (mode, uid, gid) = owner;
            let parent = ocibuild_sys::DirHandle::open(&self.directory)?;
            parent.chown("new-cache", uid, gid)?;
            parent.chmod("new-cache", mode)?;
        }
        match fs::rename(&new, place) {
            // Another build was first.
            Err(_) if place.exists() => fs::remove_dir_all(&new).map_err(|error| unusable(&new, error)),
            other => other.map_err(|error| unusable(place, error)),
        }
    }

    fn tmpfs(&mut self, mount: &StepMount) {
        let mut options = vec!["nosuid".to_owned(), "mode=1777".to_owned()];
        options.extend(mount.size.map(|size| format!("size={size}")));
        let mount = MountBuilder::default()
            .destination(&mount.target)
            .typ("tmpfs")
            .source("tmpfs")
            .options(options)
            .build()
            .expect("every field a mount needs is set");
        self.made.push((mount, MountPointKind::Directory));
    }

    fn secret(&mut self, mount: &StepMount) -> Result<(), Error> {
        let value = match self.run.build.settings.secrets.get(&mount.id) {
            Some(secret) => secret_value(secret)?,
            None if mount.required => {
                return Err(Error::new(ErrorKind::Usage, format!("secret {}: not found", mount.id))
                    .id("secret-not-found")
                    .word(&mount.id)
                    .hint(format!("give it with --secret id={},src=FILE", mount.id)));
            }
            None => {
                self.env.extend(mount.env.iter().map(|name| (name.clone(), String::new())));
                return Ok(());
            }
        };
        if let Some(name) = &mount.env {
            let text = String::from_utf8(value.clone()).map_err(|_| {
                Error::new(ErrorKind::Usage, format!("the value of secret {} is not valid UTF-8", mount.id))
            })?;
            self.env.push((name.clone(), text));
        }
        if mount.as_file {
            let message = format!("secret {}: secrets as files are not supported yet", mount.id);
            return Err(Error::new(ErrorKind::Dockerfile, message)
                .hint("mount it as a variable: --mount=type=secret,env=NAME"));
        }
        Ok(())
    }

    fn ssh(mount: &StepMount) -> Result<(), Error> {
        if mount.required {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("no SSH key \"{}\" forwarded from the client", mount.id),
            )
            .id("ssh-not-found")
            .hint("give the agent with --ssh default, or drop required"));
        }
        Ok(())
    }
}

fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}

/// A path of a mount is no pattern: its wildcards are matched by themselves.
fn literal(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, character| {
        match character {
            '*' | '?' | '[' => text.extend(['[', character, ']']),
            other => text.push(other),
        }
        text
    })
}

/// The value of a secret, read now and kept nowhere.
pub(crate) fn secret_value(secret: &Secret) -> Result<Vec<u8>, Error> {
    match secret {
        Secret::Value(value) => Ok(value.clone()),
        Secret::File(path) => read_secret(path),
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let file = fs::File::open(path).map_err(|error| unusable(path, error))?;
    let mut value = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut value).map_err(|error| unusable(path, error))?;
    if value.len() as u64 > MAX_SECRET {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the secret {} has more than 500 KiB", path.display()),
        ));
    }
    Ok(value)
}
