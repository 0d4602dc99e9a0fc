//! One 512-byte header as it stands in a tar, read the way Go's `archive/tar` reads it.

use std::ops::Range;

use crate::header::BLOCK;

pub(crate) type Block = [u8; BLOCK];

/// The fields of a header that say something, numbers still unchecked for what they are to mean.
#[derive(Debug, Clone)]
pub(crate) struct RawHeader {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) typeflag: u8,
    pub(crate) size: i64,
    pub(crate) mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) mtime: i64,
    pub(crate) device: (i64, i64),
}

const CHECKSUM: Range<usize> = 148..156;

/// Reads a header whose checksum is right.
pub(crate) fn parse(block: &Block) -> Result<RawHeader, &'static str> {
    verify(block)?;
    let ustar = &block[257..263] == b"ustar\0";
    let star = ustar && &block[508..512] == b"tar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    let mut name = text(&block[..100]).to_vec();
    let prefix = match (star, ustar) {
        (true, _) => text(&block[345..476]),
        (false, true) => text(&block[345..500]),
        (false, false) if gnu && times_are_a_prefix(block) => text(&block[345..500]),
        (false, false) => b"",
    };
    if !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let device = if ustar || gnu { (number(&block[329..337])?, number(&block[337..345])?) } else { (0, 0) };
    Ok(RawHeader {
        name,
        link: text(&block[157..257]).to_vec(),
        typeflag: block[156],
        size: number(&block[124..136])?,
        mode: number(&block[100..108])?,
        uid: number(&block[108..116])?,
        gid: number(&block[116..124])?,
        mtime: number(&block[136..148])?,
        device,
    })
}

/// Go before 1.8, and so Docker of that time, wrote a prefix into headers of GNU tar, where two times belong. It is told by
/// not being times.
fn times_are_a_prefix(block: &Block) -> bool {
    let is_time = |field: &[u8]| field[0] == 0 || number(field).is_ok();
    let times = is_time(&block[345..357]) && is_time(&block[357..369]);
    !times && text(&block[345..500]).is_ascii()
}

/// Old tars summed signed bytes.
fn verify(block: &Block) -> Result<(), &'static str> {
    let stated = octal(&block[CHECKSUM])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (place, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&place) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stated == unsigned || stated == signed { Ok(()) } else { Err("the checksum of a header is wrong") }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, or the base-256 form of GNU tar, which a set first bit announces.
pub(crate) fn number(field: &[u8]) -> Result<i64, &'static str> {
    const TOO_LARGE: &str = "a number in a header is too large";
    if field.first().is_none_or(|byte| byte & 0x80 == 0) {
        return octal(field);
    }
    let negative = field[0] & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value = 0_u64;
    for (place, byte) in field.iter().enumerate() {
        let byte = (byte ^ invert) & if place == 0 { 0x7f } else { 0xff };
        if value >> 56 > 0 {
            return Err(TOO_LARGE);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| TOO_LARGE)?;
    Ok(if negative { !value } else { value })
}

fn octal(field: &[u8]) -> Result<i64, &'static str> {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let Some(start) = field.iter().position(|byte| !padding(byte)) else { return Ok(0) };
    let end = field.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    let digits = text(&field[start..end]);
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
        _ => Err("a number in a header has a digit that is not octal"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_in_place_of_times_is_a_prefix() {
        let named = |fields: &[u8]| {
            let mut block = [0; BLOCK];
            block[..1].copy_from_slice(b"f");
            block[257..265].copy_from_slice(b"ustar  \0");
            block[345..345 + fields.len()].copy_from_slice(fields);
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            String::from_utf8(parse(&block).unwrap().name).unwrap()
        };
        assert_eq!(named(b"usr/share"), "usr/share/f");
        assert_eq!(named(b"00000000000\x00usr"), "00000000000/f");
        assert_eq!(named(b"14000000000\x0014000000001\x00"), "f");
        assert_eq!(named(b""), "f");
        assert_eq!(named("usr/\u{e9}".as_bytes()), "f");
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0"), Ok(0));
        assert_eq!(number(b"77777777777\0"), Ok((1 << 33) - 1));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Ok(1 << 33));
        assert_eq!(number(&[0xff; 12]), Ok(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xfe]), Ok(-2));
        assert!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        for bad in [&b"0000648\0"[..], b"-1", b"12 34", b"0x1"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
