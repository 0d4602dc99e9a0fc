//! What this kernel lets this process do, found out by trying.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sandbox::{Confinement, MountOptions, Namespaces, Operation, Process, Sandbox};
use crate::{
    DirHandle, Error, Filter, Profile, Rule, SandboxError, SandboxErrorKind, Status, Verdict,
    user_namespace_obstacle,
};

/// The attributes in which an overlay keeps its notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayAttributes {
    /// `trusted.overlay.*`, for root.
    Trusted,
    /// `user.overlay.*` with the option `userxattr`, inside a user namespace (Linux 5.11).
    User,
}

impl OverlayAttributes {
    /// Those that this process may write.
    pub fn of_this_process() -> Self {
        if crate::in_initial_user_namespace() { Self::Trusted } else { Self::User }
    }
}

/// Why an overlay cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The directories for trying it could not be made.
    #[error("try an overlay")]
    Directory(#[source] Error),
    /// The mount failed.
    #[error("mount an overlay in {path}")]
    Mount {
        /// Where it was tried.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: SandboxError,
    },
    /// The file system has no extended attributes of the sort that an overlay needs.
    #[error("the file system of {path} has no {attributes:?} extended attributes for an overlay")]
    Attributes {
        /// Where it was tried.
        path: std::path::PathBuf,
        /// The sort.
        attributes: OverlayAttributes,
    },
}

/// Whether the kernel answers `openat2` now. A filter may change that at any moment: do not keep it.
pub fn openat2_works() -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(rustix::fs::CWD, c"/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).is_ok()
}

/// File systems on which a file is the same for everybody who can open it, and whose modes are all that decides who can.
const PLAIN_FILE_SYSTEMS: [u64; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
];

/// Whether who sees a directory through another mount, read-only, sees there what a copy would be: not so on file systems of a
/// network or a program, or where nothing may be executed, or before Linux 5.12, which makes no mounts below a mount read-only.
pub fn can_be_shown(directory: &DirHandle) -> bool {
    use rustix::fs::StatVfsMountFlags as Flags;
    let is_plain = rustix::fs::fstatfs(directory)
        .is_ok_and(|found| PLAIN_FILE_SYSTEMS.contains(&found.f_type.cast_unsigned()));
    let executes = rustix::fs::fstatvfs(directory).is_ok_and(|found| !found.f_flag.contains(Flags::NOEXEC));
    is_plain && executes && mount_attributes_work()
}

/// Whether a directory can be what is below an overlay, and shows there what it shows: not so if something is mounted below it, or
/// if it lies on an overlay, of which the kernel stacks two and no more.
pub fn can_be_below_overlay(directory: &DirHandle) -> bool {
    const OVERLAY: u64 = 0x794c_7630;
    let is_overlay = || {
        let found = rustix::fs::fstatfs(directory);
        found.is_ok_and(|found| found.f_type.cast_unsigned() == OVERLAY)
    };
    let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let mut mounts = Vec::new();
    let read = File::options().read(true).open("/proc/self/mountinfo");
    let read = read.and_then(|mut file| file.read_to_end(&mut mounts));
    let (Ok(path), Ok(_)) = (rustix::fs::readlink(path, Vec::new()), read) else { return false };
    let below = [path.as_bytes(), b"/"].concat();
    let is_below = |line: &[u8]| mount_point(line).is_none_or(|point| point.starts_with(&below));
    !is_overlay() && !mounts.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).any(is_below)
}

/// The mount point in a line of `mountinfo`, where blanks are three digits.
fn mount_point(line: &[u8]) -> Option<Vec<u8>> {
    let mut rest = line.split(|byte| *byte == b' ').nth(4)?;
    let mut point = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        rest = if escaped.is_some() { &tail[3..] } else { tail };
        point.push(escaped.unwrap_or(*first));
    }
    Some(point)
}

/// Whether the kernel knows `mount_setattr`, and answers it.
#[expect(unsafe_code, reason = "a call that rustix does not have")]
fn mount_attributes_work() -> bool {
    // SAFETY: there is nothing at the null pointer to be read, since its size is 0, which the kernel refuses first.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<libc::c_void>(), 0)
    };
    result == 0 || !matches!(crate::dir::last_errno(), Errno::NOSYS | Errno::PERM)
}

/// Whether this process may make mount and process namespaces, as it is: root, or root of a user namespace.
pub fn namespaces_work() -> Result<(), SandboxError> {
    run(vec![Operation::MakePrivate])
}

/// Whether an ordinary user could make a user namespace here; the error text names what denies it.
#[expect(unsafe_code, reason = "forks")]
pub fn user_namespaces_work() -> Result<(), String> {
    let mut pidfd = -1;
    // SAFETY: the child ends at once.
    let pid = unsafe { crate::child::fork(libc::CLONE_NEWUSER, &mut pidfd) };
    if pid == 0 {
        // SAFETY: ends the copy without running anything of the program.
        unsafe { libc::_exit(0) };
    }
    if pid < 0 {
        let error = std::io::Error::from(crate::dir::last_errno());
        let obstacle = user_namespace_obstacle().map(|obstacle| format!(" ({obstacle})")).unwrap_or_default();
        return Err(format!("make a user namespace: {error}{obstacle}"));
    }
    // SAFETY: a child of ours that nobody else waits for, and a descriptor of ours.
    unsafe {
        libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), libc::__WALL);
        libc::close(pidfd);
    }
    Ok(())
}

