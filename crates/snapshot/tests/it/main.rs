//! Tests of both drivers against a real file system, and of the laws of trees.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fixture;
mod layers;
mod mount_points;
mod steps;
mod trees;

/// A file that nobody names above is never compiled, and its tests never run.
#[test]
fn every_file_is_here() {
    let main = include_str!("main.rs");
    for file in fs_err::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
