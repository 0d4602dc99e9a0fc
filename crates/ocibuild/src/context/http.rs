//! Files at URLs (6.70, 6.71).

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use ocibuild_layer::{Format, decompress};
use ocibuild_plan::address::HttpAddress;
use ocibuild_registry::{HttpError, HttpRequest, HttpResponse, Method};
use ocibuild_spec::{CancelToken, Digest, Hasher, Metadata, Timestamp};
use sha2::Digest as _;

use super::remotes::{Login, Remotes, of_http};
use crate::copy::{Source, SourceKind, SourceNode};
use crate::error::Error;
use crate::failure::{ContextFailure, FileAction, HostFailure, HostOperation};
use crate::layers::FileRange;

/// The bytes of a URL on disk, and what their server said about them.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
    /// Of the bytes that came.
    pub(crate) digest: Digest,
    pub(crate) last_modified: Option<Timestamp>,
    /// A strong validator: equal tags mean equal bytes.
    pub(crate) etag: Option<String>,
}

/// Fetches a URL into a file without a name below `scratch`. Bytes that have not the digest of the
/// address are refused.
pub(crate) fn download(
    remotes: &Remotes,
    address: &HttpAddress,
    scratch: &Path,
    cancel: &CancelToken,
) -> Result<Download, Error> {
    let (request, login) = request(remotes, address)?;
    let response = remotes.http.follow(&request, cancel).map_err(of_http)?;
    let status = response.status;
    if !(200..400).contains(&status) || status == 304 {
        let host = address.url().host();
        let login =
            matches!(status, 401 | 403).then(|| login.advice(&format!("HTTP_AUTH_TOKEN_{host}"), host));
        return Err(ContextFailure::Status { address: address.to_string(), status, login }.into());
    }
    let too_large = |size: &dyn fmt::Display| {
        let (address, size) = (address.to_string(), size.to_string());
        Error::from(ContextFailure::DownloadTooLarge { address, size, limit: remotes.size_limit })
    };
    if let Some(length) = response.content_length().filter(|length| *length > remotes.size_limit) {
        return Err(too_large(&length));
    }
    let etag =
        response.header("etag").filter(|tag| tag.starts_with('"') && tag.len() < 1024).map(str::to_owned);
    let last_modified = response.header("last-modified").and_then(Timestamp::parse_http_date);
    let checksum = address.checksum();
    let mut check = checksum.map(Check::new).transpose()?;
    let mut body = body(response, address)?;
    let mut file = tempfile::tempfile_in(scratch).map_err(|error| no_spool(scratch, error))?;
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if cancel.is_cancelled() => return Err(Error::cancelled()),
            Err(error) => return Err(of_http(HttpError::of_body(address.url(), &error))),
        };
        size += count as u64;
        if size > remotes.size_limit {
            return Err(too_large(&size));
        }
        hasher.update(&buffer[..count]);
        if let Some(check) = &mut check {
            check.update(&buffer[..count]);
        }
        file.write_all(&buffer[..count]).map_err(|error| no_spool(scratch, error))?;
    }
    if let (Some(check), Some(wanted)) = (check, checksum) {
        check.compare(address, wanted)?;
    }
    file.seek(SeekFrom::Start(0)).map_err(|error| no_spool(scratch, error))?;
    Ok(Download { file: Arc::new(file), size, digest: hasher.finish(), last_modified, etag })
}

/// Whether the server still has what it gave `etag` to.
pub(crate) fn is_unchanged(
    remotes: &Remotes,
    address: &HttpAddress,
    etag: &str,
    cancel: &CancelToken,
) -> Result<bool, Error> {
    let mut request = request(remotes, address)?.0.header("if-none-match", etag);
    request.method = Method::Head;
    match remotes.http.follow(&request, cancel) {
        Ok(response) if response.status == 304 => {
            Ok(response.header("etag").is_none_or(|found| found.trim_start_matches("W/") == etag))
        }
        Ok(response) => Ok(response.status == 200 && response.header("etag") == Some(etag)),
        Err(_) if cancel.is_cancelled() => Err(Error::cancelled()),
        // Servers that do not answer this may still answer the download.
        Err(_) => Ok(false),
    }
}

