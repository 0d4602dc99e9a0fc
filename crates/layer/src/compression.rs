use std::fmt;

use ocibuild_spec::{MediaType, media_types};

/// Version of everything that decides about compressed bytes: the size of the blocks and of what Zstandard compresses at a
/// time, the libraries, and how levels are handed to those.
///
/// Equal tars give equal blobs only within one version, so records that promise a blob's digest name it. Raise it
/// with every change that alters a byte, an update of `libdeflate` or `zstd` included.
pub const FORMAT_VERSION: u32 = 2;

/// How the bytes of a layer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: the blob is the tar.
    None,
    /// gzip (RFC 1952), one member for each MiB.
    Gzip {
        /// 0 (stored) to 9; more is taken as 9. With 6 the effort is chosen for each member so that the layer does not become
        /// larger than with Go's default.
        level: u32,
    },
    /// Zstandard (RFC 8878), one frame with a window of 8 MiB.
    Zstd {
        /// 1 to 22; others are taken as the nearest, 0 as the default.
        level: i32,
    },
}

impl Compression {
    /// gzip at its default level.
    pub const GZIP: Self = Self::Gzip { level: 6 };

    /// Zstandard at its default level.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// Bytes of tar in one block, but for the last.
    pub(crate) fn block_size(self) -> usize {
        match self {
            Self::Gzip { .. } => MEMBER,
            Self::None | Self::Zstd { .. } => BLOCK,
        }
    }

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

/// Bytes of tar in one gzip member. Part of the format: see [`FORMAT_VERSION`].
const MEMBER: usize = 1024 * 1024;

/// Bytes that go from one thread to another at a time where that does not show in the blob.
const BLOCK: usize = 256 * 1024;
