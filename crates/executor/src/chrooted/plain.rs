//! Calls about files that are what their paths say: the kernel carries them out, which is found out here with little. Nearly all
//! that a step makes are of this kind, and each waits.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use ocibuild_sys::{Call, FileStatus};
use rustix::fs::{AtFlags, OFlags, readlinkat};
use rustix::io::Errno;

use super::answers::Answers;
use super::request::{At, Change, Request, may_change};
use super::system::is_answered_for;
use crate::calls::{directory_link, usual_path};

/// A file whose path goes along no link and no step upwards: it has no other path but by way of such.
enum Named {
    Found(OwnedFd),
    Nothing,
}

impl Answers<'_> {
    /// Whether the kernel may carry out a call as it is, where that is seen at once. Decides nothing else, so that it does not
    /// matter if whoever called is gone, and its number another's.
    ///
    /// The memory of who has another identity than this process is not open to it: those calls are looked at properly.
    pub(super) fn is_plain(&self, call: &Call, request: &Request) -> bool {
        let plain = match *request {
            Request::Open { at, flags } if may_change(flags) => {
                self.is_changeable(call, at, !flags.contains(OFlags::NOFOLLOW))
            }
            Request::Open { at, flags } => self.is_own(call, at, !flags.contains(OFlags::NOFOLLOW)),
            Request::Statx { at, flags, .. } => {
                self.is_own(call, at, !flags.contains(AtFlags::SYMLINK_NOFOLLOW))
            }
            Request::Stat { at, follow, .. }
            | Request::Access { at, follow, .. }
            | Request::Attribute { at, follow, .. } => self.is_own(call, at, follow),
            Request::ReadLink { at, .. } => self.is_own(call, at, false),
            Request::Names { first, second } => self.are_names(call, first, second),
            Request::Change { change: Change::Name(_), .. } => None,
            Request::Change { at, .. } => self.is_changeable(call, at, true),
            _ => None,
        };
        plain.unwrap_or(false)
    }

    /// A file of the step's own, or nothing.
    fn is_own(&self, call: &Call, at: At, follow: bool) -> Option<bool> {
        let path = text_of(call, at)?;
        if path.as_os_str().is_empty() {
            // What is open, or nothing.
            return Some(true);
        }
        let path = self.whole(call, at, path)?;
        self.is_no_secret(&self.named(&path, follow)?)
    }

    /// The same, where it may be changed.
    fn is_changeable(&self, call: &Call, at: At, follow: bool) -> Option<bool> {
        let path = self.path_of(call, at)?;
        let named = self.named(&path, follow)?;
        Some(self.is_no_secret(&named)? && self.placed.points.check_content(&path).is_ok())
    }

    /// Names that may be made, removed and renamed.
    fn are_names(&self, call: &Call, first: At, second: Option<At>) -> Option<bool> {
        let mut known: Option<PathBuf> = None;
        for at in [Some(first), second].into_iter().flatten() {
            let path = self.path_of(call, at)?;
            let parent = path.parent()?;
            if known.as_deref() != Some(parent) {
                self.named(parent, true)?;
                known = Some(parent.to_owned());
            }
            if self.placed.points.check_name(&path).is_err() {
                return None;
            }
        }
        Some(true)
    }

    fn path_of(&self, call: &Call, at: At) -> Option<PathBuf> {
        let path = text_of(call, at)?;
        if path.as_os_str().is_empty() { None } else { self.whole(call, at, path) }
    }

    /// A path from the root, which is not in what is answered for.
    fn whole(&self, call: &Call, at: At, path: PathBuf) -> Option<PathBuf> {
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let whole = if path.is_absolute() {
            path
        } else {
            let link = format!("{}/{}", call.thread, directory_link(at.directory));
            let base = readlinkat(&*self.proc, link, Vec::new()).ok()?;
            self.system.inside(Path::new(OsStr::from_bytes(base.to_bytes())))?.join(path)
        };
        (!is_answered_for(&whole)).then_some(whole)
    }

    fn named(&self, path: &Path, follow: bool) -> Option<Named> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        match self.system.open_without_links(path, flags) {
            Ok(found) => Some(Named::Found(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Some(Named::Nothing),
            Err(_) => None,
        }
    }

    fn is_no_secret(&self, named: &Named) -> Option<bool> {
        match named {
            Named::Found(found) if !self.placed.secrets.is_empty() => {
                let inode = FileStatus::of(found.as_fd(), c"", AtFlags::EMPTY_PATH).ok()?.inode();
                Some(self.placed.secrets.iter().all(|(secret, _)| *secret != inode))
            }
            _ => Some(true),
        }
    }
}

fn text_of(call: &Call, at: At) -> Option<PathBuf> {
    let text = usual_path(call, at.address)?;
    Some(PathBuf::from(OsString::from_vec(text.into_bytes())))
}
