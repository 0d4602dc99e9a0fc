//! From what HTTP says to what a user of images is told.

use ocibuild_spec::{Reference, SourceError, SourceErrorKind, json};
use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;
use crate::http::{HttpError, HttpErrorKind, HttpResponse, PROXY_LOGIN, Url};
use crate::retry;

/// Most bytes read of the body of a refusal, and most characters shown of it.
const MAX_BODY: u64 = 64 << 10;
const MAX_SHOWN: usize = 300;

/// Error bodies of the distribution specification ("Error codes").
#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// A request that had no answer.
pub(crate) fn of_http(reference: &Reference, error: &HttpError) -> SourceError {
    of_http_about(&reference.familiar(), error)
}

/// The same for anything that has a name.
pub(crate) fn of_http_about(subject: &str, error: &HttpError) -> SourceError {
    let kind = match error.kind() {
        HttpErrorKind::Cancelled => SourceErrorKind::Cancelled,
        HttpErrorKind::Refused => SourceErrorKind::Denied,
        HttpErrorKind::LinkLocal => SourceErrorKind::LinkLocal,
        HttpErrorKind::Offline => SourceErrorKind::Offline,
        HttpErrorKind::Configuration => SourceErrorKind::Configuration,
        _ => SourceErrorKind::Network,
    };
    let own = SourceError::new(kind, format!("{subject}: {error}"));
    let own = error.hint().into_iter().fold(own, SourceError::hint);
    error.fault().cloned().into_iter().fold(own, SourceError::caused_by)
}

/// An answer that is a refusal, with the registry's own words.
pub(crate) fn of_status(reference: &Reference, response: HttpResponse) -> SourceError {
    Refusal::read(reference, response).into_error()
}

/// The same for anything that has a name.
pub(crate) fn of_status_about(subject: &str, response: HttpResponse) -> SourceError {
    Refusal::read_about(subject, response).into_error()
}

/// An error about a refusal with what the registry itself said.
pub(crate) fn in_words(error: SourceError, refusal: HttpResponse) -> SourceError {
    let words = words_of(&refusal.read_some(MAX_BODY));
    if words.is_empty() {
        return error;
    }
    let text = format!("{error}: {words}");
    error.reworded(text)
}

/// A refusal, read.
pub(crate) struct Refusal {
    name: String,
    status: u16,
    url: Url,
    limit: Option<String>,
    /// Seconds that it wants to be left alone.
    pause: Option<u64>,
    /// Where it sends on to what it was sent.
    elsewhere: Option<Url>,
    body: Vec<u8>,
}

impl Refusal {
    pub(crate) fn read(reference: &Reference, response: HttpResponse) -> Self {
        Self::read_about(&reference.familiar(), response)
    }

    fn read_about(subject: &str, response: HttpResponse) -> Self {
        Self {
            name: subject.to_owned(),
            status: response.status,
            url: response.url.clone(),
            limit: response.header("ratelimit-limit").map(|limit| clean(limit.as_bytes())),
            pause: response.header("retry-after").and_then(retry::seconds).map(|time| time.as_secs()),
            elsewhere: response.header("location").and_then(|to| response.url.join(to).ok()),
            body: response.read_some(MAX_BODY),
        }
    }

    /// Whether the registry misses something that a manifest lists.
    pub(crate) fn misses_parts(&self) -> bool {
        let errors = json::from_slice::<Errors>(&self.body).map(|body| body.errors).unwrap_or_default();
        errors.iter().any(|error| matches!(&error.code[..], "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN"))
    }

    /// Whether the registry does not know an upload (any more).
    pub(crate) fn misses_upload(&self) -> bool {
        let errors = json::from_slice::<Errors>(&self.body).map(|body| body.errors).unwrap_or_default();
        errors.iter().any(|error| matches!(&error.code[..], "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID"))
    }

    /// What the registry says.
    pub(crate) fn words(&self) -> String {
        words_of(&self.body)
    }

    pub(crate) fn into_error(self) -> SourceError {
        let Self { name, status, url, .. } = &self;
        let words = self.words();
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let (kind, hint) = self.advice();
        let error = SourceError::new(kind, format!("{name}: {url} answered {status}{words}"));
        let error = hint.into_iter().fold(error, SourceError::hint);
        match status {
            401 | 403 => error.caused_by(Fault::Denied { host: url.authority(), status: *status }),
            _ => error,
        }
    }