fn request(remotes: &Remotes, address: &HttpAddress) -> Result<(HttpRequest, Login), Error> {
    let request = HttpRequest::get(address.url().clone());
    let login = remotes.http_login(address)?;
    let request = match login.header() {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    Ok((request, login))
}

/// The content of an answer, without the encoding that some servers give it unasked.
fn body(response: HttpResponse, address: &HttpAddress) -> Result<Box<dyn Read + Send>, Error> {
    let encoding = response.header("content-encoding").unwrap_or("identity").trim().to_ascii_lowercase();
    let refused =
        |reason: String| Error::from(ContextFailure::Encoding { address: address.to_string(), reason });
    match encoding.as_str() {
        "" | "identity" => Ok(Box::new(Counted { left: response.content_length(), inner: response })),
        "gzip" | "x-gzip" => {
            let broken = |text: &str| refused(format!("Content-Encoding is gzip, but {text}"));
            let (format, plain) =
                decompress(Box::new(response)).map_err(|error| broken(&error.to_string()))?;
            if format == Format::Gzip { Ok(plain) } else { Err(broken("the bytes are not")) }
        }
        other => {
            let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
            Err(refused(format!("the Content-Encoding {shown} was not asked for")))
        }
    }
}

/// Ends in an error when fewer bytes come than were announced.
struct Counted<R> {
    inner: R,
    left: Option<u64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count as u64);
            if count == 0 && *left > 0 && !buffer.is_empty() {
                let message = format!("the connection ended {left} bytes too early");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
        }
        Ok(count)
    }
}

/// A checksum that is computed along with a download.
enum Check {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Check {
    fn new(wanted: &str) -> Result<Self, Error> {
        match wanted.split(':').next() {
            Some("sha256") => Ok(Self::Sha256(sha2::Sha256::new())),
            Some("sha384") => Ok(Self::Sha384(sha2::Sha384::new())),
            Some("sha512") => Ok(Self::Sha512(sha2::Sha512::new())),
            _ => Err(ContextFailure::ChecksumAlgorithm { wanted: wanted.to_owned() }.into()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn compare(self, address: &HttpAddress, wanted: &str) -> Result<(), Error> {
        let (algorithm, bytes) = match self {
            Self::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Self::Sha384(hasher) => ("sha384", hasher.finalize().to_vec()),
            Self::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        let mut found = format!("{algorithm}:");
        for byte in bytes {
            use std::fmt::Write as _;
            let _ = write!(found, "{byte:02x}");
        }
        if found == wanted {
            return Ok(());
        }
        let (address, wanted) = (address.to_string(), wanted.to_owned());
        Err(ContextFailure::ChecksumMismatch { address, found, wanted }.into())
    }
}

fn no_spool(scratch: &Path, error: io::Error) -> Error {
    HostFailure::file(FileAction::WriteBelow, scratch, error).into()
}

/// A directory with one file, root's and for nobody else (6.70).
#[derive(Debug)]
pub(crate) struct OneFile {
    pub(crate) name: String,
    pub(crate) download: Download,
}

impl OneFile {
    pub(crate) fn node(&self) -> SourceNode {
        let mtime = self.download.last_modified.unwrap_or_default();
        let metadata = Metadata { mode: 0o600, mtime, ..Metadata::default() };
        SourceNode {
            metadata,
            kind: SourceKind::File { size: self.download.size },
            links: None,
            in_place: None,
            known: None,
        }
    }
}

impl Source for OneFile {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        if path.as_os_str().is_empty() {
            let metadata = Metadata { mode: 0o755, ..Metadata::default() };
            return Ok(Some(SourceNode {
                metadata,
                kind: SourceKind::Directory,
                links: None,
                in_place: None,
                known: None,
            }));
        }
        Ok((path == Path::new(&self.name)).then(|| self.node()))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        Ok(if path.as_os_str().is_empty() { vec![OsString::from(&self.name)] } else { Vec::new() })
    }

    fn open(&self, _: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let file = self.download.file.try_clone();
        let file = file.map_err(|error| HostFailure::operation(HostOperation::ReadDownload, error))?;
        Ok(Box::new(FileRange { file, at: 0, left: self.download.size }))
    }
}
