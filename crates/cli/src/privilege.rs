//! Who this process is.

/// Whether the effective user is root, here or in the namespace this process was started in.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
