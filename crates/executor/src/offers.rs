//! What an executor can give a step.

use crate::Error;
use crate::error::Repr;

/// What an executor can give a step. It is asked before anything is unpacked or mounted: a step that needs more fails then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers(u8);

/// Something that a step needs and that not every executor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Need {
    /// File systems and paths of the host that appear in the step, beside its root file system.
    Mounts = 1,
    /// A network of the step's own, with a loopback interface and nothing else.
    OwnNetwork = 2,
    /// Limits on memory and CPU, for a step and what it starts together.
    Resources = 4,
    /// Owners and devices that the file system cannot have: where there is one id, and the step's files belong to several.
    Owners = 8,
    /// A directory that several steps have mounted at the same time. Where it cannot be had, they take turns.
    SharedMounts = 16,
    /// A file system in memory of a size that is asked for.
    SizedMounts = 32,
    /// A network of the step's own with a way out, where addresses of links and the loopback interface of the host cannot be
    /// reached.
    PrivateNetwork = 64,
}

impl Offers {
    /// Everything there is.
    pub const ALL: Self = Self(u8::MAX);

    /// The same without one thing.
    #[must_use]
    pub const fn without(self, need: Need) -> Self {
        Self(self.0 & !(need as u8))
    }

    /// Whether a step can have it.
    pub const fn includes(self, need: Need) -> bool {
        self.0 & need as u8 != 0
    }

    /// Fails with the first need that is not offered.
    pub fn check(self, needs: impl IntoIterator<Item = Need>) -> Result<(), Error> {
        match needs.into_iter().find(|need| !self.includes(*need)) {
            None => Ok(()),
            Some(need) => Err(Repr::Unmet { need }.into()),
        }
    }
}

impl Need {
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::Mounts => "mounts take an executor that makes them, which this one does not",
            Self::OwnNetwork => "a network of the step's own takes an executor with network namespaces",
            Self::PrivateNetwork => "a private network takes pasta or slirp4netns, and neither is installed",
            Self::Owners => {
                "files of several owners, where there is one id, take namespaces of our own instead of a runtime"
            }
            Self::SizedMounts => "the size of a file system takes mounts, which cannot be made here",
            Self::SharedMounts => {
                "a directory in several steps at once takes mounts, which cannot be made here"
            }
            Self::Resources => "limits on memory and CPU take a runtime that makes cgroups, such as runc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_first_need_that_is_not_met_is_told() {
        let offers = Offers::ALL.without(Need::Resources).without(Need::Mounts);
        assert!(offers.includes(Need::OwnNetwork) && !offers.includes(Need::Mounts));
        assert!(offers.check([Need::OwnNetwork]).is_ok());
        let error = offers.check([Need::OwnNetwork, Need::Resources, Need::Mounts]).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Unsupported, Need::Resources.refusal())
        );
    }
}
