use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ocibuild_spec::Digest;

use crate::ImageBlobs;

/// A registry on 127.0.0.1 in this process, that fails as it is told to.
///
/// It serves pulls: manifests by tag and digest, blobs with ranges, tokens. Dropping it ends it.
///
/// ```
/// use ocibuild_testkit::{Fault, TestImage, TestRegistry};
///
/// let registry = TestRegistry::start();
/// registry.push("app", "1", &TestImage::new("linux/amd64").build());
/// registry.fault("/blobs/", 1, Fault::Truncate(10));
/// assert!(registry.reference("app", "1").starts_with("127.0.0.1:"));
/// ```
#[derive(Debug)]
pub struct TestRegistry {
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
    /// By `repository/digest`.
    blobs: BTreeMap<String, Vec<u8>>,
    /// Media type and bytes by `repository/tag` and `repository/digest`.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    faults: Vec<Rule>,
    token: Option<Token>,
    log: Vec<LoggedRequest>,
}

#[derive(Debug)]
struct Rule {
    path: String,
    left: usize,
    fault: Fault,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    realm: String,
}

/// What a [`TestRegistry`] does wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status, headers and body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Sends this many bytes of the body and closes the connection.
    Truncate(usize),
    /// Sends this many bytes of the body and then nothing, with the connection open.
    Stall(usize),
    /// Changes the first byte of the body.
    WrongBytes,
    /// Answers 200 with everything to a request for a range.
    IgnoreRange,
    /// Answers 206 to a request for a range, with other bytes than those asked for.
    WrongRange,
    /// Redirects there.
    Redirect(String),
    /// Gives the body this `Content-Type`.
    ContentType(String),
    /// Announces one byte more, in the headers and in truth.
    OneMore,
    /// Closes the connection without an answer.
    Hangup,
    /// Sends a body that does not end.
    Endless,
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl TestRegistry {
    /// A registry at a free port.
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

    /// `127.0.0.1:port`.
    pub fn authority(&self) -> String {
        self.shared.address.to_string()
    }

    /// The text of a reference to an image here.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.authority())
    }

    /// Takes an image.
    pub fn push(&self, repository: &str, tag: &str, image: &ImageBlobs) {
        for (descriptor, bytes) in image.layers.iter().chain([&image.config]) {
            self.put_blob(repository, &descriptor.digest, bytes);
        }
        self.put_manifest(repository, tag, image.descriptor.media_type.as_ref(), &image.manifest);
    }

    /// Takes a blob under a digest, which need not be its own.
    pub fn put_blob(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        self.shared.state().blobs.insert(format!("{repository}/{digest}"), bytes.to_vec());
    }

    /// Takes a manifest or an index under a tag and under its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let mut state = self.shared.state();
        let stored = (media_type.to_owned(), bytes.to_vec());
        state.manifests.insert(format!("{repository}/{}", Digest::of(bytes)), stored.clone());
        state.manifests.insert(format!("{repository}/{tag}"), stored);
    }

    /// Does this wrong with the next `times` requests whose path contains `path`. Faults told earlier come first.
    pub fn fault(&self, path: &str, times: usize, fault: Fault) {
        self.shared.state().faults.push(Rule { path: path.to_owned(), left: times, fault });
    }

    /// Wants this Bearer token from now on, and says that `realm` gives it; by default `/token` here does.
    pub fn require_token(&self, token: &str, realm: Option<&str>) {
        let own = format!("http://{}/token", self.authority());
        let realm = realm.map_or(own, str::to_owned);
        self.shared.state().token = Some(Token { text: token.to_owned(), realm });
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.state().log.clone()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The listener looks at the flag when somebody comes.
        let _ = TcpStream::connect(self.shared.address);
    }
}

