//! Mounts and texts of the runtime specification, as `ocibuild_sys` takes them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::Mount;
use ocibuild_sys::MountOptions;

use crate::Error;

pub(crate) fn kind(mount: &Mount) -> &str {
    mount.typ().as_deref().unwrap_or_default()
}

pub(crate) fn options(mount: &Mount) -> Result<MountOptions, Error> {
    parsed(mount.options().as_deref().unwrap_or_default())
}

pub(crate) fn parsed(options: &[String]) -> Result<MountOptions, Error> {
    MountOptions::parse(options).ok_or_else(|| Error::invalid("a mount", "contains NUL"))
}

pub(crate) fn is_bind(mount: &Mount, options: &MountOptions) -> bool {
    options.is_bind() || kind(mount) == "bind"
}

pub(crate) fn text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::invalid(format!("{text:?}"), "contains NUL"))
}

pub(crate) fn path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(path.display().to_string(), "contains NUL"))
}
