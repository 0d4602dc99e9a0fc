use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use super::credential::Credential;
use super::secret::Secret;
use crate::failure::clean;

/// Most bytes that a helper may print.
const MAX_OUTPUT: u64 = 1 << 20;
/// Longest wait between two looks at the cancel token.
const SLICE: Duration = Duration::from_millis(50);
/// What helpers print when they know nothing of a server.
const NOTHING: &str = "credentials not found in native keychain";

/// How docker's credential helpers (`docker-credential-NAME`) are found and run.
///
/// A helper is looked for in the absolute directories of the path alone, is told a server on its standard input,
/// and has a time limit and a limit of what it may print.
#[derive(Clone)]
pub struct Helpers {
    path: OsString,
    environment: Vec<(OsString, OsString)>,
    timeout: Duration,
}

/// Helpers' environments hold secrets.
impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers")
            .field("path", &self.path)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// How a helper ended.
struct Ended {
    is_success: bool,
    output: Vec<u8>,
    complaints: Vec<u8>,
}

impl Helpers {
    /// Helpers in the directories of `path`, with an empty environment and 30 seconds each.
    pub fn new(path: impl Into<OsString>) -> Self {
        Self { path: path.into(), environment: Vec::new(), timeout: Duration::from_secs(30) }
    }

    /// No helper is ever found.
    pub fn none() -> Self {
        Self::new("")
    }

    /// The variables that helpers see.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.environment = variables.into_iter().collect();
        self
    }

    /// How long a helper may take.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// What the helper `name` knows about a server.
    pub(super) fn get(
        &self,
        name: &str,
        server: &str,
        cancel: &CancelToken,
    ) -> Result<Option<Credential>, SourceError> {
        let ended = self.run(name, "get", server, cancel)?;
        if !ended.is_success {
            if clean(&ended.output) == NOTHING {
                return Ok(None);
            }
            return Err(failed(name, "get", &ended));
        }
        let (username, secret) = answer(&ended.output)
            .ok_or_else(|| broken(name, "its answer is not the JSON that a credential helper gives"))?;
        if username.is_empty() && secret.is_empty() {
            return Ok(None);
        }
        let credential = Credential::password(username, Secret::new(secret));
        match credential.flaw() {
            None => Ok(Some(credential)),
            Some(flaw) => Err(broken(name, &format!("what it gave cannot be used: {flaw}"))),
        }
    }

    /// Has the helper keep credentials.
    pub(super) fn store(
        &self,
        name: &str,
        server: &str,
        credential: &Credential,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        let (username, secret) = credential.parts();
        let input = serde_json::json!({ "ServerURL": server, "Username": username, "Secret": secret });
        let input = input.to_string();
        let ended = self.run(name, "store", &input, cancel)?;
        if ended.is_success { Ok(()) } else { Err(failed(name, "store", &ended)) }
    }

    /// Has the helper forget a server; tells whether it knew it.
    pub(super) fn erase(&self, name: &str, server: &str, cancel: &CancelToken) -> Result<bool, SourceError> {
        let ended = self.run(name, "erase", server, cancel)?;
        if !ended.is_success && clean(&ended.output) != NOTHING {
            return Err(failed(name, "erase", &ended));
        }
        Ok(ended.is_success)
    }

    fn run(&self, name: &str, action: &str, input: &str, cancel: &CancelToken) -> Result<Ended, SourceError> {
        if input.contains(['\n', '\r', '\0']) {
            return Err(broken(name, "it is not asked about a server whose name has several lines"));
        }
        let program = self.program(name)?;
        let mut child = Command::new(&program)
            .arg(action)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| broken(name, &format!("{} cannot be started: {error}", program.display())))?;
        let pipes = feed(&mut child, input)
            .and_then(|()| Ok((collect(child.stdout.take())?, collect(child.stderr.take())?)))
            .map_err(|error| {
                let text = format!("{}: no thread can be started for its output", full(name));
                SourceError::new(SourceErrorKind::Io, text).caused_by(error)
            });
        let ended =
            pipes.and_then(|(output, complaints)| self.watch(name, &mut child, &output, &complaints, cancel));
        if ended.is_err() {
            // It may have ended by itself meanwhile; nothing is left of it either way.
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    /// Waits for the helper's end and for all that it printed; something that it left behind and that may still
    /// print counts as the helper itself.
    fn watch(
        &self,
        name: &str,
        child: &mut Child,
        output: &Receiver<Vec<u8>>,
        complaints: &Receiver<Vec<u8>>,
        cancel: &CancelToken,
    ) -> Result<Ended, SourceError> {
        let deadline = Instant::now() + self.timeout;
        let mut printed = None;
        loop {
            if cancel.is_cancelled() {
                return Err(SourceError::new(
                    SourceErrorKind::Cancelled,
                    format!("{}: cancelled", full(name)),
                ));
            }
            if Instant::now() >= deadline {
                let text = format!("it did not end within {} seconds", self.timeout.as_secs());
                return Err(broken(name, &text));
            }
            if printed.is_none() {
                match output.recv_timeout(SLICE) {
                    Ok(bytes) if bytes.len() as u64 > MAX_OUTPUT => {
                        return Err(broken(name, "it printed more than a megabyte"));
                    }
                    Ok(bytes) => printed = Some(bytes),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => printed = Some(Vec::new()),
                }
                continue;
            }
            let status = child.try_wait().map_err(|error| broken(name, &error.to_string()))?;
            if let Some(status) = status {
                return Ok(Ended {
                    is_success: status.success(),
                    output: printed.unwrap_or_default(),
                    complaints: complaints.recv_timeout(SLICE).unwrap_or_default(),
                });
            }
            cancel.wait_timeout(SLICE / 5);
        }
    }

    /// The program of a helper, in a directory that does not depend on where this program was started.
    fn program(&self, name: &str) -> Result<PathBuf, SourceError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || !name.bytes().all(fits) {
            let text = format!("{name:?} is not the name of a credential helper");
            return Err(SourceError::new(SourceErrorKind::Configuration, text).hint(
                "names consist of letters, digits, '.', '_' and '-'; correct credsStore or credHelpers",
            ));
        }
        let is_program = |path: &PathBuf| {
            let metadata = fs_err::metadata(path);
            metadata.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(&self.path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(full(name)))
            .find(is_program)
            .ok_or_else(|| broken(name, "it is in no directory of PATH"))
    }
}