/// An answer before faults are applied.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        Self::of(status, format!(r#"{{"errors":[{{"code":"{code}","message":"no {code} here"}}]}}"#))
            .header("content-type", "application/json")
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut reader = BufReader::new(stream);
        while !self.ended.load(Ordering::SeqCst) {
            let request = match read_request(&mut reader)? {
                Some(Ok(request)) => request,
                Some(Err(())) => return (&*stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n"),
                None => return Ok(()),
            };
            let fault = {
                let mut state = self.state();
                state.log.push(request.clone());
                state.fault_for(&request.path)
            };
            if !self.answer(stream, &request, fault)? {
                return stream.shutdown(std::net::Shutdown::Both);
            }
        }
        Ok(())
    }

    /// Tells whether the connection may be used again.
    fn answer(&self, stream: &TcpStream, request: &LoggedRequest, fault: Option<Fault>) -> io::Result<bool> {
        let ignores_range = matches!(fault, Some(Fault::IgnoreRange));
        let mut answer = self.route(request, ignores_range);
        let mut sent = usize::MAX;
        let mut stalls = false;
        match fault {
            Some(Fault::Answer(status, headers, body)) => answer = Answer { status, headers, body },
            Some(Fault::Redirect(to)) => answer = Answer::of(307, "").header("location", to),
            Some(Fault::ContentType(text)) => answer = answer.header("content-type", text),
            Some(Fault::WrongBytes) => answer.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Some(Fault::WrongRange) => answer.body.rotate_left(1),
            Some(Fault::OneMore) => answer.body.push(b'!'),
            Some(Fault::Truncate(count)) => sent = count,
            Some(Fault::Stall(count)) => (sent, stalls) = (count, true),
            Some(Fault::Hangup) => return Ok(false),
            Some(Fault::Endless) => return self.endless(stream),
            Some(Fault::IgnoreRange) | None => {}
        }
        let mut head =
            format!("HTTP/1.1 {} Status\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let mut out = stream;
        out.write_all(head.as_bytes())?;
        out.write_all(b"\r\n")?;
        if request.method != "HEAD" {
            out.write_all(&answer.body[..sent.min(answer.body.len())])?;
        }
        while stalls && !self.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(sent >= answer.body.len())
    }

    fn endless(&self, mut stream: &TcpStream) -> io::Result<bool> {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
        while !self.ended.load(Ordering::SeqCst) {
            stream.write_all(&[b'x'; 8192])?;
        }
        Ok(false)
    }

    fn route(&self, request: &LoggedRequest, ignores_range: bool) -> Answer {
        let state = self.state();
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/token" {
            let text = state.token.as_ref().map_or("", |token| token.text.as_str());
            return Answer::of(200, format!(r#"{{"token":"{text}"}}"#));
        }
        if let Some(token) = &state.token
            && request.headers.get("authorization") != Some(&format!("Bearer {}", token.text))
        {
            let challenge =
                format!(r#"Bearer realm="{}",service="test",scope="registry:catalog:*""#, token.realm);
            return Answer::error(401, "UNAUTHORIZED").header("www-authenticate", challenge);
        }
        let Some(path) = path.strip_prefix("/v2/") else { return Answer::error(404, "NOT_FOUND") };
        if path.is_empty() {
            return Answer::of(200, "{}");
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            return match state.manifests.get(&format!("{repository}/{name}")) {
                Some((media_type, bytes)) => Answer::of(200, bytes.clone())
                    .header("content-type", media_type)
                    .header("docker-content-digest", Digest::of(bytes).to_string()),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            };
        }
        let blob = path
            .split_once("/blobs/")
            .and_then(|(repository, digest)| state.blobs.get(&format!("{repository}/{digest}")));
        let Some(bytes) = blob else { return Answer::error(404, "BLOB_UNKNOWN") };
        let range = request.headers.get("range").filter(|_| !ignores_range);
        let from =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let answer = |status, bytes: &[u8]| {
            Answer::of(status, bytes).header("content-type", "application/octet-stream")
        };
        match from {
            Some(from) if from < bytes.len() => answer(206, &bytes[from..])
                .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            Some(_) => Answer::error(416, "RANGE"),
            None => answer(200, bytes),
        }
    }
}

impl State {
    fn fault_for(&mut self, path: &str) -> Option<Fault> {
        let rule = self.faults.iter_mut().find(|rule| rule.left > 0 && path.contains(&rule.path))?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }
}

/// `None` at the end of the connection, an error for what is no HTTP.
pub(crate) fn read_request(
    reader: &mut BufReader<&TcpStream>,
) -> io::Result<Option<Result<LoggedRequest, ()>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let count = reader.by_ref().take(64 << 10).read_until(b'\n', &mut line)?;
        match String::from_utf8(line) {
            Ok(_) if count == 0 => return Ok(None),
            Ok(text) if text.trim().is_empty() && !lines.is_empty() => break,
            Ok(text) => lines.push(text.trim().to_owned()),
            Err(_) => return Ok(Some(Err(()))),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(Some(Err(()))) };
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Some(Ok(LoggedRequest { method, path, headers })))
}