/// Whether this process can answer system calls of a sandbox: a throwaway process gets a filter that leaves one to it, which
/// nobody makes. The kernel may not know such filters, a filter may deny them, and there may be one that is in force already.
pub fn notification_works() -> Result<(), SandboxError> {
    let confinement = Confinement {
        uid: 0,
        gid: 0,
        groups: None,
        capabilities: u64::MAX,
        no_new_privileges: false,
        seccomp: Some(asking()),
        enclosed: false,
    };
    run_as(Some(Namespaces::default()), vec![Operation::MakePrivate], Some(confinement))
}

/// A filter that leaves a call to the listener which nobody makes.
fn asking() -> Filter {
    let rule = Rule { names: vec!["acct".to_owned()], verdict: Verdict::Notify, condition: None };
    Profile { default: Verdict::Allow, rules: vec![rule] }.compile()
}

/// Makes a sandbox without namespaces in a throwaway process: a root, which is the one that is there, what keeps it to that,
/// and a filter that leaves a call to this process.
pub(crate) fn try_chroot() -> Result<(), SandboxError> {
    let confinement = Confinement {
        uid: 0,
        gid: 0,
        groups: None,
        capabilities: 0,
        no_new_privileges: true,
        seccomp: Some(asking()),
        enclosed: true,
    };
    run_as(None, vec![Operation::EnterRoot(c"/".to_owned()), Operation::Chroot], Some(confinement))
}

/// Mounts an overlay in a throwaway process in `dir`, where its layers would be, and says which attributes it
/// takes. Leaves nothing behind, unless it is killed. Nobody else tries one in `dir` at the same time: processes of
/// different PID namespaces may have the same number, and threads have.
pub fn overlay_works(dir: &Path) -> Result<OverlayAttributes, OverlayError> {
    const NAME: &str = ".overlay-probe";

    let attributes = OverlayAttributes::of_this_process();
    let parent = DirHandle::open(dir).map_err(OverlayError::Directory)?;
    let result = try_overlay(dir, &parent, NAME, attributes);
    let removed = parent.remove_tree(NAME).map_err(OverlayError::Directory);
    result.and(removed).map(|()| attributes)
}

fn try_overlay(
    dir: &Path,
    parent: &DirHandle,
    name: &str,
    attributes: OverlayAttributes,
) -> Result<(), OverlayError> {
    parent.remove_tree(name).map_err(OverlayError::Directory)?;
    parent.mkdir(name, 0o700).map_err(OverlayError::Directory)?;
    let probe = parent.open_dir(name).map_err(OverlayError::Directory)?;
    for part in ["l", "u", "w", "m"] {
        probe.mkdir(part, 0o755).map_err(OverlayError::Directory)?;
    }
    let attribute = match attributes {
        OverlayAttributes::Trusted => "trusted.overlay.probe",
        OverlayAttributes::User => "user.overlay.probe",
    };
    if probe.set_xattr("u", attribute, b"y").is_err() {
        return Err(OverlayError::Attributes { path: dir.to_owned(), attributes });
    }
    let path = dir.join(name);
    let mut options = vec!["lowerdir=l", "upperdir=u", "workdir=w"];
    if attributes == OverlayAttributes::User {
        options.push("userxattr");
    }
    let mount = Operation::HostMount {
        source: c"overlay".to_owned(),
        target: c"m".to_owned(),
        fstype: c"overlay".to_owned(),
        options: MountOptions::parse(options).unwrap_or_default(),
        from: CString::new(path.as_os_str().as_bytes()).ok(),
    };
    run(vec![Operation::MakePrivate, mount])
        .map_err(|source| OverlayError::Mount { path: dir.to_owned(), source })
}

/// Carries out operations in a process that ends after them.
pub(crate) fn run(operations: Vec<Operation>) -> Result<(), SandboxError> {
    run_in(Namespaces::default(), operations)
}

/// The same with further namespaces.
pub(crate) fn run_in(namespaces: Namespaces, operations: Vec<Operation>) -> Result<(), SandboxError> {
    run_as(Some(namespaces), operations, None)
}

fn run_as(
    namespaces: Option<Namespaces>,
    operations: Vec<Operation>,
    confinement: Option<Confinement>,
) -> Result<(), SandboxError> {
    let process = Process {
        args: Vec::new(),
        env: Vec::new(),
        search: Vec::new(),
        cwd: c"/".to_owned(),
        umask: 0o22,
        rlimits: Vec::new(),
        confinement,
        terminal: None,
    };
    let sandbox = Sandbox { namespaces, operations, process, keeper: false };
    match sandbox.spawn(std::io::stdout(), std::io::stderr())?.wait()? {
        Status::Exited(0) => Ok(()),
        // Killed, by whom it does not matter.
        _ => Err(SandboxError::new(
            SandboxErrorKind::Lost,
            "try it in a process, which was ended",
            Errno::CHILD,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let line =
            |point: &str| format!("36 35 98:0 /a\\040b {point} rw,noatime shared:1 - ext4 /dev/sda1 rw");
        for (text, point) in [
            ("/mnt", "/mnt"),
            ("/a\\040b", "/a b"),
            ("/\\134040", "/\\040"),
            ("/tab\\011", "/tab\t"),
            ("/end\\", "/end\\"),
        ] {
            assert_eq!(mount_point(line(text).as_bytes()), Some(point.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(mount_point(b"36 35"), None);
    }
}
