use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::Error;

/// How the bytes of a file got into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// Both share their blocks until one is written (`FICLONE`).
    Reflink,
    /// The kernel copied (`copy_file_range`).
    Kernel,
    /// Read and written.
    User,
}

/// Copies everything from the start of `source` into the empty file `target`: by reference where the file system
/// can, else within the kernel, else through a buffer. Says how, and how many bytes.
pub fn copy_contents(source: &File, target: &File) -> Result<(CopyMethod, u64), Error> {
    let size = rustix::fs::fstat(source).map_err(Error::at("fstat", ""))?.st_size as u64;
    if size > 0 && rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok((CopyMethod::Reflink, size));
    }
    let copied = copy_in_kernel(source, target)?;
    if let Some(copied) = copied {
        return Ok((CopyMethod::Kernel, copied));
    }
    let copied = copy_through_buffer(source, target).map_err(|error| Error::io("copy", "", &error))?;
    Ok((CopyMethod::User, copied))
}

/// `None` if this pair of files cannot be copied so.
fn copy_in_kernel(source: &File, target: &File) -> Result<Option<u64>, Error> {
    let (mut from, mut to) = (0, 0);
    loop {
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), 1 << 30) {
            // Some file systems (of /proc, say) answer 0 for files that have bytes.
            Ok(0) if from == 0 => return Ok(None),
            Ok(0) => return Ok(Some(from)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) if from == 0 => {
                return Ok(None);
            }
            Err(errno) => return Err(Error::new("copy_file_range", "", errno)),
        }
    }
}

fn copy_through_buffer(mut source: &File, mut target: &File) -> std::io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut copied = 0;
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        target.write_all(&buffer[..length])?;
        copied += length as u64;
    }
}

/// Flushes the whole file system that `file` is on: one call for all that a reference will reach.
pub fn sync_filesystem(file: impl AsFd) -> Result<(), Error> {
    rustix::fs::syncfs(file).map_err(Error::at("syncfs", ""))
}
