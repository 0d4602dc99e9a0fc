//! Where work is done that files of several owners, namespaces and mounts are touched in.

use std::fmt;

use ocibuild_sys::{IdRange, UserNamespace, UserNamespaceError, id_map, may_administer};

use crate::error::{Error, ErrorKind};

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

    /// What a step runs in, if it can; nothing where there is no user namespace.
    pub(crate) fn rung(&self) -> Option<Rung> {
        let one_or = |several: Rung| if has_one_id() { Rung::OneId } else { several };
        match self {
            Self::Own => Some(one_or(Rung::Root)),
            Self::Namespace(namespace) => namespace.run(|| one_or(Rung::UserNamespace)).ok(),
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
        namespace.run(work).map_err(|error| {
            Error::new(ErrorKind::Host, "cannot work in a user namespace").caused_by(error)
        })?
    }
}