/// User and secret of what `get` prints.
pub(super) fn answer(output: &[u8]) -> Option<(String, String)> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(output).ok()?;
    let text = |key: &str| match fields.get(key)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => Some(String::new()),
        _ => None,
    };
    Some((text("Username")?, text("Secret")?))
}

fn full(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// A helper that could not do what helpers do.
fn broken(name: &str, why: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Denied, format!("the credential helper {} failed: {why}", full(name)))
}

/// A helper that said so itself. Answers in JSON may hold a secret and are not repeated.
fn failed(name: &str, action: &str, ended: &Ended) -> SourceError {
    let says = |bytes: &[u8]| Some(clean(bytes)).filter(|text| !text.is_empty() && !text.contains('{'));
    let words = says(&ended.output).or_else(|| says(&ended.complaints));
    broken(name, &format!("`{action}`: {}", words.as_deref().unwrap_or("it does not say why")))
}

/// Writes the input. A helper that reads none of it is no failure.
fn feed(child: &mut Child, input: &str) -> io::Result<()> {
    let Some(mut stdin) = child.stdin.take() else { return Ok(()) };
    let bytes = input.as_bytes().to_vec();
    thread::Builder::new().spawn(move || stdin.write_all(&bytes)).map(drop)
}

/// What comes from a pipe, up to one byte more than is allowed.
fn collect(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = channel();
    if let Some(mut pipe) = pipe {
        thread::Builder::new().spawn(move || {
            let mut bytes = Vec::new();
            // What came before a failure is all there is.
            let _ = (&mut pipe).take(MAX_OUTPUT + 1).read_to_end(&mut bytes);
            let is_whole = bytes.len() as u64 <= MAX_OUTPUT;
            // Nobody listens any more when the helper was given up.
            let _ = sender.send(bytes);
            if !is_whole {
                let _ = io::copy(&mut pipe, &mut io::sink());
            }
        })?;
    }
    Ok(receiver)
}
