use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system and architecture in Go's spellings, normalised as containerd does: `x86_64` is `amd64`,
/// `arm64/v8` is `arm64`, `arm` is `arm/v7` (3.17).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture; empty without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no platform: expected os/architecture[/variant], as in linux/amd64")]
pub struct PlatformError {
    text: String,
}

const OPERATING_SYSTEMS: [&str; 15] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];
const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "armbe", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
];

impl Platform {
    /// The platform with these names, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") | ("x86_64" | "x86-64", "") => ("amd64", ""),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", other) => ("arm64", other),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os_version: String::new(),
            os_features: Vec::new(),
        }
    }

    /// The platform this program was compiled for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new(std::env::consts::OS, architecture, "")
    }

    /// Whether an image for `self` is one for `wanted`: the same system, architecture and variant.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.normalised() == wanted.normalised()
    }

    /// The platforms whose images run on this one, the best first: itself, then earlier variants of its architecture,
    /// then the architecture of half the width, as containerd orders them.
    pub fn compatible(&self) -> Vec<Self> {
        let own = self.normalised();
        let number = |text: &str| text.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        let of = |architecture: &str, variant: String| Self::new(&own.os, architecture, &variant);
        let earlier = |architecture: &'static str, from: u32, down_to: u32| {
            (down_to..from).rev().map(move |number| (architecture, format!("v{number}")))
        };
        let others: Vec<(&str, String)> = match (own.architecture.as_str(), number(&own.variant)) {
            ("amd64", variant) => {
                earlier("amd64", variant.unwrap_or(1).min(9), 1).chain([("386", String::new())]).collect()
            }
            ("arm", Some(variant)) => earlier("arm", variant.min(9), 5).collect(),
            ("arm64", variant) => {
                earlier("arm64", variant.unwrap_or(8).min(9), 8).chain(earlier("arm", 9, 5)).collect()
            }
            _ => Vec::new(),
        };
        let mut out = vec![own.clone()];
        out.extend(others.into_iter().map(|(architecture, variant)| of(architecture, variant)));
        out
    }

    fn normalised(&self) -> Self {
        Self::new(&self.os, &self.architecture, &self.variant)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError { text: text.chars().take(160).collect() };
        let host = Self::host();
        let parts: Vec<&str> = text.split('/').collect();
        let well_formed = |part: &&str| {
            part.bytes().any(|b| b.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if !parts.iter().all(well_formed) {
            return Err(refuse());
        }
        match parts.as_slice() {
            ["local"] => Ok(host),
            [one] => {
                let os = Self::new(one, "", "").os;
                if OPERATING_SYSTEMS.contains(&os.as_str()) {
                    return Ok(Self::new(&os, &host.architecture, &host.variant));
                }
                let platform = Self::new(&host.os, one, "");
                if ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    Ok(platform)
                } else {
                    Err(refuse())
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_on_a_platform_comes_best_first() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64 linux/386"),
            ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
            ("linux/arm", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            let found = text.parse::<Platform>().unwrap().compatible();
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn spellings_are_normalised() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/ARM/v6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for bad in ["", "/", "linux/", "nosuch", "a/b/c/d", "linux/am d64", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
