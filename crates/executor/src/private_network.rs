//! A network of the step's own with a way out: a network namespace, and a program that carries what goes out of it to the network
//! of this process.
//!
//! The namespace is made first, and the program started on it, in namespaces of its own that end with the step and with this
//! process. Once the program is ready, addresses that a step must not reach are made unreachable, by rules that come before
//! routes; only then the step joins. It has neither `CAP_NET_ADMIN`, which could remove them, nor `CAP_NET_RAW`, with which
//! packets go past them.

use std::ffi::CString;
use std::io::{self, PipeReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ocibuild_spec::CancelToken;
use ocibuild_sys::{
    Child, MountOptions, Namespaces, NetworkNamespace, Operation, Process, Sandbox, Unreachable, capability,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::Repr;
use crate::etc::servers;
use crate::mount::{path, text};
use crate::permissions::capability_bits;
use crate::runtime::{DIRECTORIES, look_for};
use crate::supervise::CANCEL_INTERVAL;
use crate::{Bundle, Error, Need, Network, Offers, Step};

/// Where a step in a private network asks for names when the name servers of the host are out of its reach: the program passes
/// the question on to the first of them.
pub(crate) const FORWARDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));

const DNS: u16 = 53;

/// Addresses of links, where clouds tell a machine its secrets, and the ones in other ranges that do the same.
const FORBIDDEN: [Unreachable; 5] = [
    Unreachable { address: IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), prefix: 16 },
    Unreachable { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), prefix: 10 },
    // Amazon, Google, Alibaba.
    Unreachable::only(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))),
    Unreachable::only(IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254))),
    Unreachable::only(IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200))),
];

/// What slirp4netns has for itself; some of these addresses stand for the host.
const SLIRP: Unreachable = Unreachable { address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 0)), prefix: 24 };

/// How long a program may take until it is ready. Both take less than a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// As much of what it says as an error carries.
const SAID: usize = 4096;

/// A program that connects a network namespace with the network of this process: pasta or slirp4netns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkProgram {
    path: PathBuf,
    kind: Kind,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pasta,
    Slirp4netns,
}

/// Tried in this order: pasta gives the step the addresses that this machine has, IPv6 among them, where slirp4netns translates
/// IPv4, and it keeps the machine by that address from being reached.
const PROGRAMS: [(&str, Kind); 2] = [("pasta", Kind::Pasta), ("slirp4netns", Kind::Slirp4netns)];

impl NetworkProgram {
    /// A program by its name, looked for in the system's directories, or by its absolute path, whose last component then says
    /// which of them it is.
    pub fn new(program: impl AsRef<Path>) -> Result<Self, Error> {
        let program = program.as_ref();
        let name = program.file_name().unwrap_or_default();
        let missing =
            |searched| Repr::NetworkProgramMissing { name: program.display().to_string(), searched };
        let known = PROGRAMS.into_iter().find(|(known, _)| *known == name);
        let (_, kind) =
            known.ok_or_else(|| Repr::NotANetworkProgram { name: program.display().to_string() })?;
        let path = look_for(program).map_err(missing)?;
        Ok(Self { path, kind, patience: PATIENCE })
    }

    /// The better one of those that are installed.
    pub fn discover() -> Result<Self, Error> {
        let found = PROGRAMS.iter().find_map(|(name, _)| Self::new(name).ok());
        found.ok_or_else(|| {
            let searched = DIRECTORIES.iter().map(PathBuf::from).collect();
            let name = PROGRAMS.map(|(name, _)| name).join(" or ");
            Repr::NetworkProgramMissing { name, searched }.into()
        })
    }

    /// The same, given up if it is not ready after this time.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it works here: it is started on a namespace that ends at once, and leaves nothing behind.
    pub fn probe(&self) -> Result<(), Error> {
        // In memory, on a directory that every system has and neither program needs.
        let directory = Path::new("/sys");
        let target = directory.join("namespace");
        let before = vec![
            Operation::HostMount {
                source: c"tmpfs".to_owned(),
                target: path(directory)?,
                fstype: c"tmpfs".to_owned(),
                options: MountOptions::default(),
                from: None,
            },
            Operation::HostFile {
                path: path(&target)?,
                content: Vec::new().into(),
                mode: 0o600,
                owner: (0, 0),
            },
        ];
        Connected::by(self, (before, &target), true, &CancelToken::new()).map(drop)
    }

