//! Extended attributes of a name that is not followed.
//!
//! There is no `…xattrat` before Linux 6.13. `/proc/self/fd/N/name` resolves the directory by its descriptor and
//! the `l…xattr` calls leave the last component alone, which comes to the same.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::dir::component;
use crate::{DirHandle, Error};

/// Values and lists are at most this long (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 * 1024;

/// Most values are shorter than this; only longer ones cost a second call.
const USUAL: usize = 256;

impl DirHandle {
    /// Value of the attribute `attribute` of `name`; `None` if it has none of that name.
    pub fn get_xattr(
        &self,
        name: impl AsRef<OsStr>,
        attribute: impl AsRef<OsStr>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let name = component("lgetxattr", name.as_ref())?;
        let path = self.link_path(name);
        match growing(|buffer| rustix::fs::lgetxattr(&*path, attribute.as_ref(), buffer)) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(Error::new("lgetxattr", name, errno)),
        }
    }

    /// Names of the attributes of `name`, sorted.
    pub fn list_xattrs(&self, name: impl AsRef<OsStr>) -> Result<Vec<OsString>, Error> {
        let name = component("llistxattr", name.as_ref())?;
        let path = self.link_path(name);
        let list = growing(|buffer| rustix::fs::llistxattr(&*path, buffer));
        Ok(sorted(&list.map_err(Error::at("llistxattr", name))?))
    }

    /// Names of the attributes of the directory itself, sorted.
    pub fn list_own_xattrs(&self) -> Result<Vec<OsString>, Error> {
        let path = self.link_path(OsStr::new(""));
        let list = growing(|buffer| rustix::fs::listxattr(&*path, buffer));
        Ok(sorted(&list.map_err(Error::at("listxattr", OsStr::new(".")))?))
    }

    /// Sets an attribute of `name`, new or not.
    pub fn set_xattr(
        &self,
        name: impl AsRef<OsStr>,
        attribute: impl AsRef<OsStr>,
        value: &[u8],
    ) -> Result<(), Error> {
        let name = component("lsetxattr", name.as_ref())?;
        rustix::fs::lsetxattr(&*self.link_path(name), attribute.as_ref(), value, XattrFlags::empty())
            .map_err(Error::at("lsetxattr", name))
    }

    /// Removes an attribute of `name`.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>, attribute: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = component("lremovexattr", name.as_ref())?;
        rustix::fs::lremovexattr(&*self.link_path(name), attribute.as_ref())
            .map_err(Error::at("lremovexattr", name))
    }

    fn link_path(&self, name: &OsStr) -> OsString {
        let mut path = format!("/proc/self/fd/{}/", self.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        OsString::from_vec(path)
    }
}

/// The names in a list of them.
fn sorted(list: &[u8]) -> Vec<OsString> {
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<OsString> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
    names.sort_unstable();
    names
}

fn growing(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    for size in [USUAL, MAX] {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}
