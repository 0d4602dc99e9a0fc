use std::fs::File;

use rustix::fs::Stat;

use crate::Error;

/// What sort of file an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileType {
    pub(crate) fn from_mode(mode: u32) -> Self {
        Self::from_rustix(rustix::fs::FileType::from_raw_mode(mode)).unwrap_or(Self::Regular)
    }

    pub(crate) fn from_rustix(file_type: rustix::fs::FileType) -> Option<Self> {
        use rustix::fs::FileType as Raw;
        Some(match file_type {
            Raw::RegularFile => Self::Regular,
            Raw::Directory => Self::Directory,
            Raw::Symlink => Self::Symlink,
            Raw::CharacterDevice => Self::CharDevice,
            Raw::BlockDevice => Self::BlockDevice,
            Raw::Fifo => Self::Fifo,
            Raw::Socket => Self::Socket,
            Raw::Unknown => return None,
        })
    }
}

/// A point in time as inodes keep it; seconds may be negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds after them, below 10⁹.
    pub nanoseconds: u32,
}

/// What `lstat` says of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Sort of file.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky; no file type.
    pub mode: u32,
    /// Owner, as seen from the caller's user namespace.
    pub uid: u32,
    /// Group, as seen from the caller's user namespace.
    pub gid: u32,
    /// Bytes of content; of a link, the length of its target.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of content or metadata.
    pub ctime: Timestamp,
    /// Number of names.
    pub nlink: u64,
    /// File system it is on.
    pub dev: u64,
    /// Number within that file system.
    pub ino: u64,
    /// Device number of a device node (see [`device_numbers`]).
    pub rdev: u64,
}

impl Metadata {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether both name the same inode.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// The metadata of an open file.
pub fn metadata_of_file(file: &File) -> Result<Metadata, Error> {
    rustix::fs::fstat(file).map(Metadata::from).map_err(Error::at("fstat", ""))
}

impl From<Stat> for Metadata {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the widths differ between architectures"
    )]
    fn from(stat: Stat) -> Self {
        Self {
            file_type: FileType::from_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
            ctime: Timestamp { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 },
            nlink: stat.st_nlink as u64,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            rdev: stat.st_rdev as u64,
        }
    }
}

/// The device number made of `major` and `minor`.
pub fn device(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// Major and minor of a device number.
pub fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}
