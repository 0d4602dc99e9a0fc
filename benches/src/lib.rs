//! What the benchmarks of the workspace work on: the same bytes on every machine.

use std::io::Cursor;
use std::sync::Arc;

use ocibuild_spec::{Changeset, Content, Entry, EntryKind, Metadata};

const WORDS: [&str; 24] = [
    "layer",
    "the",
    "of",
    "digest",
    "0x7f45",
    "blob",
    "return",
    "    ",
    "image",
    "=",
    "if",
    "manifest",
    "{",
    "}",
    "descriptor",
    "\n",
    "for",
    "(void)",
    "platform",
    "1024",
    "self",
    "linux",
    "config",
    ";",
];

/// Text that compresses about as well as the files of a distribution do (to a third), different for each seed.
///
/// Words alone would compress too well, so a part of the bytes is noise.
pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 16);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state % 16 < 3 {
            out.extend(state.to_le_bytes());
        } else {
            out.extend(WORDS[(state >> 32) as usize % WORDS.len()].as_bytes());
            out.push(b' ');
        }
    }
    out.truncate(bytes);
    out
}

/// A changeset of `count` files of `size` bytes each, all in memory.
pub fn files(count: usize, size: usize) -> Changeset {
    let contents: Vec<Arc<[u8]>> = (0..count).map(|index| text(size, index as u64).into()).collect();
    let entry = |index: usize| Entry {
        path: format!("srv/{:03}/file-{index:06}.txt", index / 100).into(),
        metadata: Metadata { mode: 0o644, ..Metadata::default() },
        kind: EntryKind::File { size: size as u64, content: Content(index as u64) },
    };
    let index_of = |entry: &Entry| match entry.kind {
        EntryKind::File { content: Content(index), .. } => index as usize,
        _ => 0,
    };
    Changeset::new((0..count).map(entry).collect(), move |entry, _| {
        Ok(Box::new(Cursor::new(Arc::clone(&contents[index_of(entry)]))))
    })
}
