//! A socket of one step, behind which is an agent. The step can ask for the keys and for signatures, and nothing else:
//! it cannot add keys, remove them, or lock the agent.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fs_err as fs;

use super::socket::{connect, listen};
use crate::error::Error;
use crate::failure::RunFailure;

/// Longest message, as OpenSSH has it.
const MAX_MESSAGE: usize = 256 << 10;
/// Connections of one step at a time.
const MAX_CONNECTIONS: usize = 64;

// Numbers of the agent protocol (draft-ietf-sshm-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// Forwards to an agent until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    path: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: PathBuf,
    ended: AtomicBool,
    /// Both ends of what is open, to be cut off in the end.
    connections: Mutex<Vec<(u64, UnixStream)>>,
}

impl Forwarder {
    /// Makes the socket `name` in `directory`, with this mode, user and group, in front of the agent at `upstream`.
    pub(crate) fn start(
        directory: &Path,
        name: &str,
        upstream: PathBuf,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<Self, Error> {
        let path = directory.join(name);
        let unusable = |error| crate::error::unusable(&path, error);
        let listener = listen(&path).map_err(unusable)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(unusable)?;
        chown(&path, Some(uid), Some(gid)).map_err(|source| RunFailure::AgentOwner { uid, gid, source })?;
        // A wrong path is better told now than by the program of the step that finds no keys.
        connect(&upstream).map_err(|source| RunFailure::AgentSilent { socket: upstream.clone(), source })?;
        let shared =
            Arc::new(Shared { upstream, ended: AtomicBool::new(false), connections: Mutex::default() });
        let accepting = std::thread::Builder::new().spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        let accepting = accepting.map_err(Error::no_thread)?;
        Ok(Self { path, shared, accepting: Some(accepting) })
    }
}

impl Forwarder {
    /// The socket that steps have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for (_, stream) in self.shared.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes who accepts. Without the socket nobody can be woken, and nobody can come.
        if connect(&self.path).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _ = accepting.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<(u64, UnixStream)>> {
        self.connections.lock().expect("no thread panics while it holds this")
    }

    fn accept(self: Arc<Self>, listener: &UnixListener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        for number in 0.. {
            let accepted = listener.accept();
            if self.ended.load(Ordering::SeqCst) {
                break;
            }
            threads.retain(|thread| !thread.is_finished());
            // Who is refused sees the connection closed.
            let Ok((client, _)) = accepted else { continue };
            if threads.len() < MAX_CONNECTIONS {
                let shared = Arc::clone(&self);
                // Without a thread the connection closes.
                threads.extend(std::thread::Builder::new().spawn(move || shared.serve(number, client)));
            }
        }
        for (_, stream) in self.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn serve(&self, number: u64, client: UnixStream) {
        // Whatever fails, the other side sees the connection closed.
        let _ = self.exchange(number, client);
        self.open().retain(|(other, _)| *other != number);
    }

    fn exchange(&self, number: u64, mut client: UnixStream) -> io::Result<()> {
        let mut agent = connect(&self.upstream)?;
        self.open().extend([(number, client.try_clone()?), (number, agent.try_clone()?)]);
        if self.ended.load(Ordering::SeqCst) {
            return Ok(());
        }
        while let Some(request) = read_message(&mut client)? {
            let answer = if is_allowed(&request) {
                write_message(&mut agent, &request)?;
                read_message(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
            } else {
                vec![FAILURE]
            };
            write_message(&mut client, &answer)?;
        }
        Ok(())
    }
}

fn is_allowed(request: &[u8]) -> bool {
    matches!(request.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)))
}

/// A message without its length; `None` at the end of the stream.
fn read_message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn write_message(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every message with its first byte and the number 12.
    fn agent(path: &Path) -> JoinHandle<Vec<u8>> {
        let listener = listen(path).unwrap();
        std::thread::spawn(move || {
            let mut asked = Vec::new();
            // The first connection is that of the check at the start.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                while let Some(message) = read_message(&mut stream).unwrap() {
                    asked.push(message[0]);
                    write_message(&mut stream, &[12, message[0]]).unwrap();
                }
            }
            asked
        })
    }

    #[test]
    fn only_questions_and_signatures_reach_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        // A path that is longer than the kernel takes for a socket.
        let deep = directory.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let upstream = deep.join("upstream");
        let agent = agent(&upstream);
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let forwarder = Forwarder::start(&deep, "step", upstream, 0o640, owner).unwrap();
        let mode = fs::metadata(deep.join("step")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);

        let mut client = connect(&deep.join("step")).unwrap();
        let mut ask = |message: &[u8]| {
            write_message(&mut client, message).unwrap();
            read_message(&mut client).unwrap().unwrap()
        };
        assert_eq!(ask(&[REQUEST_IDENTITIES]), [12, 11]);
        assert_eq!(ask(&[SIGN_REQUEST, 1, 2]), [12, 13]);
        for refused in [17, 18, 19, 22, 27, 9] {
            assert_eq!(ask(&[refused, 0]), [FAILURE], "{refused}");
        }
        assert_eq!(ask(&[]), [FAILURE]);
        write_message(&mut client, &[REQUEST_IDENTITIES]).unwrap();
        assert!(read_message(&mut client).unwrap().is_some());
        drop(forwarder);
        assert!(matches!(read_message(&mut client), Ok(None) | Err(_)), "the end cuts off who is connected");
        assert!(!deep.join("step").exists());
        assert_eq!(agent.join().unwrap(), [11, 13, 11]);
    }

    #[test]
    fn messages_have_a_largest_size() {
        let mut stream: &[u8] = &[0, 4, 0, 1, 11];
        assert_eq!(read_message(&mut stream).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut stream: &[u8] = &[0, 0, 0, 2, 11];
        assert_eq!(read_message(&mut stream).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
