//! Steps that failed and are kept: `kept/1`, `kept/2` and so on, each an OCI bundle, locked by those who are in it.

use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_executor::{Attached, Bundle, Executor, ExitStatus, Need, WindowSize, open_bundle};
use ocibuild_spec::CancelToken;
use ocibuild_sys::{
    DirHandle, ErrorKind as SystemError, try_lock_existing_exclusive, try_lock_existing_shared,
};

use super::State;
use super::prune::size_below;
use crate::error::{Error, unusable};
use crate::failure::StateFailure;
use crate::run::caches;

/// How a step that is kept is entered; what is not given is as the step had it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EnterOptions {
    /// Program and arguments; if there are none, the command that failed is run again.
    pub args: Vec<String>,
    /// `NAME=value`, over the environment of the step.
    pub env: Vec<String>,
    /// Directory to start in, absolute.
    pub working_dir: Option<String>,
    /// Size of the terminal that the command gets, if it gets one.
    pub terminal: Option<WindowSize>,
}

impl State<'_> {
    /// The directory of steps that are kept.
    fn kept(&self) -> PathBuf {
        self.layout.private_dir("kept")
    }

    /// Runs a command in a step that failed and is kept ([`Build::keep_failed`](crate::build::Build::keep_failed)), and gives
    /// its status. What it changes stays there. Caches of the step that are for one step at a time are waited for.
    pub fn enter(
        &self,
        bundle: &Path,
        options: &EnterOptions,
        executor: &dyn Executor,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let work = || self.enter_as_root(bundle, options, executor, attached, cancel);
        self.directory.privilege().run(work)
    }

    fn enter_as_root(
        &self,
        directory: &Path,
        options: &EnterOptions,
        executor: &dyn Executor,
        attached: Attached<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<ExitStatus, Error> {
        let missing = || Error::from(StateFailure::NoKeptStep { path: directory.to_owned() });
        let path = fs::canonicalize(directory).map_err(|_| missing())?;
        let is_here = fs::canonicalize(self.kept()).is_ok_and(|kept| path.parent() == Some(&kept));
        if !is_here || !path.join("config.json").is_file() {
            return Err(missing());
        }
        let _lease = self.layout.lease()?;
        // Whoever removes it has it for himself.
        let _in_use = try_lock_existing_shared(&path)?.ok_or_else(missing)?;
        let scratch = self.layout.scratch()?;
        let state = scratch.path().join("state");
        fs::create_dir(&state).map_err(|error| unusable(&state, error))?;
        let mut bundle = open_bundle(&path, &state)?;
        bundle.movable = Some(self.layout.root().to_owned());
        let has_owners = bundle.unkept.iter().any(|(_, owned)| (owned.uid, owned.gid) != (0, 0));
        executor.offers().check(has_owners.then_some(Need::Owners))?;
        let _caches = self.caches_of(&bundle, cancel)?;
        changed(&mut bundle, options);
        executor.attach(&bundle, attached, cancel).map_err(|error| match error.exit_code() {
            Some(code) => StateFailure::NotStarted { code, source: error }.into(),
            None => error.into(),
        })
    }

    /// The caches that are mounted in a bundle, for whoever enters it.
    fn caches_of(&self, bundle: &Bundle, cancel: &CancelToken) -> Result<Vec<caches::EnteredCache>, Error> {
        let mounts = self.layout.private_dir("mounts");
        let sources = bundle.spec.mounts().iter().flatten().filter_map(|mount| mount.source().clone());
        let mut caches: Vec<PathBuf> = sources.filter(|source| source.starts_with(&mounts)).collect();
        caches.sort();
        caches.dedup();
        let entered = |directory: &PathBuf| {
            let found = caches::enter(directory, cancel)?;
            found.ok_or_else(|| StateFailure::KeptCacheGone { path: directory.clone() }.into())
        };
        caches.iter().map(entered).collect()
    }

    /// Removes the steps that are kept and that nobody is in; how many, and their bytes.
    pub(super) fn remove_kept(&self) -> Result<(u64, u64), Error> {
        let kept = self.kept();
        let directory = DirHandle::open(&kept)?;
        let (mut count, mut bytes) = (0, 0);
        for entry in directory.read_dir()? {
            let name = entry?.name;
            let path = kept.join(&name);
            match try_lock_existing_exclusive(&path) {
                Ok(Some(_nobody)) => {
                    let size = size_below(&path);
                    directory.remove_tree(&name)?;
                    (count, bytes) = (count + 1, bytes + size);
                }
                Ok(None) => {}
                // Somebody else removes them, too.
                Err(error) if error.kind() == SystemError::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((count, bytes))
    }

    /// Bytes of the steps that are kept.
    pub(super) fn size_of_kept(&self) -> u64 {
        size_below(&self.kept())
    }
}

/// The bundle as the caller wants it.
fn changed(bundle: &mut Bundle, options: &EnterOptions) {
    let Some(mut process) = bundle.spec.process().clone() else { return };
    if !options.args.is_empty() {
        process.set_args(Some(options.args.clone()));
    }
    let mut env = process.env().clone().unwrap_or_default();
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let has_term = env.iter().chain(&options.env).any(|variable| name(variable) == "TERM");
    let term = (options.terminal.is_some() && !has_term).then(|| "TERM=xterm".to_owned());
    for variable in term.iter().chain(&options.env) {
        match env.iter_mut().find(|other| name(other) == name(variable)) {
            Some(other) => other.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    process.set_env(Some(env));
    if let Some(directory) = &options.working_dir {
        process.set_cwd(Path::new("/").join(directory));
    }
    bundle.spec.set_process(Some(process));
    bundle.set_terminal(options.terminal);
}
