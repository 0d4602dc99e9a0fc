use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_executor::{
    Error, Executor, ExitStatus, Host, Mount, NamespaceExecutor, OwnSandbox, Rootfs, RuntimeExecutor, Step,
    bundle,
};
use ocibuild_spec::{CancelToken, MountBuilder};

/// A root file system of busybox, and a step that runs in it.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) step: Step,
    pub(crate) cancel: CancelToken,
}

const APPLETS: [&str; 28] = [
    "sh", "ls", "cat", "echo", "id", "grep", "sleep", "hostname", "env", "mkdir", "touch", "pwd", "ps",
    "stat", "head", "tr", "wc", "df", "awk", "unshare", "rm", "sort", "mount", "true", "mknod", "chmod",
    "chown", "dd",
];

impl World {
    /// Nothing, with the reason printed, where there is no busybox to make one of.
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if !make_rootfs(&dir.path().join("rootfs")) {
            ocibuild_testkit::skip("/bin/busybox is missing");
            return None;
        }
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut step = Step::new(Rootfs::at(dir.path().join("rootfs")), state);
        step.env = vec!["PATH=/bin".to_owned()];
        step.movable = Some(dir.path().to_owned());
        Some(Self { dir, step, cancel: CancelToken::new() })
    }

    /// As [`World::new`], where namespaces can be made.
    pub(crate) fn privileged() -> Option<Self> {
        if let Err(error) = ocibuild_sys::namespaces_work() {
            ocibuild_testkit::skip(&format!("no namespaces: {error}"));
            return None;
        }
        Self::new()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn shell(&mut self, script: &str) -> &mut Self {
        self.step.args = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        self
    }

    /// Runs the step with `executor`; what both streams said, in the order it came.
    pub(crate) fn run_with(&self, executor: &dyn Executor) -> (Result<ExitStatus, Error>, String) {
        let mut text = Vec::new();
        let bundle = bundle(&self.step, &Host::detect());
        let result = executor.run(&bundle, &mut |_, piece| text.extend_from_slice(piece), &self.cancel);
        (result, String::from_utf8(text).unwrap())
    }

    pub(crate) fn run(&self) -> (Result<ExitStatus, Error>, String) {
        self.run_with(&NamespaceExecutor::new())
    }

    /// Runs a script to success.
    pub(crate) fn output(&mut self, script: &str) -> String {
        let (result, text) = self.shell(script).run();
        match result {
            Ok(status) => assert!(status.success(), "{status:?}: {text}"),
            Err(error) => panic!("{} in {text}", chain(&error)),
        }
        text
    }
}

/// All executors that can be had here.
pub(crate) fn executors() -> Vec<(String, Box<dyn Executor>)> {
    let mut executors: Vec<(String, Box<dyn Executor>)> =
        vec![("namespaces".to_owned(), Box::new(NamespaceExecutor::new()))];
    for name in ["runc", "crun"] {
        match RuntimeExecutor::new(name) {
            Ok(executor) => executors.push((name.to_owned(), Box::new(executor))),
            Err(error) => ocibuild_testkit::skip(&error.to_string()),
        }
    }
    executors
}

/// The same, and the sandbox without namespaces.
pub(crate) fn all_executors() -> Vec<(String, Box<dyn Executor>)> {
    let mut executors = executors();
    executors.extend(chroot().map(|executor| ("chroot".to_owned(), Box::new(executor) as Box<dyn Executor>)));
    executors
}

/// The sandbox without namespaces, where it can be had.
pub(crate) fn chroot() -> Option<NamespaceExecutor> {
    let executor = NamespaceExecutor::with(OwnSandbox::Chroot);
    match executor.probe() {
        Ok(()) => Some(executor),
        Err(error) => {
            ocibuild_testkit::skip(&chain(&error));
            None
        }
    }
}

pub(crate) fn make_rootfs(root: &Path) -> bool {
    if !Path::new("/bin/busybox").exists() {
        return false;
    }
    for dir in ["bin", "etc", "tmp", "w"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1001:\nops:x:2000:\n").unwrap();
    true
}

pub(crate) fn mount(destination: &Path, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let builder = MountBuilder::default().destination(destination).typ(typ).source(source);
    builder.options(options).build().unwrap()
}

/// The example program, built along with the tests.
pub(crate) fn run_step() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/run-step");
    if !program.exists() {
        ocibuild_testkit::skip("the example run-step was not built");
        return None;
    }
    Some(program)
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
