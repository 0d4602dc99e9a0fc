//! An archive of images, as `load` and base images read it: an error, or images of which every byte has its digest.
//!
//! An archive is written as its members: `== TYPE NAME [-> LINK]`, and what is in it on the next lines. `{self}` in a
//! name is the member's own digest in hexadecimal, `{hex:N}` and `{size:N}` are digest and size of an earlier member.
//! Whatever does not begin with a member is a tar whose checksums are put right.
#![no_main]

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use ocibuild_spec::{CancelToken, Descriptor, Digest, ImageSource as _, Platform};
use ocibuild_store::{ArchiveSource, BlobSink, Error, StoredImages};

/// The file lives as long as the process, and its directory is in that of temporary files.
static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

fuzz_target!(|bytes: &[u8]| {
    let path = DIRECTORY.path().join("archive.tar");
    let tar = if bytes.starts_with(b"== ") { written(bytes) } else { mended(bytes) };
    std::fs::write(&path, tar).expect("a file");
    load(&path);
    resolve(&path);
});

/// Takes over all images, as `load` does.
fn load(path: &PathBuf) {
    let cancel = CancelToken::new();
    let Ok(images) = StoredImages::open(path) else { return };
    for image in images.list(&cancel).into_iter().flatten() {
        let Ok(parts) = images.parts(&image.descriptor) else { continue };
        for whole in &parts.whole {
            let sink = Sink::default();
            if images.copy(whole, &sink).is_ok() {
                assert!(sink.has(whole).expect("it is a map"));
            }
        }
    }
}

/// Reads the image that is meant, as a build does whose base it is.
fn resolve(path: &PathBuf) {
    let cancel = CancelToken::new();
    let Ok(archive) = ArchiveSource::open(path) else { return };
    let mut names = archive.names();
    names.truncate(3);
    names.push("other".parse().expect("a name"));
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    for name in names {
        let Ok(image) = archive.resolve(&name, &platform, &cancel) else { continue };
        assert_eq!(Digest::of(&image.manifest_bytes), image.descriptor.digest);
        assert_eq!(image.manifest.layers().len(), image.config.rootfs.layers().len());
        for layer in image.manifest.layers() {
            let Ok(mut reader) = archive.open(&name, layer, &cancel) else { continue };
            if let Ok(count) = io::copy(&mut reader, &mut io::sink()) {
                assert_eq!(count, layer.size);
            }
        }
    }
}

/// Keeps nothing but what there was.
#[derive(Debug, Default)]
struct Sink(Mutex<BTreeMap<Digest, u64>>);

impl BlobSink for Sink {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.0.lock().expect("one thread").get(digest).copied())
    }

    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn io::Read) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let read = reader.take(1 << 20).read_to_end(&mut bytes);
        if read.is_ok() {
            assert_eq!(Digest::of(&bytes), descriptor.digest);
            self.0.lock().expect("one thread").insert(descriptor.digest.clone(), bytes.len() as u64);
        }
        Ok(())
    }
}

/// The tar that a text describes.
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

/// A text with digests and sizes in place of what stands for them.
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
