use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::dir::{DirHandle, read_only_flags, regular};
use crate::resolve::{open_beneath, open_in_root};
use crate::{Error, ErrorKind, Metadata};

/// A directory that is the whole world to paths resolved in it.
///
/// Holds an `O_PATH` descriptor, so that renaming the directory or its parents changes nothing. Links are
/// followed as inside a `chroot`; magic links of `/proc` are refused. Share it between threads at will.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Holds `path` of the host, whose own links are followed as usual.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::at("open", path))?;
        Ok(Self { fd })
    }

    /// Holds the directory below `dir` called `name`, which must not be a link.
    pub fn open_at(dir: &DirHandle, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        Ok(Self { fd: dir.open_dir(name)?.into_fd() })
    }

    /// Takes a descriptor of a directory, `O_PATH` or not.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The root itself as a directory to work in.
    pub fn top(&self) -> Result<DirHandle, Error> {
        self.fd.try_clone().map(DirHandle::from_fd).map_err(|error| Error::io("dup", "/", &error))
    }

    /// Opens the directory at `path`, links followed inside the root.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<DirHandle, Error> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).map(DirHandle::from_fd)
    }

    /// An `O_PATH` descriptor of whatever is at `path`, a link in the last place followed (inside the root).
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
        self.resolve(path.as_ref(), OFlags::PATH)
    }

    /// An `O_PATH` descriptor of whatever is at `path`, be it a link.
    pub fn open_path_nofollow(&self, path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
        self.resolve(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Opens the regular file at `path` for reading, links followed inside the root. Never blocks on a pipe;
    /// anything but a regular file is [`ErrorKind::InvalidInput`] (a directory [`ErrorKind::IsADirectory`]).
    pub fn open_read(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        regular(self.resolve(path, read_only_flags())?, path.as_os_str())
    }

    /// Opens the regular file at `path` for reading, if every link on the way, and `..`, stay below the root: one that
    /// leads out, or is absolute, is [`ErrorKind::CrossesDevice`]. Never blocks on a pipe; anything but a regular file is
    /// [`ErrorKind::InvalidInput`] (a directory [`ErrorKind::IsADirectory`]).
    pub fn open_beneath(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        let fd =
            open_beneath(self.fd.as_fd(), path, read_only_flags()).map_err(Error::at("openat2", path))?;
        regular(fd, path.as_os_str())
    }

    /// Metadata of whatever is at `path`, on the same terms as [`open_beneath`](Self::open_beneath): a link in the last
    /// place is followed.
    pub fn stat_beneath(&self, path: impl AsRef<Path>) -> Result<Metadata, Error> {
        let path = path.as_ref();
        let fd = open_beneath(self.fd.as_fd(), path, OFlags::PATH).map_err(Error::at("openat2", path))?;
        rustix::fs::fstat(fd).map(Metadata::from).map_err(Error::at("fstat", path))
    }

    /// Metadata of whatever is at `path`, a link in the last place *not* followed.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Metadata, Error> {
        let path = path.as_ref();
        let fd = self.open_path_nofollow(path)?;
        rustix::fs::fstat(fd).map(Metadata::from).map_err(Error::at("fstat", path))
    }

    /// Splits `path` into the directory that holds it, with links on the way followed inside the root, and its
    /// last component, about which nothing is said: it may be missing or a link.
    ///
    /// A path without a last component to name (`/`, `.`, empty, or one that ends in `..`) is
    /// [`ErrorKind::InvalidInput`].
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(DirHandle, OsString), Error> {
        let path = path.as_ref();
        let (parent, name) = split(path).ok_or_else(|| Error::new("openat2", path, Errno::INVAL))?;
        Ok((self.dir(parent)?, name.to_owned()))
    }

    /// Opens the directory at `path` and makes what is missing of it with `mode` (whatever the umask). Existing
    /// links on the way are followed inside the root, dangling ones included: what they point at is made.
    /// Existing directories are left as they are.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<DirHandle, Error> {
        self.mkdir_all_with(path, mode, |_, _| Ok(()))
    }

    /// As [`RootDir::mkdir_all`], calling `on_made` with parent and name of each directory it made.
    pub fn mkdir_all_with(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        mut on_made: impl FnMut(&DirHandle, &OsStr) -> Result<(), Error>,
    ) -> Result<DirHandle, Error> {
        self.mkdir_missing(path.as_ref(), mode, &mut on_made, 0)
    }

    fn mkdir_missing(
        &self,
        path: &Path,
        mode: u32,
        on_made: &mut dyn FnMut(&DirHandle, &OsStr) -> Result<(), Error>,
        depth: usize,
    ) -> Result<DirHandle, Error> {
        match self.dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        // Components of the path and links followed together: hostile chains end here.
        if depth > 4096 {
            return Err(Error::new("mkdirat", path, Errno::LOOP));
        }
        let (parent_path, name) = split(path).ok_or_else(|| Error::new("mkdirat", path, Errno::NOENT))?;
        let parent = self.mkdir_missing(parent_path, mode, on_made, depth + 1)?;
        match parent.mkdir(name, mode) {
            Ok(()) => on_made(&parent, name)?,
            Err(error) if error.kind() == ErrorKind::Exists => {
                if let Ok(target) = parent.read_link(name) {
                    return self.mkdir_missing(&parent_path.join(target), mode, on_made, depth + 100);
                }
            }
            Err(error) => return Err(error.below(parent_path)),
        }
        self.dir(path)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
        open_in_root(self.fd.as_fd(), path, flags, Mode::empty()).map_err(Error::at("openat2", path))
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Parent and last component, by bytes: `Path::parent` would drop a `.` in the last place and hide `..`.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let mut bytes = path.as_os_str().as_bytes();
    loop {
        if let Some(shorter) = bytes.strip_suffix(b"/") {
            bytes = shorter;
        } else if bytes.ends_with(b"/.") {
            bytes = &bytes[..bytes.len() - 2];
        } else {
            break;
        }
    }
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = &bytes[start..];
    if name.is_empty() || name == b"." || name == b".." {
        return None;
    }
    Some((Path::new(OsStr::from_bytes(&bytes[..start])), OsStr::from_bytes(name)))
}
