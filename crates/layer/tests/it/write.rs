//! What [`write`](ocibuild_layer::write) promises beside the golden digests.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use ocibuild_layer::{Compression, ErrorKind, LayerListing, LayerOptions, decompress_layer, write};
use ocibuild_spec::{
    CancelToken, Changeset, Content, Digest, Entry, EntryKind, MediaType, Metadata, Timestamp,
};

use crate::support::{Files, metadata, path};

const PLAIN: LayerOptions = LayerOptions { compression: Compression::None, clamp_mtime: None, threads: 1 };

/// Several blocks of bytes that compress as text does.
fn sample() -> Files {
    let mut files = Files::default();
    for number in 0..40_u32 {
        let line = format!("{} line of file {number}\n", Digest::of(number.to_be_bytes()));
        files.file(format!("f{number:02}"), metadata(0o644, 0, 0, 1), line.repeat(1500).as_bytes());
    }
    files
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let files = sample();
    let (plain, tar) = files.tar();
    for compression in [
        Compression::None,
        Compression::GZIP,
        Compression::ZSTD,
        Compression::Gzip { level: 0 },
        Compression::Zstd { level: 1 },
        Compression::Zstd { level: 10 },
    ] {
        let of = |threads| files.written(&LayerOptions { compression, clamp_mtime: None, threads });
        let (one, blob) = of(1);
        assert_eq!(one.diff_id, plain.diff_id);
        assert_eq!(one.descriptor.digest, Digest::of(&blob));
        assert_eq!(one.descriptor.size, blob.len() as u64);
        assert_eq!(one.descriptor.media_type, compression.media_type(false));
        for threads in [2, 3, 16] {
            assert!(of(threads) == (one.clone(), blob.clone()), "{compression} {threads}");
        }
        let mut unpacked = Vec::new();
        let mut reader = decompress_layer(Box::new(Cursor::new(blob)), &one.descriptor.media_type).unwrap();
        reader.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == tar, "{compression}");
    }
}

/// Bytes that do not compress, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// One piece of 3 MiB again and again: more than the window and the jobs of Zstandard hold at a time.
fn far_repetitions() -> Files {
    let mut files = Files::default();
    files.file("f", metadata(0o644, 0, 0, 1), &noise(3 << 20).repeat(6));
    files
}

#[test]
fn zstandard_is_one_frame_that_looks_far_back() {
    let files = far_repetitions();
    let (_, tar) = files.tar();
    let of = |threads| {
        files.written(&LayerOptions { compression: Compression::ZSTD, clamp_mtime: None, threads }).1
    };
    let blob = of(1);
    assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&blob), Ok(blob.len()));
    assert!((3 << 20..4 << 20).contains(&blob.len()), "{}", blob.len());
    assert!(zstd::decode_all(&blob[..]).unwrap() == tar);
    // The last bytes of a frame with a checksum are it.
    let mut damaged = blob.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(zstd::decode_all(&damaged[..]).is_err());
    for threads in [2, 16] {
        assert!(of(threads) == blob, "{threads}");
    }
}

#[test]
fn gzip_has_a_member_for_each_mebibyte() {
    let (_, blob) = far_repetitions().written(&LayerOptions::default());
    let (mut rest, mut sizes) = (&blob[..], Vec::new());
    while !rest.is_empty() {
        let mut member = flate2::bufread::GzDecoder::new(rest);
        sizes.push(io::copy(&mut member, &mut io::sink()).unwrap());
        rest = member.into_inner();
    }
    let mut expected = vec![1 << 20; 18];
    expected.push(3 * 512);
    assert_eq!(sizes, expected);
}

/// The sizes are those of Go's `compress/gzip` (1.19, default level) and of `klauspost/compress/zstd` (1.19, default
/// level), with which BuildKit compresses.
#[test]
fn small_layers_are_no_larger_than_buildkits() {
    let line = |number: u64| format!("{number} bottles of {}\n", number * number);
    for (lines, gzip, zstd) in
        [(0, 97, 91), (1, 120, 110), (20, 198, 198), (1000, 5791, 4437), (40_000, 275_574, 252_870)]
    {
        let mut files = Files::default();
        let content: String = (0..lines).map(line).collect();
        files.file("usr/share/f", metadata(0o644, 0, 0, 1_700_000_000), content.as_bytes());
        for (compression, largest) in [(Compression::GZIP, gzip), (Compression::ZSTD, zstd)] {
            let options = LayerOptions { compression, ..LayerOptions::default() };
            let size = files.written(&options).0.descriptor.size;
            assert!(size <= largest, "{lines} lines, {compression}: {size} instead of {largest}");
        }
    }
}

