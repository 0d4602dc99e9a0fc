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

/// The layout directory of the base image of all cases, made once by the program itself; `None` without a busybox.
pub(super) fn base() -> Option<&'static Path> {
    static BASE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    BASE.get_or_init(make).as_ref().map(|(_, layout)| layout.as_path())
}

fn make() -> Option<(tempfile::TempDir, PathBuf)> {
    HostBase::busybox()?;
    let program = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"];
    let program = program.iter().find(|path| Path::new(path).exists())?;
    let directory = tempfile::tempdir().unwrap();
    let (root, layout) = (directory.path().join("root"), directory.path().join("layout"));
    for folder in ["bin", "etc", "tmp", "usr/bin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(program, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:50:app\napp:x:1001:\n").unwrap();
    let dockerfile = "FROM scratch\nCOPY --chmod=755 bin /bin\nCOPY --chmod=644 etc /etc\nCOPY --chmod=1777 tmp /tmp\nCOPY usr /usr\n\
                      ENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
    fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_ocibuild"))
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
    Some((directory, layout))
}
