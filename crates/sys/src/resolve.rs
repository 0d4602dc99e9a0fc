//! Resolution of a path inside a root, by the kernel where it can and in user space where it cannot.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kernel gives up with EAGAIN when something in the tree is renamed during a resolution that met `..`.
/// Under a storm of renames on many cores this number leaves about one failure in a thousand.
const RACE_RETRIES: usize = 128;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens `path` inside `root`; `flags` as for `openat`. `O_NOFOLLOW` leaves a link in the last place unfollowed.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match open_by_kernel(root, path, flags, mode) {
        // EPERM: seccomp filters of older container engines answer so for calls they do not know. It is asked
        // anew each time, because a filter may be installed at any moment.
        Err(Errno::NOSYS | Errno::PERM) => open_by_walk(root, path, flags, mode),
        result => result,
    }
}

/// Opens `path` below `root`; what leads out of it, absolute links among it, is EXDEV.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match open_with(root, path, flags, Mode::empty(), ResolveFlags::BENEATH) {
        Err(Errno::NOSYS | Errno::PERM) => walk(root, path, flags, Mode::empty(), Leaving::Refused),
        result => result,
    }
}

fn open_by_kernel(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, mode, ResolveFlags::IN_ROOT)
}

fn open_with(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    confined: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = confined | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RACE_RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Component by component, each opened without following; links are read and their components put in front of
/// what remains. A directory that is renamed out of the root between two steps is not noticed: that is what
/// `openat2` was made for.
pub(crate) fn open_by_walk(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    walk(root, path, flags, mode, Leaving::EndsAtRoot)
}

/// What `..` above the root and absolute links do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// They stop at the root, as in a `chroot`.
    EndsAtRoot,
    /// They are errors.
    Refused,
}

fn walk(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    leaving: Leaving,
) -> Result<OwnedFd, Errno> {
    if leaving == Leaving::Refused && path.is_absolute() {
        return Err(Errno::XDEV);
    }
    let mut rest = Rest::new(path);
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    loop {
        let here = above.last().map_or(root, AsFd::as_fd);
        let Some(name) = rest.next() else {
            return rustix::fs::openat(here, ".", flags | OFlags::CLOEXEC, mode);
        };
        if name == ".." {
            if above.pop().is_none() && leaving == Leaving::Refused {
                return Err(Errno::XDEV);
            }
            continue;
        }
        let last = rest.is_empty();
        if let Some(target) = link_target(here, &name)? {
            if last && !rest.wants_directory && flags.contains(OFlags::NOFOLLOW) {
                return open_name(here, &name, flags, mode);
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            if target.as_bytes().first() == Some(&b'/') {
                if leaving == Leaving::Refused {
                    return Err(Errno::XDEV);
                }
                above.clear();
            }
            rest.prepend(&target);
            continue;
        }
        if last && !rest.wants_directory {
            return open_name(here, &name, flags, mode);
        }
        let next = open_name(here, &name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        above.push(next);
    }
}

fn open_name(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    // A link put there since it was looked at must not be followed, whatever the caller wants.
    rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
}

fn link_target(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OsString>, Errno> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) if target.is_empty() => Err(Errno::NOENT),
        Ok(target) => Ok(Some(from_c(target))),
        // Not a link; or nothing there, which is for the open that follows to say.
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn from_c(text: CString) -> OsString {
    OsString::from_vec(text.into_bytes())
}

/// Components still to be walked, the next one last.
struct Rest {
    names: Vec<OsString>,
    wants_directory: bool,
}

impl Rest {
    fn new(path: &Path) -> Self {
        let mut rest = Self { names: Vec::new(), wants_directory: false };
        rest.prepend(path.as_os_str());
        rest
    }

    fn prepend(&mut self, path: &OsStr) {
        let bytes = path.as_bytes();
        if self.names.is_empty() {
            self.wants_directory |= bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        }
        let names = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        self.names.extend(names.rev().map(|name| OsStr::from_bytes(name).to_owned()));
    }

    fn next(&mut self) -> Option<OsString> {
        self.names.pop()
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The walk must find the same inode, or fail with the same error, as the kernel.
    #[test]
    fn walk_and_kernel_agree() {
        let host = tempfile::tempdir().unwrap();
        let top = host.path().join("root");
        fs_err::create_dir_all(top.join("a/b/c")).unwrap();
        fs_err::write(top.join("a/f"), "").unwrap();
        for (target, name) in [
            ("/a", "abs"),
            ("../../../a/b", "a/up"),
            ("f", "a/file"),
            ("/nowhere/x", "dangling"),
            ("loop", "loop"),
            ("abs/b/..", "chain"),
            ("/", "slash"),
            ("a/", "trailing"),
            (".", "dot"),
        ] {
            symlink(target, top.join(name)).unwrap();
        }
        let root = rustix::fs::open(&top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for path in [
            "",
            "/",
            ".",
            "..",
            "../..",
            "a",
            "a/",
            "/a/b/c",
            "abs/f",
            "abs/f/",
            "a/up/c",
            "a/up/../up",
            "a/file",
            "dangling",
            "dangling/x",
            "loop",
            "loop/x",
            "chain/f",
            "slash/a/f",
            "trailing/b",
            "trailing",
            "dot/dot/a",
            "a/f/..",
            "a/missing",
            "a/missing/..",
            "a/b/.",
            "abs/.",
            "a/file/.",
            "abs/",
            "a/f/.",
        ] {
            for extra in [OFlags::empty(), OFlags::NOFOLLOW, OFlags::DIRECTORY] {
                let flags = OFlags::PATH | extra;
                let identify = |fd: OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino);
                let path = Path::new(path);
                let kernel = open_in_root(root.as_fd(), path, flags, Mode::empty()).and_then(identify);
                let walk = open_by_walk(root.as_fd(), path, flags, Mode::empty()).and_then(identify);
                assert_eq!(kernel, walk, "{} {flags:?}", path.display());
                let kernel = open_beneath(root.as_fd(), path, flags).and_then(identify);
                let walk = super::walk(root.as_fd(), path, flags, Mode::empty(), Leaving::Refused);
                assert_eq!(kernel, walk.and_then(identify), "beneath: {} {flags:?}", path.display());
            }
        }
    }
}
