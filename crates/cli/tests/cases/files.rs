//! Where the cases are. `rules.rs` of the other tests reads them too.

use std::path::{Path, PathBuf};

use fs_err as fs;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/build")
}

/// All cases, sorted. Everything below the folder is one: `SECTION/NAME.txt`.
pub(crate) fn case_files() -> Vec<PathBuf> {
    let children = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        children(&fixtures()).flat_map(|section| children(&section).collect::<Vec<_>>()).collect();
    for file in &files {
        assert!(
            file.extension().is_some_and(|extension| extension == "txt"),
            "{} is not a case",
            file.display()
        );
    }
    files.sort();
    files
}
