use std::io::{self, Read};

use ocibuild_spec::Entry;

use crate::{Error, Limits};

/// How strictly a tar is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// A layer: names are normalised, whiteouts recognised, and what two readers might understand differently is
    /// refused.
    Layer,
    /// An archive for ADD: what Go's reader accepts, names and link targets as they are stored.
    Archive,
}

/// One entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The entry; a file's content number is the offset of its bytes in the plain tar.
    ///
    /// With [`Policy::Layer`] paths are normalised (and empty for the root directory itself) and whiteouts have
    /// kinds of their own; with [`Policy::Archive`] path and hard link target are the bytes that are stored.
    pub entry: Entry,
    /// Where its first header begins in the plain tar.
    pub offset: u64,
}

/// Reads a plain tar entry by entry; as [`Read`], gives the content of the entry it is at.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
}

impl<R: Read> TarReader<R> {
    /// A reader at the start of `inner`.
    pub fn new(inner: R, policy: Policy, limits: Limits) -> Self {
        let _ = (policy, limits);
        Self { inner }
    }

    /// The next entry; what was left of the content of the one before is skipped. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, Error> {
        todo!()
    }

    /// Reads whatever follows the archive, up to the end of the stream.
    pub fn drain(&mut self) -> Result<(), Error> {
        todo!()
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// Whether the stream is a tar by its first entry (6.60). An empty archive is none; one whose first entry is of a sort
/// that is not supported is one.
pub fn is_tar(reader: &mut dyn Read) -> bool {
    let _ = reader;
    todo!()
}