#[test]
fn headers_of_gzip_say_nothing_of_the_place() {
    let (_, blob) = sample().written(&LayerOptions::default());
    assert_eq!(blob[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    assert_eq!(blob[9], 255);
}

#[test]
fn an_empty_changeset_is_two_blocks_of_zeros() {
    let (written, tar) = Files::default().tar();
    assert_eq!(tar, [0; 1024]);
    assert!(written.index.entries.is_empty());
    let docker = Compression::GZIP.media_type(true);
    assert_eq!(docker, MediaType::Other("application/vnd.docker.image.rootfs.diff.tar.gzip".into()));
}

#[test]
fn later_times_are_clamped() {
    let mut files = Files::default();
    for (name, seconds) in [("a", 50), ("b", 100), ("c", 150), ("d", 1 << 40), ("e", -7)] {
        files.file(name, metadata(0o644, 0, 0, seconds), b"");
    }
    files.add("f", metadata(0o644, 0, 0, 0), EntryKind::Whiteout);
    let (written, _) = files.written(&LayerOptions { clamp_mtime: Some(100), ..PLAIN });
    let times: Vec<i64> = written.index.entries.iter().map(|entry| entry.metadata.mtime.seconds).collect();
    assert_eq!(times, [50, 100, 100, 100, -7, 0]);
}

#[test]
fn what_ustar_cannot_hold_goes_into_records() {
    let mut files = Files::default();
    files.file("big-id", metadata(0o644, 2_097_152, 2_097_151, 0), b"");
    files.file("future", metadata(0o644, 0, 0, 1 << 33), b"");
    files.file("past", metadata(0o644, 0, 0, -1), b"");
    files.file(path(b"\xff\xfe"), metadata(0o644, 0, 0, 0), b"");
    let (_, tar) = files.tar();
    let block = |at: usize| &tar[at * 512..(at + 1) * 512];
    let text = |at: usize| String::from_utf8_lossy(block(at)).trim_end_matches('\0').to_owned();
    assert!(text(0).starts_with("PaxHeaders.0/big-id\0"));
    assert_eq!(text(1), "15 uid=2097152\n");
    assert_eq!(&block(2)[108..124], b"0000000\x007777777\0");
    assert_eq!(text(4), "20 mtime=8589934592\n");
    assert_eq!(&block(5)[136..148], b"00000000000\0");
    assert_eq!(text(7), "12 mtime=-1\n");
    assert!(text(9).starts_with("PaxHeaders.0\0") && block(9)[156] == b'x');
    assert_eq!(block(10)[..11], *b"11 path=\xff\xfe\n");
    assert_eq!(block(11)[0], 0);
}

#[test]
fn a_size_above_eight_gibibytes_goes_into_a_record() {
    let size = 1_u64 << 33;
    let entry = Entry {
        path: "big".into(),
        metadata: metadata(0o644, 0, 0, 0),
        kind: EntryKind::File { size, content: Content(0) },
    };
    let changeset = Changeset::new(vec![entry], |_, _| Ok(Box::new(io::empty())));
    let mut tar = Vec::new();
    let error = write(&changeset, &mut tar, &PLAIN, &CancelToken::new()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ContentShrank { actual: 0, .. }), "{error}");
    // Nothing came out, so take the header from a reader that begins to deliver.
    let entry = changeset.entries[0].clone();
    let changeset = Changeset::new(vec![entry], |_, _| Ok(Box::new(io::repeat(7).take(1 << 20))));
    write(&changeset, &mut tar, &PLAIN, &CancelToken::new()).unwrap_err();
    assert_eq!(tar[512..532], *b"19 size=8589934592\n\0");
    assert_eq!(tar[1024 + 124..1024 + 136], *b"00000000000\0");
}

fn one_file(size: u64, open: fn() -> io::Result<Box<dyn Read + Send>>) -> ErrorKindName {
    let entry = Entry {
        path: "some/file".into(),
        metadata: metadata(0o644, 0, 0, 0),
        kind: EntryKind::File { size, content: Content(0) },
    };
    let changeset = Changeset::new(vec![entry], move |_, _| open());
    let mut names = Vec::new();
    for (threads, compression) in [(1, Compression::GZIP), (2, Compression::GZIP), (2, Compression::ZSTD)] {
        let options = LayerOptions { threads, compression, ..LayerOptions::default() };
        let error = write(&changeset, &mut io::sink(), &options, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("some/file"), "{error}");
        names.push(match error.kind() {
            ErrorKind::ContentShrank { .. } => "shrank",
            ErrorKind::ContentGrew { .. } => "grew",
            ErrorKind::OpenContent { .. } => "open",
            ErrorKind::ReadContent { .. } => "read",
            _ => "other",
        });
    }
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    names[0]
}

type ErrorKindName = &'static str;

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

#[test]
fn files_that_change_are_named() {
    assert_eq!(one_file(1 << 20, || Ok(Box::new(io::repeat(1).take((1 << 20) - 1)))), "shrank");
    assert_eq!(one_file(1 << 20, || Ok(Box::new(io::repeat(1).take((1 << 20) + 1)))), "grew");
    assert_eq!(one_file(0, || Ok(Box::new(io::repeat(1)))), "grew");
    assert_eq!(one_file(1 << 20, || Err(io::ErrorKind::NotFound.into())), "open");
    assert_eq!(one_file(1 << 20, || Ok(Box::new(Broken))), "read");
}

/// Takes some bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.0);
        self.0 -= length;
        if length == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(length) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_all_threads() {
    let entry = Entry {
        path: "f".into(),
        metadata: metadata(0o644, 0, 0, 0),
        kind: EntryKind::File { size: 64 << 20, content: Content(0) },
    };
    let changeset = Changeset::new(vec![entry], |_, _| Ok(Box::new(io::repeat(1).take(64 << 20))));
    let forms = [Compression::None, Compression::GZIP, Compression::ZSTD];
    for (threads, compression) in (1..4).flat_map(|threads| forms.map(|form| (threads, form))) {
        let options = LayerOptions { threads, compression, ..LayerOptions::default() };
        let error = write(&changeset, &mut Full(1000), &options, &CancelToken::new()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WriteBlob { .. }), "{error}");
        let cancel = CancelToken::new();
        cancel.cancel();
        let error = write(&changeset, &mut io::sink(), &options, &cancel).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    }
}

