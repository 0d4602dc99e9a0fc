use crate::{Digest, Hasher};

/// Zeros are skipped in pieces of this size. Keys depend on it.
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The digest of a file's content, as keys of steps and listings of layers have it. It names no blob.
///
/// It is the SHA-256 of the content, unless the content has a block of 64 KiB, counted from its beginning, that is all
/// zeros. Then it is the digest of the other blocks, and of where those of zeros are: twenty gigabytes of a hole cost a
/// second. It depends on the bytes alone, never on which of them a file system keeps as a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// The digest of content that is in memory.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = ContentHasher::default();
        hasher.update(bytes.as_ref());
        hasher.finish()
    }
}

impl From<ContentDigest> for Digest {
    fn from(digest: ContentDigest) -> Self {
        Self::from_sha256(digest.0)
    }
}

/// Computes the [`ContentDigest`] of content that comes piece by piece.
#[derive(Debug, Default)]
pub struct ContentHasher {
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
    /// Takes in more bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
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
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of all bytes taken in.
    pub fn finish(mut self) -> ContentDigest {
        self.end_run();
        self.other.update(&self.pending);
        let other = self.other.finish_bytes();
        let Some(runs) = self.runs else { return ContentDigest(other) };
        let mut whole = Hasher::new();
        whole.update(b"ocibuild content with zeros v1");
        whole.update(&self.size.to_be_bytes());
        whole.update(&runs.finish_bytes());
        whole.update(&other);
        ContentDigest(whole.finish_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[&[u8]]) -> ContentDigest {
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
            assert_eq!(digest(&[&bytes]), ContentDigest(plain.finish_bytes()), "{size}");
        }
        // Zeros that fill no block.
        let mut plain = Hasher::new();
        plain.update(&[0; 100]);
        assert_eq!(digest(&[&[0; 100]]), ContentDigest(plain.finish_bytes()));
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
}
