mod fault;
mod request;
mod uploads;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ocibuild_spec::Digest;

use crate::ImageBlobs;
use fault::{Delivery, Manner};

pub use fault::Fault;
pub use request::LoggedRequest;
pub(crate) use request::{read_body, read_head};

/// A registry on this machine's loopback in this process, that fails as it is told to.
///
/// It serves pulls and pushes: manifests by tag and digest, blobs with ranges, uploads whole and in pieces, mounts,
/// lists of tags, removal, tokens. Dropping it ends it.
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
    /// Bytes of uploads that have begun, by their number.
    uploads: BTreeMap<u64, Vec<u8>>,
    begun: u64,
    faults: Vec<Rule>,
    token: Option<Token>,
    /// What the `authorization` header has to be.
    password: Option<String>,
    log: Vec<LoggedRequest>,
    /// Bytes of bodies that were sent.
    sent: u64,
    /// `If-Match` is looked at.
    conditions: bool,
}

#[derive(Debug)]
struct Rule {
    /// Empty for every method.
    method: String,
    path: String,
    /// Requests to let pass before.
    skip: usize,
    left: usize,
    fault: Fault,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    realm: String,
}

impl TestRegistry {
    /// A registry at a free port.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1")
    }

    /// A registry at a free port of another address of this machine: another host, for whoever goes by that.
    pub fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("loopback has free ports");
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

    /// `address:port`.
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
        self.fault_of("", path, 0, times, fault);
    }

    /// The same for requests of one method, after `skip` of them.
    pub fn fault_of(&self, method: &str, path: &str, skip: usize, times: usize, fault: Fault) {
        let rule = Rule { method: method.to_owned(), path: path.to_owned(), skip, left: times, fault };
        self.shared.state().faults.push(rule);
    }

    /// The bytes of a blob that a repository has.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.shared.state().blobs.get(&format!("{repository}/{digest}")).cloned()
    }

    /// Media type and bytes of a manifest that a repository has, by tag or digest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.shared.state().manifests.get(&format!("{repository}/{name}")).cloned()
    }

    /// Wants this Bearer token from now on, and says that `realm` gives it; by default `/token` here does.
    pub fn require_token(&self, token: &str, realm: Option<&str>) {
        let own = format!("http://{}/token", self.authority());
        let realm = realm.map_or(own, str::to_owned);
        self.shared.state().token = Some(Token { text: token.to_owned(), realm });
    }

    /// Looks at `If-Match` from now on, as few registries do.
    pub fn honour_conditions(&self) {
        self.shared.state().conditions = true;
    }

    /// Wants a user and a password from now on: `encoded` is `user:password` in base64. With a token too, its token
    /// service wants them.
    pub fn require_password(&self, encoded: &str) {
        self.shared.state().password = Some(format!("Basic {encoded}"));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.state().log.clone()
    }

    /// Bytes of bodies that came and that went, of all requests so far.
    pub fn moved(&self) -> (u64, u64) {
        let state = self.shared.state();
        (state.log.iter().map(|request| request.received).sum(), state.sent)
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
        self.set(name, value);
        self
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }

    /// Status line and headers. A header without value is left out, also one that the answer would have anyway.
    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        let has_length = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length && self.status != 204 {
            head.extend(["content-length: ", &self.body.len().to_string(), "\r\n"]);
        }
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        head.into_bytes()
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
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while !self.ended.load(Ordering::SeqCst) {
            let mut request = match read_head(&mut reader)? {
                Some(Ok(request)) => request,
                Some(Err(())) => return (&*stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n"),
                None => return Ok(()),
            };
            let fault = self.state().fault_for(&request);
            let most = match &fault {
                Some(Fault::Reset(count)) => *count,
                Some(Fault::Early(..)) => 0,
                _ => usize::MAX,
            };
            let body = read_body(&mut reader, &request, most);
            request.body = body.unwrap_or_default();
            request.received = request.body.len() as u64;
            let stays = match fault {
                Some(Fault::Reset(_)) => {
                    let mut state = self.state();
                    state.keep_part(&request);
                    state.log.push(request.for_log(0));
                    drop(state);
                    return reset(stream);
                }
                fault => self.answer(stream, &request, fault)?,
            };
            if !stays {
                return stream.shutdown(std::net::Shutdown::Both);
            }
        }
        Ok(())
    }

    /// Tells whether the connection may be used again.
    fn answer(&self, stream: &TcpStream, request: &LoggedRequest, fault: Option<Fault>) -> io::Result<bool> {
        let ignores_range = matches!(fault, Some(Fault::IgnoreRange));
        match &fault {
            Some(Fault::LoseUploads) => self.state().uploads.clear(),
            Some(Fault::ExpireToken(text)) => {
                self.state().token.iter_mut().for_each(|token| token.text.clone_from(text));
            }
            _ => {}
        }
        let is_done = !matches!(fault, Some(Fault::Answer(..) | Fault::Early(..) | Fault::Redirect(_)));
        let mut answer = if is_done { self.route(request, ignores_range) } else { Answer::of(500, "") };
        let delivery = fault.map_or_else(Delivery::default, |fault| fault.apply(&mut answer));
        // Whoever sees the answer finds the request in the log.
        self.state().log.push(request.for_log(answer.status));
        match delivery.manner {
            Manner::Hangup => return Ok(false),
            Manner::Silent => return Ok(self.hold()),
            Manner::Endless => return self.endless(stream, answer.status),
            Manner::Whole | Manner::Stalled => {}
        }
        self.write(stream, &answer.head(), 1, delivery.head_pause)?;
        if request.method == "HEAD" {
            return Ok(!delivery.closes);
        }
        let shown = &answer.body[..delivery.most.unwrap_or(usize::MAX).min(answer.body.len())];
        self.state().sent += shown.len() as u64;
        self.write(stream, shown, delivery.piece.unwrap_or(1), delivery.pause)?;
        if delivery.manner == Manner::Stalled {
            self.hold();
        }
        Ok(!delivery.closes && shown.len() == answer.body.len())
    }

    /// Keeps a connection open until this ends.
    fn hold(&self) -> bool {
        while !self.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Sends bytes, with a pause after each piece if there is one.
    fn write(
        &self,
        mut stream: &TcpStream,
        bytes: &[u8],
        piece: usize,
        pause: Option<Duration>,
    ) -> io::Result<()> {
        let Some(pause) = pause else { return stream.write_all(bytes) };
        for part in bytes.chunks(piece).take_while(|_| !self.ended.load(Ordering::SeqCst)) {
            stream.write_all(part)?;
            thread::sleep(pause);
        }
        Ok(())
    }

    fn endless(&self, mut stream: &TcpStream, status: u16) -> io::Result<bool> {
        stream.write_all(format!("HTTP/1.1 {status} Status\r\nconnection: close\r\n\r\n").as_bytes())?;
        while !self.ended.load(Ordering::SeqCst) {
            stream.write_all(&[b'x'; 8192])?;
        }
        Ok(false)
    }

    fn route(&self, request: &LoggedRequest, ignores_range: bool) -> Answer {
        let mut state = self.state();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let sent = request.headers.get("authorization");
        let is_known = state.password.is_none() || sent == state.password.as_ref();
        if !is_known && (state.token.is_none() || path == "/token") {
            return Answer::error(401, "UNAUTHORIZED").header("www-authenticate", "Basic realm=\"test\"");
        }
        if path == "/token" {
            let text = state.token.as_ref().map_or("", |token| token.text.as_str());
            return Answer::of(200, format!(r#"{{"token":"{text}"}}"#));
        }
        if let Some(token) = &state.token
            && sent != Some(&format!("Bearer {}", token.text))
        {
            let challenge =
                format!(r#"Bearer realm="{}",service="test",scope="registry:catalog:*""#, token.realm);
            return Answer::error(401, "UNAUTHORIZED").header("www-authenticate", challenge);
        }
        let Some(path) = path.strip_prefix("/v2/") else { return Answer::error(404, "NOT_FOUND") };
        if path.is_empty() {
            return Answer::of(200, "{}");
        }
        if let Some((repository, rest)) = path.split_once("/blobs/uploads/") {
            return state.upload(request, repository, rest, query);
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return state.tags(repository);
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            return state.manifest(request, repository, name);
        }
        match path.split_once("/blobs/") {
            Some((repository, digest)) => {
                state.blob(request, &format!("{repository}/{digest}"), ignores_range)
            }
            None => Answer::error(404, "NOT_FOUND"),
        }
    }
}

impl State {
    fn fault_for(&mut self, request: &LoggedRequest) -> Option<Fault> {
        let rules = self.faults.iter_mut().filter(|rule| {
            request.path.contains(&rule.path) && (rule.method.is_empty() || rule.method == request.method)
        });
        for rule in rules.filter(|rule| rule.left > 0) {
            if rule.skip == 0 {
                rule.left -= 1;
                return Some(rule.fault.clone());
            }
            rule.skip -= 1;
        }
        None
    }

    fn tags(&self, repository: &str) -> Answer {
        let names = self.manifests.keys().filter_map(|key| key.strip_prefix(repository)?.strip_prefix('/'));
        let tags: Vec<String> =
            names.filter(|name| !name.contains(['/', ':'])).map(|tag| format!("\"{tag}\"")).collect();
        Answer::of(200, format!(r#"{{"name":"{repository}","tags":[{}]}}"#, tags.join(",")))
            .header("content-type", "application/json")
    }

    fn manifest(&mut self, request: &LoggedRequest, repository: &str, name: &str) -> Answer {
        let key = format!("{repository}/{name}");
        match request.method.as_str() {
            "PUT" => self.store_manifest(request, repository, name),
            "DELETE" if self.manifests.remove(&key).is_some() => Answer::of(202, ""),
            "DELETE" => Answer::error(404, "MANIFEST_UNKNOWN"),
            _ => match self.manifests.get(&key) {
                Some((media_type, bytes)) => Answer::of(200, bytes.clone())
                    .header("content-type", media_type)
                    .header("docker-content-digest", Digest::of(bytes).to_string())
                    .header("etag", etag_of(bytes)),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            },
        }
    }

    fn blob(&self, request: &LoggedRequest, key: &str, ignores_range: bool) -> Answer {
        let Some(bytes) = self.blobs.get(key) else { return Answer::error(404, "BLOB_UNKNOWN") };
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

/// The digest in quotes, as the registry of the distribution project has it.
fn etag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", Digest::of(bytes))
}

/// Ends a connection without the politeness of a close, as a crashed machine or a firewall does.
fn reset(stream: &TcpStream) -> io::Result<()> {
    // What is sent and not read makes the kernel reset the connection.
    stream.shutdown(std::net::Shutdown::Both)
}
