use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::{Error, FileType, Metadata, Timestamp};

/// An open directory, to act on the names in it.
///
/// Every operation takes one name, which must be a single component (`a/b`, `..`, `.` and the empty name are
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)) and is never followed if it is a link.
/// Permission bits given here are what the file has afterwards, whatever the umask.
#[derive(Debug)]
pub struct DirHandle {
    fd: OwnedFd,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name: a single component.
    pub name: OsString,
    /// Its type, if the file system says so without a `stat`.
    pub file_type: Option<FileType>,
    /// Its inode number.
    pub ino: u64,
}

/// The entries of a directory in the order of the file system, without `.` and `..`.
#[derive(Debug)]
pub struct ReadDir {
    entries: rustix::fs::Dir,
}

impl DirHandle {
    /// Takes a descriptor of a directory, `O_PATH` or not.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens a directory of the host, whose own links are followed as usual.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self::from_fd).map_err(Error::at("open", path))
    }

    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Metadata of the directory itself.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        rustix::fs::fstat(&self.fd).map(Metadata::from).map_err(Error::at("fstat", "."))
    }

    /// Another handle on the same directory.
    pub fn try_clone(&self) -> Result<Self, Error> {
        self.fd.try_clone().map(Self::from_fd).map_err(|error| Error::io("dup", ".", &error))
    }

    /// Opens the directory `name`.
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let name = component("openat", name.as_ref())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map(Self::from_fd)
            .map_err(Error::at("openat", name))
    }

    /// Opens the regular file `name` for reading; never blocks on a pipe. Anything but a regular file is
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn open_read(&self, name: impl AsRef<OsStr>) -> Result<File, Error> {
        self.open_known(name).map(|opened| opened.file)
    }

    /// As [`open_read`](Self::open_read), with what the kernel said about the file, which was asked once.
    pub fn open_known(&self, name: impl AsRef<OsStr>) -> Result<OpenedFile, Error> {
        let name = component("openat", name.as_ref())?;
        let flags = read_only_flags() | OFlags::NOFOLLOW;
        let fd =
            rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(Error::at("openat", name))?;
        known(fd, name)
    }

    /// An `O_PATH` descriptor of whatever is called `name`, be it a link.
    pub fn open_path(&self, name: impl AsRef<OsStr>) -> Result<OwnedFd, Error> {
        let name = component("openat", name.as_ref())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(Error::at("openat", name))
    }

    /// Makes a new regular file and opens it for reading and writing. Whatever has that name already is
    /// [`ErrorKind::Exists`](crate::ErrorKind::Exists).
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File, Error> {
        let name = component("openat", name.as_ref())?;
        let file = self.create_private_file(name)?;
        rustix::fs::fchmod(&file, permissions(mode)).map_err(Error::at("fchmod", name))?;
        Ok(file)
    }

    /// As [`DirHandle::create_file`] with no more than mode 0600 and one system call less, for callers that
    /// set owner and mode of the descriptor themselves once the content is there.
    pub fn create_private_file(&self, name: impl AsRef<OsStr>) -> Result<File, Error> {
        let name = component("openat", name.as_ref())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(Error::at("openat", name))
    }

    /// Makes a directory.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<(), Error> {
        let name = component("mkdirat", name.as_ref())?;
        rustix::fs::mkdirat(&self.fd, name, permissions(mode)).map_err(Error::at("mkdirat", name))?;
        self.chmod(name, mode)
    }

    /// Makes a symbolic link called `name`; `target` is any text.
    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("symlinkat", name.as_ref())?;
        rustix::fs::symlinkat(target.as_ref(), &self.fd, name).map_err(Error::at("symlinkat", name))
    }

    /// Makes `new_name` in `new_dir` another name of `name`. A link is linked, not followed.
    pub fn hardlink(
        &self,
        name: impl AsRef<OsStr>,
        new_dir: &Self,
        new_name: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        let name = component("linkat", name.as_ref())?;
        let new_name = component("linkat", new_name.as_ref())?;
        rustix::fs::linkat(&self.fd, name, &new_dir.fd, new_name, AtFlags::empty())
            .map_err(Error::at("linkat", new_name))
    }

    /// Makes `name` another name of the inode that `file` (`O_PATH` suffices) holds.
    pub fn hardlink_fd(&self, file: impl AsFd, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("linkat", name.as_ref())?;
        // With AT_EMPTY_PATH it would need CAP_DAC_READ_SEARCH.
        let source = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, source, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            .map_err(Error::at("linkat", name))
    }

    /// Makes a device node. [`FileType::CharDevice`] or [`FileType::BlockDevice`]; others are refused as
    /// invalid. `rdev` as made by [`device`](crate::device).
    pub fn mknod(
        &self,
        name: impl AsRef<OsStr>,
        file_type: FileType,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Error> {
        let name = component("mknodat", name.as_ref())?;
        let file_type = match file_type {
            FileType::CharDevice => rustix::fs::FileType::CharacterDevice,
            FileType::BlockDevice => rustix::fs::FileType::BlockDevice,
            _ => return Err(Error::new("mknodat", name, Errno::INVAL)),
        };
        rustix::fs::mknodat(&self.fd, name, file_type, permissions(mode), rdev)
            .map_err(Error::at("mknodat", name))?;
        self.chmod(name, mode)
    }

    /// Makes a named pipe.
    pub fn mkfifo(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<(), Error> {
        self.make_node(name.as_ref(), rustix::fs::FileType::Fifo, mode)
    }

    /// Makes the file of a socket, to which nobody listens.
    pub fn mksocket(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<(), Error> {
        self.make_node(name.as_ref(), rustix::fs::FileType::Socket, mode)
    }

    fn make_node(&self, name: &OsStr, file_type: rustix::fs::FileType, mode: u32) -> Result<(), Error> {
        let name = component("mknodat", name)?;
        rustix::fs::mknodat(&self.fd, name, file_type, permissions(mode), 0)
            .map_err(Error::at("mknodat", name))?;
        self.chmod(name, mode)
    }

    /// Metadata of `name`, be it a link.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Metadata, Error> {
        let name = component("fstatat", name.as_ref())?;
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(Metadata::from)
            .map_err(Error::at("fstatat", name))
    }

    /// Metadata of `name`, or `None` if there is no such name.
    pub fn try_stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Metadata>, Error> {
        match self.stat(name) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When `name` was made, where the file system keeps that: what tells it from another of the same inode number.
    pub fn birth_time(&self, name: impl AsRef<OsStr>) -> Result<Option<Timestamp>, Error> {
        let name = component("statx", name.as_ref())?;
        let flags = rustix::fs::StatxFlags::BTIME;
        let found = rustix::fs::statx(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW, flags);
        let found = match found {
            // Before Linux 4.11, or forbidden by a filter.
            Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
            result => result.map_err(Error::at("statx", name))?,
        };
        let is_known = found.stx_mask & flags.bits() != 0;
        let time = found.stx_btime;
        Ok(is_known.then_some(Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec }))
    }

    /// The target of the link `name`; anything else is invalid.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> Result<OsString, Error> {
        let name = component("readlinkat", name.as_ref())?;
        rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(Error::at("readlinkat", name))
    }

    /// Sets the owner of `name`, be it a link. The kernel drops setuid and setgid of a file that changes owner,
    /// and `security.capability`: set those afterwards.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> Result<(), Error> {
        let name = component("fchownat", name.as_ref())?;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&self.fd, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::at("fchownat", name))
    }

    /// Sets the permission bits of `name`. Links have none: [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<(), Error> {
        let name = component("fchmodat2", name.as_ref())?;
        chmod_nofollow(self.fd.as_fd(), name, mode).map_err(Error::at("fchmodat2", name))
    }

    /// Sets the times of `name`, be it a link. `None` leaves a time as it is.
    pub fn set_times(
        &self,
        name: impl AsRef<OsStr>,
        atime: Option<Timestamp>,
        mtime: Option<Timestamp>,
    ) -> Result<(), Error> {
        let name = component("utimensat", name.as_ref())?;
        let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
        rustix::fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::at("utimensat", name))
    }

    /// Sets the times of the directory itself.
    pub fn set_own_times(&self, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> Result<(), Error> {
        let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
        rustix::fs::utimensat(&self.fd, ".", &times, AtFlags::empty()).map_err(Error::at("utimensat", "."))
    }

    /// Removes `name`, which must not be a directory.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(Error::at("unlinkat", name))
    }

    /// Removes the empty directory `name`.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("unlinkat", name.as_ref())?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(Error::at("unlinkat", name))
    }

    /// Gives `name` another name, replacing what has it.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        new_dir: &Self,
        new_name: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        let name = component("renameat", name.as_ref())?;
        let new_name = component("renameat", new_name.as_ref())?;
        rustix::fs::renameat(&self.fd, name, &new_dir.fd, new_name).map_err(Error::at("renameat", name))
    }

    /// Removes `name` and everything below it. Nothing there is fine.
    ///
    /// Works relative to descriptors without recursion, follows no link, stays on one mount (a mount point
    /// inside is [`ErrorKind::Busy`](crate::ErrorKind::Busy)) and opens directories that deny it by changing
    /// their mode. The error names the path below `name`.
    pub fn remove_tree(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("unlinkat", name.as_ref())?;
        crate::remove::remove_tree(self, name)
    }

    /// The entries of the directory.
    pub fn read_dir(&self) -> Result<ReadDir, Error> {
        self.open_entries().map(|entries| ReadDir { entries }).map_err(Error::at("openat", "."))
    }

    /// Flushes the directory itself: names made, renamed and removed in it.
    pub fn sync(&self) -> Result<(), Error> {
        let fd = self.reopen().map_err(Error::at("openat", "."))?;
        rustix::fs::fsync(fd).map_err(Error::at("fsync", "."))
    }

    pub(crate) fn open_entries(&self) -> Result<rustix::fs::Dir, Errno> {
        rustix::fs::Dir::new(self.reopen()?)
    }

    fn reopen(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
    }
}

