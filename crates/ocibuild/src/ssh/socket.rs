//! Sockets by paths of any length: the kernel takes 107 bytes, a descriptor's path is shorter.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use fs_err as fs;

/// Connects to the socket at `path`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (directory, name) = split(path)?;
    UnixStream::connect(short(&directory, name))
}

/// Makes the socket at `path`.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (directory, name) = split(path)?;
    UnixListener::bind(short(&directory, name))
}

fn split(path: &Path) -> io::Result<(fs::File, &OsStr)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok((fs::File::open(parent)?, name))
}

fn short(directory: &fs::File, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}