    /// What it is called with. It says on descriptor 0 when it is ready.
    fn command_line(&self, namespace: &Path, forwards: bool) -> Vec<String> {
        let mut line = vec![self.path.display().to_string()];
        let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
        let (forwarder, namespace) = (FORWARDER.to_string(), namespace.display().to_string());
        match self.kind {
            Kind::Pasta => {
                add(&["--foreground", "--quiet", "--config-net", "--no-map-gw"]);
                // No port of the host leads into the namespace, and none of the namespace to the host's loopback interface.
                add(&["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
                if forwards {
                    add(&["--dns-forward", &forwarder]);
                }
                // The namespace belongs to the user namespace that this is called in, whose root it has to stay. It keeps few
                // capabilities, and has no files.
                add(&["--runas", "0:0", "--netns-only", "--netns", &namespace, "--pid", "/proc/self/fd/0"]);
            }
            Kind::Slirp4netns => {
                add(&["--configure", "--mtu=65520", "--disable-host-loopback"]);
                add(&["--enable-sandbox", "--enable-seccomp"]);
                if !forwards {
                    add(&["--disable-dns"]);
                }
                add(&["--ready-fd=0", "--netns-type=path", &namespace, "tap0"]);
            }
        }
        line
    }

    fn forbid(&self, namespace: &NetworkNamespace, forwards: bool) -> Result<(), Error> {
        let mut unreachable = FORBIDDEN.to_vec();
        if self.kind == Kind::Slirp4netns {
            unreachable.push(SLIRP);
        } else if forwards {
            unreachable.push(Unreachable::only(FORWARDER));
        }
        let except = forwards.then_some((FORWARDER, DNS));
        namespace.forbid(&unreachable, except).map_err(|error| Error::from_sandbox(error, ""))
    }

    fn failed(&self, problem: &'static str, said: &str) -> Error {
        Repr::NetworkProgram { program: self.path.clone(), problem, said: said.trim().to_owned() }.into()
    }
}

/// What an executor with network namespaces has of `offers` where there may be no program.
pub(crate) fn offers(offers: Offers) -> Offers {
    if NetworkProgram::discover().is_ok() { offers } else { offers.without(Need::PrivateNetwork) }
}

/// The directory for what is here, in that of the step.
fn directory(state: &Path) -> PathBuf {
    state.join("network")
}

/// Where programs and runtimes find the namespace, each in a mount namespace of its own.
pub(crate) fn namespace_path(state: &Path) -> PathBuf {
    directory(state).join("namespace")
}

fn make_places(state: &Path) -> Result<(), Error> {
    fs_err::create_dir_all(directory(state)).map_err(Repr::State)?;
    fs_err::write(namespace_path(state), "").map_err(Repr::State)?;
    Ok(())
}

/// What a bundle has of a private network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// The program that connects it; nothing for the best there is.
    pub program: Option<NetworkProgram>,
    /// Whether the program answers questions for names.
    pub forwards: bool,
}

impl PrivateNetwork {
    pub(crate) fn of(step: &Step) -> Option<Self> {
        let program = step.network_program.clone();
        let private = Self { program, ..Self::with_servers(&step.resolv_conf) };
        (step.network == Network::Private).then_some(private)
    }

    /// One whose step asks the servers of this `resolv.conf` for names.
    pub(crate) fn with_servers(resolv_conf: &str) -> Self {
        let forwards = servers(resolv_conf).any(|server| server == FORWARDER);
        Self { program: None, forwards }
    }
}

/// Capabilities that get a step out of a private network: with the first it changes rules, with the second it sends packets
/// that no rule is asked for.
pub(crate) const WAYS_OUT: [&str; 2] = ["CAP_NET_ADMIN", "CAP_NET_RAW"];

fn check_capabilities(bundle: &Bundle) -> Result<(), Error> {
    let process = bundle.spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    let bits = sets.and_then(|sets| sets.bounding().as_ref()).map_or(0, capability_bits);
    let has = |name: &&str| capability(name).is_some_and(|number| bits & (1 << number) != 0);
    WAYS_OUT
        .iter()
        .find(|name| has(name))
        .map_or(Ok(()), |name| Err(Repr::NotPrivate { capability: name }.into()))
}

/// A namespace with a way out, which ends when this is dropped.
pub(crate) struct Connected {
    namespace: NetworkNamespace,
    target: CString,
    program: Option<Child>,
    said: Option<JoinHandle<Vec<u8>>>,
}

impl Connected {
    /// The one that a bundle asks for.
    pub(crate) fn of(bundle: &Bundle, cancel: &CancelToken) -> Result<Option<Self>, Error> {
        let Some(private) = &bundle.private_network else { return Ok(None) };
        check_capabilities(bundle)?;
        let program = private.program.clone().map_or_else(NetworkProgram::discover, Ok)?;
        make_places(&bundle.state)?;
        let target = namespace_path(&bundle.state);
        Self::by(&program, (Vec::new(), &target), private.forwards, cancel).map(Some)
    }

