mod members;
mod zstandard;

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use ocibuild_spec::MediaType;

use self::members::Members;
use self::zstandard::Zstandard;
use crate::{Error, ErrorKind};

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

/// The largest window a Zstandard frame may ask for (RFC 8878 recommends 8 MiB, `zstd --long` uses 128).
const ZSTD_WINDOW_LOG: u32 = 27;

/// Memory that xz may use; its highest preset needs half of this.
const XZ_MEMORY: u64 = 128 << 20;

/// Bytes read at once from what is compressed.
const BUFFER: usize = 128 * 1024;

/// The longest magic number there is.
const MAGIC: usize = 6;

/// The format of a stream that begins with `first`; six bytes are enough.
pub fn sniff(first: &[u8]) -> Format {
    match first {
        [0x1f, 0x8b, ..] => Format::Gzip,
        // A skippable frame may come before the first one that has content.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        _ => Format::Plain,
    }
}

/// The decompressed bytes of `reader`, in whatever format its first bytes say (6.60).
///
/// Several gzip members, Zstandard frames or bzip2 and xz streams one after the other are one stream. Other bytes after
/// the end of gzip and bzip2 are passed over, as `gzip` and `bzip2` do; after the others they are an error of the last
/// read. Either way they are read, so that a digest of `reader` covers them. Checksums are verified when their stream
/// ends: whoever stops before does not hear of damage.
pub fn decompress<'r>(
    reader: Box<dyn Read + Send + 'r>,
) -> Result<(Format, Box<dyn Read + Send + 'r>), Error> {
    let (format, reader) = peek(reader)?;
    Ok((format, decoder(reader, format)?))
}

/// The plain tar of a layer of this media type; bytes that look otherwise are refused.
pub fn decompress_layer<'r>(
    reader: Box<dyn Read + Send + 'r>,
    media_type: &MediaType,
) -> Result<Box<dyn Read + Send + 'r>, Error> {
    let text = media_type.to_string();
    let Some(stated) = layer_format(&text) else {
        return Err(ErrorKind::UnknownMediaType { media_type: text }.into());
    };
    let (found, reader) = peek(reader)?;
    if found != stated {
        return Err(ErrorKind::MediaTypeMismatch { media_type: text, found }.into());
    }
    decoder(reader, stated)
}

fn layer_format(media_type: &str) -> Option<Format> {
    let suffix = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ]
    .iter()
    .find_map(|plain| media_type.strip_prefix(plain))?;
    match suffix {
        "" => Some(Format::Plain),
        "+gzip" | ".gzip" => Some(Format::Gzip),
        "+zstd" | ".zstd" => Some(Format::Zstd),
        _ => None,
    }
}

type Peeked<'r> = BufReader<io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send + 'r>>>;

fn peek<'r>(mut reader: Box<dyn Read + Send + 'r>) -> Result<(Format, Peeked<'r>), Error> {
    let mut first = Vec::with_capacity(MAGIC);
    reader
        .by_ref()
        .take(MAGIC as u64)
        .read_to_end(&mut first)
        .map_err(|source| ErrorKind::Decompress { format: Format::Plain, source })?;
    let format = sniff(&first);
    Ok((format, BufReader::with_capacity(BUFFER, Cursor::new(first).chain(reader))))
}

fn decoder<'r>(reader: Peeked<'r>, format: Format) -> Result<Box<dyn Read + Send + 'r>, Error> {
    let failed = |source: io::Error| Error::from(ErrorKind::Decompress { format, source });
    Ok(match format {
        Format::Plain => Box::new(reader),
        Format::Gzip => Box::new(Members::<_, GzDecoder<_>>::new(reader)),
        Format::Zstd => Box::new(Zstandard::new(reader, ZSTD_WINDOW_LOG).map_err(failed)?),
        Format::Bzip2 => Box::new(Members::<_, BzDecoder<_>>::new(reader)),
        Format::Xz => {
            let concatenated = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, concatenated)
                .map_err(|error| failed(error.into()))?;
            Box::new(Xz(liblzma::bufread::XzDecoder::new_stream(reader, stream)))
        }
    })
}

/// Tells a dictionary that is too large from damage.
struct Xz<R>(liblzma::bufread::XzDecoder<R>);

