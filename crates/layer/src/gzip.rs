//! Blocks as gzip members.

use std::io;

use libdeflater::{CompressionLvl, Compressor};

/// The level for which [`effort`] decides block by block.
const DEFAULT_LEVEL: u32 = 6;

/// The libdeflate level that tells how well a block compresses.
const PROBE: i32 = 1;

/// Pieces of a block that are probed, and the bytes of each.
const PIECES: usize = 8;
const PIECE: usize = 8 * 1024;

/// Compresses blocks one by one, each into a member of its own.
pub(crate) struct GzipCompressor {
    level: u32,
    /// One for each libdeflate level that was needed.
    compressors: [Option<Compressor>; 10],
    sample: Vec<u8>,
    /// Room for whatever a block may become.
    room: Vec<u8>,
}

impl GzipCompressor {
    pub(crate) fn new(level: u32) -> Self {
        Self { level: level.min(9), compressors: Default::default(), sample: Vec::new(), room: Vec::new() }
    }

    /// Replaces `packed` by the compressed form of `block`.
    pub(crate) fn compress(&mut self, block: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        let level = if self.level == DEFAULT_LEVEL { self.effort(block)? } else { self.level as i32 };
        let (compressor, room) = self.at(level)?;
        reserve(room, compressor.gzip_compress_bound(block.len()));
        // The header that libdeflate writes has no time and no name, and the system is "unknown".
        let length = compressor.gzip_compress(block, room).map_err(io::Error::other)?;
        packed.clear();
        packed.extend_from_slice(&room[..length]);
        Ok(())
    }

    /// The least libdeflate level with which blocks like this one are no larger than Go's default makes them.
    ///
    /// For most that is 5. Go finds more in what compresses very well, as sources do, and many small files that are compressed
    /// already need a bit more, too. The bounds come from thirty trees of files (`docs/performance.md`), and are part of the
    /// format.
    fn effort(&mut self, block: &[u8]) -> io::Result<i32> {
        if block.len() <= PIECES * PIECE {
            return Ok(7);
        }
        let mut sample = std::mem::take(&mut self.sample);
        sample.clear();
        for piece in block.chunks(block.len().div_ceil(PIECES)) {
            sample.extend_from_slice(&piece[..piece.len().min(PIECE)]);
        }
        let (probe, room) = self.at(PROBE)?;
        reserve(room, probe.deflate_compress_bound(sample.len()));
        let length = probe.deflate_compress(&sample, room).map_err(io::Error::other)?;
        let percent = 100 * length / sample.len();
        self.sample = sample;
        Ok(match percent {
            0..30 => 7,
            30..42 => 5,
            42..80 => 6,
            _ => 4,
        })
    }

    fn at(&mut self, level: i32) -> io::Result<(&mut Compressor, &mut Vec<u8>)> {
        let found = &mut self.compressors[level as usize];
        if found.is_none() {
            let level =
                CompressionLvl::new(level).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            *found = Some(Compressor::new(level));
        }
        Ok((found.as_mut().expect("it was just put there"), &mut self.room))
    }
}

fn reserve(room: &mut Vec<u8>, length: usize) {
    if room.len() < length {
        room.resize(length, 0);
    }
}
