use std::fmt;
use std::io;
use std::path::Path;

use crate::EntryKind;

/// Whom a file belongs to, and what it stands for, where its file system cannot say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that an empty file stands for: [`EntryKind::CharacterDevice`] or [`EntryKind::BlockDevice`].
    pub device: Option<EntryKind>,
}

impl Owned {
    /// A file of this owner.
    pub fn by(uid: u32, gid: u32) -> Self {
        Self { uid, gid, device: None }
    }
}

/// Owners and devices that a step meant and its file system could not take: in a user namespace with one id every file
/// belongs to that, and no device can be made there.
///
/// Whoever runs the step writes it; whoever makes a layer of what the step left reads it, for each path of the root file
/// system that the step had.
pub struct OwnershipRecord {
    look_up: Box<LookUp>,
}

type LookUp = dyn Fn(&Path) -> io::Result<Option<Owned>> + Send + Sync;

impl OwnershipRecord {
    /// A record in which `look_up` finds a path below the root, without leading slash and without following links. What it
    /// does not know is root's.
    pub fn new(look_up: impl Fn(&Path) -> io::Result<Option<Owned>> + Send + Sync + 'static) -> Self {
        Self { look_up: Box::new(look_up) }
    }

    /// Whom the file at this path belongs to.
    pub fn of(&self, path: &Path) -> io::Result<Owned> {
        Ok((self.look_up)(path)?.unwrap_or(Owned::by(0, 0)))
    }
}

impl fmt::Debug for OwnershipRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnershipRecord").finish_non_exhaustive()
    }
}
