use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use serde_json::Value;

use crate::failure::{of_http_about, words_of};
use crate::fault::Fault;
use crate::http::{HttpClient, HttpErrorKind, HttpRequest, HttpResponse, Method, Trust, Url};
use crate::retry::{Retry, RetryWatcher};

/// Most bytes of an answer, and of a file with a token.
const MAX_ANSWER: u64 = 1 << 20;
const MAX_REFUSAL: u64 = 64 << 10;
const MAX_FILE: u64 = 64 << 10;

/// How a cloud's services are reached.
#[derive(Debug, Clone)]
pub struct CloudServices {
    metadata: HttpClient,
    client: HttpClient,
    clock: fn() -> SystemTime,
}

impl CloudServices {
    /// `metadata` asks what is beside this machine, and should neither have a proxy nor wait long; `client` asks what
    /// is outside. The clock is needed where requests are signed.
    pub fn new(metadata: HttpClient, client: HttpClient, clock: fn() -> SystemTime) -> Self {
        Self { metadata, client, clock }
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        (self.clock)().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// The answer of a metadata service, or `None` if there is none on this machine.
    pub(super) fn probe(
        &self,
        request: &HttpRequest,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<Option<HttpResponse>, SourceError> {
        use HttpErrorKind::{Connection, Timeout, UnknownHost};

        match self.metadata.send(request, cancel) {
            Ok(response) => Ok(Some(response)),
            Err(error) if matches!(error.kind(), Connection | Timeout | UnknownHost) => Ok(None),
            Err(error) => Err(of_http_about(name, &error)),
        }
    }

    /// The answer of a service that has to be there, asked again when it fails for a while.
    pub(super) fn ask(
        &self,
        request: &HttpRequest,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<HttpResponse, SourceError> {
        let retry = Retry { attempts: 3, pause: Duration::from_millis(500), longest: Duration::from_secs(5) };
        let answer =
            retry.send(name, &RetryWatcher::default(), cancel, || self.client.send(request, cancel))?;
        answer.map_err(|error| of_http_about(name, &error)).and_then(|response| accepted(response, name))
    }
}

/// An answer that is none of a failure.
pub(super) fn accepted(response: HttpResponse, name: &str) -> Result<HttpResponse, SourceError> {
    let (status, url) = (response.status, response.url.clone());
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let words = words_of(&response.read_some(MAX_REFUSAL));
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Err(refused(name, format_args!("{url} answered {status}{words}")))
}

pub(super) fn refused(name: &str, why: impl std::fmt::Display) -> SourceError {
    let fault = Fault::CloudIdentity { provider: name.to_owned(), reason: why.to_string() };
    SourceError::new(SourceErrorKind::Denied, fault.to_string()).caused_by(fault)
}

/// The body as JSON. Nothing of it is repeated in an error.
pub(super) fn json(response: HttpResponse, name: &str) -> Result<Value, SourceError> {
    let url = response.url.clone();
    let bytes = response.read_capped(MAX_ANSWER).map_err(|error| of_http_about(name, &error))?;
    serde_json::from_slice(&bytes).map_err(|_| refused(name, format_args!("{url} gave no JSON")))
}

/// The body as text.
pub(super) fn text(response: HttpResponse, name: &str) -> Result<String, SourceError> {
    let url = response.url.clone();
    let bytes = response.read_capped(MAX_ANSWER).map_err(|error| of_http_about(name, &error))?;
    String::from_utf8(bytes).map_err(|_| refused(name, format_args!("{url} gave no text")))
}

/// A text in an answer.
pub(super) fn field(answer: &Value, pointer: &str, name: &str) -> Result<String, SourceError> {
    let text = answer.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| refused(name, format_args!("the answer has no {}", pointer.trim_start_matches('/'))))
}

/// How long something is good for, as an answer states it in seconds.
pub(super) fn life(answer: &Value, pointer: &str) -> Option<Duration> {
    let stated = answer.pointer(pointer)?;
    // Azure writes texts.
    let seconds = stated.as_u64().or_else(|| stated.as_str()?.parse().ok())?;
    Some(Duration::from_secs(seconds.min(86_400))).filter(|life| !life.is_zero())
}

/// A request to a URL that the user or the cloud's documentation names.
pub(super) fn request(method: Method, url: &str, name: &str) -> Result<HttpRequest, SourceError> {
    let url: Url = url
        .parse()
        .map_err(|error| SourceError::new(SourceErrorKind::Configuration, format!("{name}: {error}")))?;
    Ok(HttpRequest { trust: Trust::Metadata, ..HttpRequest::new(method, url) })
}

/// The token in a file, which the platform renews: it is read each time.
pub(super) fn token_file(path: &Path, name: &str) -> Result<String, SourceError> {
    let unreadable = |error: std::io::Error| {
        SourceError::new(SourceErrorKind::Io, format!("{name}: {error}"))
            .hint("the variable that names this file is set, so it has to be there")
    };
    let mut text = String::new();
    let file = fs_err::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(name, format_args!("{} holds no token", path.display())));
    }
    Ok(token.to_owned())
}
