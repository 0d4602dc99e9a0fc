//! Errors as editors read them: the contract is `docs/formats/diagnostics.md`.

use serde_json::{Value, json};

use crate::program::Place;

fn last_object(text: &str) -> Value {
    serde_json::from_str(text.lines().last().expect("something is printed")).expect("it is JSON")
}

#[test]
fn every_error_of_a_file_is_an_object() {
    let place = Place::with("FROM scratch\nWROKDIR /x\nCOPY é\n");
    let ended = place.run(&["build", "--progress", "json", "."]);
    let error = last_object(&ended.stderr);
    assert_eq!(error["kind"], "dockerfile");
    let [first, second] = error["reports"].as_array().unwrap().as_slice() else { panic!("{error}") };
    assert_eq!(first["id"], "unknown-instruction");
    assert_eq!(first["severity"], "error");
    assert_eq!(first["file"], "Dockerfile");
    let span = ["line", "column", "end_line", "end_column"].map(|key| first[key].as_u64().unwrap());
    assert_eq!(span, [2, 1, 2, 8]);
    assert_eq!(first["hints"], json!(["write WORKDIR instead of WROKDIR"]));
    assert_eq!(second["id"], "missing-destination");
    assert_eq!(second["causes"], json!(["\"é\" is the only argument"]));
}

#[test]
fn places_outside_of_the_dockerfile_have_a_file_and_a_line() {
    let place = Place::with("FROM scratch\n");
    place.write(".dockerignore", "a\n[\n");
    let ended = place.run(&["build", "--progress", "json", "."]);
    let report = &last_object(&ended.stderr)["reports"][0];
    assert_eq!((&report["file"], &report["line"]), (&json!(".dockerignore"), &json!(2)));
    assert_eq!(report["place"], ".dockerignore:2");
    let ended = place.run(&["build", "--progress", "json", "-o", "type=x", "."]);
    let report = &last_object(&ended.stderr)["reports"][0];
    assert_eq!(report["place"], "command line: --output type=x");
    assert_eq!(report["line"], Value::Null);
}
