//! Sandboxes without namespaces: what the command leaves is ended by its keeper, and Landlock is its border.

use std::ffi::CString;
use std::io::Read as _;
use std::path::Path;

use fs_err as fs;
use ocibuild_sys::{
    Condition, Confinement, Operation, Process, Profile, Rule, Sandbox, Status, Verdict, chroot_works,
};

const BUSYBOX: &str = "/bin/busybox";

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn skipped() -> bool {
    let reason = match chroot_works() {
        Err(blocked) => Some(format!("no sandbox without namespaces: {}", blocked.error)),
        Ok(()) if !Path::new(BUSYBOX).exists() => Some(format!("no {BUSYBOX}")),
        Ok(()) => None,
    };
    reason.inspect(|reason| ocibuild_testkit::skip(reason)).is_some()
}

/// A script in a root of its own, in which there is nothing but a shell.
fn shell(root: &Path, script: &str) -> Sandbox {
    let bin = root.join("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        // What the shell gives to those in the background.
        fs::create_dir(root.join("dev")).unwrap();
        fs::write(root.join("dev/null"), "").unwrap();
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for name in ["sh", "setsid", "mkdir", "chroot", "cat"] {
            fs::hard_link(bin.join("busybox"), bin.join(name)).unwrap();
        }
    }
    let confinement = Confinement {
        uid: 0,
        gid: 0,
        groups: Some(Vec::new()),
        capabilities: 0xa800_25fb,
        no_new_privileges: true,
        seccomp: None,
        enclosed: true,
    };
    let process = Process {
        args: vec![c("/bin/sh"), c("-c"), c(script)],
        env: Vec::new(),
        search: Vec::new(),
        cwd: c("/"),
        umask: 0o22,
        rlimits: Vec::new(),
        confinement: Some(confinement),
        terminal: None,
    };
    let root = c(root.to_str().unwrap());
    let operations = vec![Operation::EnterRoot(root), Operation::Chroot];
    Sandbox { namespaces: None, operations, process, keeper: true }
}

fn run(sandbox: &Sandbox) -> (Status, String) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = sandbox.spawn(&writer, &writer).unwrap();
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (child.wait().unwrap(), output)
}

/// How many processes have this root.
fn processes_in(root: &Path) -> usize {
    let numbers = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    numbers.filter(|process| fs::read_link(process.join("root")).is_ok_and(|found| found == root)).count()
}

#[test]
fn privileged_what_a_command_leaves_ends_with_it() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    // One that keeps the output would be waited for; the others are the usual ways to stay.
    let leave = "(while :; do :; done) >&- 2>&- & setsid sh -c 'trap \"\" 1 15; while :; do :; done' >&- 2>&- & \
                 (sh -c 'while :; do :; done' >&- 2>&- &) & exit 7";
    assert_eq!(run(&shell(root, leave)), (Status::Exited(7), String::new()));
    assert_eq!(processes_in(root), 0);
    assert_eq!(run(&shell(root, "kill -9 $$")).0, Status::Signaled(9));
}

#[test]
fn privileged_dropping_ends_what_it_has_left_too() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = "setsid sh -c 'trap \"\" 1 15; echo x; while :; do :; done' & while :; do :; done";
    let child = shell(directory.path(), script).spawn(&writer, &writer).unwrap();
    drop(writer);
    let mut byte = [0; 2];
    reader.read_exact(&mut byte).unwrap();
    assert!(processes_in(directory.path()) >= 2);
    drop(child);
    assert_eq!(reader.read(&mut byte).unwrap(), 0);
    assert_eq!(processes_in(directory.path()), 0);
}

#[test]
fn privileged_one_that_only_makes_more_of_itself_ends_too() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut sandbox = shell(directory.path(), "f() { f & f & }; exec 2>&-; f; exit 3");
    let names = ["fork", "vfork", "clone", "clone3"].map(str::to_owned).to_vec();
    let asked = Rule { names, verdict: Verdict::Notify, condition: None::<(u8, Condition)> };
    let profile = Profile { default: Verdict::Allow, rules: vec![asked] };
    sandbox.process.confinement.as_mut().unwrap().seccomp = Some(profile.compile());
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut child = sandbox.spawn(&writer, &writer).unwrap();
    let listener = child.listener().unwrap();
    let answering = std::thread::spawn(move || {
        let listener = listener.wait().unwrap().unwrap();
        let mut answered = 0_u32;
        while let Some(call) = listener.next().unwrap() {
            listener.answer(&call, ocibuild_sys::Answer::Continue).unwrap();
            answered += 1;
        }
        answered
    });
    assert_eq!(child.wait().unwrap(), Status::Exited(3));
    assert!(answering.join().unwrap() >= 2);
    assert_eq!(processes_in(directory.path()), 0);
}

#[test]
fn privileged_landlock_is_the_border() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let own = std::process::id();
    let mut sandbox = shell(directory.path(), &format!("kill -0 {own} && echo reached; cat <&3; echo end"));
    let (_, output) = run(&sandbox);
    assert!(!output.contains("reached") && output.ends_with("end\n"), "{output}");
    // Even with the capability that leads out of a root: what is there cannot be opened.
    sandbox.process.args[2] = c("mkdir -p x; chroot x /bin/sh; echo $?");
    sandbox.process.confinement.as_mut().unwrap().capabilities |= 1 << 18;
    assert!(run(&sandbox).1.contains("can't execute"));
}
