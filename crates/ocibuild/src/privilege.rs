//! Where work is done that files of several owners, namespaces and mounts are touched in.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ocibuild_sys::{IdRange, UserNamespace, UserNamespaceError, id_map, may_administer};

use crate::error::Error;
use crate::failure::{HostFailure, HostOperation};

/// What this process may do with files of other owners, and with mounts.
#[derive(Debug)]
pub(crate) enum Privilege {
    /// It is root, and has what that usually brings.
    Own,
    /// Somebody else, who is root of a user namespace.
    Namespace(UserNamespace),
    /// Somebody else, and nothing but that.
    None(UserNamespaceError),
}

/// What a process cannot do, which may be the reason when something fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrivilegeLimit {
    /// There is a user namespace with a single id in it.
    OneId {
        /// Why there are no more.
        reason: String,
    },
    /// There is no user namespace.
    NoUserNamespace(UserNamespaceError),
}

impl fmt::Display for PrivilegeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneId { reason } => write!(f, "this user namespace has no ids but one: {reason}"),
            Self::NoUserNamespace(error) => {
                write!(f, "this process is not root and could not enter a user namespace: {error}")
            }
        }
    }
}

/// A kind of sandbox for steps. The first ones isolate most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// Namespaces that root makes, which may mount.
    Root,
    /// Namespaces in a user namespace with several ids.
    UserNamespace,
    /// Namespaces in a user namespace with one id; owners are pretended.
    OneId,
    /// A root directory, for root without namespaces.
    Chroot,
    /// Nothing that takes a capability.
    Unprivileged,
}

impl Rung {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Root, Self::UserNamespace, Self::OneId, Self::Chroot, Self::Unprivileged];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user-namespace",
            Self::OneId => "one-id",
            Self::Chroot => "chroot",
            Self::Unprivileged => "unprivileged",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "namespaces made by root",
            Self::UserNamespace => "user namespace with several ids",
            Self::OneId => "user namespace with one id, owners pretended",
            Self::Chroot => "chroot without namespaces",
            Self::Unprivileged => "no namespaces and no chroot",
        })
    }
}

/// What the steps of a build run in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildSandbox {
    /// Its kind.
    pub rung: Rung,
    /// The users that there are in it. Groups are as many.
    pub users: Vec<RangeInclusive<u32>>,
    /// The runtime that makes it, if this process does not.
    pub runtime: Option<PathBuf>,
    /// Whether root file systems are overlays; else they are copies.
    pub overlay: bool,
}

impl fmt::Display for BuildSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rung, self.users.as_slice()) {
            (Rung::UserNamespace, [_, ..]) => {
                let range = |range: &RangeInclusive<u32>| format!("{}-{}", range.start(), range.end());
                let ids: Vec<String> = self.users.iter().map(range).collect();
                write!(f, "user namespace with ids {}", ids.join(", "))?;
            }
            (rung, _) => rung.fmt(f)?,
        }
        if let Some(runtime) = &self.runtime {
            write!(f, ", {}", runtime.display())?;
        }
        f.write_str(if self.overlay { ", overlay" } else { ", copies" })
    }
}

/// The users of the user namespace of this process, with ranges that follow each other as one.
pub(crate) fn users_here() -> Vec<RangeInclusive<u32>> {
    merged(&id_map().users)
}

/// Whether there is one user here, and one group: what the executor pretends owners for.
pub(crate) fn has_one_id() -> bool {
    let ids = id_map();
    let is_one = |ranges: &[IdRange]| matches!(ranges, [range] if range.count == 1);
    is_one(&ids.users) && is_one(&ids.groups)
}

impl Privilege {
    /// What this process has, or can get. Root that may not mount, as in a container, is root of a user namespace if it can
    /// make one.
    ///
    /// Where that is nothing the work goes on: a build of which no step runs anything needs no namespace, and a step that does
    /// says that it cannot have one.
    pub(crate) fn find() -> Self {
        if !rustix::process::geteuid().is_root() {
            return UserNamespace::create().map_or_else(Self::None, Self::Namespace);
        }
        if may_administer() {
            return Self::Own;
        }
        // Where that fails, the right that root lacks is what there is to tell.
        UserNamespace::create().map_or(Self::Own, Self::Namespace)
    }

    /// What a step runs in that is carried out where this is called, within [`run`](Self::run).
    pub(crate) fn rung_here(&self) -> Rung {
        match self {
            _ if has_one_id() => Rung::OneId,
            Self::Namespace(_) => Rung::UserNamespace,
            Self::Own | Self::None(_) => Rung::Root,
        }
    }

    /// What a step runs in, if it can; nothing where there is no user namespace.
    pub(crate) fn rung(&self) -> Option<Rung> {
        match self {
            Self::Own => Some(self.rung_here()),
            Self::Namespace(namespace) => namespace.run(|| self.rung_here()).ok(),
            Self::None(_) => None,
        }
    }

    pub(crate) fn limit(&self) -> Option<PrivilegeLimit> {
        match self {
            Self::Own => None,
            Self::Namespace(namespace) => {
                namespace.without_ranges().map(|reason| PrivilegeLimit::OneId { reason: reason.to_string() })
            }
            Self::None(error) => Some(PrivilegeLimit::NoUserNamespace(error.clone())),
        }
    }

    /// Carries out `work` with it, and waits for that.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        let Self::Namespace(namespace) = self else { return work() };
        namespace.run(work).map_err(|error| HostFailure::operation(HostOperation::EnterNamespace, error))?
    }
}

fn merged(ranges: &[IdRange]) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<IdRange> = ranges.iter().copied().filter(|range| range.count > 0).collect();
    ranges.sort_unstable_by_key(|range| range.inside);
    let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        let last = range.inside.saturating_add(range.count - 1);
        match merged.last_mut() {
            Some(before) if before.end().checked_add(1) == Some(range.inside) => {
                *before = *before.start()..=last;
            }
            _ => merged.push(range.inside..=last),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_follow_each_other_are_one() {
        let range = |inside, count| IdRange { inside, outside: 7, count };
        assert_eq!(merged(&[range(1, 65_536), range(0, 1)]), [0..=65_536]);
        assert_eq!(merged(&[range(0, u32::MAX)]), [0..=u32::MAX - 1]);
        assert_eq!(merged(&[range(0, 1), range(5, 2), range(9, 0)]), [0..=0, 5..=6]);
    }

    #[test]
    fn a_sandbox_is_told_in_a_line() {
        let mut sandbox =
            BuildSandbox { rung: Rung::UserNamespace, users: vec![0..=65_536], runtime: None, overlay: true };
        assert_eq!(sandbox.to_string(), "user namespace with ids 0-65536, overlay");
        sandbox.runtime = Some("/usr/bin/crun".into());
        sandbox.overlay = false;
        assert_eq!(sandbox.to_string(), "user namespace with ids 0-65536, /usr/bin/crun, copies");
        let sandbox = BuildSandbox { rung: Rung::Root, runtime: None, ..sandbox };
        assert_eq!(sandbox.to_string(), "namespaces made by root, copies");
    }
}
