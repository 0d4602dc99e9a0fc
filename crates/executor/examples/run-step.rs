//! Runs a command in a directory as BuildKit would run it there: `run-step [OPTION]… ROOTFS STATE COMMAND…`.
//!
//! Options: `--runtime NAME` (else namespaces of our own), `--chroot` (a root without namespaces), `--network-none`, `--network-private`, `--network-program PASTA_OR_SLIRP4NETNS`, `--user UID:GID`, `--times N`,
//! `--secret TARGET=TEXT` (a file in memory; an example may take its text from the command line), `--unkept UID:GID=PATH` (an
//! owner that the root file system should have), `--existing-proc` (the `/proc` of this process), `--cap-drop NAME`. Of an ordinary
//! user it happens in a user namespace.
#![expect(clippy::print_stderr, reason = "a program")]

use std::io::Write;
use std::process::ExitCode;

use ocibuild_executor::{
    Executor, Host, MemoryFile, NamespaceExecutor, Network, NetworkProgram, OwnSandbox, Private, Rootfs,
    RuntimeExecutor, Step, Stream, bundle, memory_directory, resolv_conf,
};
use ocibuild_spec::{CancelToken, MountBuilder, Owned};
use ocibuild_sys::{UserNamespace, UserNamespaceError};

fn main() -> ExitCode {
    let ended =
        if std::env::var_os("RUN_STEP_AS_ROOT").is_some() || is_root() { Ok(code()) } else { in_namespace() };
    ExitCode::from(ended.unwrap_or_else(|error| {
        eprintln!("{error}");
        5
    }))
}

fn in_namespace() -> Result<u8, UserNamespaceError> {
    let namespace = UserNamespace::create()?;
    if let Some(reason) = namespace.without_ranges() {
        eprintln!("one id only: {reason}");
    }
    namespace.run(code)
}

fn code() -> u8 {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("caused by: {cause}");
            source = cause.source();
        }
        70
    })
}

fn is_root() -> bool {
    ocibuild_sys::DirHandle::open("/proc/self").and_then(|dir| dir.metadata()).is_ok_and(|own| own.uid == 0)
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut step = Step::new(Rootfs::default(), "");
    let mut executor: Box<dyn Executor> = Box::new(NamespaceExecutor::new());
    let mut times = 1;
    let mut secret = None;
    let mut host = Host::detect();
    let mut words = std::env::args().skip(1);
    let mut value = || words.next().ok_or("too few arguments");
    let rootfs = loop {
        match value()?.as_str() {
            "--runtime" => executor = Box::new(RuntimeExecutor::new(value()?)?),
            "--network-none" => step.network = Network::None,
            "--network-private" => step.network = Network::Private,
            "--network-program" => step.network_program = Some(NetworkProgram::new(value()?)?),
            "--times" => times = value()?.parse()?,
            "--user" => {
                let user = value()?;
                let (uid, gid) = user.split_once(':').ok_or("--user takes UID:GID")?;
                (step.user.uid, step.user.gid) = (uid.parse()?, gid.parse()?);
            }
            "--secret" => secret = Some(value()?),
            "--cap-drop" => step.dropped_capabilities = value()?.parse()?,
            "--chroot" => executor = Box::new(NamespaceExecutor::with(OwnSandbox::Chroot)),
            "--existing-proc" => host.own_proc = false,
            "--unkept" => {
                let unkept = value()?;
                let (owner, path) = unkept.split_once('=').ok_or("--unkept takes UID:GID=PATH")?;
                let (uid, gid) = owner.split_once(':').ok_or("--unkept takes UID:GID=PATH")?;
                step.unkept.push((path.into(), Owned::by(uid.parse()?, gid.parse()?)));
            }
            rootfs => break rootfs.to_owned(),
        }
    };
    step.rootfs = Rootfs::at(rootfs);
    step.state = value()?.into();
    if step.network == Network::Private {
        step.resolv_conf = resolv_conf(&fs_err::read_to_string("/etc/resolv.conf")?, step.network);
    }
    step.movable = Some(step.state.clone());
    step.args = words.collect();
    if let Some(secret) = secret {
        let (target, text) = secret.split_once('=').ok_or("--secret takes TARGET=TEXT")?;
        let path = memory_directory(&step.state).join("secret");
        let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
        let mount = MountBuilder::default().destination(target).typ("bind").source(&*path).options(options);
        step.mounts.push(mount.build()?);
        let content = Private::from(text.as_bytes().to_vec());
        let (uid, gid) = (step.user.uid, step.user.gid);
        step.memory_files.push(MemoryFile { path, content, mode: 0o400, uid, gid });
    }
    let bundle = bundle(&step, &host);
    let mut print = |stream: Stream, text: &[u8]| {
        // A reader that went away is no reason to stop.
        let _ = match stream {
            Stream::Stdout => std::io::stdout().write_all(text).and_then(|()| std::io::stdout().flush()),
            Stream::Stderr => std::io::stderr().write_all(text),
        };
    };
    let mut code = 0;
    for _ in 0..times {
        code = executor.run(&bundle, &mut print, &CancelToken::new())?.code();
    }
    Ok(code as u8)
}
