//! Whom files belong to that are all the same user's.

use std::collections::HashMap;

use ocibuild_spec::{EntryKind, Owned};
use ocibuild_sys::{FileStatus, Pretended};

/// Device and number of an inode. No two files have the same at a time.
pub(super) type Inode = (u64, u64);

/// What is not root's, and what is a device, by inode.
#[derive(Debug, Default)]
pub(super) struct Record(HashMap<Inode, Owned>);

impl Record {
    pub(super) fn get(&self, inode: Inode) -> Option<&Owned> {
        self.0.get(&inode)
    }

    /// What a file is, root's if nobody has said otherwise.
    pub(super) fn of(&self, inode: Inode) -> Owned {
        self.get(inode).cloned().unwrap_or(Owned::by(0, 0))
    }

    /// Notes what a file is.
    pub(super) fn set(&mut self, inode: Inode, owned: Owned) {
        if owned == Owned::by(0, 0) {
            self.forget(inode);
        } else {
            self.0.insert(inode, owned);
        }
    }

    /// A file is no more: the next one may get its number.
    pub(super) fn forget(&mut self, inode: Inode) {
        self.0.remove(&inode);
    }

    /// The status of a file as a program is to see it; `None` if that is the kernel's own.
    pub(super) fn pretend(&self, status: &FileStatus) -> Option<FileStatus> {
        // What belongs to somebody who is not here, as devices of the host do, is root's on every other rung.
        let is_strangers = || status.owner() == (NOBODY, NOBODY);
        let stranger = || is_strangers().then_some(Owned::by(0, 0));
        let owned = self.get(status.inode()).cloned().or_else(stranger)?;
        let device = match owned.device {
            Some(EntryKind::CharacterDevice { major, minor }) => Some((CHARACTER_DEVICE, major, minor)),
            Some(EntryKind::BlockDevice { major, minor }) => Some((BLOCK_DEVICE, major, minor)),
            _ => None,
        };
        let device = device.map(|(kind, major, minor)| (kind, ocibuild_sys::device(major, minor)));
        let mut pretended = *status;
        pretended.pretend(Pretended { uid: owned.uid, gid: owned.gid, device });
        Some(pretended)
    }
}

/// What the kernel says of owners that are not mapped.
const NOBODY: u32 = 65534;

/// Bits of a mode that say what a file is.
pub(super) const FILE_TYPE: u32 = 0o170_000;
/// `S_IFREG`.
pub(super) const REGULAR: u32 = 0o100_000;
/// `S_IFDIR`.
pub(super) const DIRECTORY: u32 = 0o040_000;
/// `S_IFCHR`.
pub(super) const CHARACTER_DEVICE: u32 = 0o020_000;
/// `S_IFBLK`.
pub(super) const BLOCK_DEVICE: u32 = 0o060_000;
/// `S_ISUID`.
pub(super) const SET_USER: u32 = 0o4000;
/// `S_ISGID`.
pub(super) const SET_GROUP: u32 = 0o2000;
