//! Hostile files end in an error, or are read in time in proportion to their size.

use ocibuild_dockerfile::{Dockerfile, parse_nodes, parse_trigger};

fn first_error(bytes: impl AsRef<[u8]>) -> (&'static str, Option<u32>) {
    let errors = Dockerfile::parse(bytes).expect_err("the file is bad");
    let first = &errors.diagnostics[0];
    (first.id, first.location.map(|location| location.start_line))
}

#[test]
fn files_with_nothing_in_them() {
    assert_eq!(first_error(""), ("empty-file", None));
    for text in ["\n", "\u{feff}", "# a\n", " \t\n\r\n", "\u{feff}# a"] {
        assert_eq!(first_error(text), ("no-instructions", None), "{text:?}");
    }
    assert_eq!(first_error("ARG a\n"), ("no-stages", None));
    assert_eq!(first_error("ARG V=1\rFROM a:$V"), ("no-stages", None));
}

#[test]
fn bytes_that_are_no_text() {
    assert_eq!(first_error(b"FROM a\nRUN \xff\n"), ("invalid-utf8", Some(2)));
    assert_eq!(first_error(b"FROM \x85"), ("invalid-utf8", Some(1)));
    assert_eq!(first_error(b"FROM a\nRUN a\\\n# \xe9\n\xe9\n"), ("invalid-utf8", Some(4)));
    assert_eq!(
        first_error(b"FROM a\nRUN <<E\n# \xe9\nE\n"),
        ("invalid-utf8", Some(3)),
        "no comment in a body"
    );
    assert!(
        Dockerfile::parse(b"# \xe9\nFROM a\n # \xff\nRUN a\\\n# \xe9\n b\n").is_ok(),
        "comments may hold anything"
    );
    assert_eq!(first_error("FROM a\nRUN x\0y\n"), ("nul-byte", Some(2)));
    let nodes = parse_nodes(b"FROM a\0\nRUN \xe2\x82x\n").unwrap();
    assert_eq!(
        (&nodes[0].arguments[0].text[..], &nodes[1].arguments[0].text[..]),
        ("a\0", "\u{fffd}\u{fffd}x")
    );
    assert_eq!(first_error(vec![b'#'; 17 << 20]), ("file-too-large", None));
}

#[test]
fn long_lines() {
    let line = |bytes: usize| format!("FROM a\nRUN {}\nRUN b\n", "x".repeat(bytes - 4));
    assert!(Dockerfile::parse(line(65535)).is_ok());
    assert_eq!(first_error(line(65536)), ("line-too-long", Some(1)));
    assert_eq!(first_error("RUN ".to_owned() + &"x".repeat(1 << 20)), ("no-instructions", None));
    let heredoc = format!("FROM a\nRUN <<E\n{}\nE\n", "x".repeat(70_000));
    assert_eq!(first_error(heredoc), ("unterminated-heredoc", Some(2)));
    assert!(Dockerfile::parse("FROM a\nRUN x".to_owned() + &"y\\\n".repeat(500_000)).is_ok());
}

#[test]
fn many_of_everything() {
    let file = "FROM a\n".to_owned() + &"RUN x\n".repeat(200_000);
    assert_eq!(parse_nodes(file).unwrap().len(), 200_001);
    let file = "FROM a\nENV".to_owned() + &" \\\n a=b".repeat(100_000);
    assert_eq!(parse_nodes(file).unwrap()[1].arguments.len(), 300_000);
    let file = "FROM a\nRUN cat".to_owned() + &" <<E".repeat(10_000) + "\n" + &"E\n".repeat(10_000);
    assert_eq!(parse_nodes(file).unwrap()[1].heredocs.len(), 10_000);
}

#[test]
fn deep_nesting() {
    let onbuild = format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(8_000));
    assert_eq!(first_error(onbuild), ("forbidden-trigger", Some(2)));
    let json = format!("FROM a\nCMD {}{}\n", "[".repeat(30_000), "]".repeat(30_000));
    assert!(Dockerfile::parse(json).is_ok(), "deeper than JSON goes, so it is a command of the shell");
    let json = format!("FROM a\nCMD {}{}\n", "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(first_error(json), ("json-not-strings", Some(2)));
    let words = format!("FROM a\nRUN <<E {}{}\nE\n", "${a:-".repeat(10_000), "}".repeat(10_000));
    assert_eq!(first_error(words), ("word-too-complex", Some(2)));
}

#[test]
fn one_body_for_many_names() {
    let many = 1000;
    let body = "x\n".repeat(100_000);
    let file = format!("FROM a\nCOPY{} /d/\n{}{body}E\n", " <<E".repeat(many), "E\n".repeat(many - 1));
    assert_eq!(first_error(file), ("heredocs-too-large", Some(2)));
}

#[test]
fn triggers() {
    assert!(parse_trigger("COPY <<E /x\nbody\nE").is_ok());
    let id = |text: &str| parse_trigger(text).unwrap_err().diagnostics[0].id;
    assert_eq!(id("RUN a\nRUN b"), "trigger-count");
    assert_eq!(id("FROM a"), "forbidden-trigger");
    assert_eq!(id("BOGUS"), "unknown-instruction");
    assert_eq!(id(""), "no-instructions");
    assert_eq!(id("# escape=`"), "no-instructions");
    assert_eq!(id("RUN \0"), "nul-byte");
}

#[test]
fn many_errors_are_a_thousand() {
    let errors = Dockerfile::parse("FROM a\n".to_owned() + &"a\n".repeat(100_000)).unwrap_err();
    assert_eq!(errors.diagnostics.len(), 1000);
    let errors =
        Dockerfile::parse("FROM a\n".to_owned() + &"COPY --chmdo=1 a b\n".repeat(10_000)).unwrap_err();
    assert_eq!(errors.diagnostics.len(), 1000);
}
