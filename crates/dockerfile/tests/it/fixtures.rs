//! Access to the fixtures of the workspace.

use std::path::{Path, PathBuf};

/// A folder of fixtures.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// What a folder holds, sorted; never nothing.
pub(crate) fn entries(name: &str) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder(name)).expect("fixtures are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures in {name}");
    paths
}

pub(crate) fn text(path: &Path) -> String {
    fs_err::read_to_string(path).expect("fixtures are text")
}

/// Compares with the file `path`, or writes it if `UPDATE_FIXTURES` is set.
pub(crate) fn check(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs_err::write(path, got).expect("fixtures are writable");
    }
    let expected = fs_err::read_to_string(path).unwrap_or_default();
    assert_eq!(got, expected, "{}", path.display());
}
