//! Files that somebody named to be written.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// How a file that was named is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing has been opened or removed yet"]
pub enum FileTarget {
    /// As a whole: another file takes this name, to which links lead. Nothing may be there yet.
    Replaced(PathBuf),
    /// By opening what is there, and never by removing it: a pipe, a device, a descriptor of a process.
    Opened(PathBuf),
}

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

impl FileTarget {
    /// What `path` leads to. A regular file that is only known as somebody's descriptor (`/dev/stdout` and a
    /// redirection) is not replaced either: whoever has the descriptor would not see what is written.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let mut at = path.as_ref().to_owned();
        for _ in 0..MAX_LINKS {
            if is_descriptor(&at) {
                return Self::Opened(at);
            }
            match at.read_link() {
                Ok(target) => at = parent(&at).join(target),
                Err(_) => break,
            }
        }
        match at.metadata() {
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Self::Opened(at),
            _ => Self::Replaced(at),
        }
    }

    /// Opens what is written without being replaced, to add to what is in it. The standard streams of this process are
    /// taken as they are, for a socket cannot be opened by name.
    pub fn open(path: &Path) -> io::Result<File> {
        let descriptor = match own_descriptor(path) {
            Some(1) => std::io::stdout().as_fd().try_clone_to_owned(),
            Some(2) => std::io::stderr().as_fd().try_clone_to_owned(),
            _ => return std::fs::OpenOptions::new().append(true).open(path),
        };
        descriptor.map(File::from)
    }
}

/// The number of the descriptor of this process that a path names, links followed, as `/dev/stdin` does.
pub fn own_descriptor(path: impl AsRef<Path>) -> Option<u32> {
    let mut at = path.as_ref().to_owned();
    for _ in 0..MAX_LINKS {
        if is_descriptor(&at) {
            let own = Path::new("/proc/self/fd").canonicalize().ok()?;
            let is_own = parent(&at).canonicalize().is_ok_and(|folder| folder == own);
            return at.file_name().filter(|_| is_own)?.to_str()?.parse().ok();
        }
        at = parent(&at).join(at.read_link().ok()?);
    }
    None
}

/// Whether a path is the name of a descriptor: right below `/proc/PID/fd`, under whatever name.
fn is_descriptor(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    name.bytes().all(|byte| byte.is_ascii_digit())
        && parent(path)
            .canonicalize()
            .is_ok_and(|folder| folder.starts_with("/proc") && folder.ends_with("fd"))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_replaced_where_links_lead_and_other_things_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let of = |name: &str| FileTarget::of(place(name));
        let replaced = |name: &str| FileTarget::Replaced(place(name));
        fs_err::write(place("file"), "old").unwrap();
        symlink("file", place("link")).unwrap();
        symlink(place("link"), place("link to a link")).unwrap();
        symlink("missing", place("link to nothing")).unwrap();
        symlink("round", place("round")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        symlink("pipe", place("link to a pipe")).unwrap();
        for name in ["file", "link", "link to a link"] {
            assert_eq!(of(name), replaced("file"), "{name}");
        }
        assert_eq!(of("link to nothing"), replaced("missing"));
        assert_eq!(of("new"), replaced("new"));
        assert_eq!(of("round"), replaced("round"));
        for name in ["pipe", "link to a pipe"] {
            assert_eq!(of(name), FileTarget::Opened(place("pipe")), "{name}");
        }
        assert_eq!(FileTarget::of("/dev/null"), FileTarget::Opened("/dev/null".into()));
    }

    #[test]
    fn descriptors_are_opened_whatever_they_are_of() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before ").unwrap();
        let number = file.as_file().as_raw_fd();
        for name in [format!("/proc/self/fd/{number}"), format!("/dev/fd/{number}")] {
            let FileTarget::Opened(path) = FileTarget::of(&name) else { panic!("{name} would be replaced") };
            assert_eq!(own_descriptor(&name), u32::try_from(number).ok());
            FileTarget::open(&path).unwrap().write_all(b"more ").unwrap();
        }
        assert_eq!(fs_err::read_to_string(file.path()).unwrap(), "before more more ");
        assert_eq!(own_descriptor("/dev/stdin"), Some(0));
        assert_eq!(own_descriptor(file.path()), None);
        assert!(matches!(FileTarget::of("/dev/stdout"), FileTarget::Opened(_)));
    }
}
