//! The way to the state directory, walked name by name: whoever could exchange a name on it would decide where this
//! process writes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use ocibuild_sys::{DirHandle, FileType, Metadata, in_initial_user_namespace};
use rustix::fs::Mode;

use crate::{Error, ErrorKind, Fault};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Who a directory on the way is left to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// A user who is neither root nor this one.
    Owner(u32),
    /// Everybody may write, and rename what others have there.
    Everybody,
    /// The members of a group may.
    Group(u32),
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(uid) => write!(f, "it belongs to user {uid}"),
            Self::Everybody => f.write_str("everybody can write to it, and it is not sticky"),
            Self::Group(gid) => write!(f, "group {gid} can write to it, and it is not sticky"),
        }
    }
}

/// What this process is, as far as it decides whom it trusts.
struct Me {
    uid: u32,
    gid: u32,
    /// Ids that have no name in this user namespace look like this one: root of the host, above all.
    unmapped: Option<u32>,
}

impl Me {
    fn new() -> Self {
        /// What the kernel shows for them, unless `/proc/sys/kernel/overflowuid` says otherwise.
        const OVERFLOW: u32 = 65534;
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            unmapped: (!in_initial_user_namespace()).then_some(OVERFLOW),
        }
    }

    /// Who else decides over the names in a directory.
    ///
    /// Root could do everything anyway. A group of this user's own, as many systems give to each, and that of root are
    /// no others. In a sticky directory everybody keeps what is theirs.
    fn others(&self, found: &Metadata) -> Option<Others> {
        let is_sticky = found.mode & 0o1000 != 0;
        if found.uid != 0 && found.uid != self.uid && Some(found.uid) != self.unmapped {
            return Some(Others::Owner(found.uid));
        }
        if is_sticky {
            return None;
        }
        if found.mode & 0o002 != 0 {
            return Some(Others::Everybody);
        }
        let is_own_group = found.gid == 0 || found.gid == self.gid || Some(found.gid) == self.unmapped;
        (found.mode & 0o020 != 0 && !is_own_group).then_some(Others::Group(found.gid))
    }

    fn check(&self, path: &Path, found: &Metadata) -> Result<(), Error> {
        let Some(others) = self.others(found) else { return Ok(()) };
        let text = format!("{} is not a safe place for a state directory: {others}", path.display());
        Err(Error::new(ErrorKind::Permission, text).with_hint(
            "choose a directory above which nobody but root and this user can write, or take that right away (chmod \
             go-w, chown)",
        ))
    }
}

/// The way so far.
struct Walk {
    me: Me,
    /// The directories from the root on; the last one is where the walk is.
    open: Vec<DirHandle>,
    path: PathBuf,
    /// Names to go, the next one last.
    names: Vec<OsString>,
    links: usize,
}

/// What is to be done about a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Stop,
}

/// Opens the directory `root`, which is made with its parents when it is missing, and gives its path without links.
///
/// Refuses a way on which somebody else could put another directory instead of one that was passed.
pub(super) fn open(root: &Path) -> Result<(PathBuf, DirHandle), Error> {
    let mut walk = Walk::new(root)?;
    while walk.step(Missing::Make)? {}
    let directory = walk.open.pop().expect("the way begins at the root");
    Ok((walk.path, directory))
}

/// Checks the directories that lead to a state directory, as far as they exist, without making anything.
///
/// A program that enters a user namespace calls it before: there it cannot tell root of the host from other users.
pub fn check_way(root: impl AsRef<Path>) -> Result<(), Error> {
    let mut walk = Walk::new(root.as_ref())?;
    while walk.step(Missing::Stop)? {}
    Ok(())
}

impl Walk {
    fn new(root: &Path) -> Result<Self, Error> {
        let absolute = std::path::absolute(root)
            .map_err(|error| Error::io(format!("find the directory {}", root.display()), error))?;
        let mut walk = Self {
            me: Me::new(),
            open: vec![DirHandle::open("/")?],
            path: PathBuf::from("/"),
            names: Vec::new(),
            links: 0,
        };
        walk.go(&absolute);
        Ok(walk)
    }

