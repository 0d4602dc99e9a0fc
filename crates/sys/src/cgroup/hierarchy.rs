//! The trees of cgroups that are mounted here, and where this process is in them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::{DirHandle, Error};

/// Of the interface of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A tree of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// What can be limited in it.
    pub(super) controllers: Vec<String>,
    /// The topmost directory of it that can be seen.
    pub(super) mount: PathBuf,
    /// The directory of the cgroup that this process is in.
    pub(super) own: PathBuf,
}

impl Hierarchy {
    /// Those of this process that can be seen, that of version 2 first.
    pub(super) fn all() -> Result<Vec<Self>, Error> {
        let mut found = hierarchies(
            &text_of(Path::new("/proc/self/cgroup"))?,
            &text_of(Path::new("/proc/self/mountinfo"))?,
        );
        for hierarchy in &mut found {
            if hierarchy.version == Version::Two {
                let controllers = text_of(&hierarchy.mount.join("cgroup.controllers"))?;
                hierarchy.controllers = words(&controllers);
            }
        }
        Ok(found)
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|found| found == controller)
    }
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn hierarchies(cgroups: &str, mounts: &str) -> Vec<Hierarchy> {
    let lines = cgroups.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let version = if number == "0" && controllers.is_empty() { Version::Two } else { Version::One };
        let controllers: Vec<String> =
            controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some((version, controllers, path))
    });
    let mut found: Vec<Hierarchy> = lines
        .filter_map(|(version, controllers, path)| {
            let (mount, own) = mounts.lines().find_map(|line| place(line, version, &controllers, path))?;
            Some(Hierarchy { version, controllers, mount, own })
        })
        .collect();
    found.sort_by_key(|hierarchy| hierarchy.version == Version::One);
    found
}

/// Where a line of mounts shows the cgroup `own` of a hierarchy: the directory of the mount, and that of the cgroup.
fn place(line: &str, version: Version, controllers: &[String], own: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut filesystem = filesystem.split(' ');
    let is_right = match version {
        Version::Two => filesystem.next() == Some("cgroup2"),
        Version::One => {
            let is_cgroup = filesystem.next() == Some("cgroup");
            let options: Vec<&str> = filesystem.nth(1)?.split(',').collect();
            is_cgroup && controllers.iter().all(|controller| options.contains(&&**controller))
        }
    };
    // A backslash stands for a character that is rare in such a path.
    if !is_right || line.contains('\\') {
        return None;
    }
    // What is outside of the namespace of cgroups begins with `/..`, and has no directory here.
    let below = Path::new(own).strip_prefix(root).ok()?;
    let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
    inside.then(|| (PathBuf::from(point), Path::new(point).join(below)))
}

/// What a file of the kernel says.
pub(super) fn text_of(path: &Path) -> Result<String, Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let file = DirHandle::open(parent)?.open_read(path.file_name().unwrap_or_default());
    let mut file = file.map_err(|error| error.below(parent))?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut text).map_err(|error| Error::io("read", path, &error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes to a file of a cgroup, whose directory has this path.
pub(super) fn write(directory: BorrowedFd<'_>, path: &Path, name: &str, line: &str) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let at = |operation| move |errno: Errno| Error::new(operation, path.join(name), errno);
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(at("open"))?;
    rustix::io::write(&file, line.as_bytes()).map(drop).map_err(at("write"))
}

pub(super) fn open_directory(parent: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty()).map_err(Error::at("open", path))
}

/// The same for one that is not below another.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Error> {
    open_directory(CWD, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_directory_is_found_below_what_is_mounted() {
        let cgroups = "12:cpu,devices:/a/b\n4:memory:/x\n1:name=systemd:/x\n0::/user.slice/s.scope\n";
        let mounts = "25 1 0:22 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
            26 1 0:23 /a /sys/fs/cgroup/devices rw - cgroup cgroup rw,cpu,devices\n\
            27 1 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = hierarchies(cgroups, mounts);
        let own: Vec<(Version, &str)> =
            found.iter().map(|found| (found.version, found.own.to_str().unwrap())).collect();
        assert_eq!(
            own,
            [
                (Version::Two, "/sys/fs/cgroup/unified/user.slice/s.scope"),
                (Version::One, "/sys/fs/cgroup/devices/b"),
                (Version::One, "/sys/fs/cgroup/memory/x"),
            ]
        );
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/unified"));
        assert!(found[1].has("devices") && found[1].has("cpu") && !found[2].has("cpu"));
        for outside in ["0::/../other\n", "3:cpu,devices:/elsewhere\n", "3:pids:/\n"] {
            assert_eq!(hierarchies(outside, mounts), [], "{outside}");
        }
        assert_eq!(hierarchies(cgroups, ""), []);
    }
}
