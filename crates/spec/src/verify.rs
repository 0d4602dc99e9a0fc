use std::io::{self, Read};

use sha2::Digest as _;

use crate::{Descriptor, Digest};

/// Reads bytes that must have a known size and digest; the end is an error when they do not.
///
/// The error is an [`io::Error`] of kind `InvalidData` that holds a [`VerifyError`]. No more than one byte beyond the
/// size is ever asked for.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    seen: u64,
    hasher: AnyHasher,
    verified: bool,
}

/// Bytes that are not what their descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Fewer or more bytes than stated.
    #[error("{digest} has {actual} bytes, not {expected}")]
    Size {
        /// The digest asked for.
        digest: Digest,
        /// Bytes stated.
        expected: u64,
        /// Bytes seen; when there are too many, one more than stated.
        actual: u64,
    },
    /// Other bytes.
    #[error("the bytes under {expected} have the digest {actual}")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
}

#[derive(Debug)]
enum AnyHasher {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl AnyHasher {
    fn of(digest: &Digest) -> Self {
        match digest.algorithm() {
            "sha512" => Self::Sha512(Box::default()),
            _ => Self::Sha256(sha2::Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(&mut self) -> String {
        let bytes = match self {
            Self::Sha256(hasher) => hasher.finalize_reset().to_vec(),
            Self::Sha512(hasher) => hasher.finalize_reset().to_vec(),
        };
        crate::digest::hex(&bytes)
    }
}

impl<R: Read> VerifyingReader<R> {
    /// A reader of `inner` that expects what `descriptor` says.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            seen: 0,
            hasher: AnyHasher::of(&descriptor.digest),
            verified: false,
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.verified {
            return Ok(());
        }
        let refuse = |error: VerifyError| Err(io::Error::new(io::ErrorKind::InvalidData, error));
        if self.seen != self.size {
            return refuse(VerifyError::Size {
                digest: self.digest.clone(),
                expected: self.size,
                actual: self.seen,
            });
        }
        let text = format!("{}:{}", self.digest.algorithm(), self.hasher.finish());
        let actual: Digest = text.parse().expect("a hash written in hexadecimal is a digest");
        if actual != self.digest {
            return refuse(VerifyError::Digest { expected: self.digest.clone(), actual });
        }
        self.verified = true;
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = self.size.saturating_sub(self.seen).saturating_add(1);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..wanted])?;
        self.hasher.update(&buffer[..count]);
        self.seen += count as u64;
        if count == 0 || self.seen > self.size {
            self.finish()?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn read(bytes: &[u8], descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        VerifyingReader::new(bytes, descriptor).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn only_the_described_bytes_pass() {
        let descriptor = Descriptor::of(MediaType::ImageConfig, b"hello");
        assert_eq!(read(b"hello", &descriptor).unwrap(), b"hello");
        for bad in [&b"hell"[..], b"hello!", b"jello", b""] {
            let error = read(bad, &descriptor).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("sha256:2cf24"), "{error}");
        }
    }
}
