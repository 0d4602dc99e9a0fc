use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fs_err as fs;
use ocibuild_testkit::HostBase;

const APPLETS: &[&str] = &[
    "awk", "basename", "cat", "chgrp", "chmod", "chown", "cp", "cut", "date", "dd", "dirname", "echo", "env",
    "expr", "false", "find", "grep", "head", "hostname", "id", "ip", "ln", "ls", "mkdir", "mkfifo", "mknod",
    "mount", "mv", "printf", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "stat",
    "tail", "tar", "test", "touch", "tr", "true", "umask", "uname", "wc", "xargs",
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_ocibuild");

/// The layout directory of the base image of all cases, made by the program itself; `None` without a busybox.
///
/// It is kept between runs, since each case may be a process of its own, until the program is another.
pub(super) fn base() -> Option<&'static Path> {
    static BASE: OnceLock<Option<PathBuf>> = OnceLock::new();
    BASE.get_or_init(kept_or_made).as_deref()
}

fn kept_or_made() -> Option<PathBuf> {
    const PREFIX: &str = "cases-base-";
    let busybox = busybox()?;
    let program = fs::metadata(PROGRAM).unwrap();
    let name = format!("{PREFIX}{}-{}.{:09}", program.len(), program.mtime(), program.mtime_nsec());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let layout = folder.join(&name);
    if !layout.exists() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_name() != name.as_str() {
                // Another process may be at the same.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let directory = make(&busybox, folder);
        // Whoever comes second leaves what is there, which is the same.
        if let Err(error) = fs::rename(directory.path().join("layout"), &layout) {
            assert!(layout.exists(), "{error}");
        }
    }
    Some(layout)
}

fn busybox() -> Option<PathBuf> {
    HostBase::busybox()?;
    let places = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"];
    places.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// A directory with the base image in `layout`.
fn make(busybox: &Path, folder: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir_in(folder).unwrap();
    let root = directory.path().join("root");
    for folder in ["bin", "etc", "tmp", "usr/bin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:50:app\napp:x:1001:\n").unwrap();
    let dockerfile = "FROM scratch\nCOPY --chmod=755 bin /bin\nCOPY --chmod=644 etc /etc\nCOPY --chmod=1777 tmp /tmp\nCOPY usr /usr\n\
                      ENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
    fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
    let made = Command::new(PROGRAM)
        .args([
            "--root",
            "state",
            "build",
            "-q",
            "-f",
            "Dockerfile",
            "-o",
            "type=oci,tar=false,dest=layout",
            "root",
        ])
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}
