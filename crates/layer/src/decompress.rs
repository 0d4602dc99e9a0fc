use std::fmt;
use std::io::Read;

use ocibuild_spec::MediaType;

use crate::Error;

/// How a stream of bytes is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not at all, or in a way that is not known here.
    Plain,
    /// gzip (RFC 1952), of one member or several.
    Gzip,
    /// Zstandard (RFC 8878), of one frame or several.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

/// The format of a stream that begins with `first`; six bytes are enough.
pub fn sniff(first: &[u8]) -> Format {
    let _ = first;
    todo!()
}

/// The decompressed bytes of `reader`, in whatever format its first bytes say (6.60).
pub fn decompress<'r>(
    reader: Box<dyn Read + Send + 'r>,
) -> Result<(Format, Box<dyn Read + Send + 'r>), Error> {
    let _ = reader;
    todo!()
}

/// The plain tar of a layer of this media type; bytes that look otherwise are refused.
pub fn decompress_layer<'r>(
    reader: Box<dyn Read + Send + 'r>,
    media_type: &MediaType,
) -> Result<Box<dyn Read + Send + 'r>, Error> {
    let _ = (reader, media_type);
    todo!()
}
