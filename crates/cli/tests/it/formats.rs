//! `ast`, `expand` and `ignore`, and the texts about the program itself.

use crate::program::Place;

#[test]
fn ast_is_json() {
    let place = Place::with("FROM a AS b\nRUN <<EOF\nx\nEOF\nCMD [\"y\"]\n");
    let ended = place.run(&["ast", "Dockerfile"]);
    let nodes: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(nodes[0]["instruction"], "from");
    assert_eq!(nodes[0]["args"], serde_json::json!(["a", "AS", "b"]));
    assert_eq!(nodes[1]["heredocs"][0]["content"], "x\n");
    assert_eq!((&nodes[1]["start"], &nodes[1]["end"]), (&2.into(), &4.into()));
    assert_eq!(nodes[2]["json"], true);
}

#[test]
fn ast_names_the_place_of_an_error() {
    let place = Place::with("FROM a\nENV x\n");
    place.run(&["ast", "Dockerfile"]).fails(2, &["error: ENV must have two arguments", "--> Dockerfile:2:"]);
    place.run(&["ast", "missing"]).fails(2, &["missing"]);
}

#[test]
fn expand_answers_each_line() {
    let place = Place::new();
    let input = b"word\t\\\t[\"a=1\"]\t\"$a-$b\"\nwords\t\\\t[]\t\"x 'y z'\"\nheredoc\t\\\t[]\t\"${x?gone}\"\nrubbish\n\xff\n";
    let ended = place.run_with_input(&["expand"], input);
    let answers: Vec<serde_json::Value> =
        ended.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0], serde_json::json!({ "value": "1-", "unset": ["b"] }));
    assert_eq!(answers[1], serde_json::json!({ "words": ["x", "y z"] }));
    assert!(answers[2..].iter().all(|answer| answer["error"].is_string()), "{answers:?}");
    assert_eq!(answers.len(), 5);
}

#[test]
fn ignore_tells_what_is_kept() {
    let place = Place::new();
    place.write("patterns", "*\n!a/b\n");
    let ended = place.run_with_input(&["ignore", "patterns"], b"a/\na/b\na/c\nx\n");
    assert_eq!(ended.succeeds(), "kept\nkept\nignored\nignored\n");
    place.write("bad", "a\n[\n");
    place.run(&["ignore", "bad"]).fails(2, &["bad:2"]);
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    let version = concat!("ocibuild ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(place.run(&["--version"]).succeeds(), version);
    let ended = place.run(&["build", "--help"]);
    let help = ended.succeeds();
    for word in ["Examples:", "--build-context", "Cache:", "Steps:", "type=oci"] {
        assert!(help.contains(word), "{word}");
    }
    assert!(!help.contains("--cache-to"), "what cannot be done is not offered");
    assert!(place.run(&["--help"]).succeeds().contains("Exit codes:"));
}
