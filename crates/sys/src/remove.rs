//! Removal of a tree that someone else made.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::dir::chmod_nofollow;
use crate::{DirHandle, Error, FileType, Metadata};

/// Directories kept open on the way down. Deeper trees are left through `..`, which is checked against the
/// inode that was entered, so that a tree of any depth costs a bounded number of descriptors.
const OPEN_LEVELS: usize = 64;

/// A directory whose entries come back this often is being filled by someone.
const MAX_PASSES: u32 = 16;

struct Level {
    name: OsString,
    id: (u64, u64),
    /// `None` once the levels below it became too many.
    entries: Option<Dir>,
    passes: u32,
}

pub(crate) fn remove_tree(parent: &DirHandle, name: &OsStr) -> Result<(), Error> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(Error::new("unlinkat", name, errno)),
    }
    let mut removal = Removal { parent, levels: Vec::new() };
    removal.enter(name.to_owned())?;
    while !removal.levels.is_empty() {
        removal.step()?;
    }
    Ok(())
}

struct Removal<'p> {
    parent: &'p DirHandle,
    levels: Vec<Level>,
}

impl Removal<'_> {
    /// Handles one entry of the deepest directory, or leaves it.
    fn step(&mut self) -> Result<(), Error> {
        let level = self.levels.last_mut().expect("the caller checked that a level remains");
        let entries = level.entries.as_mut().expect("the deepest level is open");
        // A directory that someone else has removed meanwhile has no entries, and says so by an error.
        let entry = match entries.next() {
            None | Some(Err(Errno::NOENT)) => return self.leave(),
            Some(entry) => entry,
        };
        let entry = entry.map_err(|errno| self.error("getdents64", OsStr::new(""), errno))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            return Ok(());
        }
        let name = OsStr::from_bytes(name).to_owned();
        if FileType::from_rustix(entry.file_type()) == Some(FileType::Directory) {
            return self.enter(name);
        }
        match self.unlink(&name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.enter(name),
            Err(errno) => Err(self.error("unlinkat", &name, errno)),
        }
    }

    fn enter(&mut self, name: OsString) -> Result<(), Error> {
        // Most directories below a whiteout are full; those that are empty are gone with one call.
        match self.unlink(&name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
            Err(errno) => return Err(self.error("unlinkat", &name, errno)),
        }
        let fd = match self.open(&name) {
            // Someone else removes the same tree.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|errno| self.error("openat2", &name, errno))?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error("fstat", &name, errno))?;
        // Entries of a directory that may be read but not written could not be unlinked.
        if Metadata::from(stat).mode & 0o700 != 0o700 {
            let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
        }
        let entries = match Dir::new(fd) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|errno| self.error("openat", &name, errno))?,
        };
        let metadata = Metadata::from(stat);
        self.levels.push(Level { name, id: (metadata.dev, metadata.ino), entries: Some(entries), passes: 0 });
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].entries = None;
        }
        Ok(())
    }

    /// The deepest directory has no more entries: back to the one above, and remove it there.
    fn leave(&mut self) -> Result<(), Error> {
        let below = self.levels.pop().expect("there is a level to leave");
        if !self.reopen_above(&below)? {
            return self.restart();
        }
        match self.unlink(&below.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if below.passes < MAX_PASSES => {
                let name = below.name.clone();
                self.enter(name)?;
                if let Some(level) = self.levels.last_mut() {
                    level.passes = below.passes + 1;
                }
                Ok(())
            }
            Err(errno) => Err(self.error("unlinkat", &below.name, errno)),
        }
    }

    /// Begins at the top again. That happens only after someone else removed a directory of the tree, so as often as
    /// there are directories at most.
    fn restart(&mut self) -> Result<(), Error> {
        let top = self.levels.drain(..).next().expect("a level above was to be opened again");
        self.enter(top.name)
    }

    /// Opens the level above again if it is closed. `false` when there is no way back to it: someone else has removed
    /// the directory `below`.
    fn reopen_above(&mut self, below: &Level) -> Result<bool, Error> {
        let Some(level) = self.levels.last() else { return Ok(true) };
        if level.entries.is_some() {
            return Ok(true);
        }
        let entries = below.entries.as_ref().expect("the level just left was the deepest");
        let fd = entries.fd().and_then(|fd| open_directory(fd, OsStr::new(".."), ResolveFlags::empty()));
        if matches!(fd, Err(Errno::NOENT)) {
            return Ok(false);
        }
        let fd = fd.map_err(|errno| self.error("openat", OsStr::new(".."), errno))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error("fstat", OsStr::new(".."), errno))?;
        let metadata = Metadata::from(stat);
        if (metadata.dev, metadata.ino) != level.id {
            // Someone moved the directory away while it was being emptied; nothing of theirs is touched.
            return Err(self.error("openat", OsStr::new(".."), Errno::STALE));
        }
        let entries = Dir::new(fd).map_err(|errno| self.error("openat", OsStr::new(".."), errno))?;
        if let Some(level) = self.levels.last_mut() {
            level.entries = Some(entries);
        }
        Ok(true)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        match self.levels.last().and_then(|level| level.entries.as_ref()) {
            Some(entries) => rustix::fs::unlinkat(entries.fd()?, name, flags),
            None => rustix::fs::unlinkat(self.parent, name, flags),
        }
    }

    fn open(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let dir = match self.levels.last().and_then(|level| level.entries.as_ref()) {
            Some(entries) => entries.fd()?,
            None => self.parent.as_fd(),
        };
        let one_mount = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        match open_directory(dir, name, one_mount) {
            Err(Errno::ACCESS) => {
                chmod_nofollow(dir, name, 0o700)?;
                open_directory(dir, name, one_mount)
            }
            Err(Errno::NOSYS | Errno::PERM) => {
                let fd = open_directory(dir, name, ResolveFlags::empty())?;
                let same = rustix::fs::fstat(dir)?.st_dev == rustix::fs::fstat(&fd)?.st_dev;
                if same { Ok(fd) } else { Err(Errno::XDEV) }
            }
            result => result,
        }
    }

    fn error(&self, operation: &'static str, name: &OsStr, errno: Errno) -> Error {
        let mut path: PathBuf = self.levels.iter().map(|level| &level.name).collect();
        path.push(name);
        Error::new(operation, path, errno)
    }
}

fn open_directory(dir: impl AsFd, name: &OsStr, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if resolve.is_empty() {
        rustix::fs::openat(dir, name, flags, Mode::empty())
    } else {
        rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)
    }
}
