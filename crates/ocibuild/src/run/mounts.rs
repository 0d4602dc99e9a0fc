//! The mounts of one `RUN`: what its flags ask for, as paths of the host that the executor can bind.

use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_executor::{MemoryFile, Outside};
use ocibuild_plan::{FileSource, MountKind, RunStep, StepMount};
use ocibuild_snapshot::{MountPointKind, Tree};
use ocibuild_spec::{Mount, MountBuilder, Owned};

use super::StepContext;
use super::caches::HeldCache;
use super::mounted::{Mounted, copy_to};
use super::views::{ContextView, StackView};
use crate::error::{Error, unusable};
use crate::failure::RunFailure;
use crate::ssh::Forwarder;

/// Mounts of the instruction, and what must live as long as the step runs.
pub(super) struct Mounts<'a, 'r> {
    pub(super) context: &'a StepContext<'r>,
    /// What the key of the step has of them.
    pub(super) mounted: &'a Mounted<'a>,
    /// Where copies, throwaway caches and sockets are.
    pub(super) directory: PathBuf,
    /// The private directory of the step.
    pub(super) state: PathBuf,
    pub(super) made: Vec<(Mount, MountPointKind)>,
    /// What is mounted before the root of the step is entered, to be bound from.
    pub(super) outside: Vec<Outside>,
    /// What is mounted of stages and images.
    pub(super) views: Vec<StackView>,
    /// What is mounted of contexts.
    pub(super) seen: Vec<ContextView>,
    /// Files for the file system in memory.
    pub(super) memory_files: Vec<MemoryFile>,
    /// Variables with the values of secrets.
    pub(super) env: Vec<(String, String)>,
    /// Caches that only one may use.
    pub(super) locks: Vec<(PathBuf, ocibuild_sys::FileLock)>,
    /// Caches in use.
    pub(super) caches: Vec<HeldCache>,
    /// Owners of what is mounted, by path below the root of the step, where its disk cannot have them.
    pub(super) unkept: Vec<(PathBuf, Owned)>,
    /// Agents that are forwarded.
    pub(super) forwarders: Vec<Forwarder>,
}

impl<'a, 'r> Mounts<'a, 'r> {
    pub(super) fn new(context: &'a StepContext<'r>, mounted: &'a Mounted<'a>, step_directory: &Path) -> Self {
        Self {
            context,
            mounted,
            directory: step_directory.join("mounts"),
            state: step_directory.join("state"),
            made: Vec::new(),
            outside: Vec::new(),
            views: Vec::new(),
            seen: Vec::new(),
            memory_files: Vec::new(),
            env: Vec::new(),
            locks: Vec::new(),
            caches: Vec::new(),
            unkept: Vec::new(),
            forwarders: Vec::new(),
        }
    }

    pub(super) fn make(&mut self, step: &RunStep, tree: &Tree, fresh: bool) -> Result<(), Error> {
        if let Some((name, content)) = &step.script {
            let path = self.directory.join("script");
            fs::write(&path, content).map_err(|error| unusable(&path, error))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(|error| unusable(&path, error))?;
            self.bind(&path, &format!("/dev/pipes/{name}"), true, MountPointKind::File);
        }
        let mut ordered: Vec<&StepMount> = step.mounts.iter().collect();
        ordered.sort_by_key(|mount| Path::new(&mount.target).components().count());
        let caches = self.lock_caches(&ordered)?;
        for (number, (mount, cache)) in ordered.into_iter().zip(caches).enumerate() {
            let place = self.directory.join(number.to_string());
            match mount.kind {
                MountKind::Bind => self.files(mount, step.insecure, &place)?,
                MountKind::Cache => {
                    let cache = cache.expect("every cache mount has a place");
                    self.cache(mount, &cache, fresh, number)?;
                }
                MountKind::Tmpfs => self.tmpfs(mount, step, tree, &place)?,
                MountKind::Secret => self.secret(mount)?,
                MountKind::Ssh => self.ssh(mount, number)?,
            }
        }
        Ok(())
    }

    pub(super) fn bind(&mut self, source: &Path, target: &str, read_only: bool, point: MountPointKind) {
        // Nothing is mounted below what is ours.
        let mut options = vec!["bind", "rprivate"];
        if read_only {
            options.push("ro");
        }
        self.add(target, "bind", source, &options, point);
    }

    /// Binds a directory read-only, with all that is mounted below it.
    pub(super) fn bind_all(&mut self, source: &Path, target: &str) {
        let options = ["rbind", "rprivate", "ro", "rro"];
        self.add(target, "bind", source, &options, MountPointKind::Directory);
    }

    pub(super) fn add(
        &mut self,
        target: &str,
        kind: &str,
        source: &Path,
        options: &[&str],
        point: MountPointKind,
    ) {
        self.made.push((mount_of(Path::new(target), kind, source, options), point));
    }

