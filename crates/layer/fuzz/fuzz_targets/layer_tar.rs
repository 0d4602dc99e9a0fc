//! A tar, as a layer and as an archive for ADD: no panic, names that stay inside, content that is where the index says,
//! and an index that survives its record.
#![no_main]

#[path = "../../../store/fuzz/tar_text.rs"]
mod tar_text;

use std::io;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use ocibuild_layer::{LayerListing, Limits, Policy, TarReader};
use ocibuild_spec::{CancelToken, Digest, EntryKind};

const LIMITS: Limits = Limits { entries: 1000, tar_size: 1 << 20, file_size: 1 << 20, holes: 1 << 20, metadata: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let tar = tar_text::tar_of(bytes);
    if let Ok((index, diff_id)) = LayerListing::read_tar(&mut &tar[..], &LIMITS, &CancelToken::new()) {
        assert_eq!((diff_id.0, index.tar_size), (Digest::of(&tar), tar.len() as u64));
        for entry in &index.entries {
            assert!(is_inside(&entry.path), "{entry:?}");
            if let EntryKind::File { size, content } = &entry.kind {
                assert!(content.0 + size <= tar.len() as u64, "{entry:?}");
            }
        }
        assert!(index.implied_directories.iter().all(|path| is_inside(path)), "{index:?}");
        assert_eq!(LayerListing::decode(&index.encode()).expect("a record is one"), index);
    }
    for policy in [Policy::Layer, Policy::Archive] {
        let mut reader = TarReader::new(&tar[..], policy, LIMITS);
        while let Ok(Some(found)) = reader.next_entry() {
            let Ok(count) = io::copy(&mut reader, &mut io::sink()) else { break };
            match found.entry.kind {
                EntryKind::File { size, .. } => assert_eq!(count, size, "{found:?}"),
                // What stands for a deletion is a file, too, and may have anything in it.
                EntryKind::Whiteout | EntryKind::OpaqueWhiteout => {}
                _ => assert_eq!(count, 0, "{found:?}"),
            }
        }
    }
});

/// Whether a path has names alone.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}