    /// Puts the names of a path in front of what remains.
    fn go(&mut self, path: &Path) {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        });
        self.names.extend(names.rev());
    }

    /// Goes one name further; `false` at the end.
    fn step(&mut self, missing: Missing) -> Result<bool, Error> {
        let Some(name) = self.names.pop() else { return Ok(false) };
        if name == ".." {
            if self.open.len() > 1 {
                self.open.pop();
                self.path.pop();
            }
            return Ok(true);
        }
        let here = self.open.last().expect("the root stays open");
        self.me.check(&self.path, &here.metadata()?)?;
        let path = self.path.join(&name);
        let at = |error: ocibuild_sys::Error| Error::from(error.below(&self.path));
        let Some(found) = here.try_stat(&name).map_err(at)? else {
            if missing == Missing::Stop {
                self.names.clear();
                return Ok(false);
            }
            make(here, &name, self.names.is_empty(), &path)?;
            // Whatever it is by now.
            self.names.push(name);
            return Ok(true);
        };
        match found.file_type {
            FileType::Symlink => {
                // In a sticky directory a link may be anybody's.
                if found.uid != 0 && found.uid != self.me.uid && Some(found.uid) != self.me.unmapped {
                    self.me.check(&path, &Metadata { mode: 0o1777, ..found })?;
                }
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!("{}: too many links", path.display()),
                    ));
                }
                let target = PathBuf::from(here.read_link(&name).map_err(at)?);
                if target.is_absolute() {
                    self.open.truncate(1);
                    self.path = PathBuf::from("/");
                }
                self.go(&target);
            }
            FileType::Directory => {
                let next = here.open_dir(&name).map_err(at)?;
                self.open.push(next);
                self.path = path;
            }
            _ => return Err(not_a_directory(&path)),
        }
        Ok(true)
    }
}

/// Makes a directory; one that somebody else made meanwhile is as good.
fn make(parent: &DirHandle, name: &OsStr, is_last: bool, path: &Path) -> Result<(), Error> {
    // The umask takes from the mode of the parents what the user wants it to.
    let mode = if is_last { 0o700 } else { 0o755 };
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::io(format!("create {}", path.display()), error.into())),
    }
}

pub(super) fn not_a_directory(path: &Path) -> Error {
    Fault::NotADirectory { path: path.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_who_can_exchange_names() {
        let me = |unmapped| Me { uid: 1000, gid: 100, unmapped };
        let directory = |uid, gid, mode| {
            let mut found = DirHandle::open("/").unwrap().metadata().unwrap();
            (found.uid, found.gid, found.mode) = (uid, gid, mode);
            found
        };
        for (uid, gid, mode, expected) in [
            (0, 0, 0o755, None),
            (1000, 100, 0o755, None),
            (1001, 100, 0o755, Some(Others::Owner(1001))),
            (1001, 100, 0o1777, Some(Others::Owner(1001))),
            (65534, 65534, 0o755, Some(Others::Owner(65534))),
            (0, 0, 0o1777, None),
            (0, 0, 0o777, Some(Others::Everybody)),
            (1000, 100, 0o757, Some(Others::Everybody)),
            // A group of the user's own, or of root's.
            (1000, 100, 0o775, None),
            (0, 0, 0o775, None),
            (0, 50, 0o2775, Some(Others::Group(50))),
            (1000, 50, 0o770, Some(Others::Group(50))),
            (0, 50, 0o3775, None),
        ] {
            assert_eq!(me(None).others(&directory(uid, gid, mode)), expected, "{uid}:{gid} {mode:o}");
        }
        assert_eq!(me(Some(65534)).others(&directory(65534, 65534, 0o775)), None);
    }
}
