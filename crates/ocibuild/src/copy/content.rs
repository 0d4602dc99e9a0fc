//! The content of files of a context, read without its holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ocibuild_sys::{Extent, extent_at};

/// A file with holes, which are not read.
#[derive(Debug)]
pub(super) struct SparseFile {
    file: File,
    at: u64,
    extent: Extent,
    /// Bytes of the holes that were come to, of all files of the source.
    holes: Arc<AtomicU64>,
}

impl SparseFile {
    pub(super) fn new(file: File, holes: Arc<AtomicU64>) -> Self {
        Self { file, at: 0, extent: Extent::Data { end: 0 }, holes }
    }
}

impl Read for SparseFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (end, is_hole) = match self.extent {
                Extent::Data { end } => (end, false),
                Extent::Hole { end } => (end, true),
                Extent::End => return Ok(0),
            };
            if self.at >= end {
                self.extent = extent_at(&self.file, self.at)?;
                if let Extent::Hole { end } = self.extent {
                    self.holes.fetch_add(end - self.at, Ordering::Relaxed);
                }
                continue;
            }
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let count = if is_hole {
                buffer[..left].fill(0);
                left
            } else {
                self.file.read_at(&mut buffer[..left], self.at)?
            };
            self.at += count as u64;
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_read_as_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 1 << 20).unwrap();
        file.set_len(3 << 20).unwrap();
        let mut expected = vec![0; 3 << 20];
        expected[..5].copy_from_slice(b"begin");
        expected[1 << 20..(1 << 20) + 6].copy_from_slice(b"middle");
        let mut found = Vec::new();
        let holes = Arc::new(AtomicU64::new(0));
        SparseFile::new(file, Arc::clone(&holes)).read_to_end(&mut found).unwrap();
        assert!(found == expected);
        assert!(holes.load(Ordering::Relaxed) < 3 << 20);
    }
}
