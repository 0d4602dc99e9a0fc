mod sending;

use std::io::{self, Read};

use ocibuild_spec::{CancelToken, Descriptor, Digest, Reference, SourceError, SourceErrorKind};

use crate::exchange::{Access, Ask, Place, own_location};
use crate::http::{HttpResponse, Method, Url};
use crate::registry::Registry;
use sending::Sending;
#[cfg(fuzzing)]
pub(crate) use sending::parse_range;

/// Opens the bytes of a blob from their beginning; asked again when they have to be sent again.
pub type OpenBlob<'a> = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// How a registry came by a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobPush {
    /// It was there.
    Exists,
    /// It took it over from this repository of its own.
    Mounted(String),
    /// It was sent.
    Sent,
}

impl std::fmt::Display for BlobPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exists => f.write_str("the registry has it"),
            Self::Mounted(from) => write!(f, "taken over from {from}"),
            Self::Sent => f.write_str("pushed"),
        }
    }
}

/// A blob on its way to a registry.
pub struct BlobUpload<'a> {
    /// What it is; what is read is compared with it.
    pub descriptor: &'a Descriptor,
    /// Its bytes.
    pub open: &'a OpenBlob<'a>,
    /// Repositories of the same registry that probably have it.
    pub mount_from: &'a [String],
    /// Told how many bytes the registry has.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl std::fmt::Debug for BlobUpload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobUpload").field("descriptor", self.descriptor).finish_non_exhaustive()
    }
}

impl Registry {
    /// Whether the repository has a blob. A registry that tells another size is not believed.
    pub fn has_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<bool, SourceError> {
        self.stat_blob(repository, descriptor, &Access::Pull, cancel)
    }

    fn stat_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        access: &Access,
        cancel: &CancelToken,
    ) -> Result<bool, SourceError> {
        let path = format!("blobs/{}", descriptor.digest);
        // Who does not answer that question is taken not to have it.
        let ask = Ask::new(Method::Head, Place::Below(&path), access, &[200, 404, 405, 501]);
        let response = self.ask(repository, &ask, cancel)?;
        let fits = response.content_length().is_none_or(|length| length == descriptor.size);
        Ok(response.status == 200 && fits)
    }

    /// Makes a repository have a blob: by finding it there, by having it taken over from another repository of the
    /// registry, or by sending it. What was sent before a connection broke is not sent again where the registry still
    /// has it ("Pushing a blob in chunks"). `repository` is a name of which tag and digest do not count.
    pub fn push_blob(
        &self,
        repository: &Reference,
        upload: &BlobUpload<'_>,
        cancel: &CancelToken,
    ) -> Result<BlobPush, SourceError> {
        let own = Access::Push(Vec::new());
        match self.stat_blob(repository, upload.descriptor, &own, cancel) {
            Ok(true) => return Ok(BlobPush::Exists),
            Ok(false) => {}
            // An answer to HEAD has no words; what comes next is refused with some.
            Err(error) if error.kind() == SourceErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
        for other in upload.mount_from.iter().filter(|other| *other != repository.repository()) {
            let access = Access::Push(vec![other.clone()]);
            match self.begin(repository, &access, Some((&upload.descriptor.digest, other)), cancel) {
                // Some say so without having it.
                Ok(Begun::Mounted) if self.stat_blob(repository, upload.descriptor, &own, cancel)? => {
                    return Ok(BlobPush::Mounted(other.clone()));
                }
                // Sent instead.
                Ok(Begun::Mounted | Begun::Refused) => {}
                Ok(Begun::Session(begun)) => return self.send(repository, upload, Some(begun), cancel),
                // Who may write here need not be allowed to read there.
                Err(error) if error.kind() == SourceErrorKind::Denied => {}
                Err(error) => return Err(error),
            }
        }
        self.send(repository, upload, None, cancel)
    }

    /// Sends a blob, whatever the registry says about having it.
    pub fn send_blob(
        &self,
        repository: &Reference,
        upload: &BlobUpload<'_>,
        cancel: &CancelToken,
    ) -> Result<BlobPush, SourceError> {
        self.send(repository, upload, None, cancel)
    }

    fn send(
        &self,
        repository: &Reference,
        upload: &BlobUpload<'_>,
        session: Option<Session>,
        cancel: &CancelToken,
    ) -> Result<BlobPush, SourceError> {
        Sending::new(self, repository, upload, cancel).run(session)?;
        Ok(BlobPush::Sent)
    }

    fn begin(
        &self,
        repository: &Reference,
        access: &Access,
        mount: Option<(&Digest, &str)>,
        cancel: &CancelToken,
    ) -> Result<Begun, SourceError> {
        let path = match mount {
            Some((digest, other)) => format!("blobs/uploads/?mount={digest}&from={other}"),
            None => "blobs/uploads/".to_owned(),
        };
        // Whoever does not know how to take something over says so in many ways, and takes what is sent.
        let expected: &[u16] =
            if mount.is_some() { &[201, 202, 400, 404, 405, 409, 415, 422, 501] } else { &[201, 202] };
        let ask = Ask::new(Method::Post, Place::Below(&path), access, expected);
        let response = self.ask(repository, &ask, cancel)?;
        if response.status >= 400 {
            return Ok(Begun::Refused);
        }
        if response.status == 201 && mount.is_some() {
            return Ok(Begun::Mounted);
        }
        let smallest = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let url = self.next_location(repository, &response)?;
        Ok(Begun::Session(Session { url, at: 0, smallest: smallest.unwrap_or(0) }))
    }

    fn next_location(&self, repository: &Reference, response: &HttpResponse) -> Result<Url, SourceError> {
        let endpoint = self.endpoint(repository)?;
        let Some(location) = response.header("location") else {
            let text = format!(
                "{}: {} answered {} without saying where to send the blob",
                repository.familiar(),
                response.url,
                response.status
            );
            return Err(SourceError::new(SourceErrorKind::Network, text));
        };
        own_location(repository, &endpoint, &response.url, location)
    }
}

enum Begun {
    Mounted,
    /// Nothing is taken over.
    Refused,
    Session(Session),
}

/// An upload that a registry has begun.
#[derive(Debug, Clone)]
struct Session {
    url: Url,
    /// Bytes that the registry has.
    at: u64,
    /// Smallest piece that it takes, but for the last.
    smallest: u64,
}
