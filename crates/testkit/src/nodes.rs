//! Device nodes of this host, and a disk that may come to harm.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::skip;

/// A loop device with a file behind it, which stands for a disk of the host. It is gone when this is dropped.
#[derive(Debug)]
pub struct LoopDisk {
    device: PathBuf,
    file: PathBuf,
}

/// What the disk begins with.
const CANARY: &[u8] = b"canary of the disk";

impl LoopDisk {
    /// Attaches a file in `directory`; nothing, with the reason printed, where that takes more privilege.
    pub fn attach(directory: &Path) -> Option<Self> {
        if !ocibuild_sys::in_initial_user_namespace() {
            skip("a loop device takes root");
            return None;
        }
        let file = directory.join("disk");
        let mut content = CANARY.to_vec();
        content.resize(1 << 20, b'.');
        fs::write(&file, content).expect("the test's directory can be written");
        match Command::new("losetup").args(["--find", "--show"]).arg(&file).output() {
            Ok(output) if output.status.success() => {
                let device = String::from_utf8_lossy(&output.stdout).trim().into();
                Some(Self { device, file })
            }
            other => {
                skip(&format!("no loop device can be attached: {other:?}"));
                None
            }
        }
    }

    /// The node of the device on this host.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Its numbers.
    pub fn numbers(&self) -> (u32, u32) {
        let metadata = fs::metadata(&self.device).expect("an attached device has a node");
        ocibuild_sys::device_numbers(metadata.rdev())
    }

    /// Whether nobody has written to it.
    pub fn is_untouched(&self) -> bool {
        // What was written is in the cache of the device before.
        let synced = Command::new("sync").arg(&self.device).stderr(Stdio::null()).status();
        assert!(synced.is_ok_and(|status| status.success()), "{} can be synced", self.device.display());
        fs::read(&self.file).expect("the file behind the device can be read").starts_with(CANARY)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // If this fails, a device of the test's host stays attached, and the test has ended anyway.
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Nodes that stand for those of the host in a mount namespace of the test's own: what a test tries to do to the host's
/// must not be done to them if it can be.
#[derive(Debug)]
pub struct StandIns {
    directory: PathBuf,
}

const STAND_INS: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Binds the stand-ins, `$0`, and hides the cgroups if `$1` says so.
const BIND: &str = "for f in null zero full random urandom tty; do mount --bind $0/$f /dev/$f || exit 99; done; \
    [ $1 = yes ] || mount -t tmpfs none /sys/fs/cgroup || exit 99; shift; exec \"$@\"";

impl StandIns {
    /// Makes them in `directory`; nothing, with the reason printed, where that takes more privilege.
    pub fn make(directory: &Path) -> Option<Self> {
        if !ocibuild_sys::in_initial_user_namespace() {
            skip("nodes that stand for the host's take root");
            return None;
        }
        let directory = directory.join("nodes");
        fs::create_dir(&directory).expect("the test's directory can be written");
        let handle = ocibuild_sys::DirHandle::open(&directory).expect("the directory was made");
        for (name, major, minor) in STAND_INS {
            let rdev = ocibuild_sys::device(major, minor);
            if let Err(error) = handle.mknod(name, ocibuild_sys::FileType::CharDevice, 0o666, rdev) {
                skip(&format!("no device node can be made: {error}"));
                return None;
            }
        }
        if let Err(error) = fs::write(directory.join("null"), "x") {
            skip(&format!("device nodes do not open in {}: {error}", directory.display()));
            return None;
        }
        Some(Self { directory })
    }

    /// What a command begins with that sees them in the place of the host's, and the cgroups of the host or none.
    pub fn command(&self, cgroups: bool) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", BIND]);
        command.arg(&self.directory).arg(if cgroups { "yes" } else { "no" });
        command
    }

    /// One line for each, with all about it that a program could change.
    pub fn lines(&self) -> Vec<String> {
        let line = |(name, ..): (&str, u32, u32)| {
            let path = self.directory.join(name);
            let found = fs::symlink_metadata(path).expect("the nodes are there");
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            format!("{name} {:o} {}:{} {:x} {times:?}", found.mode(), found.uid(), found.gid(), found.rdev())
        };
        STAND_INS.map(line).to_vec()
    }
}
