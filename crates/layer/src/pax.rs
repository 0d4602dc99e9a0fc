//! Records of PAX extended headers (POSIX.1-2017 pax, "pax Header Block"), parsed by their length alone.

use std::collections::BTreeMap;

use ocibuild_spec::Timestamp;

use crate::sparse;

/// Keywords and values, in the order in which they are written.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The longest header that is written or read, as in Go.
pub(crate) const MAX_BODY: usize = 1 << 20;

pub(crate) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The records one after the other.
pub(crate) fn encode(records: &Records) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        if rest + digits(length) != length {
            length = rest + digits(length);
        }
        out.extend(length.to_string().as_bytes());
        out.push(b' ');
        out.extend(key);
        out.push(b'=');
        out.extend(value);
        out.push(b'\n');
    }
    out
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Reads records; of several with one keyword the last counts (as in Go, GNU tar and Python). Those that GNU tar repeats
/// for each part of a sparse file become one with all of them.
pub(crate) fn parse(mut body: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::new();
    let mut parts: Vec<&[u8]> = Vec::new();
    while !body.is_empty() {
        let space =
            body.iter().take(10).position(|byte| *byte == b' ').ok_or("a PAX record has no length")?;
        let length: usize = std::str::from_utf8(&body[..space])
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or("the length of a PAX record is not a number")?;
        if length < space + 2 || length > body.len() {
            return Err("the length of a PAX record is wrong");
        }
        let (record, rest) = body.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or("a PAX record does not end its line")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("a PAX record has no value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let textual = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.is_empty() || key.contains(&0) || (textual && value.contains(&0)) {
            return Err("a PAX record has a bad keyword or a NUL in a name");
        }
        body = rest;
        if key == sparse::OFFSET || key == sparse::LENGTH {
            if parts.len().is_multiple_of(2) != (key == sparse::OFFSET) || value.contains(&b',') {
                return Err("the parts of a sparse file are out of order");
            }
            parts.push(value);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    if !parts.is_empty() {
        records.insert(sparse::MAP.to_vec(), parts.join(&b','));
    }
    Ok(records)
}

/// A decimal number as PAX writes it.
pub(crate) fn number(value: &[u8]) -> Result<i64, &'static str> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or("a number in a PAX record is malformed")
}

/// A time as PAX writes it: seconds, perhaps with a fraction, perhaps before 1970.
pub(crate) fn time(value: &[u8]) -> Result<Timestamp, &'static str> {
    const MALFORMED: &str = "a time in a PAX record is malformed";
    let text = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| MALFORMED)?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MALFORMED);
    }
    let kept = &fraction[..fraction.len().min(9)];
    let nanoseconds: u32 = format!("{kept:0<9}").parse().map_err(|_| MALFORMED)?;
    if whole.starts_with('-') && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or(MALFORMED)?;
        return Ok(Timestamp { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        for size in (0..20).chain(85..110).chain(980..1010) {
            let records = Records::from([(b"k".to_vec(), vec![b'v'; size])]);
            let bytes = encode(&records);
            let stated: usize = String::from_utf8_lossy(&bytes).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, bytes.len());
            assert_eq!(parse(&bytes).unwrap(), records);
        }
    }

    #[test]
    fn values_may_hold_anything() {
        let records = Records::from([
            (b"SCHILY.xattr.user.a".to_vec(), b"x\n14 path=evil".to_vec()),
            (b"size".to_vec(), b"3".to_vec()),
        ]);
        assert_eq!(parse(&encode(&records)).unwrap(), records);
        assert_eq!(parse(b"10 path=a\n10 path=b\n").unwrap()[&b"path"[..]], b"b");
    }

    #[test]
    fn repeated_parts_of_a_sparse_file_are_gathered() {
        let part = b"23 GNU.sparse.offset=1\n25 GNU.sparse.numbytes=2\n";
        let read = parse(&part.repeat(2)).unwrap();
        assert_eq!(read, Records::from([(b"GNU.sparse.map".to_vec(), b"1,2,1,2".to_vec())]));
        assert!(parse(&part[23..]).is_err());
        assert!(parse(&part[..23].repeat(2)).is_err());
        assert!(parse(b"25 GNU.sparse.offset=1,2\n").is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"10 path=a",
            b"8 path=a\n",
            b"11 path=a\n",
            b"+10 path=a\n",
            b"6 path\n",
            b" path=a\n",
            b"4 =\n",
            b"999999999999 a=b\n",
            b"12 path=a\0b\n",
            b"00000000000010 path=a\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let read = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(read("1234567890.5"), Ok((1_234_567_890, 500_000_000)));
        assert_eq!(read("-1.5"), Ok((-2, 500_000_000)));
        assert_eq!(read("-1"), Ok((-1, 0)));
        assert_eq!(read("3.1234567899"), Ok((3, 123_456_789)));
        for bad in ["", ".", "1.x", "x", "1e3", "99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
