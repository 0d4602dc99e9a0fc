use std::fmt;
use std::str::FromStr;

use crate::sandbox::{CAPABILITIES, capability};

/// A set of capabilities.
///
/// ```
/// use ocibuild_sys::Capabilities;
///
/// let set = "net_raw".parse::<Capabilities>()?.with("CAP_MKNOD".parse()?);
/// assert_eq!(set.names().collect::<Vec<_>>(), ["CAP_NET_RAW", "CAP_MKNOD"]);
/// assert_eq!("ALL".parse::<Capabilities>()?, Capabilities::ALL);
/// assert!("NET_ROW".parse::<Capabilities>().is_err());
/// # Ok::<(), ocibuild_sys::UnknownCapability>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

/// A name that no capability has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCapability {
    name: String,
}

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// Every one, those of kernels to come as well.
    pub const ALL: Self = Self(u64::MAX);

    /// One bit for each, by number.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Names of those that are known here, by number.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CAPABILITIES
            .into_iter()
            .enumerate()
            .filter(move |(number, _)| self.0 & 1 << number != 0)
            .map(|(_, name)| name)
    }
}

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    /// A name as docker takes it: in upper or lower case, with or without `CAP_`; or `ALL`.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::ALL);
        }
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match capability(&name) {
            Some(number) => Ok(Self(1 << number)),
            None => Err(UnknownCapability { name: text.to_owned() }),
        }
    }
}

impl UnknownCapability {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UnknownCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown capability {:?}", self.name)
    }
}

impl std::error::Error for UnknownCapability {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_in_each_of_its_forms() {
        for (number, name) in CAPABILITIES.iter().enumerate() {
            let short = name.trim_start_matches("CAP_");
            for form in [*name, short, &name.to_lowercase(), &short.to_lowercase()] {
                assert_eq!(form.parse::<Capabilities>().unwrap().bits(), 1 << number, "{form}");
            }
        }
        assert_eq!(Capabilities::ALL.names().count(), CAPABILITIES.len());
        for bad in ["", "CAP_", "all_", "NET RAW", "CAP_CAP_CHOWN"] {
            assert_eq!(bad.parse::<Capabilities>().unwrap_err().name(), bad);
        }
    }
}
