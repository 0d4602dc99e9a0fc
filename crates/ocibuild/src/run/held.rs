//! A step that failed, held until nothing else of the build runs: to be kept as a bundle, or to be entered.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_executor::{
    Attached, Executor, ExitStatus, Host, Outside, Rootfs, Step, WindowSize, memory_directory, write_bundle,
};
use ocibuild_snapshot::{ActiveSnapshot, Tree};
use ocibuild_spec::{CancelToken, Mount, OwnershipRecord};
use ocibuild_sys::FileLock;

use super::caches::{HeldCache, wait_for};
use super::mounts::Mounts;
use super::shells::shell_in;
use super::views::{ContextView, StackView};
use crate::error::{Error, unusable};
use crate::failure::{KeptStep, LeftOut};
use crate::ssh::Forwarder;
use ocibuild_plan::RunStep;

/// Where files of the host are that were brought into a step: in a file system that is the step's own.
const BROUGHT: &str = "/dev/ocibuild";

/// What a terminal is taken for where the step does not say.
const TERM: &str = "TERM=xterm";

/// A step whose command failed, with all that it takes to run another in its place.
///
/// It has the files as the command left them, but no lock that another step may wait for: those are taken anew by whoever
/// enters it.
#[derive(Debug)]
pub(crate) struct HeldStep {
    /// Its number among all steps.
    pub(crate) id: usize,
    described: Step,
    active: Box<dyn ActiveSnapshot>,
    /// The merged view that it began with.
    base: Arc<Tree>,
    record: Option<OwnershipRecord>,
    keeps_owners: bool,
    /// That of `SHELL`.
    shell: Vec<String>,
    /// Names of the variables that are secrets.
    secret_variables: Vec<String>,
    /// Addresses of proxies.
    proxies: Vec<(String, String)>,
    forwarders: Vec<Forwarder>,
    views: Vec<StackView>,
    seen: Vec<ContextView>,
    /// Nobody removes these meanwhile.
    _caches: Vec<HeldCache>,
    locked: BTreeSet<PathBuf>,
    /// Where the files are that were made for its mounts.
    made_for_mounts: PathBuf,
}

impl HeldStep {
    pub(super) fn new(
        (id, step, described): (usize, &RunStep, Step),
        (active, base): (Box<dyn ActiveSnapshot>, Arc<Tree>),
        record: Option<OwnershipRecord>,
        mounts: Mounts<'_, '_>,
    ) -> Self {
        let keeps_owners = mounts.keeps_owners();
        let Mounts { env, forwarders, views, seen, caches, locks, directory, .. } = mounts;
        Self {
            id,
            described,
            active,
            base,
            record,
            keeps_owners,
            shell: step.shell.clone(),
            secret_variables: env.into_iter().map(|(name, _)| name).collect(),
            proxies: step.proxy_env.clone(),
            forwarders,
            views,
            seen,
            _caches: caches,
            locked: locks.into_iter().map(|(place, _)| place).collect(),
            made_for_mounts: directory,
        }
    }

    /// The merged view of what the command left.
    fn after(&self, cancel: &CancelToken) -> Result<Tree, Error> {
        Ok(self.active.diff(self.record.as_ref(), cancel)?.0)
    }

    /// The command line of the shell that there is: that of `SHELL`, or one of those that images usually have.
    pub(crate) fn shell(&self, cancel: &CancelToken) -> Option<Vec<String>> {
        // Files that no layer could have are no reason not to look at them.
        let after = self.after(cancel);
        self.shell_in(after.as_ref().unwrap_or(&self.base))
    }

    fn shell_in(&self, tree: &Tree) -> Option<Vec<String>> {
        shell_in(tree, self.shell.first().map(String::as_str))
    }

