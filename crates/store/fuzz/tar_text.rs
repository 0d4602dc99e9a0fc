//! Tars as text. One is written as its members: `== TYPE NAME [-> LINK]`, and what is in it on the next lines. `{self}`
//! in a name is the member's own digest in hexadecimal, `{hex:N}` and `{size:N}` are digest and size of an earlier
//! member. Whatever does not begin with a member is a tar whose checksums are put right.

use ocibuild_spec::Digest;

/// The tar that is meant.
pub fn tar_of(bytes: &[u8]) -> Vec<u8> {
    if bytes.starts_with(b"== ") { written(bytes) } else { mended(bytes) }
}

fn written(text: &[u8]) -> Vec<u8> {
    let (mut tar, mut known) = (Vec::new(), Vec::new());
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(head) = lines.next() {
        let mut content = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with(b"== ")) {
            content.extend_from_slice(line);
        }
        if content.last() == Some(&b'\n') {
            content.pop();
        }
        let content = filled(&content, &known, None);
        let digest = Digest::of(&content);
        let head = head.strip_suffix(b"\n").unwrap_or(head);
        let kind = head.get(3).copied().unwrap_or(b'0');
        let name = head.get(5..).unwrap_or_default();
        let arrow = name.windows(4).position(|window| window == b" -> ");
        let (name, link) = arrow.map_or((name, &[][..]), |at| (&name[..at], &name[at + 4..]));
        let mut header = [0; 512];
        put(&mut header, 0, 100, &filled(name, &known, Some(&digest)));
        put(&mut header, 124, 11, format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        put(&mut header, 157, 100, link);
        put(&mut header, 257, 8, b"ustar\x0000");
        tar.extend_from_slice(&with_checksum(header));
        known.push((digest, content.len()));
        tar.extend_from_slice(&content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A text with digests and sizes instead of what stands for them.
fn filled(text: &[u8], known: &[(Digest, usize)], own: Option<&Digest>) -> Vec<u8> {
    let (mut filled, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
        filled.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let member = |start: &[u8]| {
            let number = rest.strip_prefix(start).filter(|rest| rest.get(1) == Some(&b'}'))?.first()?;
            known.get(usize::from(number.wrapping_sub(b'0')))
        };
        let (value, length) = match (member(b"{hex:"), member(b"{size:"), own) {
            (Some((digest, _)), _, _) => (digest.hex().to_owned(), 7),
            (_, Some((_, size)), _) => (size.to_string(), 8),
            (_, _, Some(own)) if rest.starts_with(b"{self}") => (own.hex().to_owned(), 6),
            _ => ("{".to_owned(), 1),
        };
        filled.extend_from_slice(value.as_bytes());
        rest = &rest[length..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// The bytes as a tar all of whose blocks have the checksum of a header.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for block in bytes.chunks(512) {
        let mut header = [0; 512];
        put(&mut header, 0, 512, block);
        tar.extend_from_slice(&with_checksum(header));
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn put(header: &mut [u8; 512], at: usize, most: usize, bytes: &[u8]) {
    let length = bytes.len().min(most);
    header[at..at + length].copy_from_slice(&bytes[..length]);
}

fn with_checksum(mut header: [u8; 512]) -> [u8; 512] {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, 7, format!("{sum:06o}\0").as_bytes());
    header
}
