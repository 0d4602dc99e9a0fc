//! Tar headers with the bytes that Go's `archive/tar` writes for containerd's differ (11.10): ustar where that can hold
//! everything, PAX records for the rest, GNU extensions never. Diff ids depend on every byte.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use ocibuild_spec::{Entry, EntryKind, Metadata};
use tar::Header;

use crate::pax::{self, Records};
use crate::{Error, ErrorKind};

pub(crate) const BLOCK: usize = 512;

/// The only extended attribute that goes into layers (11.10).
pub(crate) const CAPABILITY: &str = "security.capability";

/// What a header says beside metadata.
struct Fields<'e> {
    name: Vec<u8>,
    typeflag: u8,
    link: &'e [u8],
    size: u64,
    device: (u32, u32),
}

/// Appends the headers of `entry`, with its time as `mtime`, to `out`.
pub(crate) fn append(out: &mut Vec<u8>, entry: &Entry, mtime: i64) -> Result<(), Error> {
    let fields = fields(entry);
    let unwritable = |reason| Error::from(ErrorKind::UnwritableEntry { path: entry.path.clone(), reason });
    check(entry, &fields).map_err(unwritable)?;
    let nothing = Metadata::default();
    let metadata = if is_whiteout(&entry.kind) { &nothing } else { &entry.metadata };
    let records = records(&fields, metadata, mtime);
    let name_split = split(&fields.name);
    if records.is_empty() {
        out.extend(main_header(&fields, metadata, mtime, name_split).as_bytes());
        return Ok(());
    }
    let body = pax::encode(&records);
    if body.len() > pax::MAX_BODY {
        return Err(unwritable("its extended header would be longer than 1 MiB"));
    }
    out.extend(pax_header(&fields.name, body.len()).as_bytes());
    out.extend(&body);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out.extend(main_header(&fields, metadata, mtime, None).as_bytes());
    Ok(())
}

/// The name that stands in the tar.
pub(crate) fn name_of(entry: &Entry) -> PathBuf {
    PathBuf::from(OsString::from_vec(fields(entry).name))
}

fn is_whiteout(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout)
}

fn fields(entry: &Entry) -> Fields<'_> {
    let mut name = entry.path.as_os_str().as_bytes().to_vec();
    let (mut link, mut size, mut device) = (&b""[..], 0, (0, 0));
    let typeflag = match &entry.kind {
        EntryKind::Directory => {
            name.push(b'/');
            b'5'
        }
        EntryKind::File { size: bytes, .. } => {
            size = *bytes;
            b'0'
        }
        EntryKind::Symlink { target } => {
            link = target.as_os_str().as_bytes();
            b'2'
        }
        EntryKind::Hardlink { target } => {
            link = target.as_os_str().as_bytes();
            b'1'
        }
        EntryKind::Fifo => b'6',
        EntryKind::CharacterDevice { major, minor } => {
            device = (*major, *minor);
            b'3'
        }
        EntryKind::BlockDevice { major, minor } => {
            device = (*major, *minor);
            b'4'
        }
        EntryKind::Whiteout => {
            let last = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            name.splice(last..last, *b".wh.");
            b'0'
        }
        EntryKind::OpaqueWhiteout => {
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend(b".wh..wh..opq");
            b'0'
        }
    };
    Fields { name, typeflag, link, size, device }
}

fn check(entry: &Entry, fields: &Fields<'_>) -> Result<(), &'static str> {
    let path = entry.path.as_os_str().as_bytes();
    let root_marker = entry.kind == EntryKind::OpaqueWhiteout && path.is_empty();
    let parts = |path: &[u8]| path.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b".."));
    if parts(path) && !root_marker {
        return Err("its path is not a plain one below the root");
    }
    if path.contains(&0) || fields.link.contains(&0) {
        return Err("it contains a NUL");
    }
    if matches!(entry.kind, EntryKind::Hardlink { .. }) && parts(fields.link) {
        return Err("the target of the hard link is not a plain path below the root");
    }
    if !fits(8, fields.device.0.into()) || !fits(8, fields.device.1.into()) {
        return Err("its device number is above 2097151");
    }
    Ok(())
}

/// Whether `value` can be written in octal digits with a NUL after them.
fn fits(width: u32, value: i64) -> bool {
    value >= 0 && value < 1 << (3 * (width - 1))
}

fn is_ascii(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&0)
}