impl AsFd for DirHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(Error::new("getdents64", ".", errno))),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            return Some(Ok(DirEntry {
                name: OsStr::from_bytes(name).to_owned(),
                file_type: FileType::from_rustix(entry.file_type()),
                ino: entry.ino(),
            }));
        }
    }
}

/// The name, if it is a single component.
pub(crate) fn component<'n>(operation: &'static str, name: &'n OsStr) -> Result<&'n OsStr, Error> {
    let bytes = name.as_bytes();
    let plain = !bytes.is_empty() && bytes != b"." && bytes != b"..";
    if plain && !bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
        Ok(name)
    } else {
        Err(Error::new(operation, name, Errno::INVAL))
    }
}

/// Flags to open something unknown for reading: a pipe does not block, a terminal does not become ours.
pub(crate) fn read_only_flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// A regular file that was opened, and what it was then.
#[derive(Debug)]
pub struct OpenedFile {
    /// The file.
    pub file: File,
    /// Its metadata.
    pub metadata: Metadata,
    /// As of [`is_sparse`](crate::is_sparse).
    pub is_sparse: bool,
}

/// The file, if it is a regular one.
pub(crate) fn regular(fd: OwnedFd, name: &OsStr) -> Result<File, Error> {
    known(fd, name).map(|opened| opened.file)
}

fn known(fd: OwnedFd, name: &OsStr) -> Result<OpenedFile, Error> {
    let stat = rustix::fs::fstat(&fd).map_err(Error::at("fstat", name))?;
    match FileType::from_mode(stat.st_mode) {
        FileType::Regular => {
            let is_sparse = crate::extent::has_less(&stat);
            Ok(OpenedFile { file: File::from(fd), metadata: stat.into(), is_sparse })
        }
        FileType::Directory => Err(Error::new("openat", name, Errno::ISDIR)),
        _ => Err(Error::new("openat", name, Errno::INVAL)),
    }
}

pub(crate) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// `fchmodat2` of Linux 6.6, else by way of the descriptor's link in `/proc`.
pub(crate) fn chmod_nofollow(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    match chmod_by_kernel(dir, name, mode) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        result => return result,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmod(path, permissions(mode))
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps fchmodat2")]
fn chmod_by_kernel(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the name is a NUL-terminated string that outlives the call; the kernel writes nothing to us.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fchmodat2,
            dir.as_raw_fd(),
            name.as_ptr(),
            mode & 0o7777,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn timespec(time: Option<Timestamp>) -> Timespec {
    match time {
        Some(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    }
}
