//! Tests of the crate from outside.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod apply;
mod golden;
mod hostile;
mod index;
mod round_trip;
mod sparse;
mod support;
mod write;

#[test]
fn no_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = include_str!("main.rs");
    for entry in fs_err::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || main.contains(&format!("mod {module};")),
            "{name} is not part of the tests"
        );
    }
}
