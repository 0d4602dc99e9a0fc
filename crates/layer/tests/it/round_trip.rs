//! Random changesets: applying what was written gives what was meant, and every way to an index gives the same one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocibuild_layer::{Compression, LayerListing, LayerOptions, Limits, WhiteoutFormat, apply, decompress};
use ocibuild_spec::{CancelToken, Content, Entry, EntryKind, Metadata, Timestamp};
use ocibuild_sys::RootDir;
use proptest::prelude::*;

use crate::support::{Files, is_root, listing, options};

#[derive(Debug, Clone)]
enum Shape {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    Link(prop::sample::Index),
    Fifo,
    Whiteout,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::Directory),
        4 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Shape::File),
        1 => "[a-c/.]{1,20}".prop_map(Shape::Symlink),
        1 => any::<prop::sample::Index>().prop_map(Shape::Link),
        1 => Just(Shape::Fifo),
        1 => Just(Shape::Whiteout),
    ]
}

fn some_metadata() -> impl Strategy<Value = Metadata> {
    let ids = || prop_oneof![Just(0_u32), Just(1000), Just(3_000_000)];
    let xattrs = prop_oneof![
        4 => Just(BTreeMap::new()),
        1 => Just(BTreeMap::from([("security.capability".to_owned(), CAPABILITY.to_vec())])),
    ];
    (0_u32..0o10000, ids(), ids(), 0_i64..1 << 34, xattrs).prop_map(|(mode, uid, gid, seconds, xattrs)| {
        Metadata { mode, uid, gid, mtime: Timestamp::from_seconds(seconds), xattrs }
    })
}

const CAPABILITY: [u8; 20] = *b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]{1,2}", 1 => "[a-cé ]{1,3}", 1 => "[de]{90,120}"]
}

/// Well-formed changesets: parents are directories and come first, names are unique.
fn files() -> impl Strategy<Value = Files> {
    let paths = prop::collection::btree_map(
        prop::collection::vec(name(), 1..5).prop_map(|parts| parts.iter().collect::<PathBuf>()),
        (shape(), some_metadata()),
        0..30,
    );
    paths.prop_map(|wanted| {
        let mut tree: BTreeMap<PathBuf, (Shape, Metadata)> = BTreeMap::new();
        for (path, (shape, metadata)) in wanted {
            let is_directory = |parent: &std::path::Path| {
                parent.as_os_str().is_empty() || matches!(tree.get(parent), Some((Shape::Directory, _)))
            };
            if path.ancestors().skip(1).all(is_directory) {
                tree.insert(path, (shape, metadata));
            } else if let Some(first) = path.iter().next() {
                tree.entry(first.into()).or_insert((Shape::Directory, metadata));
            }
        }
        let mut files = Files::default();
        let mut contents: Vec<(PathBuf, Metadata)> = Vec::new();
        for (path, (shape, mut metadata)) in tree {
            let kind = match shape {
                Shape::File(content) => {
                    contents.push((path.clone(), metadata.clone()));
                    files.file(path, metadata, &content);
                    continue;
                }
                Shape::Link(index) if !contents.is_empty() => {
                    let (target, of_target) = index.get(&contents).clone();
                    metadata = of_target;
                    EntryKind::Hardlink { target }
                }
                Shape::Directory | Shape::Link(_) => EntryKind::Directory,
                Shape::Symlink(target) => EntryKind::Symlink { target: target.into() },
                Shape::Fifo => EntryKind::Fifo,
                Shape::Whiteout => {
                    metadata = Metadata::default();
                    EntryKind::Whiteout
                }
            };
            if !matches!(kind, EntryKind::Hardlink { .. }) {
                metadata.xattrs.clear();
            }
            files.add(path, metadata, kind);
        }
        files
    })
}

fn without_offsets(entries: &[Entry]) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        if let EntryKind::File { content, .. } = &mut entry.kind {
            *content = Content(0);
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_undoes_writing(files in files(), level in 0_u32..4) {
        let compression = Compression::Gzip { level };
        let (written, blob) = files.written(&LayerOptions { compression, clamp_mtime: None, threads: 1 });
        for threads in 2..=4 {
            let (again, same) = files.written(&LayerOptions { compression, clamp_mtime: None, threads });
            prop_assert!(again == written && same == blob);
        }
        prop_assert_eq!(without_offsets(&written.index.entries), without_offsets(&files.entries));
        prop_assert_eq!(&LayerListing::decode(&written.index.encode()).unwrap(), &written.index);

        let tar = || decompress(Box::new(&blob[..])).unwrap().1;
        let (index, diff_id) =
            LayerListing::read_tar(&mut tar(), &Limits::UNLIMITED, &CancelToken::new()).unwrap();
        prop_assert_eq!((&index, &diff_id), (&written.index, &written.diff_id));

        let host = tempfile::tempdir().unwrap();
        let root = RootDir::open(host.path()).unwrap();
        let applied = apply(&mut tar(), &root, &options(WhiteoutFormat::Files)).unwrap();
        prop_assert_eq!((&applied.index, &applied.diff_id), (&index, &diff_id));
        prop_assert!(applied.deferred_links.is_empty());
        if is_root() {
            check_on_disk(&files, host.path())?;
            prop_assert_eq!(listing(host.path()).len(), files.entries.len());
        }
    }
}

/// What is on disk, read by other means than wrote it, is what the entries say.
fn check_on_disk(files: &Files, root: &std::path::Path) -> Result<(), TestCaseError> {
    use std::os::unix::fs::MetadataExt as _;
    let content_of = |content: &Content| &files.contents[usize::try_from(content.0).unwrap()];
    for entry in &files.entries {
        let path = root.join(&entry.path);
        match &entry.kind {
            EntryKind::Whiteout => {
                let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
                prop_assert!(path.with_file_name(name).exists());
                continue;
            }
            EntryKind::File { content, .. } => {
                prop_assert_eq!(&fs_err::read(&path).unwrap(), content_of(content));
            }
            EntryKind::Symlink { target } => prop_assert_eq!(&fs_err::read_link(&path).unwrap(), target),
            EntryKind::Hardlink { target } => {
                let (one, other) =
                    (fs_err::metadata(&path).unwrap(), fs_err::metadata(root.join(target)).unwrap());
                prop_assert_eq!(one.ino(), other.ino());
            }
            _ => {}
        }
        let found = fs_err::symlink_metadata(&path).unwrap();
        prop_assert_eq!((found.uid(), found.gid()), (entry.metadata.uid, entry.metadata.gid));
        // The kernel gives links a mode of their own; ext4 ends in 2446.
        if !found.is_symlink() {
            prop_assert_eq!(found.mode() & 0o7777, entry.metadata.mode);
        }
        if entry.metadata.mtime.seconds < 1 << 33 {
            prop_assert_eq!(found.mtime(), entry.metadata.mtime.seconds);
        }
    }
    Ok(())
}
