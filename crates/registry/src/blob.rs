use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_spec::{CancelToken, Descriptor, Reference, SourceError, SourceErrorKind, VerifyingReader};

use crate::Registry;
use crate::http::{HttpError, HttpErrorKind, HttpResponse};
use crate::lookup::ATTEMPTS;
use crate::retry::Tries;
use crate::routes::{Origin, Route};

/// Whoever brought so many bytes since the last failure has all tries again.
const PROGRESS: u64 = 1 << 20;
/// Tries altogether, for servers that always break after a little.
const MAX_RESUMES: u32 = 100;

/// A blob, verified while it is read. When it turns out to be another one, the place that it came from is named, and asked
/// last from then on.
pub(crate) struct VerifiedBlob {
    inner: VerifyingReader<BlobReader>,
    registry: Registry,
    served_by: ServedBy,
}

/// The place that gave the last answer.
type ServedBy = Arc<Mutex<Option<Route>>>;

impl VerifiedBlob {
    pub(crate) fn open(
        registry: &Registry,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Self, SourceError> {
        let reader = BlobReader::open(registry, reference, descriptor, cancel)?;
        let served_by = Arc::clone(&reader.served_by);
        let inner = VerifyingReader::new(reader, descriptor);
        Ok(Self { inner, registry: registry.clone(), served_by })
    }

    fn blame(&self, error: io::Error) -> io::Error {
        let route = self.served_by.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(route) = route.filter(|_| error.kind() == io::ErrorKind::InvalidData) else { return error };
        self.registry.failures().note(&route, SourceErrorKind::Corrupt);
        match route.origin {
            Origin::Itself => error,
            origin => {
                let text = format!("{error}; they came from {} ({origin})", route.reference.registry());
                as_io(SourceError::new(SourceErrorKind::Corrupt, text))
            }
        }
    }
}

impl Read for VerifiedBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| self.blame(error))
    }
}

/// The bytes of a blob, asked for again from where they broke off. Their digest is checked by whoever wraps this.
struct BlobReader {
    registry: Registry,
    reference: Reference,
    descriptor: Descriptor,
    cancel: CancelToken,
    body: Option<HttpResponse>,
    at: u64,
    /// Bytes of the body that were delivered before.
    skip: u64,
    /// Where the failures in a row began.
    anchor: u64,
    tries: Tries,
    resumes: u32,
    served_by: ServedBy,
}

impl BlobReader {
    fn open(
        registry: &Registry,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Self, SourceError> {
        let mut reader = Self {
            registry: registry.clone(),
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            cancel: cancel.clone(),
            body: None,
            at: 0,
            skip: 0,
            anchor: 0,
            tries: registry.retry().tries(),
            resumes: 0,
            served_by: ServedBy::default(),
        };
        reader.body = Some(reader.whole()?);
        Ok(reader)
    }

    fn ask(&self, from: u64) -> Result<HttpResponse, SourceError> {
        let (response, route) =
            self.registry.get_blob(&self.reference, &self.descriptor, from, &self.cancel)?;
        *self.served_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(route);
        Ok(response)
    }

    fn whole(&self) -> Result<HttpResponse, SourceError> {
        let response = self.ask(0)?;
        if response.status == 200 { Ok(response) } else { Err(self.odd(&response)) }
    }

    fn odd(&self, response: &HttpResponse) -> SourceError {
        let text = format!(
            "{}: {} answered {} out of place",
            self.reference.familiar(),
            response.url,
            response.status
        );
        SourceError::new(SourceErrorKind::Network, text)
    }

    /// Goes on at `self.at`. Only an answer that says it begins exactly there is taken for the rest; of the whole, what
    /// was delivered before is passed over.
    fn resume(&mut self) -> Result<(), SourceError> {
        self.skip = 0;
        if self.at > 0 {
            let response = self.ask(self.at)?;
            if response.status == 206 && self.is_rest(&response) {
                self.body = Some(response);
                return Ok(());
            }
            self.skip = self.at;
            if response.status == 200 {
                self.body = Some(response);
                return Ok(());
            }
        }
        self.body = Some(self.whole()?);
        Ok(())
    }

    fn is_rest(&self, response: &HttpResponse) -> bool {
        let range = response.header("content-range").and_then(parse_content_range);
        range.is_some_and(|(first, last, total)| {
            first == self.at
                && last + 1 == self.descriptor.size
                && total.is_none_or(|t| t == self.descriptor.size)
        })
    }

    /// Asks again after a body broke, unless that happened too often. That request has tries of its own, so that its
    /// failure is the end.
    fn recover(&mut self, error: SourceError) -> io::Result<()> {
        self.body = None;
        if self.at >= self.anchor + PROGRESS {
            (self.anchor, self.tries) = (self.at, self.registry.retry().tries());
        }
        self.resumes += 1;
        let is_final = error.kind() != SourceErrorKind::Network || self.resumes > MAX_RESUMES;
        let Some(pause) = self.tries.next_pause(None).filter(|_| !is_final) else { return Err(as_io(error)) };
        if self.tries.failures() >= ATTEMPTS {
            self.pass_over();
        }
        let (why, subject) = (error.to_string(), self.reference.familiar());
        self.registry.watcher().wait(pause, &why, &subject, &self.cancel).map_err(as_io)?;
        self.resume().map_err(as_io)
    }

    /// Makes another place be asked next, if there is one.
    fn pass_over(&self) {
        if let Some(route) = self.served_by.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            self.registry.failures().note(route, SourceErrorKind::Network);
        }
    }

    /// The next bytes of the body, of which there must be as many as are missing.
    fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        let Some(body) = &mut self.body else { return Ok(0) };
        loop {
            let most = usize::try_from(self.skip).unwrap_or(usize::MAX).min(buffer.len());
            let target = if most > 0 { &mut buffer[..most] } else { &mut buffer[..] };
            match body.read(target) {
                Ok(0) if self.skip > 0 || self.at < self.descriptor.size => {
                    let text = "the body ended too early";
                    return Err(HttpError::new(HttpErrorKind::Connection, &body.url, text));
                }
                Ok(count) if self.skip > 0 => self.skip -= count as u64,
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                // Everything is here, and what comes after it does not matter.
                Err(_) if self.at >= self.descriptor.size => return Ok(0),
                Err(error) => return Err(HttpError::of_body(&body.url, &error)),
            }
        }
    }
}

/// The error is found again by [`io::Error::get_ref`].
fn as_io(error: SourceError) -> io::Error {
    // Never `Interrupted`, which asks most readers to try again.
    let kind = match error.kind() {
        SourceErrorKind::Corrupt => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_body(buffer) {
                Ok(count) => return Ok(count),
                Err(error) => self.recover(crate::failure::of_http(&self.reference, &error))?,
            }
        }
    }
}

/// First and last byte and the total of `bytes 5-9/10`.
pub(crate) fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let (first, last) = (first.trim().parse().ok()?, last.parse::<u64>().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in
            ["", "bytes", "bytes 9-5/10", "bytes */10", "items 5-9/10", "bytes 5-18446744073709551615/*"]
        {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