#[test]
fn entries_that_no_reader_would_take_are_not_written() {
    let file = EntryKind::File { size: 0, content: Content(0) };
    let target = || "x".repeat(5000).into();
    for (path, kind) in [
        ("../x", file.clone()),
        ("/x", file.clone()),
        ("a//b", file.clone()),
        ("", EntryKind::Directory),
        ("a", EntryKind::Hardlink { target: "../b".into() }),
        ("a", EntryKind::Symlink { target: target() }),
        ("a", EntryKind::CharacterDevice { major: 1 << 21, minor: 0 }),
        (".wh.x", EntryKind::Whiteout),
    ] {
        let entry = Entry { path: path.into(), metadata: metadata(0, 0, 0, 0), kind };
        let changeset = Changeset::new(vec![entry], |_, _| Ok(Box::new(io::empty())));
        let error = write(&changeset, &mut io::sink(), &PLAIN, &CancelToken::new()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnwritableEntry { .. }), "{path}: {error}");
    }
}

#[test]
fn a_name_that_would_be_read_as_a_deletion_is_refused() {
    let file = EntryKind::File { size: 0, content: Content(0) };
    for (path, kind) in [
        (".wh.x", file.clone()),
        ("d/.wh.x", file.clone()),
        ("d/.wh..wh..opq", file.clone()),
        (".wh..wh.plnk", file.clone()),
        (".wh.", file.clone()),
        ("d/.wh.x", EntryKind::Directory),
        (".wh.d/x", file.clone()),
        (".wh.x", EntryKind::Symlink { target: "y".into() }),
        (".wh.x", EntryKind::Hardlink { target: "y".into() }),
        (".wh.x", EntryKind::Fifo),
    ] {
        let entry = Entry { path: path.into(), metadata: metadata(0, 0, 0, 0), kind };
        let changeset = Changeset::new(vec![entry], |_, _| Ok(Box::new(io::empty())));
        let error = write(&changeset, &mut io::sink(), &PLAIN, &CancelToken::new()).unwrap_err();
        match error.kind() {
            ErrorKind::ReservedName { path: named } => assert_eq!(named, Path::new(path)),
            other => panic!("{path}: {other}"),
        }
    }
    let mut files = Files::default();
    files.file("wh.x", metadata(0o644, 0, 0, 5), b"content");
    files.file("x.wh.", metadata(0o644, 0, 0, 5), b"content");
    assert_eq!(files.tar().0.index.entries.len(), 2);
}

#[test]
fn an_index_keeps_exact_times_where_they_are_wanted() {
    let exact = Timestamp { seconds: 9, nanoseconds: 5 };
    for name in ["plain", "0 out of order"] {
        let mut files = Files::default();
        files.file("a", Metadata { mtime: exact, ..metadata(0o644, 0, 0, 0) }, b"content");
        files.file(name, metadata(0o644, 0, 0, 1), b"");
        let options = LayerOptions { clamp_mtime: Some(7), ..PLAIN };
        let write = || write(&files.changeset(), &mut io::sink(), &options, &CancelToken::new()).unwrap();
        let time = |index: LayerListing| {
            let entry = index.entries.iter().find(|entry| entry.path == Path::new("a")).unwrap();
            (entry.metadata.mtime, entry.kind.clone())
        };
        let kind = EntryKind::File { size: 7, content: Content(512) };
        let kept = time(write().into_index(files.changeset(), true).unwrap());
        assert_eq!(kept, (exact, kind.clone()), "{name}");
        let read = time(write().into_index(files.changeset(), false).unwrap());
        assert_eq!(read, (Timestamp::from_seconds(7), kind), "{name}");
    }
}
