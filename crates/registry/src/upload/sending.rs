use std::io::{self, Read};

use ocibuild_spec::{CancelToken, Digest, Reference, SourceError, SourceErrorKind, VerifyingReader};

use super::{Begun, BlobUpload, Session};
use crate::exchange::{Access, Ask, Failed, Place};
use crate::failure::{self, Refusal};
use crate::http::{HttpResponse, Method};
use crate::registry::Registry;
use crate::retry::{Retry, Tries};

/// An upload that has so many bytes more than when it last failed has all tries again.
const PROGRESS: u64 = 1 << 20;
/// How often an upload is begun again because the registry forgot the one before.
const MAX_RESTARTS: u32 = 3;
/// Tokens that may end one after the other before more of the blob is over.
const MAX_RENEWALS: u32 = 2;
/// Smaller blobs are sent in the request that ends their upload.
const MONOLITHIC: u64 = 1 << 20;
/// Sizes of the pieces for proxies that refuse larger ones, tried one after the other.
const PIECES: [u64; 4] = [64 << 20, 16 << 20, 4 << 20, 1 << 20];

/// What to do after a request of an upload.
enum Next {
    /// Go on with this.
    Continue(Session),
    /// Something broke; after a wait, what the registry has is to be found out.
    Recover(Session, SourceError, Option<String>),
    /// There is a new token; what the registry has is to be found out.
    Ask(Session, SourceError),
    /// The registry forgot the upload, or it cannot be gone on with.
    Restart(SourceError),
    Done,
}

/// Sends one blob, and keeps account of what goes wrong.
pub(super) struct Sending<'a> {
    registry: &'a Registry,
    repository: &'a Reference,
    upload: &'a BlobUpload<'a>,
    access: Access,
    cancel: &'a CancelToken,
    tries: Tries,
    renewals: u32,
    restarts: u32,
    /// The most that the registry ever had.
    best: u64,
    /// Largest piece that is sent at once; `None` for all that is left.
    piece: Option<u64>,
    /// All of it goes with the request that ends the upload: the registry takes nothing in between.
    whole: bool,
    /// The blob from this byte on, where the last piece ended.
    rest: Option<(u64, Source)>,
}

/// The bytes of the blob, which are compared with its digest.
type Source = VerifyingReader<Box<dyn Read + Send>>;

