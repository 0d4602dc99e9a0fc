//! Network namespaces that are made before anybody is in them.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{SandboxError, SandboxErrorKind};

/// A network namespace, with a loopback interface that is down. It ends when nobody holds it, and nobody is in it any more.
///
/// It belongs to the user namespace of whoever makes it. A sandbox joins it with
/// [`Operation::JoinNetwork`](crate::Operation::JoinNetwork).
#[derive(Debug, Clone)]
pub struct NetworkNamespace(Arc<OwnedFd>);

impl PartialEq for NetworkNamespace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for NetworkNamespace {}

/// Addresses that cannot be reached from a namespace: whoever tries gets `EHOSTUNREACH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// One of them.
    pub address: IpAddr,
    /// How many leading bits the others have in common with it.
    pub prefix: u8,
}

impl NetworkNamespace {
    /// Makes one. Takes `CAP_SYS_ADMIN` in the user namespace of the caller, who stays where it is.
    pub fn create() -> Result<Self, SandboxError> {
        let make = || -> Result<OwnedFd, (SandboxErrorKind, &'static str, Errno)> {
            unshare_network()
                .map_err(|errno| (SandboxErrorKind::Namespaces, "make a network namespace", errno))?;
            let failed = |errno| (SandboxErrorKind::Setup, "open a network namespace", errno);
            let opened = File::options().read(true).open("/proc/thread-self/ns/net");
            let opened = opened.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            // Above the streams, which a sandbox puts in the place of what is there.
            rustix::io::fcntl_dupfd_cloexec(&opened, 3).map_err(failed)
        };
        let made = in_thread(make)
            .map_err(|errno| SandboxError::new(SandboxErrorKind::Exhausted, "start a thread", errno))?;
        made.map(|descriptor| Self(Arc::new(descriptor)))
            .map_err(|(kind, what, errno)| SandboxError::new(kind, what, errno))
    }

    /// Keeps whoever is in it, and may not administer it, from addresses, by whatever route: rules come before routes. Of
    /// `except` one port can be reached all the same. To be called once.
    pub fn forbid(
        &self,
        unreachable: &[Unreachable],
        except: Option<(IpAddr, u16)>,
    ) -> Result<(), SandboxError> {
        let failed = |errno| SandboxError::new(SandboxErrorKind::Setup, "make addresses unreachable", errno);
        let work = || {
            move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))?;
            add_rules(unreachable, except)
        };
        in_thread(work).and_then(|done| done).map_err(failed)
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Carries out `work` in a thread of its own, which may change its namespaces.
fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[expect(
    unsafe_code,
    reason = "rustix marks unshare unsafe because of descriptor tables, which are not unshared"
)]
fn unshare_network() -> Result<(), Errno> {
    // SAFETY: no UnshareFlags::FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

/// The rule with the addresses of the namespace itself is the only one before ours, which come in this order.
fn add_rules(unreachable: &[Unreachable], except: Option<(IpAddr, u16)>) -> Result<(), Errno> {
    // Of its protocols, 0 is that of routes.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let has_ipv6 = match socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None) {
        Ok(_) => true,
        Err(Errno::AFNOSUPPORT) => false,
        Err(errno) => return Err(errno),
    };
    let exceptions = except.into_iter().map(|(address, port)| (Unreachable::only(address), Some(port)));
    let rules = exceptions.chain(unreachable.iter().map(|addresses| (*addresses, None)));
    for (priority, (addresses, port)) in (1..).zip(rules) {
        if addresses.address.is_ipv4() || has_ipv6 {
            ask(&socket, &rule(priority, addresses, port))?;
        }
    }
    Ok(())
}

impl Unreachable {
    /// One address.
    pub const fn only(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }
}

const RTM_NEWRULE: u16 = 32;
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE`
const CREATE: u16 = 0x605;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_UNREACHABLE: u8 = 7;
const RT_TABLE_UNSPEC: u8 = 0;
const RT_TABLE_MAIN: u8 = 254;
const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_DPORT_RANGE: u16 = 24;

/// A message of rtnetlink(7) with a `fib_rule_hdr`: these addresses are unreachable, or at this port looked for in the main
/// table of routes.
fn rule(priority: u32, addresses: Unreachable, port: Option<u16>) -> Vec<u8> {
    let (family, destination) = match addresses.address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let (action, table) = match port {
        Some(_) => (FR_ACT_TO_TBL, RT_TABLE_MAIN),
        None => (FR_ACT_UNREACHABLE, RT_TABLE_UNSPEC),
    };
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let mut body = vec![family, addresses.prefix, 0, 0, table, 0, 0, action, 0, 0, 0, 0];
    let mut attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or_default();
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        // All of them are of whole words.
        body.extend(value);
    };
    attribute(FRA_DST, &destination);
    attribute(FRA_PRIORITY, &priority.to_ne_bytes());
    if let Some(port) = port {
        attribute(FRA_DPORT_RANGE, &[port.to_ne_bytes(), port.to_ne_bytes()].concat());
    }
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(RTM_NEWRULE.to_ne_bytes());
    message.extend(CREATE.to_ne_bytes());
    // Its number, and that of the sender, which the kernel fills in.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Sends a message and waits for what the kernel says to it.
fn ask(socket: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
    send(socket, message, SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    let (length, _) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    let answer = answer.get(..length).ok_or(Errno::BADMSG)?;
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, number) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(Errno::from_raw_os_error(-number)),
        _ => Err(Errno::BADMSG),
    }
}
