//! The index and its record, and files out of a tar.

use std::io::Read;

use ocibuild_layer::{ErrorKind, LayerListing, Limits, extract_files};
use ocibuild_spec::{CancelToken, ContentDigest, EntryKind};

use crate::support::{Files, file, metadata, tar, whiteout};

fn index_of(tar: &[u8]) -> LayerListing {
    LayerListing::read_tar(&mut { tar }, &Limits::UNLIMITED, &CancelToken::new()).unwrap().0
}

#[test]
fn records_are_checked() {
    let bytes = tar(&[file("etc/passwd", b"root"), file("a/b", b"x"), whiteout("a/.wh.c")]);
    let index = index_of(&bytes);
    let record = index.encode();
    assert_eq!(LayerListing::decode(&record).unwrap(), index);
    for length in 0..record.len() {
        assert!(LayerListing::decode(&record[..length]).is_err(), "{length}");
    }
    for place in 0..record.len() {
        let mut damaged = record.clone();
        damaged[place] ^= 1;
        let error = LayerListing::decode(&damaged).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MalformedIndex { .. }), "{error}");
    }
}

#[test]
fn the_layout_of_a_record_stays() {
    let mut files = Files::default();
    files.add("a", metadata(0o755, 0, 0, -1), EntryKind::Directory);
    files.file("a/b", metadata(0o644, 1, 300, 2), b"hi");
    let record = files.tar().0.index.encode();
    let expected = [
        &b"ocibuild layer index\0\x03"[..],
        // Size of the tar 3584: the first entry has a time that needs a record. No account files, nothing implied.
        &[0x80, 0x1c, 0, 0, 0, 2],
        // Directory, nothing shared, "a"; mode, owner, time, no attributes.
        &[0, 0, 1, b'a', 0xed, 3, 0, 0, 1, 0, 0],
        // File, one byte shared, "/b"; size, offset 2048, a digest.
        &[1, 1, 2, b'/', b'b', 2, 0x80, 0x10, 1],
        &ContentDigest::of("hi").0,
        // Its mode, owner 1:300, time, no attributes.
        &[0xa4, 3, 1, 0xac, 2, 4, 0, 0],
        // No files that are one with files below.
        &[0],
    ]
    .concat();
    assert_eq!(record[..record.len() - 32], expected);
}

#[test]
fn other_versions_are_told_by_their_beginning() {
    let record = index_of(&tar(&[file("a", b"x")])).encode();
    let is_other = |record: &[u8]| LayerListing::is_other_version(&record[..LayerListing::BEGINNING]);
    assert!(!is_other(&record));
    assert!(!LayerListing::is_other_version(&record[..LayerListing::BEGINNING - 1]), "it was cut");
    let mut older = record;
    older[LayerListing::BEGINNING - 1] -= 1;
    assert!(is_other(&older));
    older[0] ^= 1;
    assert!(!is_other(&older), "it is damaged");
}

#[test]
fn of_files_with_one_path_the_last_one_has_its_digest() {
    let zeros = vec![0; 3 << 16];
    let bytes =
        tar(&[file("a", b"first"), file("etc/group", b"wheel"), file("b", &zeros), file("a", b"second")]);
    let index = index_of(&bytes);
    let digest = |name: &str| {
        let entry = index.entries.iter().find(|entry| entry.path == std::path::Path::new(name)).unwrap();
        let EntryKind::File { content, .. } = entry.kind else { panic!("{entry:?}") };
        index.digests.get(content)
    };
    assert_eq!(digest("a"), Some(ContentDigest::of("second")));
    assert_eq!(digest("b"), Some(ContentDigest::of(&zeros)));
    assert_eq!(digest("etc/group"), Some(ContentDigest::of("wheel")));
    assert_eq!(index.digests.len(), 3);
    assert_eq!(index.digests.get(ocibuild_spec::Content(7)), None);
}

#[test]
fn contents_are_where_the_index_says() {
    let mut files = Files::default();
    for number in 0..50_u8 {
        let content = vec![number; usize::from(number) * 100];
        files.file(format!("dir/file-{number}"), metadata(0o644, 0, 0, 0), &content);
    }
    let (written, tar) = files.tar();
    let mut seen = 0;
    for entry in &written.index.entries {
        let EntryKind::File { size, content } = entry.kind else { panic!("{entry:?}") };
        let at = usize::try_from(content.0).unwrap();
        let bytes = &tar[at..at + usize::try_from(size).unwrap()];
        assert_eq!(entry.path.to_str().unwrap(), format!("dir/file-{}", size / 100));
        assert!(bytes.iter().all(|byte| u64::from(*byte) == size / 100));
        assert_eq!(written.index.digests.get(content), Some(ContentDigest::of(bytes)));
        seen += 1;
    }
    assert_eq!(seen, 50);
    assert_eq!(written.index.implied_directories, [std::path::PathBuf::from("dir")]);
}

#[test]
fn files_can_be_pulled_out() {
    let bytes = tar(&[file("a", b"first"), file("b", b"second"), file("c", b"third")]);
    let mut found = Vec::new();
    let mut visit = |entry: &ocibuild_spec::Entry, content: &mut dyn Read| {
        if entry.path.to_str() != Some("a") {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            found.push(text);
        }
        Ok(())
    };
    extract_files(&mut &bytes[..], &Limits::UNLIMITED, &CancelToken::new(), &mut visit).unwrap();
    assert_eq!(found, ["second", "third"]);

    let mut refuse = |_: &ocibuild_spec::Entry, _: &mut dyn Read| Err(std::io::Error::other("no"));
    let error =
        extract_files(&mut &bytes[..], &Limits::UNLIMITED, &CancelToken::new(), &mut refuse).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Extract { .. }), "{error}");
    let mut read =
        |_: &ocibuild_spec::Entry, content: &mut dyn Read| content.read_to_end(&mut Vec::new()).map(|_| ());
    let error =
        extract_files(&mut &bytes[..515], &Limits::UNLIMITED, &CancelToken::new(), &mut read).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MalformedTar { .. }), "{error}");
}
