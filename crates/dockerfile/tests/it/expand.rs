//! Tables of words: `NAME=value` lines for the environment, then `word | result` or `word | error: message`.

use std::collections::BTreeMap;

use ocibuild_dockerfile::expand::{MAX_WORD_BYTES, answer_line, expand_heredoc, expand_word, expand_words};

use crate::fixtures::{entries, text};

#[test]
fn tables() {
    for path in entries("expand") {
        let table = text(&path);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut environment = BTreeMap::new();
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
            let Some((word, expected)) = line.split_once(" | ") else {
                let (name, value) = line.split_once('=').expect(line);
                environment.insert(name.to_owned(), value.to_owned());
                continue;
            };
            let result = match name.split('-').next() {
                Some("heredoc") => expand_heredoc(word, &environment).map(|expanded| expanded.value),
                Some("words") => {
                    expand_words(word, '\\', &environment).map(|expanded| expanded.words.join("|"))
                }
                Some("backtick") => expand_word(word, '`', &environment).map(|expanded| expanded.value),
                _ => expand_word(word, '\\', &environment).map(|expanded| expanded.value),
            };
            let got = result.unwrap_or_else(|error| format!("error: {}", error.fault));
            assert_eq!(format!("<{got}>"), expected, "{name}: {word}");
        }
    }
}

#[test]
fn errors_name_the_whole_word() {
    let error = expand_word("a${X:?is \"needed\"}", '\\', &BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), r#"failed to process "a${X:?is \"needed\"}": X: is needed"#);
}

#[test]
fn names_are_reported_once() {
    let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let expanded = expand_word("$B$A${B:-$C}$A", '\\', &environment).unwrap();
    assert_eq!((expanded.unset, expanded.used), (vec!["B".into(), "C".into()], vec!["A".into()]));
}

#[test]
fn growth_is_limited() {
    let mut environment = BTreeMap::from([("V".to_owned(), "x".repeat(MAX_WORD_BYTES / 2))]);
    assert!(expand_word("$V$V", '\\', &environment).is_ok());
    for word in ["$V$V$V", "\"$V$V$V\"", "${V//x/yyyy}", "${V/x/$V$V}", "${N:-$V$V$V}"] {
        let error = expand_word(word, '\\', &environment).unwrap_err();
        assert!(error.fault.to_string().contains("larger than"), "{word}: {}", error.fault);
    }
    environment.insert("P".to_owned(), "*a".repeat(10_000) + "b");
    environment.insert("V".to_owned(), "a".repeat(100_000));
    let error = expand_word("${V#$P}", '\\', &environment).unwrap_err();
    assert_eq!(error.fault.to_string(), "the word takes too long to expand");
    let error = expand_word(&"${N:+$V}".repeat(10_000), '\\', &environment).unwrap_err();
    assert_eq!(error.fault.to_string(), "the word takes too long to expand");
}

#[test]
fn nesting_is_limited() {
    for (open, close) in [("${a:-", "}"), ("\"${a:-", "}\""), ("${a/", "/}")] {
        let word = open.repeat(100_000) + &close.repeat(100_000);
        let error = expand_word(&word, '\\', &BTreeMap::new()).unwrap_err();
        assert!(error.fault.to_string().contains("nested deeper"), "{}", error.fault);
    }
}

#[test]
fn line_protocol() {
    let answer = |line| answer_line(line);
    assert_eq!(answer("word\t\\\t[\"A=1\"]\t\"$A$B\""), r#"{"unset":["B"],"value":"1"}"#);
    assert_eq!(answer("words\t\\\t[]\t\"a 'b c'\""), r#"{"words":["a","b c"]}"#);
    assert_eq!(answer("heredoc\t`\t[]\t\"\\\\a'\""), r#"{"unset":[],"value":"a'"}"#);
    assert!(answer("word\t\\\t[]\t\"'\"").starts_with(r#"{"error":"failed to process"#));
    for bad in
        ["", "word", "word\t\\\t[]\tx", "word\tab\t[]\t\"\"", "other\t\\\t[]\t\"\"", "word\t\\\t{}\t\"\""]
    {
        assert!(answer(bad).starts_with(r#"{"error":"#), "{bad}");
    }
}