    /// Runs another command in its place: with its mounts, its environment and its user, on the files as they were left.
    pub(crate) fn enter(
        &mut self,
        executor: &dyn Executor,
        (args, terminal): (Vec<String>, Option<WindowSize>),
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        self.active.renew()?;
        self.views.iter_mut().try_for_each(StackView::renew)?;
        let lock = |place: &PathBuf| wait_for(place, cancel);
        let _locks: Vec<FileLock> = self.locked.iter().map(lock).collect::<Result<_, _>>()?;
        let mut step = self.described.clone();
        if !self.keeps_owners {
            step.unkept = self.after(cancel)?.unkept_without_owners();
        }
        step.args = args;
        step.terminal = terminal;
        if terminal.is_some() && !step.env.iter().any(|variable| variable.starts_with("TERM=")) {
            step.env.push(TERM.to_owned());
        }
        let bundle = ocibuild_executor::bundle(&step, &Host::detect());
        Ok(executor.attach(&bundle, attached, cancel)?)
    }

    /// Copies files of the host to where commands see them.
    pub(crate) fn bring(&mut self, files: &[(String, PathBuf)]) -> Result<PathBuf, Error> {
        let directory = self.made_for_mounts.join("brought");
        fs::create_dir_all(&directory).map_err(|error| unusable(&directory, error))?;
        let readable = || std::fs::Permissions::from_mode(0o755);
        fs::set_permissions(&directory, readable()).map_err(|error| unusable(&directory, error))?;
        for (name, source) in files {
            let own = directory.join(name);
            fs::copy(source, &own).map_err(|error| unusable(source, error))?;
            fs::set_permissions(&own, readable()).map_err(|error| unusable(&own, error))?;
        }
        let is_brought = |mount: &Mount| mount.destination() == Path::new(BROUGHT);
        if !self.described.mounts.iter().any(is_brought) {
            let options = ["bind", "ro", "nosuid", "nodev"].map(str::to_owned).to_vec();
            let mut mount = Mount::default();
            mount.set_destination(BROUGHT.into()).set_typ(Some("bind".to_owned()));
            mount.set_source(Some(directory)).set_options(Some(options));
            self.described.mounts.push(mount);
        }
        Ok(BROUGHT.into())
    }

    /// Makes a bundle of it, in a new directory below `kept`.
    pub(crate) fn keep(self, kept: &Path, cancel: &CancelToken) -> Result<KeptStep, Error> {
        let (place, _reserved) = reserve(kept)?;
        let result = self.keep_at(&place, cancel);
        if result.is_err() {
            // It is empty still; whoever prunes removes it otherwise.
            let _ = fs::remove_dir(&place);
        }
        result
    }

    fn keep_at(mut self, place: &Path, cancel: &CancelToken) -> Result<KeptStep, Error> {
        let after = self.after(cancel)?;
        let shell = self.shell_in(&after).map(|shell| shell.join(" "));
        let mut step = self.described.clone();
        if !self.keeps_owners {
            step.unkept = after.unkept_without_owners();
        }
        let new = self.made_for_mounts.with_file_name("kept");
        for directory in [&new, &new.join("mounts")] {
            private_directory(directory)?;
        }
        let left_out = self.without_secrets(&mut step);
        for (number, mount) in step.mounts.iter_mut().enumerate() {
            self.relocate(mount, (&new, place), number, cancel)?;
        }
        step.outside.clear();
        step.rootfs = Rootfs::at(place.join("rootfs"));
        place.clone_into(&mut step.state);
        step.movable = None;
        // What is changed in it stays.
        step.flushes = true;
        let rootfs = new.join("rootfs");
        self.active.write_out(&after, &rootfs, cancel)?;
        let mode = std::fs::Permissions::from_mode(0o755);
        fs::set_permissions(&rootfs, mode).map_err(|error| unusable(&rootfs, error))?;
        write_bundle(&step, &Host::detect(), &new)?;
        self.forwarders.clear();
        fs::rename(&new, place).map_err(|error| unusable(place, error))?;
        Ok(KeptStep { bundle: place.to_owned(), shell, left_out })
    }

