//! The content of files of a context: read without its holes, and hashed without its zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ocibuild_spec::Hasher;
use ocibuild_sys::{Extent, extent_at};

/// Zeros are skipped in pieces of this size. Keys depend on it.
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The digest of a file's content as keys have it: SHA-256 of the content, unless it has a block of zeros. Then it is
/// the digest of the other blocks, and of where those of zeros are: twenty gigabytes of a hole cost a second.
///
/// It depends on the bytes alone, never on which of them a file system keeps as a hole.
#[derive(Debug, Default)]
pub(super) struct ContentHasher {
    size: u64,
    /// The beginning of a block.
    pending: Vec<u8>,
    other: Hasher,
    /// Blocks seen so far.
    blocks: u64,
    /// The blocks of zeros: where each run of them begins and ends.
    runs: Option<Hasher>,
    /// The run that goes on, by its first block.
    run: Option<u64>,
}

impl ContentHasher {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if !self.pending.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == BLOCK {
                let mut block = std::mem::take(&mut self.pending);
                self.block(&block);
                block.clear();
                self.pending = block;
            }
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        for block in blocks.chunks_exact(BLOCK) {
            self.block(block);
        }
        self.pending.extend_from_slice(rest);
    }

    fn block(&mut self, block: &[u8]) {
        if block == ZEROS {
            self.run.get_or_insert(self.blocks);
        } else {
            self.end_run();
            self.other.update(block);
        }
        self.blocks += 1;
    }

    fn end_run(&mut self) {
        if let Some(first) = self.run.take() {
            let runs = self.runs.get_or_insert_default();
            runs.update(&first.to_be_bytes());
            runs.update(&self.blocks.to_be_bytes());
        }
    }

    /// Bytes taken in so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn finish(mut self) -> [u8; 32] {
        self.end_run();
        self.other.update(&self.pending);
        let other = self.other.finish_bytes();
        let Some(runs) = self.runs else { return other };
        let mut whole = Hasher::new();
        whole.update(b"ocibuild content with zeros v1");
        whole.update(&self.size.to_be_bytes());
        whole.update(&runs.finish_bytes());
        whole.update(&other);
        whole.finish_bytes()
    }
}

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

    fn digest(pieces: &[&[u8]]) -> [u8; 32] {
        let mut hasher = ContentHasher::default();
        for piece in pieces {
            hasher.update(piece);
        }
        hasher.finish()
    }

    #[test]
    fn content_without_a_block_of_zeros_has_its_plain_digest() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8 + 1).collect();
            let mut plain = Hasher::new();
            plain.update(&bytes);
            assert_eq!(digest(&[&bytes]), plain.finish_bytes(), "{size}");
        }
        // Zeros that fill no block.
        let mut plain = Hasher::new();
        plain.update(&[0; 100]);
        assert_eq!(digest(&[&[0; 100]]), plain.finish_bytes());
    }

    #[test]
    fn the_digest_depends_on_the_bytes_and_not_on_the_pieces() {
        let mut bytes = vec![0; 5 * BLOCK + 3];
        bytes[2 * BLOCK + 5] = 7;
        let whole = digest(&[&bytes]);
        for at in [1, BLOCK - 1, BLOCK, 2 * BLOCK + 6, 5 * BLOCK] {
            assert_eq!(digest(&[&bytes[..at], &bytes[at..]]), whole, "{at}");
        }
        let mut all = vec![whole];
        for other in [
            // The same data elsewhere, more and fewer zeros.
            {
                let mut other = bytes.clone();
                other.swap(2 * BLOCK + 5, 3 * BLOCK + 5);
                other
            },
            vec![0; 5 * BLOCK + 3],
            vec![0; 5 * BLOCK],
            vec![0; 4 * BLOCK],
            bytes[..4 * BLOCK].to_vec(),
            bytes[2 * BLOCK..3 * BLOCK].to_vec(),
        ] {
            let digest = digest(&[&other]);
            assert!(!all.contains(&digest), "{} bytes", other.len());
            all.push(digest);
        }
    }

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
