use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::LoggedRequest;
use crate::registry::{read_body, read_head};

/// A web server on 127.0.0.1 in this process, that answers as it is told to. Dropping it ends it.
#[derive(Debug)]
pub struct WebServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By path, without query.
    replies: BTreeMap<String, Reply>,
    /// Files below these are served, by the beginning of the path.
    directories: Vec<(String, PathBuf)>,
    log: Vec<LoggedRequest>,
}

/// What a [`WebServer`] says at a path.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    sent: usize,
    stalls: bool,
    endless: bool,
}

impl Reply {
    /// These bytes with status 200; a request that knows their `etag` gets 304.
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status: 200, headers: Vec::new(), body, sent: usize::MAX, stalls: false, endless: false }
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A redirect to `target`.
    pub fn redirect(target: impl Into<String>) -> Self {
        Self::of("").status(302).header("location", target)
    }

    /// Ends the connection after this many bytes of the body.
    #[must_use]
    pub fn truncated(mut self, bytes: usize) -> Self {
        self.sent = bytes;
        self
    }

    /// Sends this many bytes of the body and then nothing, with the connection open.
    #[must_use]
    pub fn stalled(mut self, bytes: usize) -> Self {
        (self.sent, self.stalls) = (bytes, true);
        self
    }

    /// Sends the body over and over.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }
}

impl WebServer {
    /// A server at a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { address, ended: AtomicBool::new(false), state: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&accepting);
                thread::spawn(move || stream.and_then(|stream| serving.serve(&stream)));
            }
        });
        Self { shared }
    }

    /// The URL of a path here, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shared.address)
    }

    /// Says `reply` at `path` from now on.
    pub fn put(&self, path: &str, reply: Reply) {
        self.shared.state().replies.insert(path.to_owned(), reply);
    }

    /// Serves the files of `directory` at paths that begin with `prefix`.
    pub fn serve_directory(&self, prefix: &str, directory: &Path) {
        self.shared.state().directories.push((prefix.to_owned(), directory.to_owned()));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.state().log.clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The listener looks at the flag when somebody comes.
        let _ = TcpStream::connect(self.shared.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while !self.ended.load(Ordering::SeqCst) {
            let Some(Ok(mut request)) = read_head(&mut reader)? else { return Ok(()) };
            request.body = read_body(&mut reader, &request, usize::MAX)?;
            request.received = request.body.len() as u64;
            self.state().log.push(request.clone());
            let reply = self.reply(&request);
            if !self.answer(stream, &request, &reply)? {
                return stream.shutdown(std::net::Shutdown::Both);
            }
        }
        Ok(())
    }

    fn reply(&self, request: &LoggedRequest) -> Reply {
        let state = self.state();
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some(reply) = state.replies.get(path) {
            let known = request.headers.get("if-none-match");
            let tag = reply.headers.iter().find(|(name, _)| name == "etag").map(|(_, value)| value);
            if known.is_some() && known == tag {
                return Reply { body: Vec::new(), ..reply.clone() }.status(304);
            }
            return reply.clone();
        }
        let file = state.directories.iter().find_map(|(prefix, directory)| {
            let rest = path.strip_prefix(prefix.as_str())?.trim_start_matches('/');
            fs_err::read(directory.join(rest)).ok().filter(|_| !rest.contains(".."))
        });
        file.map_or_else(|| Reply::of("nothing here").status(404), Reply::of)
    }

    /// Tells whether the connection may be used again.
    fn answer(&self, mut stream: &TcpStream, request: &LoggedRequest, reply: &Reply) -> io::Result<bool> {
        let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
        if !reply.endless && reply.status != 304 {
            head.extend(["content-length: ", &reply.body.len().to_string(), "\r\n"]);
        }
        for (name, value) in &reply.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        if request.method == "HEAD" || reply.status == 304 {
            return Ok(true);
        }
        stream.write_all(&reply.body[..reply.sent.min(reply.body.len())])?;
        while reply.endless && !self.ended.load(Ordering::SeqCst) {
            stream.write_all(&reply.body)?;
        }
        while reply.stalls && !self.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(!reply.endless && reply.sent >= reply.body.len())
    }
}