    /// The program sees the namespace at `target` after the operations before that.
    fn by(
        program: &NetworkProgram,
        (before, target): (Vec<Operation>, &Path),
        forwards: bool,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let namespace = NetworkNamespace::create().map_err(|error| Error::from_sandbox(error, ""))?;
        let mut connected = Self { namespace, target: path(target)?, program: None, said: None };
        connected.start(program, before, &program.command_line(target, forwards), cancel)?;
        program.forbid(&connected.namespace, forwards)?;
        Ok(connected)
    }

    /// What a sandbox has to do to be in it.
    pub(crate) fn join(&self) -> Operation {
        Operation::JoinNetwork(self.namespace.clone())
    }

    /// What shows it to a program that takes a path.
    pub(crate) fn bind(&self) -> Operation {
        Operation::BindNetwork { network: self.namespace.clone(), target: self.target.clone() }
    }

    fn start(
        &mut self,
        program: &NetworkProgram,
        before: Vec<Operation>,
        line: &[String],
        cancel: &CancelToken,
    ) -> Result<(), Error> {
        let process = Process {
            args: line.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
            env: Vec::new(),
            search: Vec::new(),
            cwd: c"/".to_owned(),
            umask: 0o22,
            rlimits: Vec::new(),
            confinement: None,
            terminal: None,
        };
        let operations = [Operation::MakePrivate].into_iter().chain(before).chain([self.bind()]).collect();
        let namespaces = Some(Namespaces::default());
        let sandbox = Sandbox { namespaces, operations, process, keeper: true };
        let (mut said, output) = io::pipe().map_err(Repr::Output)?;
        let (ready, is_ready) = io::pipe().map_err(Repr::Output)?;
        let child = sandbox.spawn_reading(Some(is_ready.as_fd()), &output, &output);
        let child = self.program.insert(child.map_err(|error| Error::from_sandbox(error, ""))?);
        drop((output, is_ready));
        // It must not come to wait for somebody to read what it says.
        let listen = std::thread::Builder::new().spawn(move || tail(&mut said));
        self.said = Some(listen.map_err(Repr::Output)?);
        let problem = match wait(child, ready, program.patience, cancel)? {
            Waited::Ready => return Ok(()),
            Waited::TimedOut => "was not ready in time",
            Waited::Ended => {
                // What kept it from being executed comes with its status.
                let ended = self.program.take().map_or(Ok(None), |child| child.wait().map(Some));
                ended.map_err(|error| program.failed("could not be started", &error.to_string()))?;
                "ended before it was ready"
            }
        };
        let said = self.end();
        Err(program.failed(problem, &String::from_utf8_lossy(&said)))
    }

    /// Kills the program, and gives what it said last.
    fn end(&mut self) -> Vec<u8> {
        drop(self.program.take());
        let said = self.said.take().map(JoinHandle::join);
        said.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.end();
    }
}

enum Waited {
    Ready,
    Ended,
    TimedOut,
}

fn wait(child: &Child, ready: PipeReader, patience: Duration, cancel: &CancelToken) -> Result<Waited, Error> {
    let (mut ready, deadline) = (Some(ready), Instant::now() + patience);
    loop {
        if cancel.is_cancelled() {
            return Err(Repr::Cancelled.into());
        }
        let mut polled = vec![PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
        polled.extend(ready.as_ref().map(|ready| PollFd::new(ready, PollFlags::IN)));
        match poll(&mut polled, Some(&CANCEL_INTERVAL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Repr::Output(errno.into()).into()),
        }
        let is_due: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        if let (Some(true), Some(pipe)) = (is_due.get(1), &mut ready) {
            if pipe.read(&mut [0; 64]).map_err(Repr::Output)? > 0 {
                return Ok(Waited::Ready);
            }
            // It will not say so any more.
            ready = None;
        }
        if is_due[0] {
            return Ok(Waited::Ended);
        }
        if Instant::now() >= deadline {
            return Ok(Waited::TimedOut);
        }
    }
}

/// Reads to the end, and keeps what came last.
fn tail(said: &mut PipeReader) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), [0; SAID]);
    // What cannot be read is not told.
    while let Ok(length @ 1..) = said.read(&mut buffer) {
        last.extend_from_slice(&buffer[..length]);
        let excess = last.len().saturating_sub(SAID);
        last.drain(..excess);
    }
    last
}
