//! Compressed streams one after the other, of formats whose own tools pass over what follows the last of them.

use std::io::{self, BufRead, Read};

/// A decoder of one stream, which leaves the reader where the stream ended.
pub(super) trait Member<R>: Read + Sized {
    /// What a stream begins with.
    const MAGIC: &'static [u8];

    fn begin(reader: Unread<R>) -> Self;
    fn end(self) -> Unread<R>;
}

impl<R: BufRead> Member<R> for flate2::bufread::GzDecoder<Unread<R>> {
    const MAGIC: &'static [u8] = &[0x1f, 0x8b];

    fn begin(reader: Unread<R>) -> Self {
        Self::new(reader)
    }

    fn end(self) -> Unread<R> {
        self.into_inner()
    }
}

impl<R: BufRead> Member<R> for bzip2::bufread::BzDecoder<Unread<R>> {
    const MAGIC: &'static [u8] = b"BZh";

    fn begin(reader: Unread<R>) -> Self {
        Self::new(reader)
    }

    fn end(self) -> Unread<R> {
        self.into_inner()
    }
}

/// The content of all members. Bytes after a member that do not begin another are read, so that a digest of the
/// reader covers them, and mean nothing.
pub(super) struct Members<R, D> {
    /// The member being read; `None` after the last one.
    current: Option<D>,
    reader: std::marker::PhantomData<R>,
}

impl<R: BufRead, D: Member<R>> Members<R, D> {
    /// The reader must be at the beginning of a member.
    pub(super) fn new(reader: R) -> Self {
        let first = Unread { again: &[], inner: reader };
        Self { current: Some(D::begin(first)), reader: std::marker::PhantomData }
    }
}

impl<R: BufRead, D: Member<R>> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.current {
            let count = member.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.current = self.current.take().map(D::end).map(next).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// The member that follows; `None` once everything is read.
fn next<R: BufRead, D: Member<R>>(mut reader: Unread<R>) -> io::Result<Option<D>> {
    for expected in D::MAGIC {
        let found = filled(&mut reader)?.first().copied();
        reader.consume(usize::from(found.is_some()));
        if found != Some(*expected) {
            drain(&mut reader)?;
            return Ok(None);
        }
    }
    Ok(Some(D::begin(Unread { again: D::MAGIC, inner: reader.inner })))
}

fn drain(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let count = filled(reader)?.len();
        if count == 0 {
            return Ok(());
        }
        reader.consume(count);
    }
}

fn filled(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    reader.fill_buf()
}

/// A reader with bytes in front of it that were read already.
pub(super) struct Unread<R> {
    again: &'static [u8],
    inner: R,
}

impl<R: BufRead> Read for Unread<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.again.is_empty() {
            return self.inner.read(buffer);
        }
        let count = self.again.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.again[..count]);
        self.again = &self.again[count..];
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Unread<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.again.is_empty() { self.inner.fill_buf() } else { Ok(self.again) }
    }

    fn consume(&mut self, count: usize) {
        if self.again.is_empty() {
            self.inner.consume(count);
        } else {
            self.again = &self.again[count..];
        }
    }
}
