//! Where work is done that files of several owners, namespaces and mounts are touched in.

use std::fmt;

use ocibuild_sys::{UserNamespace, UserNamespaceError, may_administer};

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

    pub(crate) fn limit(&self) -> Option<PrivilegeLimit> {
        match self {
            Self::Own => None,
            Self::Namespace(namespace) => {
                namespace.without_ranges().map(|reason| PrivilegeLimit::OneId { reason: reason.to_owned() })
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
