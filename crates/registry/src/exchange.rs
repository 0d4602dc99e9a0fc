use std::io::Read;

use ocibuild_spec::{CancelToken, Reference, SourceError, SourceErrorKind};

use crate::endpoint::Endpoint;
use crate::failure;
use crate::http::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, Method, Scheme, Url};
use crate::lookup::Visit;
use crate::registry::Registry;
use crate::retry::Retry;

/// What the credentials of a request have to allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Reading the repository.
    Pull,
    /// Writing to it, and taking blobs over from these others.
    Push(Vec<String>),
    /// Removing from it.
    Delete,
    /// Listing the repositories of the registry.
    Catalogue,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Below `/v2/<repository>/`.
    Below(&'a str),
    /// Somewhere that the registry named: on its own host, which [`own_location`] saw to.
    At(&'a Url),
}

/// One request about a repository, and the answers that are no failures.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) place: Place<'a>,
    pub(crate) access: &'a Access,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: &'a [u8],
    pub(crate) expected: &'a [u16],
    /// The place that is asked; without one it is the registry that the reference names.
    pub(crate) visit: Option<Visit<'a>>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, place: Place<'a>, access: &'a Access, expected: &'a [u16]) -> Self {
        Self { method, place, access, headers: Vec::new(), body: &[], expected, visit: None }
    }

    #[must_use]
    pub(crate) fn at(mut self, visit: Option<Visit<'a>>) -> Self {
        self.visit = visit;
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Registry {
    /// Asks until there is an answer that is no passing failure, which has to be an expected one.
    pub(crate) fn ask(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
        cancel: &CancelToken,
    ) -> Result<HttpResponse, SourceError> {
        self.ask_for(reference, ask, cancel, Ok)
    }

    /// The same with something that is made of the answer: bodies that break are asked for again.
    pub(crate) fn ask_for<T>(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
        cancel: &CancelToken,
        make: impl Fn(HttpResponse) -> Result<T, Failed>,
    ) -> Result<T, SourceError> {
        let mut tries =
            self.retry().tries_of(ask.visit.map_or(self.retry().attempts, |visit| visit.attempts));
        let mut asked_for_token = false;
        let subject = reference.familiar();
        loop {
            // Each time: a server that was not there before is asked how it is spoken to once it is.
            let endpoint = self.endpoint_at(reference, ask.visit)?;
            let mut again = |error: HttpError| {
                let error = failure::of_http(reference, &error);
                match tries.next_pause(None) {
                    Some(pause) => Ok((pause, error.to_string())),
                    None => Err(error),
                }
            };
            let (pause, why) = match self.ask_once(reference, &endpoint, ask, cancel) {
                Ok(response) if ask.expected.contains(&response.status) => match make(response) {
                    Err(Failed::Http(error)) if error.is_transient() => again(error)?,
                    other => return other.map_err(|error| error.about(reference)),
                },
                // Only the registry itself is given a token, so only its own refusal counts.
                Ok(response)
                    if response.status == 401
                        && !asked_for_token
                        && response.url.is_same_origin(&endpoint.base) =>
                {
                    self.authorize((reference, ask.access), &endpoint, response, cancel)?;
                    asked_for_token = true;
                    continue;
                }
                Ok(response) => {
                    let is_passing = Retry::helps(response.status);
                    let pause = || tries.next_pause(response.header("retry-after"));
                    let Some(pause) = is_passing.then(pause).flatten() else {
                        return Err(self.refused(reference, ask.access, response));
                    };
                    (pause, format!("{subject}: {} answered {}", response.url, response.status))
                }
                // A server that came between the look at it and the request.
                Err(Failed::Http(error)) if endpoint.is_assumed && error.kind() == HttpErrorKind::NotTls => {
                    again(error)?
                }
                Err(Failed::Http(error)) if error.is_transient() => again(error)?,
                Err(error) => return Err(error.about(reference)),
            };
            self.watcher().wait(pause, &why, &subject, cancel)?;
        }
    }

    fn ask_once(
        &self,
        reference: &Reference,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        cancel: &CancelToken,
    ) -> Result<HttpResponse, Failed> {
        let mut request = self.request(reference, endpoint, ask, cancel)?;
        request.headers.extend_from_slice(&ask.headers);
        request.body = ask.body.to_vec();
        let client = self.client();
        if matches!(ask.method, Method::Get | Method::Head) {
            return Ok(client.follow(&request, cancel)?);
        }
        Ok(client.send(&request, cancel)?)
    }

    /// Sends a body as it is read, once.
    pub(crate) fn stream(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
        (length, body): (u64, &mut dyn Read),
        cancel: &CancelToken,
    ) -> Result<HttpResponse, Failed> {
        let endpoint = self.endpoint_at(reference, ask.visit)?;
        let mut request = self.request(reference, &endpoint, ask, cancel)?;
        request.headers.extend_from_slice(&ask.headers);
        request.patience = Some(self.patience_of_commit());
        Ok(self.client().send_from(&request, length, body, cancel)?)
    }

    fn request(
        &self,
        reference: &Reference,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        cancel: &CancelToken,
    ) -> Result<HttpRequest, SourceError> {
        let url = match ask.place {
            Place::At(url) => url.clone(),
            Place::Below(path) => endpoint
                .url(reference.repository(), path)
                .map_err(|error| SourceError::new(SourceErrorKind::Unsupported, error.to_string()))?,
        };
        let mut request = endpoint.request(ask.method, url);
        let authorization = self.authorization((reference, ask.access), endpoint, cancel)?;
        request.headers.extend(authorization.map(|value| ("authorization", value)));
        Ok(request)
    }

    /// Whether the registry itself gave this answer, and not whom it redirected to.
    pub(crate) fn is_own(&self, reference: &Reference, response: &HttpResponse) -> bool {
        self.endpoint(reference).is_ok_and(|endpoint| response.url.is_same_origin(&endpoint.base))
    }
}

/// Nobody is asked to compress anything (`accept-encoding: identity`), and what has a digest is not unpacked.
pub(crate) fn check_encoding(reference: &Reference, response: &HttpResponse) -> Result<(), SourceError> {
    match response.header("content-encoding") {
        Some(encoding) if encoding != "identity" => {
            Err(corrupt(reference, response, &format!("sent {encoding:?} bytes"))
                .hint("a proxy in between may have compressed them"))
        }
        _ => Ok(()),
    }
}

/// What is wrong with the bytes of an answer.
pub(crate) fn corrupt(reference: &Reference, response: &HttpResponse, what: &str) -> SourceError {
    let text = format!("{}: {} {what}", reference.familiar(), response.url);
    SourceError::new(SourceErrorKind::Corrupt, text)
}

/// A request without an answer, or one that could not even be made.
#[derive(Debug)]
pub(crate) enum Failed {
    Http(HttpError),
    Source(SourceError),
}

impl Failed {
    pub(crate) fn about(self, reference: &Reference) -> SourceError {
        match self {
            Self::Http(error) => failure::of_http(reference, &error),
            Self::Source(error) => error,
        }
    }
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Where the registry wants the next request of an upload or of a listing: on its own host, or nowhere. Neither
/// credentials nor the bytes of a layer go to another one.
pub(crate) fn own_location(
    reference: &Reference,
    endpoint: &Endpoint,
    asked: &Url,
    location: &str,
) -> Result<Url, SourceError> {
    let refuse = |why: String| {
        let text =
            format!("{}: {asked} answered with a location that is not followed: {why}", reference.familiar());
        SourceError::new(SourceErrorKind::Denied, text)
    };
    let url = asked.join(location).map_err(|error| refuse(error.to_string()))?;
    if url.is_same_origin(&endpoint.base) {
        return Ok(url);
    }
    // A registry behind a proxy that ends TLS may think that it is spoken to in the clear.
    let is_downgrade = endpoint.base.scheme() == Scheme::Https && url.scheme() == Scheme::Http;
    if is_downgrade && url.authority() == endpoint.base.authority() {
        return Ok(url.with_scheme(Scheme::Https));
    }
    Err(refuse(format!("{url} is not on {}", endpoint.base.authority()))
        .hint("nothing was sent there; the registry has to name itself (its setting of the external URL)"))
}