    fn advice(&self) -> (SourceErrorKind, Option<String>) {
        let Self { status, url, limit, pause, elsewhere, .. } = self;
        match status {
            300..=399 if elsewhere.is_some() => {
                let host = elsewhere.as_ref().map(Url::authority).unwrap_or_default();
                let text =
                    format!("it sends this on to {host}, where nothing was sent: only reads are redirected");
                (SourceErrorKind::Network, Some(text))
            }
            404 if url.path().contains("/blobs/uploads/") => {
                let text =
                    "check the name; some registries want a repository to be made before the first push";
                (SourceErrorKind::NotFound, Some(text.to_owned()))
            }
            404 => (SourceErrorKind::NotFound, Some("check the image's name and tag".to_owned())),
            401 | 403 => (SourceErrorKind::Denied, None),
            429 => {
                let limit = limit.as_ref().map(|limit| format!(" (its limit is {limit})"));
                let pause = pause.map(|seconds| format!(" for {seconds} seconds"));
                let text = format!(
                    "{} allows no more requests for now{}; wait{}, or use a mirror",
                    url.host(),
                    limit.unwrap_or_default(),
                    pause.unwrap_or_default()
                );
                (SourceErrorKind::Network, Some(text))
            }
            407 => (SourceErrorKind::Denied, Some(PROXY_LOGIN.to_owned())),
            405 => {
                let text = "this registry does not take that: it is read-only, or a mirror of another one";
                (SourceErrorKind::Network, Some(text.to_owned()))
            }
            _ => (SourceErrorKind::Network, None),
        }
    }
}

pub(crate) fn words_of(body: &[u8]) -> String {
    match json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) => {
            let shown: Vec<String> = errors
                .iter()
                .filter(|error| !error.code.is_empty())
                .take(3)
                .map(|error| match &error.message {
                    Some(message) if !message.is_empty() => format!("{} ({message})", error.code),
                    _ => error.code.clone(),
                })
                .collect();
            clean(shown.join("; ").as_bytes())
        }
        Err(_) if is_page(body) => clean(page_words(&String::from_utf8_lossy(body)).as_bytes()),
        Err(_) => clean(said(body).as_bytes()),
    }
}

/// Whether this is for browsers.
pub(crate) fn is_page(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// The title of a page, or its text where it has none: proxies say in one what the matter is.
fn page_words(page: &str) -> String {
    let find = |tag: &str| page.to_ascii_lowercase().find(tag).map(|at| at + tag.len());
    if let Some(title) = find("<title>").and_then(|at| page.get(at..)?.split('<').next()) {
        return title.to_owned();
    }
    let texts = page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    texts.collect::<Vec<_>>().join(" ")
}

/// The text of a refusal that is not written as registries should: `OAuth2` has `error` and `error_description`, the
/// Hub `details`, others `message`.
fn said(body: &[u8]) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    let texts = ["error", "error_description", "details", "message"];
    let texts: Vec<&str> = texts.iter().filter_map(|key| fields.get(*key)?.as_str()).collect();
    if texts.is_empty() { String::from_utf8_lossy(body).into_owned() } else { texts.join(": ") }
}

/// One short line that cannot do anything to a terminal.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    if line.chars().count() > MAX_SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_registry_are_short_and_plain() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001b[31munknown"},{"code":"X"}]}"#;
        assert_eq!(words_of(body), "MANIFEST_UNKNOWN (manifest [31munknown); X");
        let nulls = br#"{"errors":[{"code":"UNKNOWN","message":null,"detail":null},{"code":null},null]}"#;
        assert_eq!(words_of(nulls), "UNKNOWN");
        assert_eq!(words_of(br#"{"errors":null}"#), "");
        assert_eq!(words_of(b" <html>no <b>more</b></html>"), "no more");
        assert_eq!(words_of(b"<HTML><Title>502 Bad Gateway</Title><p>nginx"), "502 Bad Gateway");
        assert_eq!(words_of(b"<<><a"), "");
        assert_eq!(
            words_of(br#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
        assert_eq!(
            words_of(br#"{"error":"invalid_grant","error_description":"gone"}"#),
            "invalid_grant: gone"
        );
        assert_eq!(words_of(br#"{"x":1}"#), r#"{"x":1}"#);
        assert_eq!(words_of(b"no more"), "no more");
        assert!(words_of(&[b'x'; 5000]).chars().count() <= MAX_SHOWN + 1);
    }
}