    /// What is mounted where it is, if it can be; else a copy: it shows the context without what is ignored, and writes to it
    /// go nowhere.
    fn files(&mut self, mount: &StepMount, insecure: bool, place: &Path) -> Result<(), Error> {
        let from = mount.from.as_ref().unwrap_or(&FileSource::Context);
        // Who may mount could make the context writable.
        if self.view(mount, from, place)? || !insecure && self.view_context(mount, place)? {
            return Ok(());
        }
        let (point, owned) = self.copy_files(mount, from, place)?;
        // A file is mounted by itself.
        let below = |path: PathBuf| if point == MountPointKind::File { PathBuf::new() } else { path };
        self.note_owners(mount, owned.into_iter().map(|(path, owned)| (below(path), owned)));
        let source = if point == MountPointKind::File { place.join("file") } else { place.to_owned() };
        self.bind(&source, &mount.target, mount.read_only, point);
        Ok(())
    }

    /// Copies what is mounted, as the key of the step has it, into a new directory.
    pub(super) fn copy_files(
        &self,
        mount: &StepMount,
        from: &FileSource,
        place: &Path,
    ) -> Result<(MountPointKind, Vec<(PathBuf, Owned)>), Error> {
        let found;
        let selection = if let Some(known) = self.mounted.selection(mount) {
            known
        } else {
            found = (self.context.files)(from, &mount.source)?;
            &found
        };
        copy_to(place, selection, (self.context.now)(), self.context.cancel)
    }

    /// Whether files belong to whom they should.
    pub(super) fn keeps_owners(&self) -> bool {
        self.context.snapshots.keeps_owners()
    }

    /// Notes whom things below a mount belong to, unless the disk does.
    pub(super) fn note_owners(
        &mut self,
        mount: &StepMount,
        owned: impl IntoIterator<Item = (PathBuf, Owned)>,
    ) {
        if self.keeps_owners() {
            return;
        }
        let target = Path::new(&mount.target);
        let target = target.strip_prefix("/").unwrap_or(target);
        let below =
            |path: PathBuf| if path.as_os_str().is_empty() { target.to_owned() } else { target.join(path) };
        self.unkept.extend(owned.into_iter().map(|(path, owned)| (below(path), owned)));
    }

    /// Mounted outside and bound into the step: of a file system that a runtime mounts itself it sets the mode.
    fn tmpfs(&mut self, mount: &StepMount, step: &RunStep, tree: &Tree, place: &Path) -> Result<(), Error> {
        fs::create_dir_all(place).map_err(|error| unusable(place, error))?;
        let mode = format!("mode={:o}", tmpfs_mode(mount, step, tree));
        let size = mount.size.map(|size| format!("size={size}"));
        let mut options = vec!["nosuid", &mode];
        options.extend(size.as_deref());
        self.outside.push(Outside::Mount(mount_of(place, "tmpfs", Path::new("tmpfs"), &options)));
        let mut options = vec!["bind", "nosuid"];
        options.extend(mount.read_only.then_some("ro"));
        self.add(&mount.target, "bind", place, &options, MountPointKind::Directory);
        Ok(())
    }

    /// A socket of the step's own, behind which is the agent of who builds.
    fn ssh(&mut self, mount: &StepMount, number: usize) -> Result<(), Error> {
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let Some(agent) = self.context.settings.ssh.get(id) else {
            if mount.required {
                return Err(RunFailure::SshNotFound { id: mount.id.clone() }.into());
            }
            return Ok(());
        };
        let upstream = self.context.agents.socket(id, agent, self.context.scratch)?;
        let name = format!("agent-{number}");
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let on_disk = if self.keeps_owners() { owner } else { (0, 0) };
        let mode = mount.mode.unwrap_or(0o600);
        let forwarder = Forwarder::start(&self.directory, &name, upstream, mode, on_disk)?;
        self.note_owners(mount, [(PathBuf::new(), Owned::by(owner.0, owner.1))]);
        self.forwarders.push(forwarder);
        self.bind(&self.directory.join(name), &mount.target, mount.read_only, MountPointKind::File);
        Ok(())
    }
}

/// As BuildKit's runtime has it: the mode of the directory that is mounted over, and 1777 where there was none.
fn tmpfs_mode(mount: &StepMount, step: &RunStep, tree: &Tree) -> u32 {
    let target = Path::new(&mount.target);
    let is_above = |other: &StepMount| other.target != mount.target && target.starts_with(&other.target);
    if step.mounts.iter().any(is_above) {
        return 0o1777;
    }
    let found = tree.resolve(target, true).ok().and_then(|resolved| resolved.node);
    found.map_or(0o1777, |id| tree.node(id).metadata.mode & 0o7777)
}

fn mount_of(destination: &Path, kind: &str, source: &Path, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .expect("every field a mount needs is set")
}