    /// Takes what is secret out of a step, and tells what that was.
    fn without_secrets(&self, step: &mut Step) -> Vec<LeftOut> {
        let memory = memory_directory(&step.state);
        let mut left_out = Vec::new();
        step.mounts.retain(|mount| {
            let source = mount.source().clone().unwrap_or_default();
            let target = mount.destination().clone();
            if source.starts_with(&memory) {
                left_out.push(LeftOut::Secret { target });
            } else if self.forwarders.iter().any(|forwarder| forwarder.path() == source) {
                left_out.push(LeftOut::Agent { target });
            } else {
                return true;
            }
            false
        });
        step.memory_files.clear();
        let has_target = |path: &Path| {
            let path = Path::new("/").join(path);
            left_out.iter().any(|left| {
                matches!(left, LeftOut::Secret { target } | LeftOut::Agent { target } if *target == path)
            })
        };
        step.unkept_mounted.retain(|(path, _)| !has_target(path));
        step.env.retain(|variable| {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            if self.secret_variables.iter().any(|secret| secret == name) {
                left_out.push(LeftOut::SecretVariable { name: name.to_owned() });
                return false;
            }
            let is_proxy = self.proxies.iter().any(|(proxy, own)| proxy == name && own == value);
            let has_password = is_proxy && value.contains('@');
            if has_password {
                left_out.push(LeftOut::Proxy { name: name.to_owned() });
            }
            !has_password
        });
        left_out
    }

    /// Moves what was made for a mount into the bundle, and mounts anew what was mounted outside of the root.
    fn relocate(
        &mut self,
        mount: &mut Mount,
        (new, place): (&Path, &Path),
        number: usize,
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        let source = mount.source().clone().unwrap_or_default();
        let (number, mounts) = (number.to_string(), Path::new("mounts"));
        let own = new.join(mounts).join(&number);
        let inside = if let Some(view) = self.views.iter().position(|view| view.target == source) {
            Some(self.views.swap_remove(view).write_out(&own, cancel)?)
        } else if let Some(view) = self.seen.iter().position(|view| view.target == source) {
            Some(self.seen.swap_remove(view).write_out(&own, cancel)?)
        } else {
            None
        };
        if let Some(inside) = inside {
            let source = place.join(mounts).join(number);
            let itself = inside.as_os_str().is_empty();
            mount.set_source(Some(if itself { source } else { source.join(inside) }));
            return Ok(());
        }
        let outside = self.described.outside.iter().find_map(|outside| match outside {
            Outside::Mount(outside) if *outside.destination() == source => Some(outside),
            _ => None,
        });
        if let Some(outside) = outside {
            let is_read_only = mount.options().iter().flatten().any(|option| option == "ro");
            let mut options = outside.options().clone().unwrap_or_default();
            options.extend(is_read_only.then(|| "ro".to_owned()));
            mount
                .set_typ(outside.typ().clone())
                .set_source(outside.source().clone())
                .set_options(Some(options));
            return Ok(());
        }
        if source.starts_with(&self.made_for_mounts) {
            fs::rename(&source, &own).map_err(|error| unusable(&own, error))?;
            mount.set_source(Some(place.join(mounts).join(number)));
        }
        Ok(())
    }
}

/// A new directory for a bundle, which nobody else takes and nobody removes as long as the lock is held. Who is killed
/// meanwhile leaves it empty.
fn reserve(kept: &Path) -> Result<(PathBuf, FileLock), Error> {
    let mut number = 1_u64;
    loop {
        let place = kept.join(number.to_string());
        match fs::create_dir(&place) {
            Ok(()) => {
                if let Ok(Some(lock)) = ocibuild_sys::try_lock_existing_exclusive(&place) {
                    return Ok((place, lock));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(&place, error)),
        }
        number += 1;
    }
}

fn private_directory(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| unusable(path, error))
}
