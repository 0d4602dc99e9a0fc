use std::io::{Read, Write};

use ocibuild_spec::{CancelToken, Descriptor, DiffId, Hasher};

use crate::blocks;
use crate::{Compression, Error, ErrorKind};

/// Writes the tar that `plain` reads to `sink` in another compression, byte for byte, whatever it holds.
///
/// Gives the digest of the tar, which the caller compares with the one expected, and the blob's descriptor. As
/// [`write()`](crate::write()), it works in blocks on `threads` threads, and leaves the beginning of a blob in `sink` after
/// an error.
pub fn recompress(
    plain: &mut (dyn Read + Send),
    sink: &mut dyn Write,
    compression: Compression,
    threads: usize,
    cancel: &CancelToken,
) -> Result<(DiffId, Descriptor), Error> {
    let block_size = compression.block_size();
    let produce = |blocks: &mut dyn blocks::Blocks| {
        let mut hasher = Hasher::new();
        let mut block = Vec::with_capacity(block_size);
        let mut offset = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(ErrorKind::Cancelled.into());
            }
            let read = Read::take(&mut *plain, block_size as u64).read_to_end(&mut block);
            let count = read.map_err(|source| ErrorKind::ReadTar {
                offset,
                entry: std::path::PathBuf::new(),
                source,
            })?;
            hasher.update(&block);
            // A tar of no bytes has a block as well: without one the blob would have none of its format.
            let is_first = offset == 0;
            offset += count as u64;
            if count > 0 || is_first {
                blocks.take(&mut block)?;
            }
            if count < block_size {
                return Ok(DiffId(hasher.finish()));
            }
        }
    };
    let (diff_id, blob) = blocks::run(compression, threads, sink, produce)?;
    let digest = blob.digest.unwrap_or_else(|| diff_id.0.clone());
    Ok((diff_id, Descriptor::new(compression.media_type(false), digest, blob.size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress_layer;

    #[test]
    fn the_bytes_stay_and_the_compression_changes() {
        let block = Compression::GZIP.block_size();
        let sizes = [0, 1, block - 1, block, 2 * block + 17, 5 * block];
        for (size, compression) in sizes
            .into_iter()
            .flat_map(|size| [Compression::None, Compression::GZIP, Compression::ZSTD].map(|c| (size, c)))
        {
            let plain: Vec<u8> = (0..size).map(|at| (at / 7 % 251) as u8).collect();
            let mut blobs = Vec::new();
            for threads in [1, 3] {
                let mut blob = Vec::new();
                let mut reader = plain.as_slice();
                let (diff_id, descriptor) =
                    recompress(&mut reader, &mut blob, compression, threads, &CancelToken::new()).unwrap();
                assert_eq!(diff_id.0, ocibuild_spec::Digest::of(&plain));
                assert_eq!(descriptor, Descriptor::of(compression.media_type(false), &blob));
                let mut back = Vec::new();
                let reader = Box::new(std::io::Cursor::new(blob.clone()));
                decompress_layer(reader, &descriptor.media_type).unwrap().read_to_end(&mut back).unwrap();
                assert_eq!(back, plain, "{compression} {size}");
                blobs.push(blob);
            }
            assert_eq!(blobs[0], blobs[1], "threads do not show");
        }
    }
}
