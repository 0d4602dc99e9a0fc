//! What this host does with programs of architectures that it does not have.

use std::path::{Path, PathBuf};

use ocibuild_spec::Platform;

/// How programs of a platform are executed here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Emulation {
    /// By the processor.
    Native,
    /// By an interpreter that the kernel has open already: it works in every root file system.
    Interpreter(PathBuf),
    /// By an interpreter that is looked up in the root file system of the step, where it seldom is: it was registered
    /// without the flag `F`.
    OutsideOnly(PathBuf),
    /// Not at all: no interpreter is registered.
    Missing,
    /// Nobody can tell: `binfmt_misc` is not mounted. What is registered with the kernel works all the same.
    Unknown,
}

/// Where the kernel tells of registered interpreters.
const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";

impl Emulation {
    /// What this host does with programs of `platform`.
    pub fn detect(platform: &Platform) -> Self {
        if Platform::host().compatible().iter().any(|own| own.satisfies(platform)) {
            return Self::Native;
        }
        Self::registered(Path::new(BINFMT_MISC), &platform.architecture)
    }

    /// Looks among the registrations below `directory`.
    fn registered(directory: &Path, architecture: &str) -> Self {
        if !directory.join("status").exists() {
            return Self::Unknown;
        }
        let Ok(entries) = fs_err::read_dir(directory) else { return Self::Unknown };
        let mut found = Self::Missing;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name() == "register" || entry.file_name() == "status" {
                continue;
            }
            let Ok(text) = fs_err::read_to_string(entry.path()) else { continue };
            match registration(&text, architecture) {
                Some((interpreter, true)) => return Self::Interpreter(interpreter),
                Some((interpreter, false)) => found = Self::OutsideOnly(interpreter),
                None => {}
            }
        }
        found
    }

    /// What to do so that programs of `platform` can be executed.
    pub fn advice(&self, platform: &Platform) -> String {
        const PACKAGES: &str =
            "install qemu-user-static and binfmt-support (Debian, Ubuntu), which register it";
        match self {
            Self::Native | Self::Interpreter(_) => {
                format!("the file is not a program for {platform}: is the image one for another platform?")
            }
            Self::OutsideOnly(interpreter) => format!(
                "the interpreter {} is registered without the flag F and so is not found in the image: {PACKAGES} with it",
                interpreter.display()
            ),
            Self::Missing => format!(
                "no interpreter for {} is registered with binfmt_misc on this host: {PACKAGES}",
                platform.architecture
            ),
            Self::Unknown => format!(
                "it takes an interpreter for {} registered with binfmt_misc on the host, which is not mounted here: \
                 {PACKAGES}",
                platform.architecture
            ),
        }
    }
}

/// The interpreter of a registration that is enabled and for programs of this architecture, and whether the kernel has
/// it open.
fn registration(text: &str, architecture: &str) -> Option<(PathBuf, bool)> {
    let mut lines = text.lines();
    if lines.next() != Some("enabled") {
        return None;
    }
    let (mut interpreter, mut flags, mut matches) = (None, "", false);
    for line in lines {
        match line.split_once(' ') {
            Some(("interpreter", path)) => interpreter = Some(PathBuf::from(path)),
            Some(("flags:", value)) => flags = value,
            Some(("magic", hex)) => matches = is_magic_of(hex, architecture),
            _ => {}
        }
    }
    interpreter.filter(|_| matches).map(|path| (path, flags.contains('F')))
}

/// Whether the first bytes of an ELF file, in hexadecimal, are those of this architecture.
fn is_magic_of(hex: &str, architecture: &str) -> bool {
    // Class, byte order and `e_machine`.
    let (class, order, machine) = match architecture {
        "386" => (1, 1, 3),
        "amd64" => (2, 1, 62),
        "arm" => (1, 1, 40),
        "arm64" => (2, 1, 183),
        "loong64" => (2, 1, 258),
        "mips" => (1, 2, 8),
        "mips64" => (2, 2, 8),
        "mips64le" => (2, 1, 8),
        "mipsle" => (1, 1, 8),
        "ppc64" => (2, 2, 21),
        "ppc64le" => (2, 1, 21),
        "riscv64" => (2, 1, 243),
        "s390x" => (2, 2, 22),
        _ => return false,
    };
    let byte = |at: usize| hex.get(2 * at..2 * at + 2).and_then(|text| u8::from_str_radix(text, 16).ok());
    let (Some(first), Some(second)) = (byte(18), byte(19)) else { return false };
    let found =
        if order == 1 { u16::from_le_bytes([first, second]) } else { u16::from_be_bytes([first, second]) };
    hex.starts_with("7f454c46") && byte(4) == Some(class) && byte(5) == Some(order) && found == machine
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "7f454c460201010000000000000000000200b700";
    const S390X: &str = "7f454c4602020100000000000000000000020016";

    fn entry(state: &str, flags: &str, magic: &str) -> String {
        format!(
            "{state}\ninterpreter /usr/libexec/qemu\nflags: {flags}\noffset 0\nmagic {magic}\nmask ffff\n"
        )
    }

    #[test]
    fn registrations_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let found = |architecture: &str| Emulation::registered(directory.path(), architecture);
        assert_eq!(found("arm64"), Emulation::Unknown);
        let write = |name: &str, text: &str| fs_err::write(directory.path().join(name), text).unwrap();
        write("status", "enabled\n");
        write("register", "");
        assert_eq!(found("arm64"), Emulation::Missing);
        write("off", &entry("disabled", "F", ARM64));
        write("big", &entry("enabled", "OCF", S390X));
        assert_eq!(found("arm64"), Emulation::Missing);
        assert_eq!(found("s390x"), Emulation::Interpreter("/usr/libexec/qemu".into()));
        write("plain", &entry("enabled", "OC", ARM64));
        assert_eq!(found("arm64"), Emulation::OutsideOnly("/usr/libexec/qemu".into()));
        write("fixed", &entry("enabled", "POCF", ARM64));
        assert_eq!(found("arm64"), Emulation::Interpreter("/usr/libexec/qemu".into()));
        for broken in ["", "enabled", "enabled\nmagic 7f", "enabled\ninterpreter /x\nmagic zz"] {
            assert_eq!(registration(broken, "arm64"), None, "{broken:?}");
        }
    }

    #[test]
    fn the_host_needs_none_for_its_own() {
        assert_eq!(Emulation::detect(&Platform::host()), Emulation::Native);
    }

    #[test]
    fn the_advice_names_what_to_install() {
        let platform = "linux/arm64".parse().unwrap();
        for emulation in [Emulation::Missing, Emulation::Unknown, Emulation::OutsideOnly("/q".into())] {
            assert!(emulation.advice(&platform).contains("qemu-user-static"), "{emulation:?}");
        }
    }
}
