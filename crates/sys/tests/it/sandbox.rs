use std::ffi::CString;
use std::fs::File;
use std::io::Read;

use fs_err as fs;
use ocibuild_sys::{
    Confinement, MountOptions, Namespaces, Operation, OverlayAttributes, Process, Profile, Sandbox,
    SandboxErrorKind, Status, in_initial_user_namespace, namespaces_work, openat2_works, overlay_works,
};

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub(crate) fn shell(script: &str) -> Sandbox {
    let process = Process {
        args: vec![c("sh"), c("-c"), c(script)],
        env: vec![c("A=b")],
        search: vec![c("/nonexistent"), c("/bin")],
        cwd: c("/"),
        umask: 0o22,
        rlimits: Vec::new(),
        confinement: None,
        terminal: None,
    };
    Sandbox {
        namespaces: Some(Namespaces { ipc: true, uts: true, ..Namespaces::default() }),
        operations: vec![Operation::MakePrivate, Operation::Hostname(c("inside"))],
        process,
        keeper: true,
    }
}

/// Runs to the end and gives status and output.
pub(crate) fn run(sandbox: &Sandbox) -> (Status, String) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = sandbox.spawn(&writer, &writer).unwrap();
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (child.wait().unwrap(), output)
}

fn without_namespaces() -> bool {
    if let Err(error) = namespaces_work() {
        ocibuild_testkit::skip(&format!("no namespaces: {error}"));
        return true;
    }
    false
}

#[test]
fn privileged_a_command_is_process_one_and_its_status_comes_back() {
    if without_namespaces() {
        return;
    }
    for keeper in [true, false] {
        let sandbox = Sandbox { keeper, ..shell("echo $$ $A $(hostname); exit 7") };
        assert_eq!(run(&sandbox), (Status::Exited(7), "1 b inside\n".to_owned()), "keeper {keeper}");
        // The kernel shields process 1 from its own signals, so that a child dies and it follows.
        let sandbox = Sandbox { keeper, ..shell("sh -c 'kill -9 $$'; exit $?") };
        assert_eq!(run(&sandbox).0, Status::Exited(137), "keeper {keeper}");
    }
}

#[test]
fn privileged_failures_say_what_failed() {
    if without_namespaces() {
        return;
    }
    let error = |sandbox: &Sandbox| {
        let null = File::options().write(true).open("/dev/null").unwrap();
        sandbox.spawn(&null, &null).unwrap().wait().unwrap_err()
    };
    let mut sandbox = shell("");
    sandbox.operations.push(Operation::HostMount {
        source: c("none"),
        target: c("/proc/nowhere"),
        fstype: c("tmpfs"),
        options: MountOptions::default(),
        from: None,
    });
    let failure = error(&sandbox);
    assert_eq!(failure.kind(), SandboxErrorKind::Setup);
    assert_eq!(failure.to_string(), "mount tmpfs on /proc/nowhere: No such file or directory (os error 2)");

    let mut sandbox = shell("");
    sandbox.process.args[0] = c("no-such-program");
    let failure = error(&sandbox);
    assert_eq!(failure.kind(), SandboxErrorKind::ProgramNotFound);
    assert_eq!(failure.what(), "exec \"no-such-program\": executable file not found in $PATH");

    sandbox.process.args[0] = c("/proc/self/status");
    assert_eq!(error(&sandbox).kind(), SandboxErrorKind::ProgramRefused);
    sandbox.process.cwd = c("/nowhere");
    assert_eq!(error(&sandbox).kind(), SandboxErrorKind::Directory);
}

#[test]
fn privileged_nothing_of_the_caller_is_inherited() {
    if without_namespaces() {
        return;
    }
    let _held: Vec<File> = (0..20).map(|_| File::options().read(true).open("/etc/passwd").unwrap()).collect();
    let (status, output) =
        run(&shell("ls /proc/self/fd | wc -l; cat; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status"));
    assert_eq!(status, Status::Exited(0));
    // 0, 1, 2, and the directory that `ls` reads.
    assert_eq!(
        output.split_whitespace().collect::<Vec<_>>(),
        ["4", "0022", "SigBlk:", "0000000000000000", "SigIgn:", "0000000000000000"]
    );
}

#[test]
fn privileged_dropping_kills() {
    if without_namespaces() {
        return;
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = shell("echo x; sleep 1000 & sleep 1000").spawn(&writer, &writer).unwrap();
    drop(writer);
    let mut byte = [0; 2];
    reader.read_exact(&mut byte).unwrap();
    drop(child);
    // Nobody holds the other end any more.
    assert_eq!(reader.read(&mut byte).unwrap(), 0);
}

#[test]
fn privileged_a_confined_command_has_what_it_is_given() {
    if without_namespaces() {
        return;
    }
    let mut sandbox = shell("grep -E '^(Cap|Seccomp:|Groups|NoNew)' /proc/self/status; unshare -m true");
    sandbox.process.confinement = Some(Confinement {
        uid: 0,
        gid: 0,
        groups: Some(vec![0, 5]),
        capabilities: 0xa804_25fb,
        no_new_privileges: false,
        seccomp: Some(Profile::container_default().compile()),
        enclosed: false,
    });
    let (_, output) = run(&sandbox);
    let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    assert_eq!(
        lines[..8],
        [
            "Groups:\t0 5",
            "CapInh:\t0000000000000000",
            "CapPrm:\t00000000a80425fb",
            "CapEff:\t00000000a80425fb",
            "CapBnd:\t00000000a80425fb",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t0",
            "Seccomp:\t2",
        ]
    );
    assert!(lines[8].contains("Operation not permitted"), "{output}");
}

#[test]
fn privileged_an_overlay_can_be_tried_without_a_trace() {
    if without_namespaces() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    match overlay_works(dir.path()) {
        Ok(attributes) => {
            assert_eq!(attributes == OverlayAttributes::Trusted, in_initial_user_namespace());
        }
        Err(error) => ocibuild_testkit::skip(&format!("no overlay: {error}")),
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// As when a thread that starts a process has the file open, which another one is done with.
#[test]
fn privileged_a_program_that_is_still_open_is_waited_for() {
    if without_namespaces() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sh");
    fs::copy("/bin/sh", &program).unwrap();
    let mut sandbox = shell("exit 7");
    sandbox.process.args[0] = c(program.to_str().unwrap());
    let (_reader, writer) = std::io::pipe().unwrap();
    let open = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let child = sandbox.spawn(&writer, &writer).unwrap();
    drop(open);
    assert_eq!(child.wait().unwrap(), Status::Exited(7));
    let open = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let error = sandbox.spawn(&writer, &writer).unwrap().wait().unwrap_err();
    assert_eq!(error.raw_os_error(), 26, "{error}");
    drop(open);
}

#[test]
fn what_the_kernel_offers_can_be_asked() {
    assert_eq!(openat2_works(), openat2_works());
}
