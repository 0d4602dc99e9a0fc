//! The Linux system calls ocibuild needs, behind safe functions.
//!
//! This is the only crate of the workspace that may contain `unsafe`. It knows nothing of OCI: it offers
//! nouns of the kernel and nothing more.
//!
//! # Confined paths
//!
//! Every path that came out of an image, a build context or a Dockerfile is resolved by the kernel *inside* a
//! [`RootDir`], as a `chroot` would resolve it: absolute links start at the root, `..` stops there. What is done
//! to a file is then done relative to the descriptor of its parent ([`DirHandle`]) with a single name that is
//! never followed.
//!
//! ```
//! use ocibuild_sys::RootDir;
//! use std::path::Path;
//!
//! # let host = tempfile::tempdir().unwrap();
//! let root = RootDir::open(host.path())?;
//! let (parent, name) = root.parent(Path::new("/motd"))?;
//! parent.create_file(&name, 0o644)?;
//! assert_eq!(parent.stat(&name)?.mode, 0o644);
//! # Ok::<(), ocibuild_sys::Error>(())
//! ```
//!
//! # Limitations
//!
//! Linux only. Operations on extended attributes, and on modes before Linux 6.6, go through `/proc/self/fd`, so
//! `/proc` must be mounted.

mod copy;
mod dir;
mod error;
mod lock;
mod metadata;
mod remove;
mod resolve;
mod root;
mod xattr;

pub use copy::{CopyMethod, copy_contents, sync_filesystem};
pub use dir::{DirEntry, DirHandle, ReadDir};
pub use error::{Error, ErrorKind};
pub use lock::{FileLock, lock_exclusive, lock_shared, try_lock_exclusive, try_lock_shared};
pub use metadata::{FileType, Metadata, Timestamp, device, device_numbers};
pub use root::RootDir;