impl<R: io::BufRead> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            match inner {
                Some(liblzma::stream::Error::MemLimit) => {
                    let kind = ErrorKind::DecoderMemory { format: Format::Xz, maximum: XZ_MEMORY };
                    io::Error::new(io::ErrorKind::InvalidData, Error::from(kind))
                }
                _ => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(format: Format, bytes: &[u8]) -> Vec<u8> {
        match format {
            Format::Plain => bytes.to_vec(),
            Format::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
            Format::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Format::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpacked(bytes: &[u8]) -> io::Result<(Format, Vec<u8>)> {
        let (format, mut reader) =
            decompress(Box::new(Cursor::new(bytes.to_vec()))).map_err(io::Error::other)?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((format, out))
    }

    const ALL: [Format; 5] = [Format::Plain, Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz];

    #[test]
    fn several_streams_are_one() {
        for format in ALL {
            let mut twice = packed(format, b"hello ");
            twice.extend(packed(format, b"world"));
            assert_eq!(unpacked(&twice).unwrap(), (format, b"hello world".to_vec()), "{format}");
        }
        assert_eq!(unpacked(b"").unwrap(), (Format::Plain, Vec::new()));
    }

    #[test]
    fn damage_is_an_error() {
        for format in &ALL[1..] {
            let good = packed(*format, &b"hello world".repeat(100));
            let cut = &good[..good.len() - 3];
            assert!(unpacked(cut).is_err(), "{format} cut");
            for place in [good.len() / 2, good.len() - 10] {
                let mut flipped = good.clone();
                flipped[place] ^= 0x10;
                let checks = *format != Format::Zstd;
                assert!(!checks || unpacked(&flipped).is_err(), "{format} flipped at {place}");
            }
            let next = [&good[..], &good[..12]].concat();
            assert!(unpacked(&next).is_err(), "{format} with a second stream that is cut");
        }
        let mut bad_crc = packed(Format::Gzip, b"hello");
        let length = bad_crc.len();
        bad_crc[length - 8] ^= 1;
        assert!(unpacked(&bad_crc).is_err());
    }

    #[test]
    fn what_follows_gzip_and_bzip2_means_nothing() {
        let zeros = vec![0; 300_000];
        for format in [Format::Gzip, Format::Bzip2] {
            let good = packed(format, b"hello");
            for tail in [&b"\0"[..], &zeros, b"some text\n", b"\x1f", b"B", b"BZx", b"\x1f\x1f\x8b"] {
                let bytes = [&good[..], tail].concat();
                assert_eq!(unpacked(&bytes).unwrap().1, b"hello", "{format} and {:?}", &tail[..1]);
            }
            let empty = packed(format, b"");
            let many = [&good[..], &empty, &empty, &good, b"\0\0"].concat();
            assert_eq!(unpacked(&many).unwrap().1, b"hellohello", "{format}");
        }
        // The other tools refuse it, but for zeros that fill up xz to a multiple of four, and frames to be skipped.
        for (format, tail, is_taken) in [
            (Format::Xz, &b"\0\0\0\0"[..], true),
            (Format::Xz, b"\0", false),
            (Format::Xz, b"text", false),
            (Format::Zstd, b"\0\0\0\0", false),
            (Format::Zstd, b"text", false),
            (Format::Zstd, b"\x50\x2a\x4d\x18\x02\0\0\0xx", true),
        ] {
            let bytes = [&packed(format, b"hello")[..], tail].concat();
            assert_eq!(unpacked(&bytes).is_ok(), is_taken, "{format} and {tail:?}");
        }
    }

    /// Gives one byte at a time, and counts them.
    struct Slow<'b>(&'b [u8], std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            self.1.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            Ok(count)
        }
    }

    #[test]
    fn every_byte_is_read_in_whatever_pieces_it_comes() {
        for format in ALL {
            let one = packed(format, b"hello");
            let tail = if matches!(format, Format::Gzip | Format::Bzip2) { &b"\x1fBZ"[..] } else { b"" };
            let bytes = [&one[..], &one, tail].concat();
            let read = std::sync::Arc::default();
            let (_, mut reader) = decompress(Box::new(Slow(&bytes, std::sync::Arc::clone(&read)))).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert_eq!(out, b"hellohello", "{format}");
            assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), bytes.len(), "{format}");
        }
    }

    #[test]
    fn a_decoder_that_would_need_too_much_memory_is_refused_by_name() {
        // Magic number, no flags, window descriptor of 2 GiB, one empty raw block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
        let modest = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3, 0x01, 0x00, 0x00];
        assert_eq!(unpacked(&modest).unwrap().1, b"");
        let filters = |dictionary| {
            let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            options.dict_size(dictionary);
            let mut filters = liblzma::stream::Filters::new();
            filters.lzma2(&options);
            filters
        };
        let xz = |dictionary| {
            let check = liblzma::stream::Check::Crc64;
            let stream = liblzma::stream::Stream::new_stream_encoder(&filters(dictionary), check).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(b"hello").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpacked(&xz(64 << 20)).unwrap().1, b"hello");
        for (expected, bytes) in [
            (Format::Zstd, frame.to_vec()),
            (Format::Zstd, [&modest[..], &frame].concat()),
            (Format::Xz, xz(256 << 20)),
        ] {
            let error = unpacked(&bytes).unwrap_err();
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap();
            match inner.kind() {
                ErrorKind::DecoderMemory { format, maximum } => {
                    assert_eq!((*format, *maximum), (expected, 128 << 20));
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn layers_are_what_they_say() {
        let read = |format, media_type: MediaType| {
            let bytes = Cursor::new(packed(format, b"hello"));
            decompress_layer(Box::new(bytes), &media_type).map(|_| ())
        };
        read(Format::Gzip, MediaType::ImageLayerGzip).unwrap();
        read(Format::Zstd, "application/vnd.docker.image.rootfs.diff.tar.zstd".into()).unwrap();
        read(Format::Plain, MediaType::ImageLayerNonDistributable).unwrap();
        let error = read(Format::Zstd, MediaType::ImageLayerGzip).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MediaTypeMismatch { found: Format::Zstd, .. }), "{error}");
        let error = read(Format::Gzip, MediaType::ImageLayer).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MediaTypeMismatch { .. }), "{error}");
        for other in [MediaType::ImageConfig, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into()]
        {
            let error = read(Format::Gzip, other).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::UnknownMediaType { .. }), "{error}");
        }
    }
}
