use std::io::{self, Read};

use ocibuild_spec::CancelToken;

use crate::{Error, ErrorKind};

/// A reader that ends in an error once its token is cancelled: [`ErrorKind::Cancelled`] within an [`io::Error`].
///
/// Whatever loops over what it reads need not look at the token.
#[derive(Debug)]
pub struct Cancellable<R> {
    inner: R,
    cancel: CancelToken,
}

impl<R> Cancellable<R> {
    /// Reads from `inner` until `cancel` is cancelled.
    pub fn new(inner: R, cancel: &CancelToken) -> Self {
        Self { inner, cancel: cancel.clone() }
    }

    /// The reader within.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(Error::from(ErrorKind::Cancelled)));
        }
        self.inner.read(buffer)
    }
}