/// What ustar cannot hold, by PAX keyword. As soon as there is anything, a name that ustar could only have split is
/// there too.
fn records(fields: &Fields<'_>, metadata: &Metadata, mtime: i64) -> Records {
    let mut records = Records::new();
    let mut needed = false;
    let mut add = |key: &str, value: Vec<u8>, ustar_can: bool| {
        records.insert(key.as_bytes().to_vec(), value);
        needed |= !ustar_can;
    };
    if !is_ascii(&fields.name) || fields.name.len() > 100 {
        add("path", fields.name.clone(), split(&fields.name).is_some());
    }
    if !is_ascii(fields.link) || fields.link.len() > 100 {
        add("linkpath", fields.link.to_vec(), false);
    }
    let size = i64::try_from(fields.size).unwrap_or(i64::MAX);
    let numbers = [("uid", 8, metadata.uid.into()), ("gid", 8, metadata.gid.into())];
    for (key, width, value) in numbers.into_iter().chain([("size", 12, size), ("mtime", 12, mtime)]) {
        if !fits(width, value) {
            add(key, value.to_string().into_bytes(), false);
        }
    }
    // An empty record would mean, to Go, that there is no such attribute; it never writes one.
    if let Some(value) = metadata.xattrs.get(CAPABILITY).filter(|value| !value.is_empty()) {
        add("SCHILY.xattr.security.capability", value.clone(), false);
    }
    if needed { records } else { Records::new() }
}

/// Where ustar splits a name that is longer than its field: before and after the slash at this place.
fn split(name: &[u8]) -> Option<usize> {
    if name.len() <= 100 || !is_ascii(name) {
        return None;
    }
    let end = if name.len() > 156 {
        156
    } else if name.ends_with(b"/") {
        name.len() - 1
    } else {
        name.len()
    };
    let slash = name[..end].iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    let rest = name.len() - slash - 1;
    (1..=100).contains(&rest).then_some(slash)
}

fn main_header(fields: &Fields<'_>, metadata: &Metadata, mtime: i64, split: Option<usize>) -> Header {
    let mut header = Header::new_ustar();
    let (prefix, name) = match split {
        Some(slash) => (&fields.name[..slash], &fields.name[slash + 1..]),
        None => (&b""[..], &fields.name[..]),
    };
    if let Some(ustar) = header.as_ustar_mut() {
        put(&mut ustar.name, name);
        put(&mut ustar.linkname, fields.link);
        put(&mut ustar.prefix, prefix);
    }
    header.set_mode(metadata.mode & 0o7777);
    header.set_uid(in_field(8, metadata.uid.into()));
    header.set_gid(in_field(8, metadata.gid.into()));
    header.set_size(in_field(12, i64::try_from(fields.size).unwrap_or(i64::MAX)));
    header.set_mtime(in_field(12, mtime));
    // Go writes device numbers into every main header.
    header.set_device_major(fields.device.0).expect("a ustar header has device numbers");
    header.set_device_minor(fields.device.1).expect("a ustar header has device numbers");
    seal(&mut header, fields.typeflag);
    header
}

/// The header of a file of PAX records, in the folder `PaxHeaders.0` beside the name they are for.
fn pax_header(name: &[u8], size: usize) -> Header {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut path = [&name[..slash], b"PaxHeaders.0/", &name[slash..]].concat();
    path.retain(|byte| byte.is_ascii() && *byte != 0);
    path.truncate(100);
    while path.ends_with(b"/") {
        path.pop();
    }
    let mut header = Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        put(&mut ustar.name, &path);
    }
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size as u64);
    header.set_mtime(0);
    seal(&mut header, b'x');
    header
}

/// `value` if the field has digits enough; the PAX record counts otherwise, and Go leaves zero.
fn in_field(width: u32, value: i64) -> u64 {
    if fits(width, value) { value as u64 } else { 0 }
}

/// Copies as much of the ASCII in `text` as there is room for. A cut that ends in slashes loses them, lest a reader of
/// the short name alone take a file for a directory.
fn put(field: &mut [u8], text: &[u8]) {
    let ascii: Vec<u8> = text.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).collect();
    let length = ascii.len().min(field.len());
    field[..length].copy_from_slice(&ascii[..length]);
    if ascii.len() > field.len() && field.ends_with(b"/") {
        let kept = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        // Go writes one NUL, and leaves what follows as it was.
        field[kept] = 0;
    }
}

/// Sets type and checksum, the latter with Go's `NUL space` at its end.
fn seal(header: &mut Header, typeflag: u8) {
    let raw = header.as_old_mut();
    raw.linkflag = [typeflag];
    raw.cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
    header.as_old_mut().cksum.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
