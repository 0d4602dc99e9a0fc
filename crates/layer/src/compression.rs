use std::fmt;
use std::io;

use ocibuild_spec::{MediaType, media_types};

/// Version of everything that decides about compressed bytes: the size of the blocks, the libraries that compress
/// them, and how levels are handed to those.
///
/// Equal tars give equal blobs only within one version, so records that promise a blob's digest name it. Raise it
/// with every change that alters a byte, an update of `libdeflate` or `zstd` included.
pub const FORMAT_VERSION: u32 = 1;

/// How the bytes of a layer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: the blob is the tar.
    None,
    /// gzip (RFC 1952), one member per block.
    Gzip {
        /// 0 (stored) to 9; more is taken as 9.
        level: u32,
    },
    /// Zstandard (RFC 8878), one frame per block.
    Zstd {
        /// 1 to 22; others are taken as the nearest, 0 as the default.
        level: i32,
    },
}

impl Compression {
    /// gzip at the level that reaches the size of Go's default.
    pub const GZIP: Self = Self::Gzip { level: 3 };

    /// Zstandard at its default level.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// The media type of a layer compressed so, in OCI's spelling or Docker's (11.13).
    pub fn media_type(self, docker: bool) -> MediaType {
        match (self, docker) {
            (Self::None, false) => MediaType::ImageLayer,
            (Self::Gzip { .. }, false) => MediaType::ImageLayerGzip,
            (Self::Zstd { .. }, false) => MediaType::ImageLayerZstd,
            (Self::None, true) => MediaType::Other(media_types::DOCKER_LAYER.to_owned()),
            (Self::Gzip { .. }, true) => MediaType::Other(media_types::DOCKER_LAYER_GZIP.to_owned()),
            (Self::Zstd { .. }, true) => MediaType::Other(media_types::DOCKER_LAYER_ZSTD.to_owned()),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::GZIP
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("uncompressed"),
            Self::Gzip { level } => write!(f, "gzip level {level}"),
            Self::Zstd { level } => write!(f, "zstd level {level}"),
        }
    }
}

/// Bytes of tar in one block. Part of the format: see [`FORMAT_VERSION`].
pub(crate) const BLOCK_SIZE: usize = 256 * 1024;

/// Compresses blocks one by one, each into bytes that stand for themselves.
pub(crate) enum BlockCompressor {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl BlockCompressor {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(level.min(9) as i32)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                Self::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd { level } => {
                let level = if level == 0 { 3 } else { level.clamp(1, 22) };
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
                Self::Zstd(compressor)
            }
        })
    }

    /// Replaces `out` by the compressed form of `block`.
    pub(crate) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match self {
            Self::None => out.extend_from_slice(block),
            Self::Gzip(compressor) => {
                // The header that libdeflate writes has no time and no name, and the system is "unknown".
                out.resize(compressor.gzip_compress_bound(block.len()), 0);
                let length = compressor.gzip_compress(block, out).map_err(io::Error::other)?;
                out.truncate(length);
            }
            Self::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, out)?;
            }
        }
        Ok(())
    }
}
