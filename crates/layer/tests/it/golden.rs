//! Tars against the digests of those that BuildKit wrote for the same entries.

use ocibuild_layer::LayerListing;
use ocibuild_spec::{CancelToken, EntryKind};

use crate::support::{Files, metadata};

fn check(text: &str) {
    let (files, diff_id) = Files::parse(text);
    let (written, tar) = files.tar();
    assert_eq!(written.diff_id.to_string(), diff_id);
    assert_eq!(written.descriptor.digest, written.diff_id.0);
    assert_eq!(written.tar_size, tar.len() as u64);
    let (index, again) =
        LayerListing::read_tar(&mut &tar[..], &ocibuild_layer::Limits::UNLIMITED, &CancelToken::new())
            .unwrap();
    assert_eq!((index, again), (written.index, written.diff_id));
}

macro_rules! golden {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            check(include_str!(concat!("../../../../fixtures/layer/", $file)));
        })*
    };
}

golden! {
    capability: "capability.tree",
    links: "links.tree",
    metadata_and_owners: "metadata.tree",
    odd_names: "odd-names.tree",
    owners: "owners.tree",
    special_files: "special-files.tree",
    a_whiteout: "whiteout.tree",
}

#[test]
fn sixty_directories_deep() {
    let mut files = Files::default();
    let mut path = String::from("deep");
    let plain = || metadata(0o755, 0, 0, 1_700_000_000);
    files.add(&path, plain(), EntryKind::Directory);
    for level in 1..=60 {
        path = format!("{path}/level{level}");
        files.add(&path, plain(), EntryKind::Directory);
    }
    files.file(path + "/f", metadata(0o644, 0, 0, 1_700_000_000), b"bottom\n");
    files.add("many", plain(), EntryKind::Directory);
    let mut gone: Vec<String> = (1..=300).map(|number: u32| number.to_string()).collect();
    gone.retain(|name| name.starts_with('1'));
    gone.sort();
    for name in gone {
        files.add(format!("many/{name}"), metadata(0, 0, 0, 0), EntryKind::Whiteout);
    }
    let expected = "sha256:dc4187250a1adf30830b5ec32e4cf267e54030a00554d6631d57ce8ae9275e85";
    assert_eq!(files.tar().0.diff_id.to_string(), expected);
}

#[test]
fn large_and_many_files() {
    let mut files = Files::default();
    let time = 1_700_000_000;
    files.add("many", metadata(0o755, 0, 0, time), EntryKind::Directory);
    let mut names: Vec<String> = (1..=300).map(|number: u32| number.to_string()).collect();
    names.sort();
    for name in names {
        files.file(format!("many/{name}"), metadata(0o644, 0, 0, time), format!("{name}\n").as_bytes());
    }
    files.file("zeros", metadata(0o644, 0, 0, time), &vec![0; 30 << 20]);
    let expected = "sha256:a0599ec1bdd2916c6f1684b3a48e62dbcdccb4f0ff20be5eb5ad445daa0c4d36";
    assert_eq!(files.tar().0.diff_id.to_string(), expected);
}
