use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_spec::{CancelToken, Descriptor, Reference, SourceError, SourceErrorKind, VerifyingReader};

use crate::Registry;
use crate::http::{HttpError, HttpErrorKind, HttpResponse};
use crate::lookup::ATTEMPTS;
use crate::routes::{Origin, Route};

/// Tries in a row that bring less than [`PROGRESS`] bytes.
const MAX_FAILURES: u32 = 5;
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
    /// Where the failures in a row began.
    anchor: u64,
    failures: u32,
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
            anchor: 0,
            failures: 0,
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

    /// Goes on at `self.at`. Only an answer that says it begins exactly there is taken for the rest.
    fn resume(&mut self) -> Result<HttpResponse, SourceError> {
        if self.at > 0 {
            let response = self.ask(self.at)?;
            match response.status {
                206 if self.is_rest(&response) => return Ok(response),
                200 => return self.skip(response),
                _ => {}
            }
        }
        let response = self.whole()?;
        self.skip(response)
    }

    fn is_rest(&self, response: &HttpResponse) -> bool {
        let range = response.header("content-range").and_then(parse_content_range);
        range.is_some_and(|(first, last, total)| {
            first == self.at
                && last + 1 == self.descriptor.size
                && total.is_none_or(|t| t == self.descriptor.size)
        })
    }

    /// Reads past what was delivered before, for servers that do not know ranges.
    fn skip(&self, mut response: HttpResponse) -> Result<HttpResponse, SourceError> {
        let url = response.url.clone();
        let skipped = io::copy(&mut (&mut response).take(self.at), &mut io::sink());
        match skipped {
            Ok(count) if count == self.at => Ok(response),
            Ok(_) => {
                let error = HttpError::new(HttpErrorKind::Connection, &url, "the body ended early");
                Err(crate::failure::of_http(&self.reference, &error))
            }
            Err(error) => Err(crate::failure::of_http(&self.reference, &HttpError::of_body(&url, &error))),
        }
    }

    /// Makes another place be asked next, if there is one.
    fn pass_over(&self) {
        if let Some(route) = self.served_by.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            self.registry.failures().note(route, SourceErrorKind::Network);
        }
    }

    /// What to do about a body that broke: nothing more when there were too many.
    fn recover(&mut self, mut error: SourceError) -> io::Result<()> {
        self.body = None;
        loop {
            if self.at >= self.anchor + PROGRESS {
                (self.anchor, self.failures) = (self.at, 0);
            }
            self.failures += 1;
            self.resumes += 1;
            if self.failures >= ATTEMPTS {
                self.pass_over();
            }
            let is_final = error.kind() != SourceErrorKind::Network;
            if is_final || self.failures > MAX_FAILURES || self.resumes > MAX_RESUMES {
                return Err(as_io(error));
            }
            self.registry.retry().wait(self.failures, None, &self.reference, &self.cancel).map_err(as_io)?;
            match self.resume() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(next) => error = next,
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
        loop {
            let Some(body) = &mut self.body else { return Ok(0) };
            let error = match body.read(buffer) {
                Ok(0) if self.at < self.descriptor.size => {
                    HttpError::new(HttpErrorKind::Connection, &body.url, "the body ended early")
                }
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                // Everything is here, and what comes after it does not matter.
                Err(_) if self.at >= self.descriptor.size => return Ok(0),
                Err(error) => HttpError::of_body(&body.url, &error),
            };
            self.recover(crate::failure::of_http(&self.reference, &error))?;
        }
    }
}

/// First and last byte and the total of `bytes 5-9/10`.
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
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