impl<'a> Sending<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        repository: &'a Reference,
        upload: &'a BlobUpload<'a>,
        cancel: &'a CancelToken,
    ) -> Self {
        Self {
            registry,
            repository,
            upload,
            // What is sent is not taken over from elsewhere.
            access: Access::Push(Vec::new()),
            cancel,
            tries: registry.retry().tries(),
            renewals: 0,
            restarts: 0,
            best: 0,
            piece: None,
            whole: registry.takes_whole_blobs_alone(repository),
            rest: None,
        }
    }

    fn size(&self) -> u64 {
        self.upload.descriptor.size
    }

    pub(super) fn run(mut self, session: Option<Session>) -> Result<(), SourceError> {
        let mut session = match session {
            Some(session) => session,
            None => self.begin()?,
        };
        loop {
            let is_small = session.at == 0 && self.size() <= self.monolithic();
            let next = if session.at < self.size() && !is_small && !self.whole {
                self.send_piece(session)?
            } else {
                self.finish(session)?
            };
            session = match next {
                Next::Done => return Ok(()),
                Next::Continue(session) => {
                    (self.upload.progress)(session.at);
                    session
                }
                Next::Restart(error) => self.restart(error)?,
                Next::Recover(session, error, retry_after) => {
                    self.recover(&session, error, retry_after.as_deref())?
                }
                Next::Ask(session, error) => self.find_out(&session, error)?,
            };
        }
    }

    /// Blobs up to this size are sent with the request that ends the upload.
    fn monolithic(&self) -> u64 {
        self.piece.map_or(MONOLITHIC, |piece| piece.min(MONOLITHIC))
    }

    fn begin(&self) -> Result<Session, SourceError> {
        match self.registry.begin(self.repository, &self.access, None, self.cancel)? {
            Begun::Session(session) => Ok(session),
            Begun::Mounted | Begun::Refused => unreachable!("nothing was asked to be taken over"),
        }
    }

    fn restart(&mut self, error: SourceError) -> Result<Session, SourceError> {
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS {
            return Err(error);
        }
        self.begin()
    }

    /// After something broke: waits, then goes on, unless that happened too often.
    fn recover(
        &mut self,
        session: &Session,
        error: SourceError,
        retry_after: Option<&str>,
    ) -> Result<Session, SourceError> {
        self.note_progress(session);
        let Some(pause) = self.tries.next_pause(retry_after) else { return Err(error) };
        let (why, subject) = (error.to_string(), self.repository.familiar());
        self.registry.watcher().wait(pause, &why, &subject, self.cancel)?;
        self.find_out(session, error)
    }

    fn note_progress(&mut self, session: &Session) {
        if session.at >= self.best + PROGRESS {
            (self.best, self.renewals, self.tries) = (session.at, 0, self.registry.retry().tries());
        }
    }

    /// How much of the blob the registry has after `error`. This request has tries of its own, so that its failure is
    /// the end.
    fn find_out(&mut self, session: &Session, error: SourceError) -> Result<Session, SourceError> {
        if self.whole {
            return self.restart(error);
        }
        let expected = [200, 204, 404, 400, 405, 416];
        let ask = Ask::new(Method::Get, Place::At(&session.url), &self.access, &expected);
        let response = self.registry.ask(self.repository, &ask, self.cancel)?;
        if !matches!(response.status, 200 | 204) {
            return self.restart(error);
        }
        match self.after(session, &response, 0)? {
            // Nothing of it arrived, or this registry does not tell.
            next if next.at == 0 => self.restart(error),
            next => Ok(next),
        }
    }

    /// The session as an answer describes it: where to go on, and how much is there. Without a range it is `assumed`.
    fn after(
        &self,
        session: &Session,
        response: &HttpResponse,
        assumed: u64,
    ) -> Result<Session, SourceError> {
        let url = match response.header("location") {
            Some(_) => self.registry.next_location(self.repository, response)?,
            None => session.url.clone(),
        };
        let at = match response.header("range").and_then(parse_range) {
            // What an upload without a byte is said to have, too.
            Some(0) if assumed <= 1 => assumed,
            Some(last) => last + 1,
            None => assumed,
        };
        if at > self.size() {
            let text = format!(
                "{}: {} has {at} bytes of {}, which has {}",
                self.repository.familiar(),
                response.url,
                self.upload.descriptor.digest,
                self.size()
            );
            return Err(SourceError::new(SourceErrorKind::Network, text));
        }
        Ok(Session { url, at, smallest: session.smallest })
    }

    /// The blob from byte `at` on; where it is not at hand, what comes before is read for the digest's sake.
    fn source(&mut self, at: u64) -> Result<Source, SourceError> {
        if let Some((_, rest)) = self.rest.take().filter(|(begin, _)| *begin == at) {
            return Ok(rest);
        }
        let opened = (self.upload.open)().map_err(|error| self.unreadable(error))?;
        let mut reader = VerifyingReader::new(opened, self.upload.descriptor);
        let skipped = io::copy(&mut (&mut reader).take(at), &mut io::sink());
        match skipped {
            Ok(count) if count == at => Ok(reader),
            Ok(_) => Err(self.unreadable(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    fn unreadable(&self, error: io::Error) -> SourceError {
        let kind = match error.kind() {
            io::ErrorKind::InvalidData => SourceErrorKind::Corrupt,
            _ => SourceErrorKind::Io,
        };
        let text = format!("cannot read the blob {} that is to be pushed", self.upload.descriptor.digest);
        SourceError::new(kind, text).caused_by(error)
    }

    fn send_piece(&mut self, session: Session) -> Result<Next, SourceError> {
        let left = self.size() - session.at;
        let length = self.piece.map_or(left, |piece| left.min(piece.max(session.smallest)));
        let mut source = self.source(session.at)?;
        let ask = Ask::new(Method::Patch, Place::At(&session.url), &self.access, &[])
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{}-{}", session.at, session.at + length - 1));
        let mut counted = Counted { inner: &mut source, at: session.at, progress: self.upload.progress };
        let answer = self.registry.stream(self.repository, &ask, (length, &mut counted), self.cancel);
        let end = session.at + length;
        let response = match answer {
            Ok(response) => response,
            Err(error) => return self.broken(session, error),
        };
        match response.status {
            202 | 201 | 204 => {
                if end == self.size() {
                    self.check_end(&mut source)?;
                }
                self.rest = Some((end, source));
                let next = self.after(&session, &response, end)?;
                if next.at <= session.at {
                    let text = format!("{}: {} took no byte", self.repository.familiar(), response.url);
                    return Ok(Next::Restart(SourceError::new(SourceErrorKind::Network, text)));
                }
                Ok(Next::Continue(next))
            }
            405 | 411 | 415 | 501 => {
                self.registry.note_whole_blobs(self.repository);
                let error = self.registry.refused(self.repository, &self.access, response);
                Ok(self.send_whole(error))
            }
            // Some know the path of an upload for a PUT alone. An upload that was lost is called by its name.
            404 if session.at == 0 => {
                let refusal = Refusal::read(self.repository, response);
                let is_lost = refusal.misses_upload();
                let error = refusal.into_error();
                Ok(if is_lost { Next::Restart(error) } else { self.send_whole(error) })
            }
            _ => self.refused(session, response),
        }
    }

    /// Begins again, with all of the blob in one request: this registry, or a proxy in front of it, takes no pieces
    /// ("Pushing a blob monolithically").
    fn send_whole(&mut self, error: SourceError) -> Next {
        (self.whole, self.piece) = (true, None);
        // That was an answer, not a failure.
        self.restarts = self.restarts.saturating_sub(1);
        Next::Restart(error)
    }

    /// Nothing but the end of the file comes after the last byte, and the digest is right.
    fn check_end(&self, source: &mut dyn Read) -> Result<(), SourceError> {
        io::copy(source, &mut io::sink()).map(drop).map_err(|error| self.unreadable(error))
    }

    /// Ends the upload: with all of a small blob, or with nothing when everything was sent.
    fn finish(&mut self, session: Session) -> Result<Next, SourceError> {
        let digest = &self.upload.descriptor.digest;
        let url = session.url.with_query("digest", digest.as_str());
        let mut source = self.source(session.at)?;
        let left = self.size() - session.at;
        let ask = Ask::new(Method::Put, Place::At(&url), &self.access, &[])
            .header("content-type", "application/octet-stream");
        let mut counted = Counted { inner: &mut source, at: session.at, progress: self.upload.progress };
        let answer = self.registry.stream(self.repository, &ask, (left, &mut counted), self.cancel);
        let response = match answer {
            Ok(response) => response,
            Err(error) if self.is_stored()? => {
                drop(error);
                return Ok(Next::Done);
            }
            Err(error) => return self.broken(session, error),
        };
        match response.status {
            201 | 204 => {
                self.check_end(&mut source)?;
                let told =
                    response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
                match told {
                    Some(told) if told != *digest && told.algorithm() == digest.algorithm() => {
                        let text = format!(
                            "{}: the registry stored {told} where it was sent {digest}",
                            self.repository.familiar()
                        );
                        Err(SourceError::new(SourceErrorKind::Corrupt, text))
                    }
                    _ => Ok(Next::Done),
                }
            }
            // It may have been stored before that went wrong.
            status if Retry::helps(status) && self.is_stored()? => Ok(Next::Done),
            _ => self.refused(session, response),
        }
    }

    fn is_stored(&self) -> Result<bool, SourceError> {
        match self.registry.stat_blob(self.repository, self.upload.descriptor, &self.access, self.cancel) {
            Err(error) if error.kind() == SourceErrorKind::Network => Ok(false),
            other => other,
        }
    }

    fn broken(&self, session: Session, error: Failed) -> Result<Next, SourceError> {
        let error = match error {
            Failed::Http(error) => match error.into_unread() {
                Ok(unread) => return Err(self.unreadable(unread)),
                Err(error) => error,
            },
            error @ Failed::Source(_) => return Err(error.about(self.repository)),
        };
        let own = failure::of_http(self.repository, &error);
        if error.is_transient() { Ok(Next::Recover(session, own, None)) } else { Err(own) }
    }

    fn refused(&mut self, session: Session, response: HttpResponse) -> Result<Next, SourceError> {
        let status = response.status;
        if status == 401 {
            self.note_progress(&session);
            self.renewals += 1;
            if self.renewals <= MAX_RENEWALS && self.registry.is_own(self.repository, &response) {
                let endpoint = self.registry.endpoint(self.repository)?;
                let text = format!("{}: {} answered 401", self.repository.familiar(), response.url);
                let access = (self.repository, &self.access);
                self.registry.authorize(access, &endpoint, response, self.cancel)?;
                // Whatever of it was taken, the registry says.
                let error = SourceError::new(SourceErrorKind::Denied, text);
                return Ok(Next::Ask(session, error));
            }
        }
        let retry_after = response.header("retry-after").map(str::to_owned);
        let error = self.registry.refused(self.repository, &self.access, response);
        match status {
            413 if !self.whole && self.smaller_pieces(session.smallest) => Ok(Next::Restart(error)),
            416 => Ok(Next::Recover(session, error, None)),
            404 => Ok(Next::Restart(error)),
            status if Retry::helps(status) => Ok(Next::Recover(session, error, retry_after)),
            _ => Err(error),
        }
    }

    /// Tells whether there are smaller pieces to try.
    fn smaller_pieces(&mut self, smallest: u64) -> bool {
        let now = self.piece.unwrap_or(self.size());
        let next = PIECES.into_iter().find(|piece| *piece < now && *piece >= smallest);
        // Refusals of this kind are answers, not failures.
        self.restarts = self.restarts.saturating_sub(1);
        self.piece = next.or(self.piece);
        next.is_some()
    }
}

/// Tells about bytes while they are sent.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    at: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        (self.progress)(self.at);
        Ok(count)
    }
}

/// The last byte of `0-9`, which some write `bytes=0-9`.
pub(crate) fn parse_range(text: &str) -> Option<u64> {
    let text = text.trim();
    let range = text.strip_prefix("bytes=").or_else(|| text.strip_prefix("bytes ")).unwrap_or(text);
    let (first, last) = range.split_once('-')?;
    (first.trim() == "0").then(|| last.trim().parse().ok()).flatten().filter(|last| *last < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads_are_read() {
        assert_eq!(parse_range("0-9"), Some(9));
        assert_eq!(parse_range("bytes=0-9"), Some(9));
        for bad in ["", "0", "5-9", "0-x", "0-18446744073709551615", "-9"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
