//! Where a cgroup can be made.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::hierarchy::{Hierarchy, Version, open, text_of, words, write};
use super::limits::Controller;
use super::{CgroupError, CgroupRequest, inherit_cpuset};
use crate::Error;

/// Where a cgroup can be in one tree, and what it is for there.
pub(super) struct Parent {
    pub(super) hierarchy: Hierarchy,
    pub(super) controllers: Vec<Controller>,
    /// Whether it tells there which devices may be opened.
    pub(super) has_devices: bool,
    /// The one directory to make it in, if that is settled.
    named: Option<PathBuf>,
}

/// The cgroup into which this process moves, so that the one it was in can hand out controllers.
pub(super) const OWN: &str = "ocibuild-own";

/// A parent in each tree that takes part.
pub(super) fn parents(request: &CgroupRequest<'_>) -> Result<Vec<Parent>, CgroupError> {
    let mut found: Vec<Parent> =
        Hierarchy::all()?.into_iter().map(|hierarchy| Parent::new(hierarchy, request.parent)).collect();
    for controller in request.limits.controllers() {
        let parent = found.iter_mut().find(|parent| parent.hierarchy.has(controller.name()));
        let missing = CgroupError::NoController { controller: controller.name() };
        parent.ok_or(missing)?.controllers.push(controller);
    }
    if request.devices.is_some() {
        // That of version 2 needs no controller for them.
        let parent = found
            .iter_mut()
            .find(|parent| parent.hierarchy.version == Version::Two || parent.hierarchy.has("devices"));
        parent.ok_or(CgroupError::NoController { controller: "devices" })?.has_devices = true;
    }
    // Who names a parent wants steps to be there in all trees.
    let is_named = request.parent.is_some();
    found.retain(|parent| is_named || parent.has_devices || !parent.controllers.is_empty());
    Ok(found)
}

impl Parent {
    fn new(mut hierarchy: Hierarchy, named: Option<&Path>) -> Self {
        if hierarchy.own.ends_with(OWN) {
            hierarchy.own.pop();
        }
        let named = named.map(|path| match path.strip_prefix("/") {
            Ok(below) => hierarchy.mount.join(below),
            Err(_) => hierarchy.own.join(path),
        });
        Self { hierarchy, controllers: Vec::new(), has_devices: false, named }
    }

    /// Directories to make it in, the best one first.
    pub(super) fn directories(&self) -> Vec<&Path> {
        let Hierarchy { version, mount, own, .. } = &self.hierarchy;
        match &self.named {
            Some(named) => vec![named],
            // A limit of a cgroup further up holds all the same, and in version 1 any cgroup can have others.
            None if *version == Version::Two && !self.controllers.is_empty() => {
                own.ancestors().take_while(|above| above.starts_with(mount)).collect()
            }
            None => vec![own],
        }
    }

    /// Makes what is missing of a directory, and sees to it that cgroups in it can have the controllers.
    pub(super) fn prepare(&self, directory: &Path) -> Result<(), CgroupError> {
        let missing: Vec<&Path> = directory.ancestors().take_while(|above| !above.exists()).collect();
        for path in missing.into_iter().rev() {
            let parent = path.parent().unwrap_or(&self.hierarchy.mount);
            self.hand_out(parent)?;
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => {}
                result => result.map_err(Error::at("mkdir", path))?,
            }
            if self.hierarchy.version == Version::One && self.hierarchy.has("cpuset") {
                inherit_cpuset(&open(path)?, path, parent)?;
            }
        }
        self.hand_out(directory)
    }

    /// Sees to it that cgroups in a directory can have the controllers.
    fn hand_out(&self, directory: &Path) -> Result<(), CgroupError> {
        if self.hierarchy.version == Version::One || self.controllers.is_empty() {
            return Ok(());
        }
        let mut path: Vec<&Path> =
            directory.ancestors().take_while(|above| above.starts_with(&self.hierarchy.mount)).collect();
        path.reverse();
        for controller in &self.controllers {
            for above in &path {
                self.hand_out_in(above, *controller)?;
            }
        }
        Ok(())
    }

    fn hand_out_in(&self, directory: &Path, controller: Controller) -> Result<(), CgroupError> {
        let name = controller.name();
        let has = |file: &str| -> Result<bool, Error> {
            Ok(words(&text_of(&directory.join(file))?).iter().any(|found| found == name))
        };
        if has("cgroup.subtree_control")? {
            return Ok(());
        }
        if !has("cgroup.controllers")? {
            return Err(CgroupError::NoController { controller: name });
        }
        // Of a cgroup with processes the kernel would take some controllers, and those in it could then have none. Only the root
        // has all it likes.
        let is_root = !directory.join("cgroup.type").exists();
        let moves = || directory == self.hierarchy.own && move_out(directory).unwrap_or(false);
        if !is_root && !processes_of(directory)?.is_empty() && !moves() {
            return Err(CgroupError::Occupied { path: directory.to_owned(), controller: name });
        }
        write(open(directory)?.as_fd(), directory, "cgroup.subtree_control", &format!("+{name}"))?;
        Ok(())
    }
}

fn processes_of(directory: &Path) -> Result<Vec<String>, Error> {
    Ok(words(&text_of(&directory.join("cgroup.procs"))?))
}

/// How often it is looked whether more processes have come meanwhile.
const ATTEMPTS: usize = 100;

/// Moves the processes of this program, if no others are in a cgroup, into one of their own there.
fn move_out(directory: &Path) -> Result<bool, Error> {
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _one_by_one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = crate::userns::program_id();
    let path = directory.join(OWN);
    for _ in 0..ATTEMPTS {
        let processes = processes_of(directory)?;
        if processes.is_empty() {
            return Ok(true);
        }
        if !processes.iter().all(|process| is_below(process, program)) {
            return Ok(false);
        }
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            result => result.map_err(Error::at("mkdir", &path))?,
        }
        let own = open(&path)?;
        for process in processes {
            match write(own.as_fd(), &path, "cgroup.procs", &process) {
                // It has ended.
                Err(error) if error.raw_os_error() == Errno::SRCH.raw_os_error() => {}
                result => result?,
            }
        }
    }
    Ok(false)
}

/// Whether a process is this program, or was started by it.
fn is_below(process: &str, program: i32) -> bool {
    let mut process: Option<i32> = process.parse().ok();
    for _ in 0..ATTEMPTS {
        match process {
            Some(id) if id == program => return true,
            Some(id) if id > 1 => process = parent_of(id),
            _ => return false,
        }
    }
    false
}

fn parent_of(process: i32) -> Option<i32> {
    let status = text_of(Path::new(&format!("/proc/{process}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
